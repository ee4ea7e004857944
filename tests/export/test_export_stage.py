"""From a run to a bundle: whole or not at all, and held against the run. Oracles: the run's files and predictions."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from potstill.bundle import Graph, read_bundle
from potstill.errors import BundleError, CheckError, DataError, ModelError, RunFolderError, UsageError
from potstill.evaluate.stage import open_runs
from potstill.export import stage
from potstill.export.stage import export_run
from potstill.lock import take_lock
from potstill.runs import RunFolder, write_predictions
from potstill.runtime.bundle_predictor import BundlePredictor


@pytest.fixture
def run_copy(classifiers, tmp_path):
    """A copy of a classifier's run, to be changed."""

    def copy(task="reviews"):
        return shutil.copytree(classifiers[task], tmp_path / f"run-{task}")

    return copy


def rewrite(run, split="selection", **changed):
    stored = RunFolder.open(run).raw_predictions(split)
    write_predictions(run / "predictions" / f"{split}.parquet", replace(stored, **changed))


def test_a_bundle_holds_three_files_and_the_hash_of_each(bundles):
    for folder in bundles.values():
        assert {file.name for file in folder.iterdir()} == {"bundle.json", "model.onnx", "tokenizer.json"}
        listed = json.loads((folder / "bundle.json").read_text())["files"]
        assert listed == {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("model.onnx", "tokenizer.json")
        }


def test_a_bundle_describes_its_run(bundles, classifiers):
    for task, folder in bundles.items():
        bundle, run = read_bundle(folder), RunFolder.open(classifiers[task])
        assert bundle.name == task
        assert bundle.problem_type == run.manifest["problem_type"]
        assert list(bundle.label_names) == run.manifest["label_names"]
        assert bundle.reading.max_length == run.manifest["max_length"] == 40
        assert bundle.reading.takes_pairs == (task == "pairs")
        assert bundle.origin["run"] == run.manifest["fingerprint"]
        assert (bundle.forced, bundle.decisions) == (False, None)


def test_a_bundle_tells_where_it_came_from_in_fingerprints_alone(bundles, classifiers, tmp_path_factory):
    for task, folder in bundles.items():
        said = (folder / "bundle.json").read_text()
        assert str(tmp_path_factory.getbasetemp()) not in said
        assert str(classifiers[task]) not in said


def test_the_gate_held_the_stored_rows_and_found_rounding_alone(bundles, classifiers):
    for task, folder in bundles.items():
        gate, stored = read_bundle(folder).gate, RunFolder.open(classifiers[task]).raw_predictions("selection")
        assert gate["rows"] == gate["rows_stored"] == len(stored)
        assert gate["passed"]
        assert gate["logit_difference"]["largest"] < 1e-4
        assert gate["logit_difference"]["allowed"] == 1e-3
        assert gate["metric"]["drop"] == pytest.approx(0, abs=1e-4)
        assert gate["label_flips"]["share"] in (0, None)


def test_a_bundle_that_says_something_else_is_refused_and_nothing_is_left(run_copy, tmp_path):
    run = run_copy()
    stored = RunFolder.open(run).raw_predictions("selection")
    rewrite(run, logits=-stored.logits)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(CheckError, match=r"share of labels flipped 1 .*--force"):
        export_run(run, tmp_path / "bundle", arithmetic="fp32")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_force_writes_it_and_says_so(run_copy, tmp_path):
    run = run_copy()
    rewrite(run, logits=RunFolder.open(run).raw_predictions("selection").logits + np.float32(0.01))
    export_run(run, tmp_path / "bundle", arithmetic="fp32", force=True)
    bundle = read_bundle(tmp_path / "bundle")
    assert bundle.forced
    assert bundle.gate["complaints"] == ["largest logit difference 0.01 (at most 0.001)"]


@pytest.mark.slow
def test_force_marks_nothing_that_passes_and_both_numbers_of_rows_are_told(classifiers, tmp_path):
    (tmp_path / "bundle").mkdir()  # an empty folder is taken
    export_run(classifiers["reviews"], tmp_path / "bundle", arithmetic="fp32", force=True, gate_rows=5)
    bundle = read_bundle(tmp_path / "bundle")
    assert not bundle.forced
    assert bundle.gate["rows"] == 5 < bundle.gate["rows_stored"]


