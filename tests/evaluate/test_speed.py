"""Oracle: a clock that moves only when a predictor is told to take time, so every figure is worked by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from potstill.errors import CheckError, DataError
from potstill.evaluate.speed import clear_ratio, measure, paired_ratios
from potstill.records import Predictions, Text


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Sleeper:
    """A predictor whose nth call takes ``single_s[n]`` seconds on one text and ``bulk_s[n]`` on many; then the last."""

    label_names = ("no", "yes")
    problem_type = "single_label_classification"

    def __init__(
        self, clock: Clock, single_s: list[float], bulk_s: list[float], diary: list[str], name: str = ""
    ) -> None:
        self.clock, self.single_s, self.bulk_s, self.diary, self.name = clock, single_s, bulk_s, diary, name

    def predict(self, texts: Sequence[Text]) -> Predictions:
        times = self.single_s if len(texts) == 1 else self.bulk_s
        self.clock.now_s += times.pop(0) if len(times) > 1 else times[0]
        self.diary.append(self.name)
        lengths = np.array([len(text) for text in texts], dtype=np.int32)
        return Predictions(
            ids=np.arange(len(texts)).astype(str),
            logits=np.zeros((len(texts), 2), dtype=np.float32),
            label_names=self.label_names,
            problem_type="single_label_classification",
            n_tokens=lengths,
            truncated=lengths > 8,
            elapsed_s=0.0,
        )


TEXTS = ["four", "sixsix", "eighteig", "at"]  # 4, 6, 8 and 2 "tokens", 20 together


def test_medians_and_quantiles_are_worked_by_hand():
    clock = Clock()
    predictor = Sleeper(clock, [0.001, 0.003, 0.005, 0.007, 0.009, 0.011], [2.0, 1.0, 4.0], [])
    speed = measure({"one": predictor}, TEXTS, repeats=3, warmup=0, single_texts=2, bulk_texts=4, clock=clock)["one"]
    assert speed.latency_ms.p50 == pytest.approx(6.0)
    assert speed.latency_ms.per_repeat == pytest.approx((2.0, 6.0, 10.0))
    assert speed.latency_ms.p95 == pytest.approx(10.5)  # linear between the fifth and sixth, .75 of the way
    assert speed.latency_ms.iqr == pytest.approx(8.5 - 3.5)
    assert speed.texts_per_s.per_repeat == pytest.approx((2.0, 4.0, 1.0))
    assert (speed.texts_per_s.median, speed.texts_per_s.minimum, speed.texts_per_s.maximum) == pytest.approx((2, 1, 4))
    assert speed.tokens_per_s is not None
    assert speed.tokens_per_s.median == pytest.approx(10.0)


def test_slow_warm_up_is_not_in_any_figure():
    """Pitfall 8."""
    clock = Clock()
    predictor = Sleeper(clock, [9.0] * 4 + [0.001], [90.0] * 2 + [1.0], [])
    speed = measure({"one": predictor}, TEXTS, repeats=2, warmup=2, single_texts=2, bulk_texts=4, clock=clock)["one"]
    assert speed.latency_ms.p95 == pytest.approx(1.0)
    assert speed.texts_per_s.minimum == pytest.approx(4.0)


def test_each_repeat_has_a_round_of_every_predictor_and_the_first_changes():
    clock, diary = Clock(), []
    predictors = {name: Sleeper(clock, [0.1], [0.1], diary, name) for name in ("a", "b", "c")}
    speeds = measure(predictors, TEXTS, repeats=3, warmup=0, single_texts=1, bulk_texts=2, clock=clock)
    assert "".join(diary) == "aabbcc" + "bbccaa" + "ccaabb"
    assert list(speeds) == ["a", "b", "c"]


def test_noise_in_one_repeat_hits_all_predictors_alike():
    clock = Clock()
    slow_middle = {name: Sleeper(clock, [0.01, 0.05, 0.01], [1.0, 5.0, 1.0], []) for name in ("a", "b")}
    speeds = measure(slow_middle, TEXTS, repeats=3, warmup=0, single_texts=1, bulk_texts=4, clock=clock)
    assert speeds["a"] == speeds["b"]
    assert speeds["a"].texts_per_s.median == pytest.approx(4.0)


def test_texts_are_taken_evenly_and_no_more_than_there_are():
    clock = Clock()
    seen: list[Sequence[Text]] = []

    class Recorder(Sleeper):
        def predict(self, texts: Sequence[Text]) -> Predictions:
            seen.append(texts)
            return super().predict(texts)

    texts = [str(i) for i in range(9)]
    speed = measure(
        {"one": Recorder(clock, [1.0], [1.0], [])},
        texts,
        repeats=1,
        warmup=0,
        single_texts=3,
        bulk_texts=99,
        clock=clock,
    )["one"]
    assert seen == [["0"], ["4"], ["8"], texts]
    assert (speed.single_texts, speed.bulk_texts) == (3, 9)


def test_truncated_texts_count_only_the_tokens_read():
    clock = Clock()
    texts = ["four", "t" * 16]  # the second is longer than the 8 this predictor reads
    settings = {"repeats": 1, "warmup": 0, "single_texts": 1, "bulk_texts": 2, "clock": clock}
    unknown = measure({"one": Sleeper(clock, [1.0], [1.0], [])}, texts, **settings)["one"]
    known = measure({"one": Sleeper(clock, [1.0], [1.0], [])}, texts, max_lengths={"one": 8}, **settings)["one"]
    assert unknown.bulk_truncated == 1
    assert unknown.tokens_per_s is None
    assert known.tokens_per_s is not None
    assert known.tokens_per_s.median == pytest.approx(12.0)


def test_conditions_are_recorded_and_everything_is_plain_json():
    clock = Clock()
    speed = measure({"one": Sleeper(clock, [0.5], [1.0], [])}, TEXTS, repeats=2, n_threads=2, clock=clock)["one"]
    plain = json.loads(json.dumps(speed.to_dict()))
    assert (plain["repeats"], plain["warmup"], plain["n_threads"], plain["bulk_texts"]) == (2, 1, 2, 4)
    assert plain["latency_ms"]["p50"] == 500
    assert plain["latency_ms"]["iqr"] == 0


def test_lazy_or_missing_answers_are_refused():
    """Pitfall 8: a time is taken of work that is done."""
    clock = Clock()

    class Half(Sleeper):
        def predict(self, texts: Sequence[Text]) -> Predictions:
            return super().predict(texts[: len(texts) // 2])

    class Lazy(Sleeper):
        def predict(self, texts: Sequence[Text]) -> Predictions:
            predictions = super().predict(texts)
            object.__setattr__(predictions, "logits", memoryview(predictions.logits))
            return predictions

    for kind in (Half, Lazy):
        with pytest.raises(CheckError, match="did not answer every text with numpy arrays"):
            measure({"one": kind(clock, [1.0], [1.0], [])}, TEXTS, clock=clock)


def test_a_clock_that_stands_still_is_refused():
    clock = Clock()
    with pytest.raises(CheckError, match="clock did not move"):
        measure({"one": Sleeper(clock, [0.0], [0.0], [])}, TEXTS, clock=clock)


def test_nothing_to_measure_is_refused():
    clock = Clock()
    predictors = {"one": Sleeper(clock, [1.0], [1.0], [])}
    with pytest.raises(DataError, match="no predictor"):
        measure({}, TEXTS)
    with pytest.raises(DataError, match="no texts"):
        measure(predictors, [])
    with pytest.raises(DataError, match="repeats 0"):
        measure(predictors, TEXTS, repeats=0)


@pytest.mark.parametrize(
    ("ratios", "clear"),
    [((1.2, 1.5, 1.3), 1.3), ((0.5,), 0.5), ((1.2, 1.0, 1.3), None), ((0.9, 0.8, 1.1), None)],
    ids=["all faster", "one repeat", "one as fast", "one faster"],
)
def test_a_speed_is_another_only_where_every_repeat_says_so(ratios, clear):
    assert clear_ratio(ratios) == clear


def test_ratios_are_taken_repeat_by_repeat():
    # by hand; the ratio of the medians would be 1
    assert paired_ratios([1.0, 8.0, 4.0], [2.0, 4.0, 8.0]) == (0.5, 2.0, 0.5)
