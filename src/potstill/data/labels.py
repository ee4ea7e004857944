"""Labels as people write them, names or numbers, into targets as ``records.Predictions`` holds them.

A label is looked up by name first and by number second, so that classes called "1", "2" and "3" mean what they say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from potstill.data.names import suggest
from potstill.errors import DataError
from potstill.records import ProblemType

Columns = Mapping[str, Sequence[object]]

MANY_LABELS = 500
"""More distinct values than this, in more than half of the rows, and the column holds no label but text."""

_NO_LABEL = ("", "nan")


def written(value: object) -> str:
    """A label in the one way all are compared: without space around it, whole numbers without a decimal point."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def is_missing(value: object) -> bool:
    """Whether there is no label: None, NaN, nothing but space, or a NaN that went through a text file."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return isinstance(value, str) and value.strip().lower() in _NO_LABEL


def read_targets(columns: Columns, label_names: Sequence[str], problem_type: ProblemType, source: str) -> np.ndarray:
    """Targets of ``n`` rows, from the label columns by name.

    Returns ``(n,)`` int64 for one label, ``(n, k)`` int8 of 0/1 for many (from k columns of 0/1, or from one column of
    lists of names), ``(n,)`` float32 for regression. ``source`` names the file in complaints; rows count from 1.
    Raises DataError for a label that is missing, not in the list, not a number, or hidden, and for a single label where
    many are expected.
    """
    _refuse_hidden(columns, label_names, source)
    first = next(iter(columns))
    if problem_type == "regression":
        return _read_scores(first, columns[first], source)
    if problem_type == "single_label_classification":
        return _read_classes(first, columns[first], label_names, source)
    return _read_many(columns, label_names, source)


def _read_many(columns: Columns, label_names: Sequence[str], source: str) -> np.ndarray:
    (first, values), *others = columns.items()
    if not others and _holds_lists(values):
        targets, named = _read_lists(first, values, label_names, source), list(label_names)
    else:
        targets = np.stack([_read_flags(column, flags, source) for column, flags in columns.items()], axis=1)
        named = list(columns)
    if targets.shape[1] < 2:
        # scikit-learn takes one column for classes 0 and 1, and its metrics would be other ones under the same names
        raise DataError(
            f"{source}: a task of many labels needs two or more",
            found=", ".join(named) or "none",
            do="make it one label of two, a name or a number in each row",
        )
    return targets


def _refuse_hidden(columns: Columns, label_names: Sequence[str], source: str) -> None:
    if "-1" in label_names:
        return
    for column, values in columns.items():
        if len(values) and all(written(value) in ("-1", "-100") for value in values):
            raise DataError(
                f"{source} carries no labels: column {column!r} is -1 in every row, so they are hidden",
                do="use a labelled split; this one can only be predicted",
            )


def _missing(source: str, row: int, column: str, value: object) -> DataError:
    return DataError(
        f"{source}, row {row + 1} has no label in column {column!r}",
        found="nothing" if value is None else repr(value),
        do="fill it or remove the row",
    )


def _read_scores(column: str, values: Sequence[object], source: str) -> np.ndarray:
    scores = np.empty(len(values), dtype=np.float32)
    for row, value in enumerate(values):
        if is_missing(value):
            raise _missing(source, row, column, value)
        try:
            scores[row] = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            scores[row] = math.nan
        if not math.isfinite(scores[row]):
            raise DataError(
                f"{source}, row {row + 1}: the score in column {column!r} is no finite number", found=repr(value)
            )
    return scores


def _read_classes(column: str, values: Sequence[object], label_names: Sequence[str], source: str) -> np.ndarray:
    numbers = _lookup(label_names)
    classes = np.empty(len(values), dtype=np.int64)
    for row, value in enumerate(values):
        if is_missing(value) and written(value) not in numbers:
            raise _missing(source, row, column, value)
        number = numbers.get(written(value), numbers.get(_as_number(value), -1))
        if number < 0:
            raise _not_listed(source, row, column, value, label_names)
        classes[row] = number
    return classes


def _lookup(label_names: Sequence[str]) -> dict[str, int]:
    """Names, and numbers where no name is itself a number, to label numbers."""
    by_name = {name: number for number, name in enumerate(label_names)}
    if any(_is_whole(name) for name in label_names):
        return by_name
    return {str(number): number for number in range(len(label_names))} | by_name


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _as_number(value: object) -> str:
    """What ``value`` is as a number: True is "1", and the text "1.0" is "1"."""
    if isinstance(value, bool):
        return str(int(value))
    text = written(value)
    whole, point, rest = text.partition(".")
    return whole if point and not rest.strip("0") else text


def _not_listed(source: str, row: int, column: str, value: object, label_names: Sequence[str]) -> DataError:
    shown = [*label_names[:30], *(["…"] if len(label_names) > 30 else [])]
    return DataError(
        f"{source}, row {row + 1}: the label in column {column!r} is not in the list",
        found=written(value)[:80],
        allowed=f"{', '.join(shown)}, or 0 to {len(label_names) - 1}",
        do=suggest(written(value), label_names, otherwise="correct the row, or name all labels with label_names"),
    )


def _read_flags(column: str, values: Sequence[object], source: str) -> np.ndarray:
    flags = {"0": 0, "1": 1, "False": 0, "True": 1, "false": 0, "true": 1, "0.0": 0, "1.0": 1}
    given = np.empty(len(values), dtype=np.int8)
    for row, value in enumerate(values):
        if is_missing(value):
            raise _missing(source, row, column, value)
        if written(value) not in flags:
            raise DataError(
                f"{source}, row {row + 1}: column {column!r} of a multi-label task", found=repr(value), allowed="0 or 1"
            )
        given[row] = flags[written(value)]
    return given


def _holds_lists(values: Sequence[object]) -> bool:
    return any(isinstance(value, list | tuple) for value in values)


def _read_lists(column: str, values: Sequence[object], label_names: Sequence[str], source: str) -> np.ndarray:
    numbers = _lookup(label_names)
    given = np.zeros((len(values), len(label_names)), dtype=np.int8)
    for row, value in enumerate(values):
        if not isinstance(value, list | tuple):
            raise _missing(source, row, column, value)
        for label in value:
            if written(label) not in numbers:
                raise _not_listed(source, row, column, label, label_names)
            given[row, numbers[written(label)]] = 1
    return given


def infer_problem_type(columns: Columns) -> tuple[ProblemType, str]:
    """The problem type that the label columns look like, and the reason in words.

    Several columns or lists: many labels. Numbers of which one has a fraction: scores. Everything else: one label.
    """
    if len(columns) > 1:
        return "multi_label_classification", f"there are {len(columns)} label columns"
    (column, values), *_ = columns.items()
    if _holds_lists(values):
        return "multi_label_classification", f"column {column!r} holds lists"
    present = [written(value) for value in values if not is_missing(value)]
    if present and all(_is_number(value) for value in present) and not all(_is_whole(_as_number(v)) for v in present):
        return "regression", f"column {column!r} holds numbers with fractions"
    return "single_label_classification", f"column {column!r} holds one name or whole number per row"


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def infer_label_names(columns: Columns, problem_type: ProblemType, source: str) -> tuple[str, ...]:
    """The labels that occur, sorted: by value where all are whole numbers, else by letter.

    Raises DataError where numbers and names are mixed, and where there are so many values that the column is no label.
    """
    if problem_type == "regression":
        return ("score",)
    (column, values), *others = columns.items()
    if others:
        return tuple(columns)
    if _holds_lists(values):
        return tuple(sorted({written(label) for value in values if isinstance(value, list | tuple) for label in value}))
    filled = [value for value in values if not is_missing(value)]
    present = [str(value) if isinstance(value, bool) else _as_number(value) for value in filled]
    names = set(present)
    if len(names) > MANY_LABELS and len(names) > len(present) / 2:
        raise DataError(
            f"{source}: column {column!r} does not look like a label",
            found=f"{len(names)} distinct values in {len(present)} rows",
            do="name the label column",
        )
    whole = {name for name in names if _is_whole(name)}
    if whole and whole != names:
        raise DataError(
            f"{source}: column {column!r} mixes numbers and names",
            found=f"{min(whole)!r} in row {present.index(min(whole)) + 1} and {min(names - whole)!r} in row "
            f"{present.index(min(names - whole)) + 1}",
            do="write all labels in one way, or name them in order with label_names",
        )
    return tuple(sorted(names, key=int) if whole else sorted(names))


def refuse_one_class(targets: np.ndarray, label_names: Sequence[str], source: str) -> None:
    """Raise DataError where the rows of ``targets`` leave nothing to learn: all have the same label or score."""
    if len(targets) and (targets == targets[0]).all():
        only = str(targets[0].tolist())
        if np.issubdtype(targets.dtype, np.integer) and targets.ndim == 1:
            only = repr(label_names[int(targets[0])])
        raise DataError(
            f"{source} has one class only: all {len(targets)} rows are {only}", do="there must be at least two"
        )
