"""Figures as SVG text: colour-blind safe, labelled with units, and at home on a light or a dark page.

Text and lines are drawn in ``currentColor``: the page's ink is theirs; a figure saved to a file is black on white.
Colours are those of Okabe and Ito (2008), and no series is told by colour alone.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from potstill.report.evidence import Confusion, Interval
from potstill.runs import write_text

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
COUNTS_UP_TO = 20
"""A confusion matrix of at most this many classes has its counts written in."""

INK = "#010203"
"""The page's own ink: it is replaced by currentColor when a figure is written."""
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "grid.color": INK,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}
_WIDTH = 4.7  # inches: two figures side by side on a desk, one on a phone, letters legible on both


@dataclass(frozen=True)
class Curve:
    """One line: ``x`` in epochs, ``y`` in the axis' unit; ``validation`` lines are dashed and have points."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    validation: bool = False


@dataclass(frozen=True)
class Dot:
    """A value with its interval, of one arm in one group; ``value`` None leaves its place empty."""

    group: str
    arm: str
    value: float | None
    interval: Interval | None = None


def draw_curves(curves: Sequence[Curve], *, title: str, unit: str, best_epoch: float | None = None) -> str:
    """Lines over epochs, with the best epoch as a vertical mark."""
    with figure_on_page(2.7) as (figure, axes):
        for index, curve in enumerate(curves):
            style: dict[str, Any] = {"linestyle": "--", "marker": "o", "markersize": 3.5} if curve.validation else {}
            colour = OKABE_ITO[1] if curve.validation else OKABE_ITO[index % 7]
            axes.plot(curve.x, curve.y, color=colour, linewidth=1.5, label=curve.name, **style)
        if best_epoch is not None:
            axes.axvline(best_epoch, color=INK, linewidth=0.9, linestyle=":", label=f"best epoch ({best_epoch:g})")
        axes.set(title=title, xlabel="epoch", ylabel=unit)
        axes.grid(axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        legend_below(figure, axes)
        return as_svg(figure, title)


def draw_confusion(counts: Confusion, label_names: Sequence[str], *, title: str) -> str:
    """Each row's shares as depth of colour, truth down and prediction across; counts written in for few classes."""
    table = np.asarray(counts, dtype=np.float64)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    n_labels = len(table)
    with figure_on_page(min(4.6, 1.9 + 0.26 * n_labels)) as (figure, axes):
        colours = np.zeros((n_labels, n_labels, 4))
        colours[..., :3] = matplotlib.colors.to_rgb(OKABE_ITO[0])
        colours[..., 3] = shares
        axes.pcolormesh(colours, rasterized=n_labels > COUNTS_UP_TO)
        axes.set(title=title, xlabel="predicted", ylabel="true", xlim=(0, n_labels), ylim=(n_labels, 0))
        _name_cells(axes, [shorten(name) for name in label_names], many=n_labels > 40)
        if n_labels <= COUNTS_UP_TO:
            _write_counts(axes, table, shares)
        return as_svg(figure, title)


def draw_dots(
    dots: Sequence[Dot],
    *,
    arms: Sequence[str],
    title: str,
    unit: str,
    reference: float | None = None,
    legend: bool = True,
) -> str:
    """Values with their intervals: one band per group, a line at the reference.

    An arm has the colour and marker of its place in ``arms``, so that it looks the same in every figure.
    """
    groups, drawn = _in_order(dot.group for dot in dots), _in_order(dot.arm for dot in dots)
    with figure_on_page(1.3 + len(groups) * (0.2 + 0.17 * len(drawn))) as (figure, axes):
        for index, arm in enumerate(drawn):
            shift = (index - (len(drawn) - 1) / 2) * 0.76 / max(len(drawn), 1)
            points = [(groups.index(dot.group) + shift, dot) for dot in dots if dot.arm == arm]
            _dots_of_arm(axes, points, arms.index(arm), arm)
        if reference is not None:
            axes.axvline(reference, color=INK, linewidth=0.9, linestyle=":")
        for edge in range(1, len(groups)):
            axes.axhline(edge - 0.5, color=INK, linewidth=0.6, alpha=0.13)
        axes.set(title=title, xlabel=unit, yticks=range(len(groups)), ylim=(len(groups) - 0.5, -0.5))
        axes.set_yticklabels([shorten(group, 28) for group in groups])
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        if legend:
            legend_below(figure, axes)
        return as_svg(figure, title)


