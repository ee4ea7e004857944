"""Figures of decisions: ROC and precision–recall curves with the chosen points, and reliability diagrams."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes

from potstill.evaluate.calibration import Reliability
from potstill.report.decisions.evidence import LabelCurves, Point
from potstill.report.figures import INK, MARKERS, OKABE_ITO, as_svg, figure_on_page, legend_below, shorten

MOST_LABELS = 4
"""Labels in one figure of curves."""
LEAST_MARK, WIDEST_MARK = 12.0, 130.0
"""Area of a bin's mark in square points: of a bin with next to no decisions, and of one that holds all."""


def draw_roc(curves: Sequence[LabelCurves], *, title: str) -> str:
    """ROC curves of a few labels: a filled mark where the threshold was chosen, a hollow one where it leads."""
    return _draw_curves(
        curves,
        lambda point: (point.false_positive_rate, point.recall),
        title,
        ("share of the others given it (false-positive rate)", "share found (recall)"),
        diagonal=True,
    )


def draw_precision_recall(curves: Sequence[LabelCurves], *, title: str) -> str:
    """Precision–recall curves of a few labels, marked like those of the ROC.

    They are stairs: precision between two thresholds is that of the lower one, as in the average precision.
    """
    units = ("share found (recall)", "share right of those given it (precision)")
    return _draw_curves(curves, lambda point: (point.recall, point.precision), title, units, style="steps-pre")


def draw_reliability(before: Reliability, after: Reliability, *, title: str) -> str:
    """Stated probability against the share that came true, before and after; the larger a mark, the more decisions."""
    with figure_on_page(3.2) as (figure, axes):
        _diagonal(axes)
        for index, (name, bins) in enumerate((("before", before), ("after", after))):
            area = LEAST_MARK + (WIDEST_MARK - LEAST_MARK) * bins.counts / bins.counts.sum()
            x, y, colour, marker = bins.mean_probability, bins.share_right, OKABE_ITO[index], MARKERS[index]
            axes.plot(x, y, color=colour, linewidth=0.9, alpha=0.6)
            axes.scatter(x, y, area, colour, marker=marker, linewidths=0, label=f"{name}: error {bins.error:.3f}")
        _unit_square(axes, title, ("probability stated", "share that came true"))
        legend_below(figure, axes)
        return as_svg(figure, title)


def _draw_curves(
    curves: Sequence[LabelCurves],
    place: Callable[[Point], tuple[float, float]],
    title: str,
    units: tuple[str, str],
    *,
    style: str = "default",
    diagonal: bool = False,
) -> str:
    with figure_on_page(3.4) as (figure, axes):
        if diagonal:
            _diagonal(axes)
        for index, label in enumerate(curves):
            colour, marker = OKABE_ITO[index % 7], MARKERS[index % 7]
            x, y = np.array([place(point) for point in label.curve]).T
            name = f"{shorten(label.label)} from {label.threshold:.3f}"
            axes.plot(x, y, color=colour, linewidth=1.4, drawstyle=style)
            axes.plot(*place(label.chosen), marker, color=colour, markersize=7, label=name, linestyle="none")
            if label.reported is not None:
                axes.plot(*place(label.reported), marker, color=colour, markersize=8, markerfacecolor="none")
        _unit_square(axes, title, units)
        legend_below(figure, axes, most_columns=2)
        return as_svg(figure, title)


def _diagonal(axes: Axes) -> None:
    axes.plot((0, 1), (0, 1), color=INK, linewidth=0.9, linestyle=":")


def _unit_square(axes: Axes, title: str, units: tuple[str, str]) -> None:
    axes.set(title=title, xlabel=units[0], ylabel=units[1], xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.grid()
