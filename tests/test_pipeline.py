"""What ``run`` skips, repeats and sets aside."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import accuracy_score

from potstill.cli.printing import comparison_rows
from potstill.distil import stage as distil_stage
from potstill.evaluate.stage import store_predictions
from potstill.finetune import stage as finetune_stage
from potstill.pretrain import stage as pretrain_stage
from potstill.runs import RunFolder

ONE_TASK = ("seeds=[1]", "second_distillation=false", "baselines=[random]", "evaluate.speed_texts=4")


def hashes(folder: Path) -> dict[str, bytes]:
    """The weights of every run below ``folder``, by the run's place."""
    return {str(file.parent.relative_to(folder)): file.read_bytes() for file in folder.rglob("model.safetensors")}


@pytest.fixture(scope="module")
def finished(potstill: Any, experiment: Any, tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A copy of the experiment's folder in which its recipe has been run with one seed, one task and three arms."""
    folder = tmp_path_factory.mktemp("reduced") / "small"
    shutil.copytree(experiment.folder, folder)
    fields = (*ONE_TASK, f"tasks=[{{name: reviews, files: {tiny.reviews}}}]")

    def run(folder: Path, *overrides: str) -> Any:
        flags = [part for field in (*fields, *overrides) for part in ("--set", field)]
        called = potstill("run", experiment.recipe, "--out", folder, *flags)
        assert called.code == 0, called.err
        return called

    assert "runs again" not in run(folder).err, "fewer seeds, tasks and arms are no other work"
    return folder, run


@pytest.fixture
def run_copy(finished: Any, tmp_path: Path) -> Callable[..., Any]:
    """Run that recipe again, with these overrides, in a copy of that folder."""
    original, run = finished
    run_again = functools.partial(run, shutil.copytree(original, tmp_path / "copy"))
    run_again.folder = tmp_path / "copy"  # type: ignore[attr-defined]
    return run_again


def test_a_second_run_trains_nothing_and_changes_nothing(run_copy, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in run_copy.folder.rglob("m*") if path.is_file()}

    def never(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a finished stage was trained again")

    for stage in (pretrain_stage, distil_stage, finetune_stage):
        monkeypatch.setattr(stage, "fit", never)
    called = run_copy()
    assert "runs again" not in called.err
    assert "comparing" not in called.err
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
def test_a_changed_field_of_finetune_reruns_only_the_finetunes_and_keeps_the_runs_before(run_copy):
    before = hashes(run_copy.folder)
    called = run_copy("finetune.learning_rate=0.004")
    assert called.err.count("runs again") == 3, "teacher, student and random, seed 1"
    after = hashes(run_copy.folder)
    for arm in ("teacher", "student", "random"):
        kept = f"tasks/reviews/{arm}/seed-1.previous-1"
        assert str(run_copy.folder / kept) in called.err
        assert after[kept] == before[f"tasks/reviews/{arm}/seed-1"]
        assert after[f"tasks/reviews/{arm}/seed-1"] != before[f"tasks/reviews/{arm}/seed-1"]
    assert {place: after[place] for place in before if place.startswith("encoders")} == {
        place: weights for place, weights in before.items() if place.startswith("encoders")
    }
    assert not list((run_copy.folder / "encoders").glob("*.previous-*"))


@pytest.mark.slow
def test_a_changed_distillation_reruns_what_comes_from_it_and_nothing_else(run_copy):
    called = run_copy("distil.max_steps=5")
    again = {path.relative_to(run_copy.folder).as_posix() for path in run_copy.folder.rglob("*.previous-1")}
    assert again == {"encoders/student.previous-1", "tasks/reviews/student/seed-1.previous-1"}
    assert called.err.count("runs again") == 2


@pytest.mark.slow
def test_a_changed_comparison_is_made_again_without_training(run_copy):
    comparison = run_copy.folder / "tasks" / "reviews" / "comparison.json"
    before = json.loads(comparison.read_text())
    called = run_copy("evaluate.resamples=60")
    assert "runs again" not in called.err
    assert "comparing the arms on reviews" in called.err
    assert json.loads(comparison.read_text())["of"] != before["of"]


@pytest.mark.slow
def test_predictions_that_were_stored_again_are_compared_again(run_copy):
    folder = run_copy.folder / "tasks" / "reviews"
    student = RunFolder.open(folder / "student" / "seed-1")
    predictions = student.predictions("test")
    store_predictions(student.path, "test", dataclasses.replace(predictions, logits=-predictions.logits))
    called = run_copy()
    assert "runs again" not in called.err
    assert "comparing the arms on reviews" in called.err
    compared = json.loads((folder / "comparison.json").read_text())["arms"]["student"]["metrics"]["accuracy"]
    assert compared["median"] == pytest.approx(1 - accuracy_score(predictions.targets, predictions.predicted))


def test_the_comparison_is_of_the_predictions_that_were_stored(experiment):
    folder = experiment.folder / "tasks" / "pairs"
    compared = json.loads((folder / "comparison.json").read_text())
    rows = comparison_rows(compared)
    assert [row["arm"] for row in rows] == ["teacher", "student", "student-second", "copied", "random"]
    scores = {}
    for row in rows:
        predictions = RunFolder.open(folder / row["arm"] / "seed-1").predictions("test")
        scores[row["arm"]] = accuracy_score(predictions.targets, predictions.logits.argmax(axis=1))
        assert row["median"] == pytest.approx(scores[row["arm"]])
    assert rows[1]["retention"] == pytest.approx(scores["student"] / scores["teacher"])


# -- a student that is given -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_experiment_with_a_given_student_distils_nothing_and_has_the_same_page(potstill, experiment, tiny, tmp_path):
    fields = (*ONE_TASK, f"tasks=[{{name: reviews, files: {tiny.reviews}}}]", "baselines=[copied]", "pretrain=null")
    given = (f"student.model={experiment.folder / 'encoders' / 'student'}", f"teacher.model={tiny.teacher}")
    flags = [part for field in (*fields, *given) for part in ("--set", field)]
    called = potstill("run", experiment.recipe, "--out", tmp_path / "given", *flags)
    assert called.code == 0, called.err
    assert {path.name for path in (tmp_path / "given" / "encoders").iterdir()} == {"copied"}
    assert "distil the student" not in called.err
    student = RunFolder.open(tmp_path / "given" / "tasks" / "reviews" / "student" / "seed-1")
    assert student.manifest["base_model"] == str(experiment.folder / "encoders" / "student")
    assert "Layer map" not in (tmp_path / "given" / "report.html").read_text(encoding="utf-8")
    planned = potstill("run", experiment.recipe, "--out", tmp_path / "given", *flags, "--dry-run")
    assert planned.code == 0, planned.err


def test_a_given_student_of_another_depth_than_the_baselines_is_refused(potstill, experiment, tmp_path):
    given = f"student.model={experiment.folder / 'encoders' / 'student'}"
    called = potstill("run", experiment.recipe, "--out", tmp_path / "x", "--set", given, "--set", "student.layers=1")
    assert called.code == 2
    assert "the baselines would have 1 layers, 32 wide" in called.err
    assert "set student.layers to 2 and" in called.err
    assert not (tmp_path / "x").exists()
