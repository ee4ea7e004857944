"""Evaluation and comparison as stages: stored predictions in, figures out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from potstill.errors import CheckError, DataError, RunFolderError
from potstill.evaluate.stage import arms_in, compare_runs, evaluate_run, load_task_section
from potstill.recipe.schema import TaskSection
from potstill.runs import RunFolder


@pytest.fixture
def run(classifiers: Any, tmp_path: Path) -> Path:
    """A run of one's own to write into."""
    return shutil.copytree(classifiers["reviews"], tmp_path / "run")


def test_evaluating_again_changes_no_figure(run):
    before = json.loads((run / "metrics.json").read_text())
    logits = RunFolder.open(run).predictions("test").logits
    assert evaluate_run(run) == pytest.approx(before["test"])
    after = json.loads((run / "metrics.json").read_text())
    assert after["selection"] == before["selection"]
    np.testing.assert_allclose(RunFolder.open(run).predictions("test").logits, logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_batch_size_changes_no_logit_and_drops_no_row(batch_size, run):
    """Pitfall 11."""
    before = RunFolder.open(run).predictions("test")
    evaluate_run(run, batch_size=batch_size)
    after = RunFolder.open(run).predictions("test")
    assert after.ids.tolist() == before.ids.tolist()
    np.testing.assert_allclose(after.logits, before.logits, rtol=0, atol=1e-5)


def test_another_split_is_added_to_those_there_are(run):
    metrics = evaluate_run(run, split="train")
    predictions = RunFolder.open(run).predictions("train")
    assert len(predictions) == 96
    assert metrics["accuracy"] == accuracy_score(predictions.targets, predictions.predicted)
    assert json.loads((run / "metrics.json").read_text()).keys() == {"selection", "test", "train"}


def test_a_file_that_changed_is_read_again_in_the_same_process(tiny, caches, tmp_path):
    rows = shutil.copy(tiny.reviews, tmp_path / "rows.csv")
    section = TaskSection(name="x", files=str(rows))
    first = load_task_section(section, None)
    assert load_task_section(section, None) is first
    with rows.open("a") as stream:
        stream.write("one fine film,good\n")
    assert load_task_section(section, None).fingerprint != first.fingerprint


def test_arms_are_runs_or_folders_of_seeds(experiment, classifiers):
    student = experiment.folder / "tasks" / "reviews" / "student"
    arms = arms_in([student, classifiers["reviews"]])
    assert arms == {"student": [student / "seed-1", student / "seed-2"], "reviews": [classifiers["reviews"]]}


def test_a_run_that_was_set_aside_is_no_seed(classifiers, tmp_path):
    for name in ("seed-1", "seed-1.previous-1", "seed-2"):
        shutil.copytree(classifiers["reviews"], tmp_path / "arm" / name)
    assert arms_in([tmp_path / "arm"]) == {"arm": [tmp_path / "arm" / "seed-1", tmp_path / "arm" / "seed-2"]}


def test_paths_that_end_alike_keep_their_whole_name(experiment):
    student, copied = (experiment.folder / "tasks" / "reviews" / arm / "seed-1" for arm in ("student", "copied"))
    assert list(arms_in([student, copied])) == [str(student), str(copied)]


def test_a_run_that_is_named_twice_is_refused(classifiers):
    with pytest.raises(DataError, match="name every run once"):
        arms_in([classifiers["reviews"], classifiers["reviews"]])


def test_a_run_compared_with_itself_keeps_everything(experiment):
    seeds = sorted((experiment.folder / "tasks" / "reviews" / "student").glob("seed-*"))
    compared = compare_runs({"a": seeds, "b": seeds}, resamples=50).to_dict()
    same = compared["arms"]["b"]
    assert same["changes"]["accuracy"]["retention"]["value"] == 1.0
    assert same["changes"]["accuracy"]["difference"]["value"] == 0.0
    assert same["rows"]["agreement"] == 1.0


def test_a_comparison_is_made_by_the_metric_that_is_named(experiment):
    root = experiment.folder / "tasks" / "reviews"
    arms = {arm: sorted((root / arm).glob("seed-*")) for arm in ("teacher", "student")}
    assert compare_runs(arms, metric="f1_macro", resamples=20).to_dict()["metric"] == "f1_macro"


def test_arms_of_different_numbers_of_seeds_are_refused(experiment):
    root = experiment.folder / "tasks" / "reviews"
    with pytest.raises(CheckError, match="seeds"):
        compare_runs({"a": sorted((root / "teacher").glob("seed-*")), "b": [root / "student" / "seed-1"]}, resamples=20)


def test_runs_trained_on_fewer_rows_are_refused(potstill, small, encoders, task_flags, classifiers, tmp_path):
    """Pitfall 5: a tenth of the training rows against all of them, measured on the very same test rows."""
    fewer = (*task_flags["reviews"], "--set", "task.limits={train: 12}")
    made = potstill("finetune", "--model", encoders["student"], *fewer, "--out", tmp_path / "few", *small("finetune"))
    assert made.code == 0, made.err
    ids = [RunFolder.open(path).predictions("test").ids.tolist() for path in (classifiers["reviews"], tmp_path / "few")]
    assert ids[0] == ids[1]
    with pytest.raises(DataError, match="not trained and measured on the same rows") as refused:
        compare_runs({"all": [classifiers["reviews"]], "few": [tmp_path / "few"]})
    assert "train 12" in str(refused.value)


def test_runs_that_lack_the_predictions_are_named(run):
    (run / "predictions" / "test.parquet").unlink()
    with pytest.raises(RunFolderError, match="no predictions of split 'test'"):
        compare_runs({"a": [run], "b": [run]})


@pytest.mark.parametrize("task", ["reviews", "pairs", "tags", "scores"])
def test_every_kind_of_task_goes_from_runs_to_a_comparison_and_a_page(task, potstill, classifiers, tmp_path):
    arms = (classifiers[f"teacher-{task}"], shutil.copytree(classifiers[task], tmp_path / task))
    called = potstill("compare", *arms, "--json", "--resamples", 50)
    assert called.code == 0, called.err
    compared = json.loads(called.out)
    runs = {path.name: RunFolder.open(path) for path in arms}
    for name, run in runs.items():
        median = compared["arms"][name]["metrics"][compared["metric"]]["median"]
        assert median == pytest.approx(run.metrics()["test"][compared["metric"]])
        assert compared["costs"][name]["parameters"] == run.manifest["parameters"]
        assert compared["costs"][name]["bytes_on_disk"] == (run.path / "model.safetensors").stat().st_size
        assert compared["costs"][name]["latency_ms"] > 0
    assert compared["n_rows"] == 12
    assert compared["verdict"]
    table = potstill("compare", *arms, "--resamples", 20, "--no-speed")
    assert table.code == 0
    assert compared["metric"] in table.out
    page = potstill("report", arms[1])
    assert page.code == 0
    assert Path(page.out.strip()).read_text(encoding="utf-8").count(compared["metric"]) >= 1


@pytest.mark.parametrize("task", ["reviews", "pairs", "tags", "scores"])
def test_evaluate_prints_the_stored_metrics_as_json(task, potstill, classifiers, tmp_path):
    run = shutil.copytree(classifiers[task], tmp_path / "run")
    called = potstill("evaluate", run, "--json")
    assert called.code == 0, called.err
    stored = json.loads((run / "metrics.json").read_text())["test"]
    assert json.loads(called.out) == pytest.approx(stored)
