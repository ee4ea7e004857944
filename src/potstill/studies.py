"""What ``potstill run`` studies beside what it trains: the rows of each task, and the attention of its student."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from potstill.decisions import sha256_of
from potstill.recipe.explore import ExploreJob
from potstill.recipe.schema import Recipe, TaskSection
from potstill.report.tabs import Kind, identity, is_kept, keep_study, studied_run
from potstill.runs import RunFolder

Tell = Callable[[str], None]


def study_tasks(root: Path, experiment: Mapping[str, Any], recipe: Recipe, tell: Tell) -> bool:
    """Make the studies that the recipe asks for, each a page in its task's folder; whether any was not there yet."""
    encoder, made = _encoder(root, experiment), False
    for task, section in zip(experiment["tasks"], recipe.tasks, strict=True):
        folder, run = root / "tasks" / task["name"], studied_run(root, task)
        for kind in studies_asked_for(recipe):
            of, asked = identity(kind, run), _asked(kind, run, encoder, section, recipe)
            if is_kept(folder, kind, of=of, asked=asked):
                continue
            page = (_study_rows if kind == "data" else _study_attention)(folder, run, encoder, section, recipe, tell)
            keep_study(folder, kind, page, of=of, asked=asked)
            made = True
    return made


def studies_asked_for(recipe: Recipe) -> list[Kind]:
    """The kinds of studies that the recipe asks for, of each of its tasks."""
    kinds: list[Kind] = ["data"] if recipe.studies.data else []
    return [*kinds, "attention"] if recipe.studies.attention else kinds


def is_studied(root: Path, experiment: Mapping[str, Any], recipe: Recipe, section: TaskSection, kind: Kind) -> bool:
    """Whether a task's study is there as the recipe asks for it, of its finished student as it is now."""
    run = studied_run(root, next(task for task in experiment["tasks"] if task["name"] == section.name))
    asked = _asked(kind, run, _encoder(root, experiment), section, recipe)
    return is_kept(root / "tasks" / section.name, kind, of=identity(kind, run), asked=asked)


def _asked(
    kind: Kind, run: RunFolder, encoder: Path | None, section: TaskSection, recipe: Recipe
) -> dict[str, str | int | None]:
    """What decides the result of a study beside what it is of."""
    if kind == "attention":
        return {"sample": recipe.studies.attention}
    tokenizer = (encoder or run.path) / "tokenizer.json"
    return {"tokenizer": sha256_of(tokenizer), "batch_size": _batch_size(section, recipe)}


def _batch_size(section: TaskSection, recipe: Recipe) -> int:
    return int(section.finetune.get("batch_size", recipe.finetune.batch_size))


def _encoder(root: Path, experiment: Mapping[str, Any]) -> Path | None:
    """The student before fine-tuning, where it was distilled in this experiment."""
    student = experiment["encoders"].get("student")
    return None if student is None else root / student["run"]


def _study_rows(
    folder: Path, run: RunFolder, encoder: Path | None, section: TaskSection, recipe: Recipe, tell: Tell
) -> Path:
    """The page on the rows of a task."""
    from potstill.exploration import explore
    from potstill.report.data.page import PAGE

    tell(f"studying the rows of {section.name}")
    out, tokenizer, batch_size = folder / "data", str(encoder or run.path), _batch_size(section, recipe)
    explore(ExploreJob(out=out, data_dir=recipe.data_dir, task=section, tokenizer=tokenizer, batch_size=batch_size))
    return out / PAGE


def _study_attention(
    folder: Path, run: RunFolder, encoder: Path | None, section: TaskSection, recipe: Recipe, tell: Tell
) -> Path:
    """The page on what the task's student attends to."""
    from potstill.report.attention.request import AttentionRequest
    from potstill.report.attention.stage import PAGE, attend

    tell(f"reading what the student of {section.name} attends to")
    out = folder / "attention"
    moved = encoder is not None and not Path(run.manifest["base_model"]).exists()
    before = str(encoder) if moved else None  # else the run knows where its encoder lies
    attend(AttentionRequest(run.path, out, before=before, sample=recipe.studies.attention, data_dir=recipe.data_dir))
    return out / PAGE
