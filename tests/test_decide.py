"""Temperature and thresholds as a verb, a function and a section of a recipe."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

import potstill as functions
from potstill import decide
from potstill.decisions import FILE, ThresholdRule, read_decisions
from potstill.recipe.decisions import DecisionsSection
from potstill.runs import RunFolder

DECISIONS = ("decisions.thresholds=g_mean", "decisions.temperature=true")


@pytest.fixture
def copies(classifiers: Any, tmp_path: Path) -> dict[str, Path]:
    """A run on the task of each kind, to write into."""
    return {name: shutil.copytree(classifiers[name], tmp_path / name) for name in ("reviews", "tags", "scores")}


def test_calibrate_prints_what_was_fitted_and_what_it_changes(copies, potstill):
    called = potstill("calibrate", copies["tags"], "--thresholds", "f1")
    assert called.code == 0, called.err
    assert "threshold of praise" in called.out
    assert "12 rows of selection" in called.out
    assert "f1_macro" in called.out
    assert "The decisions" in called.err
    assert str(copies["tags"] / "report.html") in called.err


def test_calibrate_prints_json_for_machines(copies, potstill):
    flags = ("--thresholds", "precision", "--at-least", 0.9, "--no-temperature", "--json")
    called = potstill("calibrate", copies["tags"], *flags)
    assert called.code == 0, called.err
    told = json.loads(called.out)
    assert told["decisions"] == json.loads((copies["tags"] / FILE).read_text())
    assert told["decisions"]["asked"]["thresholds"] == {"strategy": "precision", "at_least": 0.9}
    assert told["effect"]["metrics"]["f1_macro"]["before"] is not None


@pytest.mark.slow
def test_calibrate_takes_decisions_away_again(copies, potstill):
    before = (copies["tags"] / "metrics.json").read_text()
    assert potstill("calibrate", copies["tags"], "--thresholds", "recall", "--at-least", 1).code == 0
    called = potstill("calibrate", copies["tags"], "--no-temperature")
    assert called.code == 0, called.err
    assert "without temperature and thresholds" in called.err
    assert not (copies["tags"] / FILE).exists()
    assert (copies["tags"] / "metrics.json").read_text() == before


@pytest.mark.parametrize(
    ("task", "flags", "message"),
    [
        ("tags", ("--thresholds", "best"), "calibrate: thresholds"),
        ("tags", ("--thresholds", "recall"), "need at_least"),
        ("tags", ("--beta", "2"), "no use for beta"),
        ("scores", (), "no probabilities"),
        ("scores", ("--thresholds", "f1", "--no-temperature"), "many labels, or one of two"),
    ],
)
def test_what_cannot_be_fitted_is_a_usage_error(copies, potstill, task, flags, message):
    called = potstill("calibrate", copies[task], *flags)
    assert called.code == 2
    assert message in called.err
    assert not (copies[task] / FILE).exists()


def test_the_function_is_the_verb(copies):
    told = functions.calibrate(copies["reviews"], thresholds="cost", false_positive_cost=1, false_negative_cost=4)
    assert told["decisions"]["asked"]["temperature"] is True
    rows = decide.effect_rows(told["effect"])
    assert {"metric", "before", "after"} <= set(rows[0])


def test_card_and_page_tell_of_decisions(copies):
    functions.calibrate(copies["tags"], thresholds="f1")
    decisions = read_decisions(copies["tags"])
    page = (copies["tags"] / "report.html").read_text(encoding="utf-8")
    assert "Temperature and thresholds" in page
    assert page.count("<svg") >= 3
    card = (copies["tags"] / "README.md").read_text(encoding="utf-8")
    assert f"| praise | {decisions.thresholds['praise']:.3f} |" in card


def test_a_task_that_has_no_use_for_decisions_goes_without(copies):
    told: list[str] = []
    asked = DecisionsSection(thresholds="f1")
    decide.decide_runs(copies.values(), asked, told.append)
    assert read_decisions(copies["tags"]).rule == ThresholdRule("f1")
    assert read_decisions(copies["reviews"]).rule == ThresholdRule("f1")
    assert read_decisions(copies["scores"]) is None
    assert [line for line in told if "no use" in line] == [
        "    scores has no use for all of the recipe's decisions; it gets no thresholds, no temperature scaling"
    ]


@pytest.fixture(scope="module")
def decided(potstill: Any, experiment: Any, tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A copy of the experiment, run again with decisions in its recipe: what it said, and a way to run it once more."""
    folder = shutil.copytree(experiment.folder, tmp_path_factory.mktemp("decided") / "small")

    def run(*overrides: str) -> Any:
        called = potstill(
            "run", experiment.recipe, "--out", folder, *(p for field in overrides for p in ("--set", field))
        )
        assert called.code == 0, called.err
        return called

    return folder, run(*DECISIONS), run


def runs_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("tasks/*/*/seed-*"))


@pytest.mark.slow
def test_a_recipe_gives_every_arm_and_seed_the_same_rule(decided):
    """Pitfall 5: thresholds for the one arm and none for the other."""
    folder, called, _ = decided
    kept = [read_decisions(run) for run in runs_of(folder)]
    assert len(kept) == 15
    assert {(decisions.asked, decisions.split, decisions.n_rows) for decisions in kept} == {
        ("thresholds of the greatest G-mean, temperature scaling", "selection", 12)
    }
    assert "runs again" not in called.err
    assert called.err.count("decisions fitted on 12 rows of selection") == 15


@pytest.mark.slow
def test_comparison_and_metrics_are_under_the_decisions(decided):
    folder, _, _ = decided
    for task in ("reviews", "pairs"):
        compared = json.loads((folder / "tasks" / task / "comparison.json").read_text())
        for arm, facts in compared["arms"].items():
            found = [
                RunFolder.open(run).predictions("test") for run in sorted((folder / "tasks" / task / arm).iterdir())
            ]
            accuracies = [accuracy_score(one.targets, one.predicted) for one in found]
            assert facts["metrics"]["accuracy"]["median"] == pytest.approx(np.median(accuracies))
            assert all(one.thresholds is not None for one in found)


@pytest.mark.slow
def test_the_page_shows_the_effect_on_every_arm(decided):
    folder, _, _ = decided
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("Fitted on 12 rows of selection: thresholds of the greatest G-mean") == 10


@pytest.mark.slow
def test_decisions_that_leave_the_recipe_leave_the_runs(decided, experiment):
    folder, _, run = decided
    called = run()
    assert called.err.count("are not in the recipe and were taken away") == 15
    assert not list(folder.glob("tasks/*/*/*/decisions.json"))
    for task in ("reviews", "pairs"):
        now, first = (
            json.loads((root / "tasks" / task / "comparison.json").read_text()) for root in (folder, experiment.folder)
        )
        assert now["arms"] == first["arms"]
    assert "decisions" not in run().err
