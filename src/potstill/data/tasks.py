"""A task's rows, checked, cleaned, split and counted: what fine-tuning and evaluation see of the data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from potstill.data.catalogue import Task
from potstill.data.cleaning import clean
from potstill.data.docstrings import docstring_task_rows
from potstill.data.labels import infer_label_names, read_targets, refuse_one_class
from potstill.data.names import suggest
from potstill.data.sources import open_source, read_columns, require_columns, require_text, unread_note
from potstill.data.splits import stratified_sample, stratified_split
from potstill.data.texts import TextColumn, select_texts
from potstill.errors import DataError
from potstill.records import ProblemType, Text

SELECTION_ROWS = 2_000
"""The selection split carved from the training rows has this many rows at most."""

MAX_TEXT_CHARACTERS = 500_000
"""A longer text is taken for a mistake: no encoder of the family reads more than the first few thousand characters."""


_SEEN_BY_THE_CORPUS = (
    "the built-in corpus holds these texts too: a model trained on it has read them, those of test included, unlabelled"
)


@dataclass(frozen=True)
class Split:
    """``n`` rows: ids ``(n,)`` str, the texts (on disk, cleaned when they are read), targets as in ``Predictions``.

    An id is the split a row came from and its number there from 0, ``train-000012``: it stays the same whatever rows
    are cleaned away, sampled or carved.
    """

    ids: np.ndarray
    texts: Sequence[Text]
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, indices: np.ndarray) -> Split:
        """The rows at ``indices``, in that order."""
        return Split(self.ids[indices], select_texts(self.texts, indices), self.targets[indices])


@dataclass(frozen=True)
class SplitCounts:
    """How many rows a split has, its share of all rows in [0, 1], and how many rows carry each label."""

    rows: int
    share: float
    labels: Mapping[str, int]


@dataclass(frozen=True)
class TaskData:
    """A loaded task.

    task: with its label names filled in.
    splits: ``train`` to fit, ``selection`` to choose epochs and thresholds, the report split, and any others labelled.
    counts: counted from the rows that are really there, after cleaning and sampling.
    notes: in words, what was inferred, cleaned, dropped, carved or sampled.
    fingerprint: sha256 over ids, texts and targets of all splits.
    """

    task: Task
    splits: dict[str, Split]
    counts: dict[str, SplitCounts]
    notes: list[str]
    fingerprint: str
    same_as: Mapping[str, str] = field(default_factory=dict)

    def split(self, name: str) -> Split:
        """The split called ``name``; DataError for one that does not exist, or whose labels are hidden."""
        found = self.same_as.get(name, name)
        if found in self.splits:
            return self.splits[found]
        if name in self.task.hidden_splits:
            raise DataError(
                f"the labels of split {name} of {self.task.name} are hidden, so nothing can be measured on it",
                allowed=sorted(self.splits),
            )
        raise DataError(
            f"{self.task.name} has no split {name!r}", allowed=sorted(self.splits), do=suggest(name, self.splits)
        )


@dataclass(frozen=True)
class _Place:
    """Where a split is, its name there, and the names its columns have there."""

    source: str
    split: str | None
    columns: Mapping[str, str | None]

    def names(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        """What ``columns`` are called there, without those that are not there."""
        there = (self.columns.get(column, column) for column in columns)
        return tuple(column for column in there if column is not None)

    @property
    def title(self) -> str:
        """What error messages call it."""
        return self.source if self.split is None else f"{self.source} ({self.split})"


def load_task(
    task: Task,
    *,
    data_dir: Path | None = None,
    seed: int = 0,
    selection_fraction: float = 0.1,
    limits: Mapping[str, int] | None = None,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    max_text_characters: int = MAX_TEXT_CHARACTERS,
    keep_empty: bool = False,
) -> TaskData:
    """The rows of ``task``, from the user's files, from below ``data_dir``, or from the hub.

    ``selection`` is the validation split where the figures are those of another; else ``selection_fraction`` of the
    training rows, 2,000 at most, carved out stratified. A task with a training split only is split by ``fractions``
    into train, selection and its report split. ``limits`` takes a stratified sample of the splits it names.
    Rows without text are refused, or with ``keep_empty`` kept.
    Raises DataError for whatever is wrong with a file or a row, before anything else happens.
    """
    notes = list(task.notes)
    if task.builtin:
        task, parts = _read_builtin(task)
        notes.append(_SEEN_BY_THE_CORPUS)
    else:
        task, parts = _read_parts(task, data_dir, max_text_characters, keep_empty, notes)
    refuse_one_class(parts["train"].targets, task.label_names, f"the training split of {task.name}")
    same_as = {"validation": "selection"} if _selection_is_validation(task, parts) else {}
    splits = _assign_roles(task, parts, seed, selection_fraction, fractions, notes)
    splits = _limited(splits, limits or {}, same_as, seed, task.problem_type, notes)
    notes.extend(_repeated(splits))
    return TaskData(task, splits, _count(task, splits), notes, _fingerprint(task, splits), same_as)


def _read_builtin(task: Task) -> tuple[Task, dict[str, Split]]:
    texts, libraries = docstring_task_rows()
    columns = {"library": list(libraries)}
    names = infer_label_names(columns, task.problem_type, "the built-in task")
    targets = read_targets(columns, names, task.problem_type, "the built-in task")
    return replace(task, label_names=names), {"train": Split(_ids("train", len(targets)), list(texts), targets)}


def _read_parts(
    task: Task, data_dir: Path | None, max_text_characters: int, keep_empty: bool, notes: list[str]
) -> tuple[Task, dict[str, Split]]:
    parts = {}
    places = _places(task, data_dir)
    for split in sorted(places, key=lambda split: split != "train"):
        dataset = open_source(places[split].source, split=places[split].split)
        notes.extend(f"{split}: {note}" for note in unread_note(places[split].source))
        require_text(dataset, places[split].names(task.text_columns), places[split].title)
        require_columns(dataset, places[split].names(task.label_columns), places[split].title)
        columns = read_columns(dataset, places[split].names(task.label_columns))
        if not task.label_names:
            task = replace(task, label_names=infer_label_names(columns, task.problem_type, places[split].title))
        targets = read_targets(columns, task.label_names, task.problem_type, places[split].title)
        texts = TextColumn(dataset, places[split].names(task.text_columns), task.join)
        part = Split(_ids(split, len(targets)), texts, targets)
        if not (keep_empty or _drops_empty(task)):
            _refuse_empty(part.texts, task, places[split].title, split, notes)
        parts[split] = _checked(part, task, split, places[split].title, max_text_characters, notes)
    return task, parts


def _places(task: Task, data_dir: Path | None) -> dict[str, _Place]:
    if task.sources:
        here = {split: Path(source).expanduser().exists() for split, source in task.sources.items()}
        return {split: _Place(source, None if here[split] else split, {}) for split, source in task.sources.items()}
    if data_dir is not None and task.local_files:
        return {split: _local_place(task, data_dir, file) for split, file in task.local_files.items()}
    if task.hub_name is None:
        raise DataError(
            f"the hub has no copy of {task.name} that can be opened",
            do=f"give local copies with --data-dir, laid out as {', '.join(task.local_files.values())}",
        )
    name = task.hub_name if task.hub_config is None else f"{task.hub_name}:{task.hub_config}"
    return {split: _Place(name, on_hub, {}) for split, on_hub in task.hub_splits.items()}


def _local_place(task: Task, data_dir: Path, file: str) -> _Place:
    path = data_dir.expanduser() / file
    if not path.exists():
        raise DataError(
            f"{task.name} has no copy below {data_dir}: {file} is missing",
            do="leave --data-dir out to take it from the hub" if task.hub_name else "put it there",
        )
    return _Place(str(path), None, task.local_columns)


def _ids(split: str, n: int) -> np.ndarray:
    width = max(6, len(str(n - 1)))
    return np.array([f"{split}-{row:0{width}d}" for row in range(n)])


def _checked(part: Split, task: Task, split: str, source: str, max_characters: int, notes: list[str]) -> Split:
    """``part`` cleaned, and without a row that has far too much text."""
    numbers = np.arange(len(part))
    if task.cleaning:
        cleaned = clean(part.texts, task.cleaning)
        numbers = cleaned.kept_indices
        part = Split(part.ids[numbers], cleaned.texts, part.targets[numbers])
        changed = ", ".join(f"{step} {count:,}" for step, count in cleaned.counts.items() if step != "dropped")
        notes.append(f"{split}: cleaning changed {changed} texts; {cleaned.counts['dropped']:,} rows dropped as empty")
    if not len(part):
        raise DataError(f"{source} has no row left after cleaning", do="leave out a cleaning step")
    for row, text in zip(numbers, part.texts, strict=True):
        length = sum(map(len, (text,) if isinstance(text, str) else text))
        if length > max_characters:
            raise DataError(
                f"{source}, row {row + 1} has a text of {length:,} characters",
                allowed=f"at most {max_characters:,}",
                do="remove the row, or shorten all texts with the cleaning step max_words",
            )
    return part


def _drops_empty(task: Task) -> bool:
    """Whether cleaning takes the rows without text away itself."""
    return any(step.partition(":")[0] == "too_short" for step in task.cleaning)


def _refuse_empty(texts: Sequence[Text], task: Task, source: str, split: str, notes: list[str]) -> None:
    n_half_empty = 0
    for row, text in enumerate(texts):
        filled = [bool(part.strip()) for part in ((text,) if isinstance(text, str) else text)]
        if not any(filled):
            raise DataError(
                f"{source}, row {row + 1} has no text in column {' or '.join(map(repr, task.text_columns))}",
                do="remove the row, or drop all such rows with the cleaning step too_short",
            )
        n_half_empty += not all(filled)
    if n_half_empty:
        notes.append(f"{split}: {n_half_empty:,} pairs have one empty text; they are kept")


def _selection_is_validation(task: Task, parts: Mapping[str, Split]) -> bool:
    return task.report_split != "validation" and "validation" in parts


def _assign_roles(
    task: Task,
    parts: dict[str, Split],
    seed: int,
    selection_fraction: float,
    fractions: tuple[float, float, float],
    notes: list[str],
) -> dict[str, Split]:
    """The parts under the names of what they are for: train, selection, the report split, and what else there is."""
    train, others = parts["train"], {split: part for split, part in parts.items() if split != "train"}
    if not others:
        rows = stratified_split(train.targets, fractions, seed, task.problem_type)
        asked = "/".join(f"{100 * fraction:g}" for fraction in fractions)
        names = ("train", "selection", task.report_split)
        counted = ", ".join(_counted(name, len(of), len(train)) for name, of in zip(names, rows, strict=True))
        notes.append(f"one file only: asked for {asked}, split into {counted}, stratified, seed {seed}")
        return {name: train.select(indices) for name, indices in zip(names, rows, strict=True)}
    if task.report_split not in others:
        raise DataError(f"{task.name} has no split {task.report_split}", allowed=sorted(parts))
    if _selection_is_validation(task, parts):
        notes.append("selection: the validation split")
        return {"train": train, "selection": others.pop("validation"), **others}
    fraction = min(selection_fraction, SELECTION_ROWS / len(train))
    fitted, held_out = stratified_split(train.targets, (1 - fraction, fraction), seed, task.problem_type)
    if not len(held_out):
        raise DataError(f"{task.name} has too few training rows to hold some out", found=len(train), do="add rows")
    share = len(held_out) / len(train)
    notes.append(f"selection: {len(held_out):,} rows carved from train ({share:.1%}), stratified, seed {seed}")
    return {"train": train.select(fitted), "selection": train.select(held_out), **others}


def _counted(name: str, n_rows: int, n_all: int) -> str:
    """The rows that a split really has, and their share: the one that was asked for may not be reached."""
    return f"{name} {n_rows:,} ({n_rows / n_all:.1%})"


def _limited(
    splits: dict[str, Split],
    limits: Mapping[str, int],
    same_as: Mapping[str, str],
    seed: int,
    problem_type: ProblemType,
    notes: list[str],
) -> dict[str, Split]:
    for asked, n_rows in limits.items():
        name = same_as.get(asked, asked)
        if name not in splits:
            raise DataError(f"a limit names no split: {asked}", allowed=sorted(splits), do=suggest(asked, splits))
        if n_rows < len(splits[name]):
            notes.append(f"{name}: {n_rows:,} of {len(splits[name]):,} rows, a stratified sample, seed {seed}")
        rows = stratified_sample(splits[name].targets, n_rows, seed, problem_type)
        splits = {**splits, name: splits[name].select(rows)}
    return splits


def _count(task: Task, splits: Mapping[str, Split]) -> dict[str, SplitCounts]:
    n_all = sum(map(len, splits.values()))
    return {name: SplitCounts(len(part), len(part) / n_all, _label_counts(task, part)) for name, part in splits.items()}


def _label_counts(task: Task, part: Split) -> dict[str, int]:
    if task.problem_type == "regression":
        return {}
    if task.problem_type == "multi_label_classification":
        counts = part.targets.sum(axis=0, dtype=np.int64)
    else:
        counts = np.bincount(part.targets, minlength=len(task.label_names))
    return dict(zip(task.label_names, counts.tolist(), strict=True))


def _repeated(splits: Mapping[str, Split]) -> list[str]:
    """In words, how many texts of each split an earlier one holds too: they prove little.

    Earlier are train, which a model learns, and selection, on which its epoch and its thresholds are chosen.
    """
    read = {name: np.fromiter(map(hash, part.texts), np.int64, len(part)) for name, part in splits.items()}
    told = []
    for earlier in ("train", "selection"):
        for name, texts in read.items():
            if name not in ("train", earlier) and (count := int(np.isin(texts, read[earlier]).sum())):
                told.append(f"{name}: {count:,} of {len(texts):,} texts also occur in {earlier}")
    return told


def _fingerprint(task: Task, splits: Mapping[str, Split]) -> str:
    digest = hashlib.sha256(repr((task.problem_type, task.label_names)).encode())
    for name, part in sorted(splits.items()):
        digest.update(repr((name, len(part), part.targets.shape)).encode())
        digest.update("\n".join(part.ids.tolist()).encode())
        digest.update(part.targets.tobytes())
        for text in part.texts:
            digest.update(repr(text).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
