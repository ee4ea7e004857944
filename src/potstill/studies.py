"""What ``potstill run`` studies beside what it trains: the rows of each task, and the attention of its student."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from potstill.decisions import sha256_of
from potstill.recipe.explore import ExploreJob
from potstill.recipe.schema import Recipe, TaskSection
from potstill.report.tabs import identity, is_kept, keep_study, studied_run
from potstill.runs import RunFolder

Tell = Callable[[str], None]


def study_tasks(root: Path, experiment: Mapping[str, Any], recipe: Recipe, tell: Tell) -> bool:
    """Make the studies that the recipe asks for, each a page in its task's folder; whether any was not there yet."""
    made = []
    for task, section in zip(experiment["tasks"], recipe.tasks, strict=True):
        folder, run = root / "tasks" / task["name"], studied_run(root, task)
        encoder = _encoder(root, experiment)
        made += [_study_data(folder, run, encoder, section, recipe, tell)] if recipe.studies.data else []
        made += [_study_attention(folder, run, encoder, recipe, tell)] if recipe.studies.attention else []
    return any(made)


def _encoder(root: Path, experiment: Mapping[str, Any]) -> Path | None:
    """The student before fine-tuning, where it was distilled in this experiment."""
    student = experiment["encoders"].get("student")
    return None if student is None else root / student["run"]


def _study_data(
    folder: Path, run: RunFolder, encoder: Path | None, section: TaskSection, recipe: Recipe, tell: Tell
) -> bool:
    from potstill.exploration import explore
    from potstill.report.data.page import PAGE

    tokenizer, out = encoder or run.path, folder / "data"
    batch_size = int(section.finetune.get("batch_size", recipe.finetune.batch_size))
    of = identity("data", run)
    asked = {"tokenizer": sha256_of(tokenizer / "tokenizer.json"), "batch_size": batch_size}
    if is_kept(folder, "data", of=of, asked=asked):
        return False
    tell(f"studying the rows of {section.name}")
    explore(
        ExploreJob(out=out, data_dir=recipe.data_dir, task=section, tokenizer=str(tokenizer), batch_size=batch_size)
    )
    keep_study(folder, "data", out / PAGE, of=of, asked=asked)
    return True


def _study_attention(folder: Path, run: RunFolder, encoder: Path | None, recipe: Recipe, tell: Tell) -> bool:
    from potstill.report.attention.request import AttentionRequest
    from potstill.report.attention.stage import PAGE, attend

    of, out, asked = identity("attention", run), folder / "attention", {"sample": recipe.studies.attention}
    if is_kept(folder, "attention", of=of, asked=asked):
        return False
    tell(f"reading what the student of {folder.name} attends to")
    moved = encoder is not None and not Path(run.manifest["base_model"]).exists()
    before = str(encoder) if moved else None  # else the run knows where its encoder lies
    attend(AttentionRequest(run.path, out, before=before, sample=recipe.studies.attention, data_dir=recipe.data_dir))
    keep_study(folder, "attention", out / PAGE, of=of, asked=asked)
    return True
