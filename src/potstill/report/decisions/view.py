"""What the page shows of decisions: a sentence, thresholds, every metric before and after, and the curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

from markupsafe import Markup

from potstill.evaluate.decision_effect import DecisionEffect, MetricEffect
from potstill.report.decisions.evidence import DecisionEvidence, LabelCurves
from potstill.report.decisions.figures import MOST_LABELS, draw_precision_recall, draw_reliability, draw_roc
from potstill.report.evidence import ArmEvidence, TaskEvidence
from potstill.report.tables import NOTHING, Cell, Table

MOST_CURVES = 12
"""Labels whose curves are drawn; of more, those whose thresholds went furthest from 0.5."""


@dataclass(frozen=True)
class DecisionView:
    """The decisions of one arm: words, tables and figures. thresholds is None where there are none."""

    name: str
    asked: str
    sentence: str
    thresholds: Table | None
    effect: Table
    figures: Sequence[Markup]
    notes: Sequence[str]


def view_decisions(task: TaskEvidence) -> list[DecisionView]:
    """One view for every arm of a task that has decisions."""
    return [_view(task, arm, arm.decisions) for arm in task.arms if arm.decisions is not None]


def _view(task: TaskEvidence, arm: ArmEvidence, evidence: DecisionEvidence) -> DecisionView:
    seed = f", seed {arm.shown_seed}" if len(evidence.temperatures) > 1 else ""
    temperatures = ", ".join(f"{temperature:.3f}" for temperature in evidence.temperatures)
    several = "s" if len(evidence.temperatures) > 1 else ""
    left_out = len(evidence.curves) - MOST_CURVES
    notes = [*evidence.notes]
    if left_out > 0:
        notes.append(f"Curves of {left_out} labels whose thresholds are nearer to 0.5 are not drawn.")
    return DecisionView(
        name=arm.name,
        asked=f"Fitted on {evidence.fitted_on}: {evidence.asked}; temperature{several} {temperatures}.",
        sentence=evidence.effect.sentence,
        thresholds=threshold_table(evidence, seed) if evidence.thresholds else None,
        effect=effect_table(evidence.effect),
        figures=_draw(f"{task.name}, {arm.name}{seed}", evidence),
        notes=notes,
    )


def threshold_table(evidence: DecisionEvidence, seed: str = "") -> Table:
    """Labels down: the threshold; precision and recall at it, on the rows it was fitted on and on the reported ones."""
    curves = {curve.label: curve for curve in evidence.curves}
    rows = [[Cell(label), _number(value), *_points(curves.get(label))] for label, value in evidence.thresholds.items()]
    split = evidence.effect.split
    columns = ["label", "threshold", "precision, fitted", "recall, fitted", f"precision, {split}", f"recall, {split}"]
    return Table(columns, rows, f"Fitted on {evidence.fitted_on}{seed}.")


def _points(curve: LabelCurves | None) -> list[Cell]:
    cells = []
    for point in (None, None) if curve is None else (curve.chosen, curve.reported):
        cells += [Cell(NOTHING)] * 2 if point is None else [_number(point.precision), _number(point.recall)]
    return cells


def effect_table(effect: DecisionEffect) -> Table:
    """Metrics down: before, after, the difference with its interval, and what may be said of it."""
    columns = ["metric", "before", "after", "difference", "in words"]
    rows = [_effect_row(one) for one in effect.metrics.values()]
    seeds = f", median of {effect.n_seeds} seeds" if effect.n_seeds > 1 else ""
    caption = (
        f"On {effect.n_rows:,} rows of {effect.split}{seeds}. Better and worse are said where the 95% interval of the "
        "difference does not cover 0, metric by metric; higher and lower where no interval was taken."
    )
    return Table(columns, rows, caption)


def _effect_row(effect: MetricEffect) -> list[Cell]:
    change, interval = effect.after - effect.before, effect.difference
    between = "" if interval is None or isnan(interval.low) else f"{interval.low:+.4f} to {interval.high:+.4f}"
    difference = Cell(NOTHING) if isnan(change) else Cell(_signed(f"{change:+.4f}"), _signed(between), sort=change)
    return [Cell(effect.name), _number(effect.before), _number(effect.after), difference, Cell(effect.word)]


def _draw(of: str, evidence: DecisionEvidence) -> list[Markup]:
    figures = []
    furthest = sorted(evidence.curves, key=lambda curve: -abs(curve.threshold - 0.5))[:MOST_CURVES]
    drawn = [curve for curve in evidence.curves if curve in furthest]
    for start in range(0, len(drawn), MOST_LABELS):
        few = drawn[start : start + MOST_LABELS]
        part = f" ({start // MOST_LABELS + 1})" if len(drawn) > MOST_LABELS else ""
        figures.append(draw_roc(few, title=f"{of}: ROC{part}"))
        figures.append(draw_precision_recall(few, title=f"{of}: precision and recall{part}"))
    figures.append(draw_reliability(evidence.before, evidence.after, title=f"{of}: reliability"))
    return [Markup(figure) for figure in figures]


def _number(value: float) -> Cell:
    return Cell(NOTHING) if isnan(value) else Cell(_signed(f"{value:.4f}"), sort=value)


def _signed(text: str) -> str:
    return text.replace("-", "−")
