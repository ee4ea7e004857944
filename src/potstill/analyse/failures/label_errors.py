"""Labels that may be wrong: confident learning, on predictions of rows that the model was not trained on.

Northcutt, Jiang and Chuang 2021, Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 70. A row counts as
of the label whose probability is the greatest among those that reach their label's threshold, the mean probability of
that label on the rows that bear it. A row that counts as of another label than its own is suspected: the rows off the
diagonal of the paper's confident joint.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from potstill.analyse.failures.judged_rows import JudgedRows

TOLERANCE = 1e-9
"""A probability this far below its threshold still reaches it: a mean of equal numbers may be rounded upwards."""


@dataclass(frozen=True)
class LabelSuspicions:
    """Rows whose label may be wrong, the likeliest first.

    rows: ``(m,)`` int64, numbers of rows; with many labels a row is there once for each of its doubted labels.
    given, suggested: ``m`` names; with many labels the label and ``not`` before it, or the other way round.
    given_probability, suggested_probability: ``(m,)`` float64, of the model.
    """

    rows: np.ndarray
    given: tuple[str, ...]
    suggested: tuple[str, ...]
    given_probability: np.ndarray
    suggested_probability: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def thresholds_of(probabilities: np.ndarray, given: np.ndarray) -> np.ndarray:
    """``(k,)`` float64: the mean probability ``(n, k)`` of each label on the rows whose ``given`` label it is.

    NaN for a label that no row bears: no row can count as of it.
    """
    return np.array([_exact_mean(column[given == label]) for label, column in enumerate(probabilities.T)])


def _exact_mean(values: np.ndarray) -> float:
    """The mean with its sum rounded once, so that it does not depend on the order of ``values``; NaN of none."""
    return math.fsum(values.tolist()) / len(values) if len(values) else math.nan


def confident_labels(probabilities: np.ndarray, given: np.ndarray) -> np.ndarray:
    """``(n,)`` int64: the label that each row counts as of, or -1 where no probability reaches its threshold."""
    reached = probabilities >= thresholds_of(probabilities, given) - TOLERANCE  # NaN reaches nothing
    likeliest = np.where(reached, probabilities, -1.0).argmax(axis=1)
    return np.where(reached.any(axis=1), likeliest, -1)


def suspect_labels(rows: JudgedRows) -> LabelSuspicions | None:
    """The suspected labels of ``rows``, which the model must not have been trained on; None for a regression.

    With many labels each is taken alone, as given or not given.
    """
    if rows.problem_type == "regression":
        return None
    if rows.problem_type == "single_label_classification":
        found = _suspects(rows.outcomes.probabilities, rows.outcomes.targets, rows.label_names)
        return _ranked(rows, [found])
    each = [
        _suspects(np.stack([1 - of_label, of_label], axis=1), given.astype(np.int64), (f"not {name}", name))
        for name, of_label, given in zip(
            rows.label_names, rows.outcomes.probabilities.T, rows.outcomes.targets.T, strict=True
        )
    ]
    return _ranked(rows, each)


def _suspects(probabilities: np.ndarray, given: np.ndarray, names: tuple[str, ...]) -> LabelSuspicions:
    labels = confident_labels(probabilities, given)
    doubted = np.flatnonzero((labels >= 0) & (labels != given))
    return LabelSuspicions(
        rows=doubted,
        given=tuple(names[label] for label in given[doubted]),
        suggested=tuple(names[label] for label in labels[doubted]),
        given_probability=probabilities[doubted, given[doubted]],
        suggested_probability=probabilities[doubted, labels[doubted]],
    )


def _ranked(judged: JudgedRows, parts: list[LabelSuspicions]) -> LabelSuspicions:
    """All suspicions by how much more the model believes in the suggested label, then by id and name."""
    rows = np.concatenate([part.rows for part in parts])
    given = np.array([name for part in parts for name in part.given], dtype=str)
    suggested = np.array([name for part in parts for name in part.suggested], dtype=str)
    of_given = np.concatenate([part.given_probability for part in parts])
    of_suggested = np.concatenate([part.suggested_probability for part in parts])
    order = np.lexsort((suggested, judged.ids[rows], of_given - of_suggested))
    return LabelSuspicions(
        rows[order],
        tuple(given[order].tolist()),
        tuple(suggested[order].tolist()),
        of_given[order],
        of_suggested[order],
    )
