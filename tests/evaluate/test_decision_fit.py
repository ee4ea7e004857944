"""Decisions of a run: fitted on its selection split, kept with it, obeyed by whoever reads or predicts."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import f1_score

from potstill.decisions import FILE, ThresholdRule, read_decisions
from potstill.errors import DataError, RunFolderError
from potstill.evaluate.decision_fit import decide_run, effect_of_decisions
from potstill.evaluate.stage import compare_runs, evaluate_run, fingerprint_of_arms, store_predictions
from potstill.runs import RunFolder, read_predictions
from potstill.runtime.torch_predictor import TorchPredictor

F1 = ThresholdRule("f1")


@pytest.fixture
def run(classifiers: Any, tmp_path: Path) -> Path:
    """A run with two labels of its own, not yet sure of anything, to write into."""
    folder = shutil.copytree(classifiers["tags"], tmp_path / "run")
    soften(folder)
    return folder


def soften(folder: Path) -> None:
    """Logits that are wrong here and there, so that there is something to fit."""
    rng = np.random.default_rng(0)
    for split in ("selection", "test"):
        found = RunFolder.open(folder).raw_predictions(split)
        logits = 3.0 * (found.targets - 0.9) + rng.normal(0, 2, found.logits.shape)
        store_predictions(folder, split, replace(found, logits=logits.astype(np.float32)))


def thresholds_of(folder: Path) -> np.ndarray:
    decisions = read_decisions(folder)
    assert decisions is not None
    assert decisions.thresholds is not None
    return np.array(list(decisions.thresholds.values()))


def test_decisions_say_what_they_were_fitted_on(run):
    decisions = decide_run(run, F1, scaled=True)
    assert read_decisions(run) == decisions
    content = json.loads((run / FILE).read_text())
    assert content["fitted_on"]["split"] == "selection"
    assert content["fitted_on"]["rows"] == 12
    assert content["asked"] == {"thresholds": {"strategy": "f1"}, "temperature": True}
    assert list(content["thresholds"]) == ["praise", "blame"]
    assert content["temperature"] != 1


def test_stored_predictions_stay_logits_and_are_decided_on_reading(run):
    before = read_predictions(run / "predictions" / "test.parquet")
    decisions = decide_run(run, F1, scaled=True)
    file = read_predictions(run / "predictions" / "test.parquet")
    assert (file.temperature, file.thresholds) == (1.0, None)
    np.testing.assert_array_equal(file.logits, before.logits)
    decided = RunFolder.open(run).predictions("test")
    expected = expit(before.logits / decisions.temperature) >= thresholds_of(run)
    np.testing.assert_array_equal(decided.predicted, expected)
    assert (decided.predicted != before.predicted).any(), "the decisions decide nothing, so nothing is tested"


def test_metrics_are_stated_under_the_decisions_and_without_them_again(run):
    before = json.loads((run / "metrics.json").read_text())
    decide_run(run, F1, scaled=True)
    after = json.loads((run / "metrics.json").read_text())
    decided = RunFolder.open(run).predictions("test")
    assert after["test"]["f1_macro"] == pytest.approx(f1_score(decided.targets, decided.predicted, average="macro"))
    assert after["test"] != before["test"]
    assert {split: list(values) for split, values in after.items()} == {
        split: list(values) for split, values in before.items()
    }
    assert decide_run(run, ThresholdRule(), scaled=False) is None
    assert json.loads((run / "metrics.json").read_text()) == before
    assert not (run / FILE).exists()


def test_thresholds_are_the_best_on_the_selection_split_alone(run):
    """Oracle: F1 of scikit-learn on a fine grid of thresholds."""
    decide_run(run, F1, scaled=False)
    selection = RunFolder.open(run).predictions("selection")
    for label, threshold in enumerate(thresholds_of(run)):
        truth, scores = selection.targets[:, label], selection.probabilities[:, label]
        grid = [f1_score(truth, scores >= other, zero_division=0) for other in np.linspace(0, 1, 41)]
        assert f1_score(truth, scores >= threshold) >= max(grid)


def test_the_same_again_writes_nothing(run):
    decide_run(run, F1, scaled=True)
    files = [run / FILE, run / "metrics.json"]
    before = [file.stat().st_mtime_ns for file in files]
    decide_run(run, F1, scaled=True)
    assert [file.stat().st_mtime_ns for file in files] == before


def test_other_rules_take_the_place_of_those_before(run):
    decide_run(run, F1, scaled=True)
    decisions = decide_run(run, ThresholdRule("recall", at_least=1.0), scaled=False)
    assert read_decisions(run) == decisions
    assert decisions.temperature == 1.0


def test_the_predictor_obeys_them(run):
    decisions = decide_run(run, F1, scaled=True)
    predicted = TorchPredictor.open(run).predict(["a good day", "one bad film", ""])
    assert predicted.temperature == decisions.temperature
    expected = expit(predicted.logits / decisions.temperature) >= thresholds_of(run)
    np.testing.assert_array_equal(predicted.predicted, expected)


def test_a_copy_of_the_model_alone_obeys_them_too(run, tmp_path):
    decisions = decide_run(run, F1, scaled=True)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", FILE):
        shutil.copy(run / name, copy / name)
    assert TorchPredictor.open(copy).predict(["a good day"]).temperature == decisions.temperature


def test_evaluate_obeys_them_and_stores_logits(classifiers, tmp_path):
    run = shutil.copytree(classifiers["tags"], tmp_path / "run")
    decide_run(run, ThresholdRule("recall", at_least=1.0), scaled=False)
    metrics = evaluate_run(run)
    file = read_predictions(run / "predictions" / "test.parquet")
    given = expit(file.logits) >= thresholds_of(run)
    assert metrics["f1_macro"] == pytest.approx(f1_score(file.targets, given, average="macro", zero_division=0))
    assert file.thresholds is None


def test_evaluating_the_selection_split_again_keeps_the_decisions(classifiers, tmp_path):
    """Another batch size rounds otherwise; that is no other model."""
    run = shutil.copytree(classifiers["tags"], tmp_path / "run")
    decisions = decide_run(run, F1, scaled=False)
    told: list[str] = []
    metrics = evaluate_run(run, split="selection", batch_size=3, tell=told.append)
    assert "were fitted on the rows of selection" in " ".join(told)
    assert read_decisions(run) == decisions
    assert metrics == pytest.approx(json.loads((run / "metrics.json").read_text())["selection"])


def test_predictions_of_another_model_are_told_when_they_are_stored(run):
    """The stored logits of this run are not its model's, so predicting them again changes them."""
    decide_run(run, F1, scaled=True)
    with pytest.raises(RunFolderError, match="fit them again: potstill calibrate"):
        evaluate_run(run, split="selection")