def draw_tradeoff(
    points: Mapping[str, tuple[float, float]], *, arms: Sequence[str], title: str, x_unit: str, y_unit: str
) -> str:
    """Quality against cost, one marked and named point per arm of ``arms``: up and to the left is better."""
    with figure_on_page(2.8) as (figure, axes):
        for arm, (cost, quality) in points.items():
            index = arms.index(arm)
            axes.plot(
                cost, quality, MARKERS[index % 7], color=OKABE_ITO[index % 7], markersize=8, label=arm, linestyle="none"
            )
        axes.set(title=title, xlabel=x_unit, ylabel=y_unit)
        axes.set_xlim(left=0, right=1.12 * max(cost for cost, _ in points.values()))
        axes.margins(y=0.2)
        axes.grid()
        legend_below(figure, axes)
        return as_svg(figure, title)


def save_svg(svg: str, path: Path) -> None:
    """Write a drawn figure to a file of its own, in black on white."""
    alone = svg.replace("<svg ", '<svg style="color:#111;background:#fff;font-family:sans-serif" ', 1)
    write_text(path, '<?xml version="1.0" encoding="utf-8"?>\n' + alone)


def _dots_of_arm(axes: Axes, points: list[tuple[float, Dot]], index: int, arm: str) -> None:
    known = [(y, dot, dot.value) for y, dot in points if dot.value is not None]
    colour = OKABE_ITO[index % 7]
    for y, dot, _ in known:
        if dot.interval is not None:
            axes.plot(dot.interval, (y, y), color=colour, linewidth=1.8, solid_capstyle="butt", alpha=0.75)
    axes.plot(
        [value for *_, value in known],
        [y for y, *_ in known],
        MARKERS[index % 7],
        color=colour,
        markersize=5.5,
        linestyle="none",
        label=arm,
    )


def _name_cells(axes: Axes, names: Sequence[str], *, many: bool) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_aspect("auto")
    axes.tick_params(length=0)
    if many:
        axes.set(xticks=[], yticks=[])
        return
    middle = np.arange(len(names)) + 0.5
    upright = len(names) <= 4
    axes.set_xticks(middle, names, rotation=0 if upright else 45, ha="center" if upright else "right", fontsize=7.5)
    axes.set_yticks(middle, names, fontsize=7.5)


def _write_counts(axes: Axes, table: np.ndarray, shares: np.ndarray) -> None:
    size = 8.5 if len(table) <= 6 else 7 if len(table) <= 12 else 5.5
    for (row, column), share in np.ndenumerate(shares):
        ink = "white" if share > 0.8 else INK
        axes.text(column + 0.5, row + 0.5, f"{table[row, column]:.0f}", ha="center", va="center", color=ink, size=size)


def legend_below(figure: Figure, axes: Axes, most_columns: int = 4) -> None:
    """Put the legend under the axes, in as many columns as its names leave room for."""
    handles, names = axes.get_legend_handles_labels()
    widest = max((len(name) for name in names), default=0)
    columns = min(most_columns, 1 if widest > 34 else 2 if widest > 15 else 4)
    if names:
        figure.legend(handles, names, loc="outside lower left", ncols=min(columns, len(names)), columnspacing=1.2)


@contextmanager
def figure_on_page(height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure in the page's style; the style holds inside, for drawing and for writing."""
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # letters are written as text, so the reader's fonts draw them; ours only measures, and may lack some
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        yield figure, figure.add_subplot()


def as_svg(figure: Figure, title: str) -> str:
    """The figure as one ``<svg>`` element whose ids no other figure on the page has; equal input, equal text."""
    text = io.StringIO()
    own = hashlib.sha256(title.encode("utf-8")).hexdigest()[:8]
    with matplotlib.rc_context({"svg.hashsalt": own}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    own = f"f{hashlib.sha256(svg.encode('utf-8')).hexdigest()[:8]}-"
    svg = re.sub(r'(\sid="|xlink:href="#|url\(#)', lambda found: found.group(1) + own, svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", svg)  # the page's own fonts
    label = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def _in_order(names: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(names))


def shorten(name: str, longest: int = 16) -> str:
    """``name``, cut to ``longest`` characters with an ellipsis."""
    return name if len(name) <= longest else name[: longest - 1] + "…"
