"""Texts that occur more than once: within a part, across parts (leakage), and with labels that contradict each other.

Three levels, each holding the one before: ``identical`` texts; texts that are ``normalised`` to the same words (case,
punctuation, space and compatibility characters set aside); and texts that are ``near`` one another.
Empty texts are not counted: they are all the same, and told elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from potstill.analyse.data.distinct import distinct
from potstill.analyse.data.near_duplicates import Signatures, group_near
from potstill.analyse.data.rows import Chunk, Part, Rows, digest, text_parts

LEVELS = ("identical", "normalised", "near")


@dataclass(frozen=True)
class Overlap:
    """Rows whose text another part holds too, and how many of them have a label there that they do not have here."""

    rows: int
    with_other_label: int


@dataclass(frozen=True)
class Level:
    """One level's counts.

    repeated: part → rows whose text came before in the same part. shared: part → other part → rows whose text that
    other part holds too. contradicting_texts, contradicting_rows: texts that occur with more than one label (or score)
    anywhere, and the rows of the learnt part that hold one of them.
    """

    name: str
    repeated: Mapping[str, int]
    shared: Mapping[str, Mapping[str, Overlap]]
    contradicting_texts: int
    contradicting_rows: int


@dataclass(frozen=True)
class Placed:
    """All rows of all parts end to end: ``(n,)`` int64 numbers of their parts and, where there are labels, of those.

    Equal labels, sets of labels or scores have equal numbers. starts: the first row of each part.
    """

    part: np.ndarray
    label: np.ndarray | None
    starts: np.ndarray

    @classmethod
    def of(cls, rows: Rows) -> Placed:
        """The places of ``rows``."""
        sizes = [len(part) for part in rows.parts]
        part = np.repeat(np.arange(len(sizes)), sizes)
        return cls(part, _label_numbers(rows.parts), np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64))


class DuplicateFinder:
    """Digests of every text and of its normal form, and its signature: 146 bytes a row, the texts are let go."""

    def __init__(self) -> None:
        self._texts: list[np.ndarray] = []
        self._normals: list[np.ndarray] = []
        self._empty: list[np.ndarray] = []
        self._has_words: list[np.ndarray] = []
        self._signatures = Signatures()

    def add(self, chunk: Chunk) -> None:
        """Take the next texts in, the parts one after the other in the order of ``Rows.parts``."""
        joined = ["\x1f".join(text_parts(text)) for text in chunk.texts]
        self._texts.append(_digests(joined))
        self._normals.append(_digests(chunk.normals))
        self._empty.append(np.array([not text.replace("\x1f", "").strip() for text in joined], dtype=bool))
        self._has_words.append(chunk.n_words > 0)
        self._signatures.add(chunk)

    def groups(self) -> dict[str, np.ndarray]:
        """For each level ``(n,)`` int64 over all rows: those of one number have the same text; -1 is an empty one."""
        empty = np.concatenate([np.zeros(0, dtype=bool), *self._empty])
        identical, normalised = (_numbered(found, empty) for found in (self._texts, self._normals))
        has_words = np.concatenate([np.zeros(0, dtype=bool), *self._has_words])
        near = group_near(self._signatures.all(), normalised, has_words)
        return {"identical": identical, "normalised": normalised, "near": near}


def count_duplicates(rows: Rows, placed: Placed, groups: Mapping[str, np.ndarray]) -> list[Level]:
    """The counts of every level, strictest first."""
    return [_level(rows, placed, name, groups[name]) for name in LEVELS]


def contradicting(placed: Placed, groups: np.ndarray) -> np.ndarray:
    """The groups whose rows have more than one label, in order; none where there are no labels."""
    if placed.label is None:
        return np.zeros(0, dtype=np.int64)
    texts, n_labels = _n_different(groups, placed.label)
    return texts[n_labels > 1]


def in_several_parts(placed: Placed, groups: np.ndarray) -> np.ndarray:
    """The groups with rows in more than one part, in order."""
    texts, n_parts = _n_different(groups, placed.part)
    return texts[n_parts > 1]


def repeated(groups: np.ndarray) -> np.ndarray:
    """The groups of more than one row, in order."""
    texts, n_rows = np.unique(groups[groups >= 0], return_counts=True)
    return texts[n_rows > 1]


def _level(rows: Rows, placed: Placed, name: str, groups: np.ndarray) -> Level:
    names = [part.name for part in rows.parts]
    of_part = {part: np.flatnonzero((placed.part == i) & (groups >= 0)) for i, part in enumerate(names)}
    bad = contradicting(placed, groups)
    return Level(
        name=name,
        repeated={part: len(here) - len(distinct(groups[here])) for part, here in of_part.items()},
        shared={
            part: {other: _overlap(placed, groups, here, there) for other, there in of_part.items() if other != part}
            for part, here in of_part.items()
        },
        contradicting_texts=len(bad),
        contradicting_rows=int(np.isin(groups[of_part[rows.learnt]], bad).sum()),
    )


def _overlap(placed: Placed, groups: np.ndarray, here: np.ndarray, there: np.ndarray) -> Overlap:
    """How the rows ``here`` overlap with the rows ``there``."""
    shared = here[np.isin(groups[here], groups[there])]
    if placed.label is None:
        return Overlap(len(shared), 0)
    # A row has another label there when its text has more labels there than the row's own.
    texts, n_labels = _n_different(groups[there], placed.label[there])
    own = np.isin(_paired(groups, placed.label)[shared], _paired(groups, placed.label)[there])
    others = n_labels[np.searchsorted(texts, groups[shared])] - own
    return Overlap(len(shared), int((others > 0).sum()))


def _n_different(groups: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The groups in order, and how many different ``values`` the rows of each have; empty texts left out."""
    filled = groups >= 0
    pairs = distinct(_paired(groups, values)[filled])
    texts, n_different = np.unique(pairs // _base(values), return_counts=True)
    return texts, n_different


def _paired(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """One number for each pair of a group and a value: sorting numbers is many times faster than sorting pairs."""
    return groups * _base(values) + values


def _base(values: np.ndarray) -> int:
    return int(values.max(initial=0)) + 1


def _digests(texts: Sequence[str]) -> np.ndarray:
    return np.fromiter(map(digest, texts), dtype=np.uint64, count=len(texts))


def _numbered(digests: list[np.ndarray], empty: np.ndarray) -> np.ndarray:
    numbers = np.unique(np.concatenate([np.zeros(0, dtype=np.uint64), *digests]), return_inverse=True)[1]
    return np.where(empty, -1, numbers)


def _label_numbers(parts: Sequence[Part]) -> np.ndarray | None:
    targets = [part.targets for part in parts if part.targets is not None]
    if len(targets) < len(parts):
        return None
    return np.unique(np.concatenate(targets), axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
