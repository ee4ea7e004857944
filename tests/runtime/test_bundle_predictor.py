"""The predictor of a bundle. Oracles: the torch predictor of the same run, and a counting engine."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from potstill.bundle import read_bundle
from potstill.errors import BundleError, DataError, UsageError
from potstill.records import sigmoid
from potstill.runtime.bundle_predictor import BundlePredictor, open_tokenizer
from potstill.runtime.engine import ThreadPlan, for_many_batches, for_one_batch, installed_engines, open_graph
from potstill.runtime.openvino_engine import OpenVinoEngine, OpenVinoGraph
from potstill.runtime.torch_predictor import TorchPredictor

WORDS = ("the", "good", "bad", "film", "dull", "story", "was", "lovely", "unknownword", "42", "é", "北京")


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    return ["", "good", *(" ".join(rng.choice(WORDS, rng.integers(1, 60))) for _ in range(80))]


class CountingEngine:
    """Logits that tell of a row what the engine saw of it: its length and its first and last token."""

    def __init__(self, plan, seen):
        self.plan, self.seen = plan, seen

    def run(self, batch):
        self.seen.append((self.plan, batch["input_ids"].shape, threading.current_thread().name))
        lengths = batch["attention_mask"].sum(axis=1)
        return np.stack([lengths, batch["input_ids"][:, 1]], axis=1).astype(np.float32)


class CountingGraph:
    """A graph of which counting engines are compiled."""

    name = "counting"
    n_outputs: int | None = 2

    def __init__(self, seen, single_widths):
        self.seen, self.single_widths = seen, single_widths

    def compile(self, plan):
        return CountingEngine(plan, self.seen)


@pytest.fixture
def counting(bundles):
    """A predictor over the counting engine, and what the engine saw."""

    def make(task="reviews", cleaning=(), single_widths=(), **options):
        seen: list = []
        bundle = read_bundle(bundles[task])
        bundle = replace(bundle, reading=replace(bundle.reading, cleaning=cleaning))
        tokenizer = open_tokenizer(bundles[task], bundle)
        return BundlePredictor(bundle, tokenizer, CountingGraph(seen, single_widths), **options), seen

    return make


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("task", ["reviews", "pairs", "tags", "scores"])
def test_a_bundle_says_what_torch_says(task, engine, bundles, classifiers, texts):
    given = [(text, other) for text, other in zip(texts, reversed(texts), strict=True)] if task == "pairs" else texts
    expected = TorchPredictor.open(classifiers[task], max_length=40).predict(given)
    with BundlePredictor.open(bundles[task], engine=engine, threads=2, batch_tokens=200) as predictor:
        assert predictor.engine == engine
        said = predictor.predict(given)
    np.testing.assert_allclose(said.logits, expected.logits, atol=1e-4)
    for name in ("ids", "n_tokens", "truncated"):
        np.testing.assert_array_equal(getattr(said, name), getattr(expected, name))
    assert (said.label_names, said.problem_type) == (expected.label_names, expected.problem_type)
    assert said.elapsed_s > 0
    assert said.truncated.any()


def test_the_company_and_the_order_of_texts_change_nothing(bundles, texts):
    with BundlePredictor.open(bundles["reviews"], threads=2, batch_tokens=100) as predictor:
        together = predictor.predict(texts).logits
        order = np.random.default_rng(1).permutation(len(texts))
        np.testing.assert_allclose(predictor.predict([texts[i] for i in order]).logits, together[order], atol=1e-5)
        alone = np.concatenate([predictor.predict([text]).logits for text in texts])
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_many_labels_get_a_sigmoid_each(bundles, texts):
    said = BundlePredictor.open(bundles["tags"]).predict(texts[:5])
    np.testing.assert_allclose(said.probabilities, sigmoid(said.logits))
    assert said.predicted.shape == (5, 2)


def test_texts_are_cleaned_as_the_training_texts_were_unless_they_already_are(counting):
    # oracle: the lengths of the cleaned texts, by the predictor that takes them as they come
    given, cleaned = ["good\n\nfilm of this very old day", "bad"], ["good film", "bad"]
    steps = ("line_breaks", "max_words:2")
    by_itself, _ = counting(cleaning=steps)
    as_they_come, _ = counting(cleaning=steps, cleaned=True)
    np.testing.assert_array_equal(by_itself.predict(given).logits, as_they_come.predict(cleaned).logits)
    assert by_itself.predict(given).n_tokens[0] < as_they_come.predict(given).n_tokens[0]


def test_a_text_of_which_cleaning_leaves_nothing_is_named(counting):
    predictor, _ = counting(cleaning=("too_short:10",))
    with pytest.raises(DataError, match=r"row 1: cleaning left no text.*'short'"):
        predictor.predict(["long enough to stay", "short"])


def test_nothing_in_is_nothing_out(bundles):
    for folder in bundles.values():
        said = BundlePredictor.open(folder).predict([])
        assert said.logits.shape == (0, len(said.label_names))
        assert len(said.ids) == len(said.n_tokens) == len(said.truncated) == 0


def test_one_batch_gets_all_threads_and_many_share_them(counting, texts):
    predictor, seen = counting(threads=3)
    predictor.predict(["good"])
    assert [(plan, shape) for plan, shape, _ in seen] == [(ThreadPlan(1, 3), (1, 3))]
    seen.clear()
    with predictor:
        predictor.predict(texts * 20)
    assert {plan for plan, _, _ in seen} == {ThreadPlan(3, 1)}
    assert all(name.startswith("potstill-batch") for _, _, name in seen)


def test_texts_that_are_not_alone_stay_on_one_stream_of_the_thread_that_asks(counting, texts):
    predictor, seen = counting(threads=3, single_widths=(8, 16, 64))
    (part,) = predictor.tokenise(texts)
    said = predictor.classify(part, alone=False)
    assert {plan for plan, _, _ in seen} == {ThreadPlan(3, 1)}
    assert {name for _, _, name in seen} == {threading.current_thread().name}
    np.testing.assert_array_equal(said.logits, predictor.classify(part).logits)


def test_a_text_alone_gets_an_engine_of_its_width_where_one_pays(counting):
    predictor, seen = counting(threads=2, single_widths=(8, 16, 64))
    for n_words in (1, 6, 7, 14, 20):  # and two special tokens; no text is longer than 40
        predictor.predict(["the " * n_words])
    assert [(plan.width, shape) for plan, shape, _ in seen] == [
        (8, (1, 8)),
        (8, (1, 8)),
        (16, (1, 16)),
        (16, (1, 16)),
        (None, (1, 24)),
    ]
    seen.clear()
    predictor.predict(["the", "the"])
    assert {plan.width for plan, _, _ in seen} == {None}


def test_engines_are_compiled_when_they_are_needed_and_once(counting, monkeypatch, texts):
    compiled = []

    def compile_(graph, plan):
        compiled.append(plan)
        return CountingEngine(plan, graph.seen)

    monkeypatch.setattr(CountingGraph, "compile", compile_)
    predictor, _ = counting(threads=2, single_widths=(8,))
    assert compiled == []
    with predictor:
        for _ in range(2):
            predictor.predict(["the"])
            predictor.predict(texts * 20)
    assert sorted(compiled, key=str) == [ThreadPlan(1, 2, 8), ThreadPlan(2, 1)]


@pytest.mark.parametrize("task", ["reviews", "pairs", "tags", "scores"])
def test_engines_of_fixed_widths_say_what_onnx_runtime_says(task, bundles, texts, monkeypatch):
    # oracle: ONNX Runtime, which has none
    ran = []

    def run(engine, batch):
        ran.append(engine.plan.width)
        return one_run(engine, batch)

    one_run = OpenVinoEngine.run
    monkeypatch.setattr(OpenVinoEngine, "run", run)
    monkeypatch.setattr(OpenVinoGraph, "single_widths", (24, 40))  # these bundles read 40 tokens
    given = [(text, text[:20]) for text in texts] if task == "pairs" else texts
    openvino, onnxruntime = (BundlePredictor.open(bundles[task], engine=name) for name in ("openvino", "onnxruntime"))
    for text in given:
        np.testing.assert_allclose(openvino.predict([text]).logits, onnxruntime.predict([text]).logits, atol=1e-4)
    assert set(ran) == {24, 40}


def test_onnx_runtime_has_no_engines_of_a_fixed_width(bundles):
    graph = open_graph(
        bundles["reviews"] / "model.onnx", read_bundle(bundles["reviews"]).graph, ThreadPlan(1, 1), "onnxruntime"
    )
    with pytest.raises(ValueError, match="24 was asked for"):
        graph.compile(ThreadPlan(1, 1, 24))


def test_all_engines_are_compiled_at_once_for_who_asks(counting, monkeypatch):
    plans = []
    monkeypatch.setattr(CountingGraph, "compile", lambda graph, plan: plans.append(plan) or CountingEngine(plan, []))
    predictor, _ = counting(threads=2, single_widths=(8, 16, 64))  # no text is longer than 40
    predictor.compile_all()
    assert plans == [ThreadPlan(1, 2, 8), ThreadPlan(1, 2, 16), ThreadPlan(1, 2), ThreadPlan(2, 1)]


def test_an_engine_that_many_threads_need_is_compiled_once(counting, monkeypatch):
    plans = []

    def compile_(graph, plan):
        plans.append(plan)
        time.sleep(0.05)
        return CountingEngine(plan, graph.seen)

    monkeypatch.setattr(CountingGraph, "compile", compile_)
    predictor, _ = counting()
    asking = [threading.Thread(target=predictor.predict, args=(["good"],)) for _ in range(6)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(10)
    assert len(plans) == 1


def test_an_engine_that_cannot_be_compiled_is_told_and_nothing_waits(counting, monkeypatch, texts):
    def compile_(graph, plan):
        raise BundleError("no engine for this")

    monkeypatch.setattr(CountingGraph, "compile", compile_)
    told = []

    def ask():
        predictor, _ = counting(threads=4)
        with pytest.raises(BundleError, match="no engine"), predictor:
            predictor.predict(texts * 20)
        told.append(True)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(20)
    assert told


def test_a_predictor_may_be_closed_while_it_compiles(counting, monkeypatch, texts):
    compiling = threading.Event()

    def compile_(graph, plan):
        compiling.set()
        time.sleep(0.2)
        return CountingEngine(plan, graph.seen)

    monkeypatch.setattr(CountingGraph, "compile", compile_)
    predictor, seen = counting(threads=4)
    asking = threading.Thread(target=predictor.predict, args=(texts * 20,), daemon=True)
    asking.start()
    assert compiling.wait(10)
    closing = threading.Thread(target=predictor.close, daemon=True)
    closing.start()
    for thread in (closing, asking):
        thread.join(20)
        assert not thread.is_alive()
    assert seen
    predictor.close()


def test_batches_keep_to_the_number_of_tokens(counting, texts):
    predictor, seen = counting(threads=1, batch_tokens=300)
    said = predictor.predict(texts)
    assert max(rows * length for _, (rows, length), _ in seen) <= 300
    assert sum(rows for _, (rows, _), _ in seen) == len(texts)
    np.testing.assert_array_equal(said.logits[:, 0], np.minimum(said.n_tokens, 40))


def test_results_come_in_the_order_of_the_texts_over_many_chunks(counting):
    predictor, _ = counting(threads=2)
    words = ["good", "bad", "film", "day"]
    given = [words[i % 4] + " the" * (i % 9) for i in range(3000)]
    said = predictor.predict(given)
    ids = {word: predictor.tokenizer.backend.token_to_id(word) for word in words}
    np.testing.assert_array_equal(said.logits[:, 1], [ids[words[i % 4]] for i in range(3000)])
    np.testing.assert_array_equal(said.n_tokens, [3 + i % 9 for i in range(3000)])
    assert said.ids[:3].tolist() == ["0", "1", "2"]


def test_several_threads_may_ask_at_once(bundles, texts):
    with BundlePredictor.open(bundles["reviews"], threads=2, batch_tokens=100) as predictor:
        expected = predictor.predict(texts).logits
        found: list = [None] * 6

        def ask(number):
            found[number] = predictor.predict(texts).logits

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for logits in found:
        np.testing.assert_allclose(logits, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("task", "given", "message"),
    [
        ("reviews", [("a", "b")], "row 0 is a pair of texts.*takes single texts"),
        ("pairs", ["a"], "row 0 is a single text.*takes pairs"),
        ("reviews", ["a", None], "row 1 is not text"),
        ("reviews", [["a"]], "row 0 is not text"),
        ("reviews", [("a", "b", "c")], "row 0 is 3 texts"),
        ("pairs", [("a", 3)], "row 0 is not text"),
        ("reviews", "a film", "one text is not a list"),
        ("reviews", ["fine", "\ud800"], "row 1 holds half of a surrogate pair"),
    ],
)
def test_what_is_no_text_is_named(bundles, task, given, message):
    with pytest.raises(DataError, match=message):
        BundlePredictor.open(bundles[task]).predict(given)


ANYTHING = st.one_of(
    st.text(),
    st.none(),
    st.integers(),
    st.binary(),
    st.tuples(st.text(), st.text()),
    st.lists(st.text(), max_size=2),
    st.characters(categories=["Cs"]),
)


@given(st.lists(ANYTHING, max_size=5))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_given_is_predicted_or_refused(counting, texts_given):
    predictor, _ = counting()
    try:
        said = predictor.predict(texts_given)
    except DataError:
        return
    assert len(said) == len(texts_given)


@pytest.mark.parametrize("task", ["reviews", "pairs"])
def test_texts_of_ten_megabytes_are_cut_and_told(bundles, task):
    text = "good bad " * 1_111_112
    with BundlePredictor.open(bundles[task]) as predictor:
        said = predictor.predict([(text, "dull") if task == "pairs" else text])
    assert said.truncated.tolist() == [True]
    assert said.n_tokens[0] > 2_222_224


def test_a_long_text_is_cut_and_told(bundles):
    said = BundlePredictor.open(bundles["reviews"]).predict(["good " * 200_000])
    assert said.truncated.tolist() == [True]
    assert said.n_tokens.tolist() == [200_002]


@pytest.mark.parametrize("options", [{"threads": 0}, {"batch_tokens": 0}, {"threads": 2, "streams": 3}, {"streams": 0}])
def test_settings_out_of_range_are_refused(counting, options):
    with pytest.raises(UsageError):
        counting(**options)


def test_streams_divide_the_threads(counting, texts):
    predictor, seen = counting(threads=4, streams=2)
    with predictor:
        predictor.predict(texts * 20)
    assert {plan for plan, _, _ in seen} == {ThreadPlan(2, 2)}


def test_plans_take_all_cores_unless_told():
    assert for_one_batch(None).threads == for_many_batches(None).streams >= 1
    assert for_one_batch(5) == ThreadPlan(1, 5)
    assert for_many_batches(5) == ThreadPlan(5, 1)


def test_a_graph_of_another_number_of_labels_is_refused(bundles, counting, monkeypatch):
    monkeypatch.setattr(CountingGraph, "n_outputs", 7)
    with pytest.raises(BundleError, match=r"7 outputs.*found 2"):
        counting()


def broken(bundles, tmp_path, name, content):
    """A bundle with one file replaced, the hash of the new one in its place."""
    import hashlib
    import shutil

    folder = shutil.copytree(bundles["reviews"], tmp_path / "broken")
    (folder / name).write_bytes(content)
    described = json.loads((folder / "bundle.json").read_text())
    described["files"][name] = hashlib.sha256(content).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(described))
    return folder


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("content", [b"", b"no graph", b"\x08\x08\x12\x00"])
def test_a_graph_that_no_engine_opens_is_a_broken_bundle(bundles, tmp_path, engine, content):
    with pytest.raises(BundleError, match=r"model\.onnx"):
        BundlePredictor.open(broken(bundles, tmp_path, "model.onnx", content), engine=engine)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"model": {}}'])
def test_a_tokenizer_that_is_none_is_a_broken_bundle(bundles, tmp_path, content):
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        BundlePredictor.open(broken(bundles, tmp_path, "tokenizer.json", content))


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_graph_of_other_inputs_is_refused(bundles, engine):
    bundle = read_bundle(bundles["reviews"])
    from dataclasses import replace

    graph = replace(bundle.graph, inputs=("input_ids", "attention_mask", "token_type_ids"))
    if graph.inputs == bundle.graph.inputs:
        graph = replace(graph, inputs=("input_ids", "attention_mask"))
    with pytest.raises(BundleError, match="takes other inputs"):
        open_graph(bundles["reviews"] / "model.onnx", graph, ThreadPlan(1, 1), engine)


def test_an_engine_that_is_not_there_is_named(bundles, monkeypatch):
    with pytest.raises(UsageError, match=r"no such inference engine.*openvino, onnxruntime"):
        BundlePredictor.open(bundles["reviews"], engine="tensorflow")
    monkeypatch.setattr("potstill.runtime.engine.installed_engines", lambda: ())
    with pytest.raises(UsageError, match=r"pip install 'potstill\[runtime\]'"):
        BundlePredictor.open(bundles["reviews"])


def test_openvino_is_the_default_where_both_are_installed():
    assert installed_engines()[:2] == ("openvino", "onnxruntime")


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_prediction_loads_neither_torch_nor_transformers_nor_anything_of_training(bundles, engine):
    program = (
        "import sys; from potstill.runtime.bundle_predictor import BundlePredictor; "
        f"said = BundlePredictor.open({str(bundles['reviews'])!r}, engine={engine!r}).predict(['good', 'bad']); "
        "assert said.logits.shape == (2, 2); "
        "heavy = 'torch transformers datasets sklearn scipy pandas pyarrow pydantic yaml matplotlib'.split(); "
        "print(*sorted(set(heavy) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
