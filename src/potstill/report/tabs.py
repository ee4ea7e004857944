"""Studies of a task as tabs of the report: which pages were made, and of what."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from potstill.report.evidence import StudyTab
from potstill.runs import RunFolder, fingerprint, read_json, write_json

Kind = Literal["data", "attention"]

KEPT = "studies.json"
_TITLES: Mapping[Kind, str] = {"data": "Data", "attention": "Attention"}


def studied_run(root: Path, task: Mapping[str, Any]) -> RunFolder:
    """The student of a task's first seed, of whose rows and attention the studies are."""
    arms = task["arms"].values()
    return RunFolder.open(root / next(arm["runs"][0] for arm in arms if arm["role"] == "student"))


def identity(kind: Kind, run: RunFolder) -> str:
    """Of what a study is: the rows, or the run with what it predicted of those it is reported on."""
    if kind == "data":
        return str(run.manifest["data"]["fingerprint"])
    return fingerprint(run.manifest["fingerprint"], run.predictions_fingerprint(run.manifest["report_split"]))


def keep_study(folder: Path, kind: Kind, page: Path, *, of: str, asked: Mapping[str, Any]) -> None:
    """Note in a task's ``folder`` that ``page`` is the study ``of`` what ``identity`` said, ``asked`` for like that."""
    entry = {"page": page.relative_to(folder).as_posix(), "of": of, "asked": dict(asked)}
    write_json(folder / KEPT, {**(read_json(folder / KEPT) or {}), kind: entry})


def is_kept(folder: Path, kind: Kind, *, of: str, asked: Mapping[str, Any]) -> bool:
    """Whether that study is there, of the same and asked for alike."""
    entry = _entry(folder, kind, of)
    return entry is not None and entry["asked"] == dict(asked)


def study_tabs(root: Path, task: Mapping[str, Any]) -> list[StudyTab]:
    """The studies that are kept of an experiment's task; those of other rows or of another run are left out."""
    folder, run = root / "tasks" / task["name"], studied_run(root, task)
    found = {kind: _entry(folder, kind, identity(kind, run)) for kind in _TITLES}
    return [
        StudyTab(f"{_TITLES[kind]}: {task['name']}", (folder / entry["page"]).read_text(encoding="utf-8"))
        for kind, entry in found.items()
        if entry is not None
    ]


def left_out(root: Path, task: Mapping[str, Any]) -> list[str]:
    """What was studied of other rows or another run than there are now, and is therefore not shown, in words."""
    folder, run = root / "tasks" / task["name"], studied_run(root, task)
    noted: Mapping[Kind, Any] = read_json(folder / KEPT) or {}
    old = [_TITLES[kind].lower() for kind, entry in noted.items() if entry["of"] != identity(kind, run)]
    again = "is of other rows or another run and is left out; potstill run makes it again where the recipe asks for it"
    return [f"{task['name']}: the study of its {what} {again}." for what in old]


def _entry(folder: Path, kind: Kind, of: str) -> dict[str, Any] | None:
    """The note on a study, where it is of the same and its page is there."""
    entry: dict[str, Any] | None = (read_json(folder / KEPT) or {}).get(kind)
    if entry is None or entry["of"] != of or not (folder / entry["page"]).is_file():
        return None
    return entry