def test_a_folder_with_something_in_it_is_left_alone(classifiers, tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "mine.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="not empty"):
        export_run(classifiers["reviews"], tmp_path / "bundle")
    assert [file.name for file in tmp_path.rglob("*.txt")] == ["mine.txt"]


def test_a_bundle_that_is_there_is_neither_replaced_nor_touched(classifiers, bundles):
    out = bundles["reviews"]
    before = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    with pytest.raises(RunFolderError, match=r"holds a bundle already.*remove that folder first"):
        export_run(classifiers["reviews"], out, arithmetic="fp32")
    assert {file.name: file.stat().st_mtime_ns for file in out.iterdir()} == before


def test_two_processes_do_not_write_one_bundle(classifiers, tmp_path):
    out, busy = tmp_path / "bundle", pytest.raises(RunFolderError, match=r"another process is working on .*bundle")
    with take_lock(tmp_path / ".bundle.lock", out), busy:
        export_run(classifiers["reviews"], out, arithmetic="fp32")
    assert not (tmp_path / "bundle").exists()


def attempts_of(*complaints):
    """Attempts as they come, and a gate that complains of each as told."""
    described = Graph("model.onnx", "int8", ("input_ids",), "logits", 18)
    made = [SimpleNamespace(graph=described, number=number) for number in range(len(complaints))]

    def held(bundle):
        gate = SimpleNamespace(complaints=complaints[bundle.number], require_passed=refuse)
        return gate

    def refuse():
        raise CheckError("outside")

    return lambda: iter(made), held


@pytest.mark.parametrize(
    ("complaints", "chosen"), [(((),), 0), ((("a",), (), ()), 1), ((("a",), ("b",), ("c",)), 0), ((("a",),), 0)]
)
def test_force_takes_what_passes_and_only_then_the_first(complaints, chosen):
    told = []
    made, held = attempts_of(*complaints)
    bundle, gate = stage._let_through(made, held, force=True, tell=told.append)
    assert (bundle.number, gate.complaints) == (chosen, complaints[chosen])
    passed = () in complaints
    assert len(told) == (complaints.index(()) if passed else len(complaints))
    if not passed:
        with pytest.raises(CheckError):
            stage._let_through(made, held, force=False, tell=told.append)


def test_predictions_of_other_rows_are_refused(run_copy, tmp_path):
    run = run_copy()
    stored = RunFolder.open(run).raw_predictions("selection")
    rewrite(run, ids=stored.ids[::-1])
    with pytest.raises(DataError, match="are of other rows"):
        export_run(run, tmp_path / "bundle", arithmetic="fp32")


def test_an_encoder_is_no_classifier(encoders, tmp_path):
    with pytest.raises(RunFolderError, match="only a fine-tuned classifier"):
        export_run(encoders["student"], tmp_path / "bundle")


def test_a_linear_model_has_no_graph(potstill, task_flags, tmp_path):
    made = potstill("baseline", "tfidf", *task_flags["reviews"], "--out", tmp_path / "run")
    assert made.code == 0, made.err
    with pytest.raises(ModelError, match="linear model, of which there is no graph"):
        export_run(tmp_path / "run", tmp_path / "bundle")


@pytest.mark.parametrize("arithmetic", ["int4", "fp64"])
def test_only_arithmetic_that_works_is_offered(classifiers, tmp_path, arithmetic):
    with pytest.raises(UsageError, match="allowed: int8, int8-dynamic, fp16, bf16, fp32"):
        export_run(classifiers["reviews"], tmp_path / "bundle", arithmetic=arithmetic)


@pytest.mark.slow
def test_decisions_travel_and_are_obeyed(run_copy, potstill, tmp_path):
    run = run_copy("tags")
    assert potstill("calibrate", run, "--thresholds", "f1").code == 0
    export_run(run, tmp_path / "bundle", arithmetic="fp32")
    folder = RunFolder.open(run)
    expected = folder.predictions("selection")
    assert expected.thresholds is not None
    predictor = BundlePredictor.open(tmp_path / "bundle")
    _, data = open_runs([run], None)
    said = predictor.predict(data.split("selection").texts)
    assert said.temperature == expected.temperature
    np.testing.assert_array_equal(said.thresholds, expected.thresholds)
    np.testing.assert_allclose(said.probabilities, expected.probabilities, atol=1e-5)
    np.testing.assert_array_equal(said.predicted, expected.predicted)


KILLED_AT_THE_GATE = """
import os, signal, sys
from potstill.export import stage
stage.hold_against = lambda *given, **named: os.kill(os.getpid(), signal.SIGKILL)
stage.export_run(sys.argv[1], sys.argv[2], arithmetic="fp32")
"""


@pytest.mark.slow
def test_a_kill_leaves_nothing_that_opens_and_the_next_export_clears_it_away(classifiers, tmp_path):
    out = tmp_path / "bundle"
    killed = [sys.executable, "-c", KILLED_AT_THE_GATE, str(classifiers["reviews"]), str(out)]
    assert subprocess.run(killed, capture_output=True, check=False, timeout=600).returncode == -signal.SIGKILL
    assert not out.exists()
    (left,) = [entry for entry in tmp_path.iterdir() if entry.is_dir()]
    assert (left / "model.onnx").stat().st_size > 0
    with pytest.raises(BundleError, match="not a bundle"):
        read_bundle(left)
    export_run(classifiers["reviews"], out, arithmetic="fp32")
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["reviews", "pairs", "tags", "scores"])
def test_every_kind_of_task_is_exported_in_int8_and_smaller(task, classifiers, bundles, tmp_path):
    export_run(classifiers[task], tmp_path / "bundle", arithmetic="int8", force=True)
    bundle, whole = read_bundle(tmp_path / "bundle"), bundles[task]
    assert (bundle.graph.arithmetic, bundle.gate["rows"]) == ("int8", read_bundle(whole).gate["rows"])
    assert bundle.forced == (not bundle.gate["passed"])
    assert (tmp_path / "bundle" / "model.onnx").stat().st_size < 0.9 * (whole / "model.onnx").stat().st_size
    assert (bundle.gate["value_change"]["deviations"] is not None) == (task == "scores")


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["none", "attention"])
@pytest.mark.parametrize("arithmetic", ["fp32", "int8"])
def test_a_bilstm_becomes_a_bundle(weighting, arithmetic, potstill, task_flags, tiny, tmp_path):
    small = (f"weighting={weighting}", "hidden_size=8", "embedding_size=16", "min_count=1")
    flags = tuple(part for field in small for part in ("--set", f"bilstm.{field}"))
    run = tmp_path / "run"
    made = potstill("baseline", "bilstm", "--model", tiny.encoder, *task_flags["reviews"], "--out", run, *flags)
    assert made.code == 0, made.err
    gate = export_run(run, tmp_path / "bundle", arithmetic=arithmetic, force=arithmetic == "int8")["gate"]
    assert gate["logit_difference"]["largest"] < (1e-4 if arithmetic == "fp32" else 0.5)
    with BundlePredictor.open(tmp_path / "bundle") as predictor:
        assert predictor.predict(["a good film", "a bad film " * 30]).logits.shape == (2, 2)


@pytest.mark.slow
def test_windows_travel_and_are_obeyed(potstill, small, encoders, task_flags, tmp_path):
    flags = small("finetune", "finetune.max_length=12", "finetune.long_texts=mean", "finetune.window_overlap=3")
    run = tmp_path / "run"
    made = potstill("finetune", "--model", encoders["student"], *task_flags["reviews"], "--out", run, *flags)
    assert made.code == 0, made.err
    bundle = export_run(run, tmp_path / "bundle", arithmetic="fp32")
    assert bundle["text"]["windows"] == {"overlap": 3, "pooling": "mean"}
    assert bundle["gate"]["logit_difference"]["largest"] < 1e-4


@pytest.mark.slow
def test_a_head_of_ours_becomes_a_bundle(potstill, small, encoders, task_flags, tmp_path):
    flags = small("finetune", "finetune.head={kind: hidden, size: 10, pooling: mean}")
    run = tmp_path / "run"
    made = potstill("finetune", "--model", encoders["student"], *task_flags["pairs"], "--out", run, *flags)
    assert made.code == 0, made.err
    assert export_run(run, tmp_path / "bundle", arithmetic="fp32")["gate"]["passed"]
