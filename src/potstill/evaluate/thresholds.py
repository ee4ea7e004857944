"""From which probability on a label is given: thresholds by a stated rule, fitted on held-out predictions.

What each threshold would do is counted by scikit-learn; a rule chooses among those counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from sklearn import metrics as sk

from potstill.decisions import ThresholdRule
from potstill.errors import DataError
from potstill.evaluate.held_out import HeldOut
from potstill.evaluate.metrics import read_outcomes
from potstill.records import Predictions, ProblemType

UNFITTED = 0.5
"""The threshold of a label for which none can be fitted."""


@dataclass(frozen=True)
class OperatingPoints:
    """What every threshold would do with one label, from the strictest to one that gives the label to all ``n`` rows.

    thresholds: ``(m,)`` float64 in [0, 1], falling. Each lies half way between neighbouring probabilities (or between
        the outermost and 0 or 1), so that no rounding moves a row across.
    true_positives, false_positives: ``(m,)`` float64, rows given the label rightly and wrongly.
    n_positive, n_negative: rows that have the label, and that have not.
    """

    thresholds: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray
    n_positive: int
    n_negative: int

    @property
    def recall(self) -> np.ndarray:
        """``(m,)``: the share of the rows that have the label that are given it."""
        return self.true_positives / self.n_positive

    @property
    def false_positive_rate(self) -> np.ndarray:
        """``(m,)``: the share of the rows without the label that are given it."""
        return self.false_positives / self.n_negative

    @property
    def precision(self) -> np.ndarray:
        """``(m,)``: the share of the rows given the label that have it; 1 where nobody is, as scikit-learn has it."""
        given = self.true_positives + self.false_positives
        return np.divide(self.true_positives, given, out=np.ones_like(given), where=given > 0)


def operating_points(targets: np.ndarray, probabilities: np.ndarray) -> OperatingPoints:
    """The operating points of one label: ``targets`` ``(n,)`` of 0 and 1 with both among them, ``probabilities`` too.

    The first one gives the label to nobody; it is missing where a probability is exactly 1.
    """
    values = probabilities.astype(np.float64)
    _, false_positives, _, true_positives, scores = sk.confusion_matrix_at_thresholds(targets, values, pos_label=1)
    edges = np.concatenate([[1.0], scores, [0.0]])
    strictest = 0 if scores[0] < 1 else 1
    return OperatingPoints(
        thresholds=((edges[:-1] + edges[1:]) / 2)[strictest:],
        true_positives=np.concatenate([[0.0], true_positives])[strictest:],
        false_positives=np.concatenate([[0.0], false_positives])[strictest:],
        n_positive=int(true_positives[-1]),
        n_negative=int(false_positives[-1]),
    )


def choose_threshold(points: OperatingPoints, rule: ThresholdRule) -> float | None:
    """The threshold that ``rule`` prefers; of several as good the one nearest to 0.5; None where none fulfils it."""
    if rule.strategy == "none":
        return UNFITTED
    best = np.ones(len(points.thresholds), dtype=bool)
    for wish in _wishes(points, rule):
        most = wish[best].max()
        if most == -np.inf:
            return None
        best &= wish >= most - 1e-12 * abs(most)
    return float(points.thresholds[np.argmin(np.where(best, np.abs(points.thresholds - 0.5), np.inf))])


def _wishes(points: OperatingPoints, rule: ThresholdRule) -> list[np.ndarray]:
    """What is to be as large as possible, the most important first; −∞ where a point is out of the question."""
    match rule.strategy:
        case "g_mean":
            return [np.sqrt(points.recall * (1 - points.false_positive_rate))]
        case "f1" | "f_beta":
            return [_f_beta(points, rule.beta or 1.0)]
        case "precision":
            held = (points.precision >= _at_least(rule)) & (points.true_positives > 0)
            return [np.where(held, points.recall, -np.inf), points.precision]
        case "recall":
            return [np.where(points.recall >= _at_least(rule), points.precision, -np.inf), points.recall]
    assert rule.false_positive_cost is not None
    assert rule.false_negative_cost is not None
    missed = points.n_positive - points.true_positives
    return [-(rule.false_positive_cost * points.false_positives + rule.false_negative_cost * missed)]


def _at_least(rule: ThresholdRule) -> float:
    assert rule.at_least is not None
    return rule.at_least - 1e-12


def _f_beta(points: OperatingPoints, beta: float) -> np.ndarray:
    """scikit-learn's F-beta at every point at once; positives are there, so it divides by something."""
    weight = beta**2
    given = points.true_positives + points.false_positives
    return (1 + weight) * points.true_positives / (weight * points.n_positive + given)


@dataclass(frozen=True)
class FittedThresholds:
    """Label -> threshold in [0, 1], None where there are none; notes count the labels that keep 0.5 and say why."""

    values: dict[str, float] | None
    notes: tuple[str, ...] = ()


def can_have_thresholds(problem_type: ProblemType, n_labels: int) -> bool:
    """Whether decisions are made by comparing one probability at a time: many labels, or one of two."""
    return problem_type == "multi_label_classification" or (
        problem_type == "single_label_classification" and n_labels == 2
    )


def label_columns(predictions: Predictions) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Each label that a threshold decides: its name, its truth ``(n,)`` of 0 and 1, its probabilities ``(n,)``.

    Where one of two labels is given, that is the second one. DataError for other tasks, and for predictions that
    nothing can be measured on.
    """
    if not can_have_thresholds(predictions.problem_type, len(predictions.label_names)):
        raise DataError(
            "thresholds decide label by label, and this task does not",
            found=f"{predictions.problem_type} with {len(predictions.label_names)} labels",
            allowed="many labels, or one of two",
            do="leave the thresholds out: the likeliest label is given",
        )
    outcomes, names = read_outcomes(predictions), predictions.label_names
    if outcomes.targets.ndim == 1:
        yield names[1], outcomes.targets, predictions.probabilities[:, 1]
        return
    for index, name in enumerate(names):
        yield name, outcomes.targets[:, index], predictions.probabilities[:, index]


def fit_thresholds(held_out: HeldOut, rule: ThresholdRule, temperature: float = 1.0) -> FittedThresholds:
    """The threshold of every label by ``rule``, on probabilities after ``temperature``.

    A label that every held-out row has, or none, keeps 0.5, as does one for which no threshold holds the precision
    asked for; the notes count and name them.
    """
    if rule.strategy == "none":
        return FittedThresholds(None)
    values: dict[str, float] = {}
    one_sided, unreached = [], []
    for label, targets, probabilities in label_columns(replace(held_out.predictions, temperature=temperature)):
        values[label] = UNFITTED
        if len(np.unique(targets)) < 2:
            one_sided.append(label)
        elif (chosen := choose_threshold(operating_points(targets, probabilities), rule)) is None:
            unreached.append(label)
        else:
            values[label] = chosen
    rows = f"{len(held_out.predictions):,} rows"
    reasons = {
        f"none or all of the {rows} they are fitted on have them": one_sided,
        f"no threshold reaches a precision of {rule.at_least} on the {rows} they are fitted on": unreached,
    }
    return FittedThresholds(values, tuple(_note(kept, len(values), why) for why, kept in reasons.items() if kept))


def _note(kept: list[str], n_labels: int, why: str) -> str:
    return f"{len(kept)} of {n_labels} labels keep the threshold {UNFITTED}, because {why}: {', '.join(kept)}"
