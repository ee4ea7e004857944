"""Studies that a run adds to its report: made once, of this run, and shown as tabs. The oracle is the folder itself."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from potstill.errors import UsageError
from potstill.pipeline import finish_experiment
from potstill.recipe.files import load_recipe
from potstill.report.attention import stage as attention_stage
from potstill.report.tabs import KEPT
from potstill.studies import study_tasks

ONE_TASK = ("seeds=[1]", "second_distillation=false", "baselines=[random]", "evaluate.speed_texts=4")
ASKED = ("studies.data=true", "studies.attention=6")


@pytest.fixture(scope="module")
def studied(potstill: Any, experiment: Any, tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A copy of the experiment with one task of its own, its studies made; and what runs it again, with overrides."""
    fields = (*ONE_TASK, f"tasks=[{{name: reviews, files: {tiny.reviews}}}]", *ASKED)

    def run(folder: Path, *overrides: str) -> Any:
        flags = [part for field in (*fields, *overrides) for part in ("--set", field)]
        called = potstill("run", experiment.recipe, "--out", folder, *flags)
        assert called.code == 0, called.err
        return called

    folder = shutil.copytree(experiment.folder, tmp_path_factory.mktemp("studied") / "small")
    return folder, run, run(folder)


@pytest.fixture
def run_again(studied: Any, tmp_path: Path) -> Callable[..., Any]:
    """Run the recipe with overrides in a copy; what it told, and the folder of its task."""
    folder, run, _ = studied
    copy = shutil.copytree(folder, tmp_path / "small")
    return lambda *overrides: (run(copy, *overrides).err, copy / "tasks" / "reviews")


def tabs_of(report: Path) -> dict[str, str]:
    """Title → page of every tab."""
    found = re.findall(
        r'<section class="study"[^>]*aria-label="([^"]*)"[^>]*>\s*<script type="application/json">(.*?)</script>',
        report.read_text(encoding="utf-8"),
        re.DOTALL,
    )
    return {title: json.loads(page) for title, page in found}


@pytest.mark.slow
def test_studies_are_pages_of_the_task_and_tabs_of_the_report(studied):
    folder, _, called = studied
    task = folder / "tasks" / "reviews"
    pages = {
        "Data: reviews": task / "data" / "explore.html",
        "Attention: reviews": task / "attention" / "attention.html",
    }
    assert tabs_of(folder / "report.html") == {title: page.read_text(encoding="utf-8") for title, page in pages.items()}
    assert "studying the rows of reviews" in called.err
    attention = json.loads((task / "attention" / "attention.json").read_text())
    assert (attention["n_texts"], attention["run"]) == (6, str(task / "student" / "seed-1"))
    rows = json.loads((task / "data" / "explore.json").read_text())["rows"]
    counted = json.loads((task / "student" / "seed-1" / "manifest.json").read_text())["data"]["counts"]
    assert rows == {split: counts["rows"] for split, counts in counted.items()}


@pytest.mark.slow
def test_a_dry_run_finds_made_studies_finished_until_they_are_asked_for_otherwise(studied, potstill, experiment, tiny):
    folder, _, _ = studied
    fields = (*ONE_TASK, f"tasks=[{{name: reviews, files: {tiny.reviews}}}]", *ASKED)

    def states(*overrides: str) -> dict[str, str]:
        flags = [part for field in (*fields, *overrides) for part in ("--set", field)]
        called = potstill("run", experiment.recipe, "--out", folder, *flags, "--dry-run", "--json")
        assert called.code == 0, called.err
        return {row["stage"]: row["state"] for row in json.loads(called.out) if "study" in row["stage"]}

    rows, attention = "reviews: study of its rows", "reviews: study of its attention"
    assert states() == {rows: "finished", attention: "finished"}
    to_do = "to do; its time is not estimated"
    assert states("studies.attention=5") == {rows: "finished", attention: to_do}
    assert states("finetune.epochs=3") == {rows: to_do, attention: to_do}


def test_an_experiment_without_studies_has_no_tabs(experiment):
    assert 'class="tabs"' not in (experiment.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_studies_that_are_there_are_not_made_again(run_again):
    told, task = run_again()
    assert "studying" not in told
    assert "attends to" not in told
    assert len(tabs_of(task.parents[1] / "report.html")) == 2


@pytest.mark.slow
def test_an_experiment_that_was_moved_finds_the_encoder_before_in_its_own_folder(studied, tmp_path, monkeypatch):
    """The runs name the folder where they were made; nothing is there any more."""
    folder = shutil.copytree(studied[0], tmp_path / "small")
    experiment = json.loads((folder / "experiment.json").read_text())
    task = folder / "tasks" / "reviews"
    manifest = task / "student" / "seed-1" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "base_model": str(tmp_path / "gone")}))
    (task / KEPT).unlink()
    recipe = load_recipe(folder / "recipe.yaml")
    assert study_tasks(folder, experiment, recipe, lambda message: None)
    models = json.loads((task / "attention" / "attention.json").read_text())["models"]
    assert models == {"before": "before: student", "after": "after: student/seed-1"}


@pytest.mark.slow
def test_a_study_that_fails_costs_no_page(studied, tmp_path, potstill, experiment, tiny, monkeypatch):
    def fail(request: Any) -> None:
        raise UsageError("no attention today")

    monkeypatch.setattr(attention_stage, "attend", fail)
    folder = shutil.copytree(studied[0], tmp_path / "small")
    (folder / "report.html").unlink()
    with pytest.raises(UsageError, match="no attention today"):
        finish_experiment(folder, load_recipe(folder / "recipe.yaml", ["studies.attention=4"]), lambda message: None)
    assert "Attention: reviews" in tabs_of(folder / "report.html")


@pytest.mark.slow
def test_a_study_asked_for_otherwise_or_of_another_run_is_made_again(run_again):
    told, _ = run_again("studies.attention=5")
    assert ("studying the rows" in told, "attends to" in told) == (False, True)
    told, _ = run_again("finetune.learning_rate=0.002")
    assert ("studying the rows" in told, "attends to" in told) == (False, True)


@pytest.mark.slow
def test_the_report_leaves_out_a_study_of_something_else(studied, tmp_path, potstill):
    folder = shutil.copytree(studied[0], tmp_path / "small")
    kept = folder / "tasks" / "reviews" / KEPT
    noted = json.loads(kept.read_text())
    kept.write_text(json.dumps({**noted, "data": {**noted["data"], "of": "other rows"}}))
    assert potstill("report", folder).code == 0
    assert list(tabs_of(folder / "report.html")) == ["Attention: reviews"]
    assert "reviews: the study of its data is of other rows" in (folder / "report.html").read_text(encoding="utf-8")
    (folder / "tasks" / "reviews" / "attention" / "attention.html").unlink()
    assert potstill("report", folder).code == 0
    assert tabs_of(folder / "report.html") == {}


def test_a_recipe_that_asks_for_too_many_texts_is_refused(potstill, experiment, tmp_path):
    called = potstill("run", experiment.recipe, "--out", tmp_path / "out", "--set", "studies.attention=20001")
    assert called.code == 2
    assert "studies.attention" in called.err
