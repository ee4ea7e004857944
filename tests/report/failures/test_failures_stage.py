"""The verb ``failures``: from runs to a page, a summary, and a section of the report."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from potstill.errors import DataError, RunFolderError
from potstill.report.failures.stage import FAILURES, PAGE, experiment_failures, kept_failures, write_failures
from potstill.runs import RunFolder, write_predictions

TASKS = ("reviews", "pairs", "tags", "scores")


@pytest.fixture
def run(classifiers: Any, tmp_path: Path) -> Path:
    """A run of one's own to write into."""
    return shutil.copytree(classifiers["reviews"], tmp_path / "run")


@pytest.mark.parametrize("task", TASKS)
def test_every_kind_of_task_has_a_page(task, potstill, classifiers, tmp_path):
    page = tmp_path / "page.html"
    arguments = (classifiers[task], "--teacher", classifiers[f"teacher-{task}"], "--out", page)
    called = potstill("failures", *arguments)
    assert called.code == 0, called.err
    assert called.out.splitlines()[-1] == str(page)
    assert "rows of test" in called.err
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert not (classifiers[task] / FAILURES).exists(), "with --out the run is left as it was"


def test_the_summary_is_of_the_stored_predictions_and_their_own_texts(potstill, classifiers, tiny, tmp_path):
    called = potstill("failures", classifiers["reviews"], "--out", tmp_path / "page.html", "--json")
    assert called.code == 0, called.err
    told = json.loads(called.out)
    predictions = RunFolder.open(classifiers["reviews"]).predictions("test")
    wrong = predictions.ids[predictions.predicted != predictions.targets].tolist()
    assert told["n_wrong"] == len(wrong)
    assert {row["id"] for row in told["wrong"]} == set(wrong)
    assert told["teacher"] is None
    with tiny.reviews.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in told["hardest"]:
        source = rows[int(row["id"].rpartition("-")[2])]
        assert row["text"] == source["text"]
        assert row["true"] == source["label"]


def test_selection_can_be_asked_for_and_unknown_splits_are_refused(potstill, classifiers, tmp_path):
    called = potstill(
        "failures", classifiers["reviews"], "--split", "selection", "--out", tmp_path / "p.html", "--json"
    )
    assert json.loads(called.out)["split"] == "selection"
    called = potstill("failures", classifiers["reviews"], "--split", "tset", "--out", tmp_path / "p.html")
    assert called.code == 2
    assert "selection" in called.err
    called = potstill("failures", classifiers["reviews"], "--split", "train", "--out", tmp_path / "p.html")
    assert called.code == 2
    assert "evaluate it first" in called.err


def test_on_rows_of_the_training_no_label_is_doubted(potstill, run):
    assert potstill("evaluate", run, "--split", "train").code == 0
    told = write_failures(run, split="train")
    assert told["label_errors"] is None
    assert any("trained on the rows of train" in sentence for sentence in told["sentences"])


def test_without_out_the_runs_report_gets_a_section(potstill, run, classifiers):
    called = potstill("failures", run, "--teacher", classifiers["teacher-reviews"])
    assert called.out.splitlines()[-1] == str(run / PAGE)
    assert potstill("report", run).code == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Failures on reviews" in page
    assert page.count('type="application/json"') == 1


def test_a_study_older_than_its_predictions_is_not_shown(potstill, run, classifiers):
    teacher = classifiers["teacher-reviews"]
    write_failures(run, teacher=teacher)
    assert kept_failures(run, run, teacher) is not None
    predictions = RunFolder.open(run).predictions("test")
    predictions.logits[0] *= 2
    write_predictions(run / "predictions" / "test.parquet", predictions)
    assert kept_failures(run, run, teacher) is None
    assert potstill("report", run).code == 0
    assert "Failures on reviews" not in (run / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_study_under_other_decisions_is_not_shown(potstill, run):
    """Pitfall 3, by the back door: accuracy under new thresholds beside failures counted under the old ones."""
    write_failures(run)
    assert kept_failures(run, run) is not None
    assert potstill("calibrate", run, "--thresholds", "g_mean").code == 0
    assert kept_failures(run, run) is None
    assert "Failures on reviews" not in (run / "report.html").read_text(encoding="utf-8")
    write_failures(run)
    assert potstill("report", run).code == 0
    assert "Failures on reviews" in (run / "report.html").read_text(encoding="utf-8")


def test_a_study_beside_another_teacher_is_not_taken_for_this_one(run, classifiers):
    write_failures(run)
    assert kept_failures(run, run) is not None
    assert kept_failures(run, run, classifiers["teacher-reviews"]) is None


def test_a_teacher_of_another_task_is_refused(potstill, run, classifiers):
    called = potstill("failures", run, "--teacher", classifiers["teacher-pairs"])
    assert called.code == 2
    assert not (run / PAGE).exists()


def test_an_encoder_has_no_failures(encoders):
    with pytest.raises(RunFolderError, match="only a fine-tuned classifier"):
        write_failures(encoders["student"])


def test_predictions_in_another_order_are_refused(run, shuffle_rows):
    predictions = RunFolder.open(run).predictions("test")
    mixed = shuffle_rows(predictions, np.arange(len(predictions))[::-1])
    write_predictions(run / "predictions" / "test.parquet", mixed)
    with pytest.raises(DataError, match="not of the rows of that split"):
        write_failures(run)


def test_run_keeps_the_failures_of_every_task_and_shows_them(experiment):
    root = experiment.folder
    described = json.loads((root / "experiment.json").read_text(encoding="utf-8"))
    page = (root / "report.html").read_text(encoding="utf-8")
    for task in described["tasks"]:
        kept = experiment_failures(root, task)
        assert kept is not None
        assert (kept["model"], kept["teacher_model"]) == ("student, seed 1", "teacher, seed 1")
        assert f"Failures on {task['name']}" in page
        student, teacher = (
            RunFolder.open(root / task["arms"][arm]["runs"][0]).predictions("test") for arm in ("student", "teacher")
        )
        both = (student.predicted != student.targets) & (teacher.predicted != teacher.targets)
        assert kept["teacher"]["counts"]["both_wrong"] == both.sum()


@pytest.mark.slow
def test_a_finished_experiment_studies_no_failure_again(experiment, potstill, tmp_path):
    folder = shutil.copytree(experiment.folder, tmp_path / "copy")
    files = sorted(folder.glob(f"tasks/*/{FAILURES}"))
    before = [file.stat().st_mtime_ns for file in files]
    assert len(files) == 2
    assert potstill("run", experiment.recipe, "--out", folder).code == 0
    assert [file.stat().st_mtime_ns for file in files] == before


@pytest.mark.slow
def test_the_report_tells_of_a_study_that_is_of_other_predictions(experiment, potstill, tmp_path):
    folder = shutil.copytree(experiment.folder, tmp_path / "copy")
    kept = folder / "tasks" / "reviews" / FAILURES
    content = json.loads(kept.read_text(encoding="utf-8"))
    kept.write_text(json.dumps({**content, "of": {"student": "another", "teacher": "another"}}), encoding="utf-8")
    assert potstill("report", folder).code == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "reviews: the study of its failures is of other predictions; potstill run makes it again." in page
    assert "Failures on reviews" not in page
