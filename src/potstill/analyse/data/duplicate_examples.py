"""Examples of repeated, leaking and contradicting texts, for a person to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from potstill.analyse.data.duplicates import LEVELS, Placed, contradicting, in_several_parts, repeated
from potstill.analyse.data.rows import Part, Rows, text_parts

EXCERPT_CHARACTERS = 240

SHOWN_ROWS = 4


@dataclass(frozen=True)
class ExampleRow:
    """A row by id, part and label, and the beginning of its text."""

    id: str
    part: str
    label: str
    excerpt: str


@dataclass(frozen=True)
class Example:
    """``size`` rows of one text; kind: contradiction, shared or repeated. ``rows`` shows a few of them."""

    kind: str
    level: str
    size: int
    rows: Sequence[ExampleRow]


def duplicate_examples(rows: Rows, placed: Placed, groups: Mapping[str, np.ndarray], most: int = 15) -> list[Example]:
    """Of each kind the ``most`` largest groups, each at the strictest level where it is one; ties in order of rows."""
    return [example for kind in _KINDS for example in _of_kind(rows, placed, groups, kind, most)]


def example_row(rows: Rows, part: Part, row: int) -> ExampleRow:
    """What is shown of one row."""
    text = " ⇥ ".join(" ".join(of.split()) for of in text_parts(part.texts[row]))
    cut = text if len(text) <= EXCERPT_CHARACTERS else text[: EXCERPT_CHARACTERS - 1] + "…"
    return ExampleRow(part.row_id(row), part.name, rows.label(part, row), cut)


_KINDS = {
    "contradiction": contradicting,
    "shared": in_several_parts,
    "repeated": lambda placed, groups: repeated(groups),
}


def _of_kind(rows: Rows, placed: Placed, groups: Mapping[str, np.ndarray], kind: str, most: int) -> Iterator[Example]:
    shown = np.zeros(len(placed.part), dtype=bool)
    for level in LEVELS:
        numbers = groups[level]
        found = _KINDS[kind](placed, numbers)
        fresh = found[~np.isin(found, numbers[shown])]
        for group in _largest(numbers, fresh, most):
            members = np.flatnonzero(numbers == group)
            yield Example(kind, level, len(members), [_row(rows, placed, i) for i in _shown(placed, members)])
        most = max(0, most - len(fresh))
        shown |= np.isin(numbers, found)


def _largest(groups: np.ndarray, among: np.ndarray, most: int) -> list[int]:
    """The ``most`` groups ``among`` all that have most rows, the one met first where several have as many."""
    texts, firsts, sizes = np.unique(groups, return_index=True, return_counts=True)
    places = np.searchsorted(texts, among)
    order = np.lexsort((firsts[places], -sizes[places]))[:most]
    return [int(group) for group in among[order]]


def _shown(placed: Placed, members: np.ndarray) -> list[int]:
    """A few of the rows, one of each part and label first, so that what is wrong is to be seen."""
    labels = np.zeros(len(members), dtype=np.int64) if placed.label is None else placed.label[members]
    _, firsts = np.unique(np.stack([labels, placed.part[members]]), axis=1, return_index=True)
    rest = np.setdiff1d(np.arange(len(members)), firsts)
    chosen = [*np.sort(firsts).tolist(), *rest.tolist()][:SHOWN_ROWS]
    return [int(members[place]) for place in sorted(chosen)]


def _row(rows: Rows, placed: Placed, number: int) -> ExampleRow:
    place = int(placed.part[number])
    return example_row(rows, rows.parts[place], number - int(placed.starts[place]))
