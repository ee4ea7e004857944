"""Run folders in; a study of their failures, its page, and what the report shows of it out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from potstill.analyse.failures.study import study_failures
from potstill.analyse.failures.summary import summarise, wrong_rows
from potstill.errors import DataError
from potstill.evaluate.stage import identity_of, open_runs
from potstill.records import Predictions
from potstill.report.failures.page import render_failures
from potstill.report.failures.rows import browser_columns
from potstill.report.failures.sentences import failure_sentences
from potstill.runs import RunFolder, fingerprint, read_json, write_text

FAILURES = "failures.json"
PAGE = "failures.html"
FORMAT = 1
"""Of the stored summary: one of another format is as good as none."""

_ROLES = ("student", "teacher")
_SEED = re.compile(r"seed-\d+")


def write_failures(
    run: Path,
    *,
    teacher: Path | None = None,
    split: str | None = None,
    out: Path | None = None,
    data_dir: Path | None = None,
) -> dict[str, Any]:
    """Study the failures of a classifier's run on its stored predictions, and write the page.

    ``split`` None is the split that the task reports on; ``teacher`` is a run of the same task. The page goes to
    ``out``; without it into the run, with ``failures.json`` beside it, from which the run's report takes its section.
    Returns the summary, every wrong row and the page's path. Raises RunFolderError for what is no classifier's run or
    lacks predictions of the split, DataError for other rows.
    """
    summary, wrong = study_run(run, teacher=teacher, split=split, data_dir=data_dir)
    page = out or run / PAGE
    write_text(page, render_failures(summary))
    if out is None:
        _keep(summary, run)
    return {
        "page": str(page),
        "sentences": failure_sentences(summary),
        **{name: value for name, value in summary.items() if name not in ("browser", "of", "format")},
        "wrong": wrong,
    }


def write_experiment_failures(root: Path, task: Mapping[str, Any], *, data_dir: Path | None) -> None:
    """Keep a study of the student beside the teacher, each of the first seed, with their task, unless it is there."""
    folder, (student, teacher) = root / "tasks" / task["name"], _studied(root, task)
    if kept_failures(folder, student, teacher) is None:
        _keep(study_run(student, teacher=teacher, data_dir=data_dir)[0], folder)


def experiment_failures(root: Path, task: Mapping[str, Any]) -> dict[str, Any] | None:
    """The study that is kept of an experiment's task; None where there is none, or it is not of these predictions."""
    return kept_failures(root / "tasks" / task["name"], *_studied(root, task))


def failures_left_out(root: Path, task: Mapping[str, Any]) -> list[str]:
    """In words, why a study of a task's failures that is not shown is there: it is of other predictions."""
    if not (root / "tasks" / task["name"] / FAILURES).exists():
        return []
    return [f"{task['name']}: the study of its failures is of other predictions; potstill run makes it again."]


def _studied(root: Path, task: Mapping[str, Any]) -> tuple[Path, Path]:
    first = {role: next(arm["runs"][0] for arm in task["arms"].values() if arm["role"] == role) for role in _ROLES}
    return root / first["student"], root / first["teacher"]


def kept_failures(folder: Path, run: Path, teacher: Path | None = None) -> dict[str, Any] | None:
    """The summary that is kept in ``folder``; None where there is none, or it is not of these predictions any more.

    Without ``teacher`` the one that it was made with, if any, is not asked for.
    """
    kept = read_json(folder / FAILURES)
    if kept is None or kept.get("format") != FORMAT:
        return None
    fresh = _identity(run, kept["split"]) == kept["of"]["student"]
    if teacher is not None:
        fresh = fresh and _identity(teacher, kept["split"]) == kept["of"]["teacher"]
    return kept if fresh else None


def study_run(
    run: Path, *, teacher: Path | None = None, split: str | None = None, data_dir: Path | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The summary of a run's failures, with the columns of its list under ``browser``; and every wrong row."""
    (student, *teachers), data = open_runs([run, *([] if teacher is None else [teacher])], data_dir)
    chosen = split or data.task.report_split
    predictions, rows = student.predictions(chosen), data.split(chosen)
    _require_ids(student, chosen, predictions, rows.ids.tolist())
    study = study_failures(
        predictions,
        rows.texts,
        teacher=teachers[0].predictions(chosen) if teachers else None,
        training_texts=data.splits["train"].texts,
        held_out=chosen != "train",
    )
    facts = {
        "format": FORMAT,
        "of": {"student": _identity(run, chosen), "teacher": None if teacher is None else _identity(teacher, chosen)},
        "task": data.task.name,
        "model": _title(student.path),
        "teacher_model": _title(teachers[0].path) if teachers else None,
        "split": chosen,
        "created": student.manifest["finished"],
    }
    summary = {**facts, **summarise(study, rows.texts), "browser": browser_columns(study, rows.texts)}
    return summary, wrong_rows(study)


def _require_ids(run: RunFolder, split: str, predictions: Predictions, ids: list[str]) -> None:
    if predictions.ids.tolist() != ids:
        raise DataError(
            f"the stored predictions of {split} in {run.path} are not of the rows of that split, in their order",
            do=f"predict them again with: potstill evaluate {run.path} --split {split}",
        )


def _identity(run: Path, split: str) -> str:
    """Of what a run says of a split; empty where its predictions of it are gone."""
    folder = RunFolder.open(run)
    stored = folder.path / "predictions" / f"{split}.parquet"
    return fingerprint(*identity_of(folder, split)) if stored.exists() else ""


def _title(path: Path) -> str:
    """What a run is called: its folder, or its arm and seed."""
    path = path.resolve()
    return f"{path.parent.name}, {path.name.replace('-', ' ')}" if _SEED.fullmatch(path.name) else path.name


def _keep(summary: Mapping[str, Any], folder: Path) -> None:
    write_text(folder / FAILURES, json.dumps(summary, ensure_ascii=False, separators=(",", ":"), allow_nan=False))
