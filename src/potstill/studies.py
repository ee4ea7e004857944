"""What ``potstill run`` studies beside what it trains: the rows of each task, and the attention of its student."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from potstill.recipe import Recipe, TaskSection
from potstill.recipe_explore import ExploreJob
from potstill.report.tabs import identity, is_kept, keep_study, studied_run

Tell = Callable[[str], None]


def study_task(root: Path, task: Mapping[str, Any], section: TaskSection, recipe: Recipe, tell: Tell) -> None:
    """Make the studies that the recipe asks for, each a page in the task's folder, unless they are there."""
    if recipe.studies.data:
        _study_data(root, task, section, recipe, tell)
    if recipe.studies.attention is not None:
        _study_attention(root, task, recipe, tell)


def _study_data(root: Path, task: Mapping[str, Any], section: TaskSection, recipe: Recipe, tell: Tell) -> None:
    from potstill.exploration import explore
    from potstill.report.data.page import PAGE

    folder, run = root / "tasks" / task["name"], studied_run(root, task)
    of, out = identity("data", run), folder / "data"
    if is_kept(folder, "data", of=of, asked={}):
        return
    tell(f"studying the rows of {task['name']}")
    explore(ExploreJob(out=out, data_dir=recipe.data_dir, task=section, tokenizer=str(run.path)))
    keep_study(folder, "data", out / PAGE, of=of, asked={})


def _study_attention(root: Path, task: Mapping[str, Any], recipe: Recipe, tell: Tell) -> None:
    from potstill.report.attention.request import AttentionRequest
    from potstill.report.attention.stage import PAGE, attend

    folder, run = root / "tasks" / task["name"], studied_run(root, task)
    of, out, asked = identity("attention", run), folder / "attention", {"sample": recipe.studies.attention}
    if is_kept(folder, "attention", of=of, asked=asked):
        return
    tell(f"reading what the student of {task['name']} attends to")
    attend(AttentionRequest(run.path, out, sample=recipe.studies.attention, data_dir=recipe.data_dir))
    keep_study(folder, "attention", out / PAGE, of=of, asked=asked)