def test_a_run_whose_selection_predictions_changed_refuses_its_decisions(run):
    decide_run(run, F1, scaled=True)
    opened = RunFolder.open(run)
    selection = opened.raw_predictions("selection")
    store_predictions(run, "selection", replace(selection, logits=-selection.logits))
    for use in (
        lambda: opened.predictions("test"),
        lambda: TorchPredictor.open(run),
        lambda: evaluate_run(run),
        lambda: compare_runs({"a": [run], "b": [run]}, resamples=10),
        lambda: effect_of_decisions([opened]),
    ):
        with pytest.raises(RunFolderError, match="potstill calibrate"):
            use()
    decide_run(run, F1, scaled=True)
    assert len(opened.predictions("test")) == 12


def test_predictions_of_the_reported_split_do_not_make_them_stale(run):
    decisions = decide_run(run, F1, scaled=True)
    evaluate_run(run)
    assert read_decisions(run) == decisions


def test_two_labels_of_which_one_is_given_have_one_threshold(classifiers, tmp_path):
    run = shutil.copytree(classifiers["reviews"], tmp_path / "run")
    opened = RunFolder.open(run)
    rng = np.random.default_rng(1)
    for split in ("selection", "test"):
        found = opened.raw_predictions(split)
        logits = np.eye(2)[found.targets] + rng.normal(0, 1, (len(found), 2))
        store_predictions(run, split, replace(found, logits=logits.astype(np.float32)))
    decide_run(run, ThresholdRule("cost", false_positive_cost=9.0, false_negative_cost=1.0), scaled=False)
    decided = opened.predictions("test")
    assert list(read_decisions(run).thresholds) == [decided.label_names[1]]
    np.testing.assert_array_equal(decided.predicted, decided.probabilities[:, 1] >= thresholds_of(run)[0])


def test_a_regression_is_refused_and_left_as_it_was(classifiers, tmp_path):
    run = shutil.copytree(classifiers["scores"], tmp_path / "run")
    for asked in ({"rule": ThresholdRule(), "scaled": True}, {"rule": F1, "scaled": False}):
        with pytest.raises(DataError):
            decide_run(run, **asked)
    assert not (run / FILE).exists()


def test_arms_that_decide_by_different_rules_are_not_compared(classifiers, tmp_path):
    arms = {name: shutil.copytree(classifiers[name], tmp_path / name) for name in ("teacher-tags", "tags")}
    decide_run(arms["tags"], F1, scaled=True)
    paths = {name: [path] for name, path in arms.items()}
    with pytest.raises(DataError, match="does not decide by the same rule"):
        compare_runs(paths, resamples=10)
    before = fingerprint_of_arms(paths)
    decide_run(arms["teacher-tags"], F1, scaled=True)
    assert fingerprint_of_arms(paths) != before
    compared = compare_runs(paths, resamples=10)
    for name, path in arms.items():
        expected = json.loads((path / "metrics.json").read_text())["test"]["f1_macro"]
        assert compared.arms[name].metrics["f1_macro"].median == pytest.approx(expected)


def test_the_effect_is_that_of_the_stored_logits_with_and_without(run):
    before = json.loads((run / "metrics.json").read_text())["test"]
    decide_run(run, F1, scaled=True)
    effect = effect_of_decisions([RunFolder.open(run)], n_resamples=20)
    after = json.loads((run / "metrics.json").read_text())["test"]
    for name in before:
        assert effect.metrics[name].before == pytest.approx(before[name])
        assert effect.metrics[name].after == pytest.approx(after[name])
