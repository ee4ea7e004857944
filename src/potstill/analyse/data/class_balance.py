"""How many rows each class has in each part, and how far that is from balance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from potstill.analyse.data.lengths import Summary, summarise
from potstill.analyse.data.rows import Part, Rows


@dataclass(frozen=True)
class Balance:
    """Rows by part and label, and figures of the learnt part.

    counts: part → label → rows that carry it. imbalance: rows of the largest class over those of the smallest, None
    where the smallest has none. evenness: entropy of the classes' shares over that of equal ones, in [0, 1]; None for
    many labels. majority: share of the largest class, which is the accuracy of always answering it.
    shift: part → the largest difference of a label's share from its share in the learnt part.
    unlabelled, labels_per_text, together: of many labels only: part → rows without any, mean labels per row, and the
    correlation of every two labels over the learnt rows (None where a label never varies).
    """

    rows: Mapping[str, int]
    counts: Mapping[str, Mapping[str, int]]
    largest: str
    smallest: str
    imbalance: float | None
    majority: float
    evenness: float | None
    shift: Mapping[str, float]
    unlabelled: Mapping[str, int] | None = None
    labels_per_text: Mapping[str, float] | None = None
    together: Sequence[Sequence[float | None]] | None = None


def balance_of(rows: Rows) -> Balance | None:
    """The balance of the classes; None where there are none."""
    if not rows.label_names:
        return None
    counts = {part.name: _count(rows, part) for part in rows.parts}
    shares = {part.name: np.array([*counts[part.name].values()]) / len(part) for part in rows.parts if len(part)}
    learnt = counts[rows.learnt]
    largest, smallest = max(learnt, key=learnt.__getitem__), min(learnt, key=learnt.__getitem__)
    balance = Balance(
        rows={part.name: len(part) for part in rows.parts},
        counts=counts,
        largest=largest,
        smallest=smallest,
        imbalance=learnt[largest] / learnt[smallest] if learnt[smallest] else None,
        majority=float(shares[rows.learnt].max()),
        evenness=_evenness([*learnt.values()]),
        shift={name: float(np.abs(of - shares[rows.learnt]).max()) for name, of in shares.items()},
    )
    return _with_many_labels(balance, rows) if rows.problem_type == "multi_label_classification" else balance


def _count(rows: Rows, part: Part) -> dict[str, int]:
    return {name: int(rows.in_class(part, number).sum()) for number, name in enumerate(rows.label_names)}


def _with_many_labels(balance: Balance, rows: Rows) -> Balance:
    """``balance`` with what is true of texts that may carry several labels, or none."""
    flags = {part.name: part.targets for part in rows.parts if part.targets is not None and len(part)}
    return replace(
        balance,
        evenness=None,
        unlabelled={name: int((~of.any(axis=1)).sum()) for name, of in flags.items()},
        labels_per_text={name: float(of.sum(axis=1).mean()) for name, of in flags.items()},
        together=correlate_labels(flags[rows.learnt]),
    )


def _evenness(counts: Sequence[int]) -> float | None:
    return float(stats.entropy(counts) / np.log(len(counts))) if len(counts) > 1 else None


def correlate_labels(flags: np.ndarray) -> list[list[float | None]]:
    """Pearson's correlation of every two columns of ``(n, k)`` 0/1; None where one of them never varies."""
    if len(flags) < 2:
        return [[None] * flags.shape[1] for _ in range(flags.shape[1])]
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.corrcoef(flags.astype(np.float64), rowvar=False)
    return [[None if np.isnan(value) else float(value) for value in line] for line in np.atleast_2d(found)]


def scores_of(rows: Rows) -> dict[str, Summary] | None:
    """The scores of each part, summed up; None where the task is no regression."""
    if rows.problem_type != "regression":
        return None
    return {part.name: summarise(_scores(part)) for part in rows.parts if len(part)}


def _scores(part: Part) -> np.ndarray:
    assert part.targets is not None
    return part.targets.astype(np.float64)
