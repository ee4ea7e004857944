"""What an arm's decisions are, how they came about and what they change: gathered from its stored predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from potstill.decisions import Decisions, read_decisions
from potstill.evaluate.calibration import Reliability, reliability
from potstill.evaluate.decision_effect import DecisionEffect
from potstill.evaluate.decision_fit import effect_of_decisions
from potstill.evaluate.thresholds import OperatingPoints, label_columns, operating_points
from potstill.records import Predictions
from potstill.runs import RunFolder

MOST_POINTS = 200
"""A curve is drawn through this many of its points at most; steps between them are finer than a pixel."""


@dataclass(frozen=True)
class Point:
    """Where one threshold lies on the curves: shares in [0, 1]."""

    false_positive_rate: float
    recall: float
    precision: float


@dataclass(frozen=True)
class LabelCurves:
    """ROC and precision–recall curve of one label on the rows its threshold was fitted on.

    chosen: where the threshold lies on them; reported: where it leads on the reported rows, None where all or none of
    them have the label.
    """

    label: str
    threshold: float
    curve: Sequence[Point]
    chosen: Point
    reported: Point | None


@dataclass(frozen=True)
class DecisionEvidence:
    """The decisions of one arm. Thresholds, curves and reliability are those of the seed shown; temperatures of all.

    asked: by what they were fitted, in words; fitted_on: rows and split, in words; notes: what could not be fitted.
    before, after: reliability on the reported rows without and with them.
    """

    asked: str
    fitted_on: str
    temperatures: Sequence[float]
    thresholds: Mapping[str, float]
    effect: DecisionEffect
    curves: Sequence[LabelCurves]
    before: Reliability
    after: Reliability
    notes: Sequence[str]


def gather_decisions(runs: Sequence[RunFolder]) -> DecisionEvidence | None:
    """The evidence of an arm's runs, one per seed, the first of which is shown; None where they have no decisions."""
    every = [decisions for run in runs if (decisions := read_decisions(run.path)) is not None]
    if len(every) < len(runs):
        return None
    shown, run = every[0], runs[0]
    reported = run.raw_predictions(run.manifest["report_split"])
    return DecisionEvidence(
        asked=shown.asked,
        fitted_on=f"{shown.n_rows:,} rows of {shown.split}",
        temperatures=[decisions.temperature for decisions in every],
        thresholds=shown.thresholds or {},
        effect=effect_of_decisions(list(runs)),
        curves=_curves(shown, run.predictions(shown.split), shown.apply(reported)),
        before=reliability(reported),
        after=reliability(shown.apply(reported)),
        notes=shown.notes,
    )


def _curves(decisions: Decisions, fitted: Predictions, reported: Predictions) -> list[LabelCurves]:
    if decisions.thresholds is None:
        return []
    curves = []
    there = {label: (targets, values) for label, targets, values in label_columns(reported)}
    for label, targets, values in label_columns(fitted):
        threshold = decisions.thresholds[label]
        if (chosen := point_at(threshold, targets, values)) is not None:
            curve = _thinned(operating_points(targets, values))
            curves.append(LabelCurves(label, threshold, curve, chosen, point_at(threshold, *there[label])))
    return curves


def point_at(threshold: float, targets: np.ndarray, probabilities: np.ndarray) -> Point | None:
    """What a threshold does with labelled rows; None where all or none of them have the label."""
    has = targets == 1
    if has.all() or not has.any():
        return None
    given = probabilities >= threshold
    precision = float(has[given].mean()) if given.any() else 1.0
    return Point(float(given[~has].mean()), float(given[has].mean()), precision)


def _thinned(points: OperatingPoints) -> list[Point]:
    """Points spread evenly along both axes of the ROC curve, the first and the last among them."""
    travelled = points.recall + points.false_positive_rate
    wanted = np.linspace(travelled[0], travelled[-1], MOST_POINTS)
    kept = np.unique(np.searchsorted(travelled, wanted).clip(0, len(travelled) - 1))
    columns = (points.false_positive_rate[kept], points.recall[kept], points.precision[kept])
    return [Point(*map(float, values)) for values in zip(*columns, strict=True)]
