"""How fast predictors are on this machine: single-text latency and bulk throughput, measured side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from potstill.errors import CheckError, DataError
from potstill.records import Predictions, Predictor, Text

Clock = Callable[[], float]
"""Seconds since some moment, never running backwards."""


@dataclass(frozen=True)
class Spread:
    """A median over repeats, the smallest and largest of them, and all of them in the order measured."""

    median: float
    minimum: float
    maximum: float
    per_repeat: tuple[float, ...]

    @classmethod
    def over(cls, values: Sequence[float]) -> Spread:
        """The spread of one value per repeat."""
        return cls(float(np.median(values)), min(values), max(values), tuple(values))


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one text given alone, over all timed calls; quantiles interpolated linearly.

    per_repeat: the median of each repeat, which can be paired with another predictor's of the same repeat.
    """

    p50: float
    p95: float
    q1: float
    q3: float
    per_repeat: tuple[float, ...]

    @property
    def iqr(self) -> float:
        """The distance of the quartiles in milliseconds."""
        return self.q3 - self.q1


@dataclass(frozen=True)
class Speed:
    """How fast one predictor was, and under which conditions.

    texts_per_s: texts scored per second when ``bulk_texts`` are given at once.
    tokens_per_s: the same in tokens the model read, special tokens counted and padding not; None where texts were
        truncated and the maximum length was not told, because then nobody knows how many were read.
    n_threads: what the caller fixed before; recorded, not set here.
    """

    latency_ms: Latency
    texts_per_s: Spread
    tokens_per_s: Spread | None
    repeats: int
    warmup: int
    single_texts: int
    bulk_texts: int
    bulk_truncated: int
    n_threads: int | None

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values."""
        values = asdict(self)
        values["latency_ms"]["iqr"] = self.latency_ms.iqr
        return values


@dataclass(frozen=True)
class _Round:
    single_ms: list[float]
    bulk_s: float
    bulk: Predictions


def measure(
    predictors: Mapping[str, Predictor],
    texts: Sequence[Text],
    *,
    repeats: int = 5,
    warmup: int = 1,
    single_texts: int = 32,
    bulk_texts: int = 256,
    n_threads: int | None = None,
    max_lengths: Mapping[str, int] | None = None,
    clock: Clock = time.perf_counter,
) -> dict[str, Speed]:
    """The speed of each predictor on ``texts``, in the order the predictors were given.

    A round is the single texts one by one, then the bulk in one call. Every predictor first does ``warmup`` rounds that
    are not timed. Then each repeat has one round of every predictor, so that whatever else the machine does hits all
    alike; who comes first changes from repeat to repeat. ``predict`` hands out numpy arrays, which exist only once the
    work is done, on an accelerator too; other arrays are refused. Texts are taken evenly from all of ``texts``, at most
    as many as there are. ``max_lengths`` gives the tokens each model reads at most.

    Raises DataError without predictors, texts or repeats, CheckError for a predictor that does not answer every text
    with numpy arrays.
    """
    _check_request(predictors, texts, repeats, warmup, single_texts, bulk_texts)
    singles, bulk = _spread_evenly(texts, single_texts), _spread_evenly(texts, bulk_texts)
    for name, predictor in predictors.items():
        for _ in range(warmup):
            _run_round(name, predictor, singles, bulk, clock)
    rounds: dict[str, list[_Round]] = {name: [] for name in predictors}
    names = list(predictors)
    for repeat in range(repeats):
        first = repeat % len(names)
        for name in names[first:] + names[:first]:
            rounds[name].append(_run_round(name, predictors[name], singles, bulk, clock))
    limits = max_lengths or {}
    return {name: _summarise(done, warmup, n_threads, limits.get(name)) for name, done in rounds.items()}


def paired_ratios(values: Sequence[float], others: Sequence[float]) -> tuple[float, ...]:
    """``values`` over ``others``, repeat by repeat: both were measured side by side, so what hit one hit the other."""
    return tuple(value / other for value, other in zip(values, others, strict=True))


def clear_ratio(ratios: Sequence[float]) -> float | None:
    """The median of the ratios of two speeds; None where one repeat disagrees with another about which is faster.

    The one rule by which a speed is called different: what repeats contradict may be the machine's own unrest.
    """
    return float(np.median(ratios)) if min(ratios) > 1 or max(ratios) < 1 else None


def _check_request(predictors: Mapping[str, Predictor], texts: Sequence[Text], repeats: int, *counts: int) -> None:
    if not predictors:
        raise DataError("there is no predictor to measure")
    if not len(texts):
        raise DataError("there are no texts to measure the speed on")
    warmup, single_texts, bulk_texts = counts
    if repeats < 1 or warmup < 0 or single_texts < 1 or bulk_texts < 1:
        raise DataError(
            "the speed cannot be measured so few times",
            found=f"repeats {repeats}, warmup {warmup}, single_texts {single_texts}, bulk_texts {bulk_texts}",
            allowed="one or more of each; warmup may be 0",
        )


def _spread_evenly(texts: Sequence[Text], n_wanted: int) -> list[Text]:
    rows = np.linspace(0, len(texts) - 1, min(n_wanted, len(texts))).round().astype(int)
    return [texts[int(row)] for row in rows]


def _run_round(name: str, predictor: Predictor, singles: list[Text], bulk: list[Text], clock: Clock) -> _Round:
    single_ms = [1000 * _timed(name, predictor, [text], clock)[0] for text in singles]
    bulk_s, predictions = _timed(name, predictor, bulk, clock)
    return _Round(single_ms, bulk_s, predictions)


def _timed(name: str, predictor: Predictor, texts: list[Text], clock: Clock) -> tuple[float, Predictions]:
    start = clock()
    predictions = predictor.predict(texts)
    elapsed_s = clock() - start
    if not isinstance(predictions.logits, np.ndarray) or len(predictions) != len(texts):
        raise CheckError(
            f"the predictor {name} did not answer every text with numpy arrays",
            found=f"{len(predictions)} answers in {type(predictions.logits).__name__}",
            allowed=f"{len(texts)} answers in ndarray",
        )
    if elapsed_s <= 0:
        raise CheckError(f"the clock did not move while {name} predicted", found=f"{elapsed_s} s", allowed="above 0")
    return elapsed_s, predictions


def _summarise(rounds: list[_Round], warmup: int, n_threads: int | None, max_length: int | None) -> Speed:
    single_ms = [value for one in rounds for value in one.single_ms]
    p50, p95, q1, q3 = (float(value) for value in np.quantile(single_ms, [0.5, 0.95, 0.25, 0.75]))
    medians = tuple(float(np.median(one.single_ms)) for one in rounds)
    tokens = [_tokens_read(one.bulk, max_length) for one in rounds]
    per_s = [n / one.bulk_s for n, one in zip(tokens, rounds, strict=True) if n is not None]
    return Speed(
        latency_ms=Latency(p50, p95, q1, q3, medians),
        texts_per_s=Spread.over([len(one.bulk) / one.bulk_s for one in rounds]),
        tokens_per_s=Spread.over(per_s) if len(per_s) == len(rounds) else None,
        repeats=len(rounds),
        warmup=warmup,
        single_texts=len(rounds[0].single_ms),
        bulk_texts=len(rounds[0].bulk),
        bulk_truncated=int(rounds[0].bulk.truncated.sum()),
        n_threads=n_threads,
    )


def _tokens_read(predictions: Predictions, max_length: int | None) -> int | None:
    if max_length is not None:
        return int(np.minimum(predictions.n_tokens, max_length).sum())
    return None if predictions.truncated.any() else int(predictions.n_tokens.sum())
