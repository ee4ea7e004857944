"""The figures of a data study, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter

from potstill.analyse.data.length_choice import LengthChoice
from potstill.analyse.data.lengths import Summary
from potstill.report.figures import INK, MARKERS, OKABE_ITO, as_svg, figure_on_page, legend_below, shorten

MOST_CLASSES = 40
"""Of more classes than this, figures show the first so many, and tables show all."""


def draw_shares(shares: Mapping[str, Mapping[str, float]], *, title: str) -> str:
    """``part → label → share``: one band per label, one mark per part."""
    parts = list(shares)
    every = list(next(iter(shares.values())))
    labels, title = every[:MOST_CLASSES], _titled(title, len(every))
    with figure_on_page(1.2 + 0.23 * len(labels)) as (figure, axes):
        for index, part in enumerate(parts):
            values = [shares[part][label] for label in labels]
            marker = MARKERS[index % len(MARKERS)]
            axes.plot(
                values, range(len(labels)), marker, color=OKABE_ITO[index % 7], markersize=5.5, label=part, alpha=0.9
            )
        widest = max(max(of_part.values()) for of_part in shares.values()) or 1.0
        reach = {"xlim": (0, 1.06 * widest), "ylim": (len(labels) - 0.5, -0.5)}
        axes.set(title=title, xlabel="share of the split's texts", **reach)
        axes.set_yticks(range(len(labels)), [shorten(label, 26) for label in labels], fontsize=8)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.tick_params(axis="y", length=0)
        axes.grid()
        legend_below(figure, axes)
        return as_svg(figure, title)


def draw_histogram(edges: Sequence[int], counts: Mapping[str, Sequence[int]], *, title: str, unit: str) -> str:
    """Outlines of the share of each part's texts in each bar; the last bar holds the longest texts of all."""
    drawn = [(part, np.asarray(of_part, dtype=np.float64)) for part, of_part in counts.items() if sum(of_part)]
    step = edges[1] - edges[0]
    rims = np.array([*edges[:-1], edges[-2] + step])  # the last bar is drawn as wide as the others
    with figure_on_page(2.7) as (figure, axes):
        for index, (part, of_part) in enumerate(drawn):
            colour, style = OKABE_ITO[index % 7], ("-", "--", ":", "-.")[index % 4]
            axes.stairs(of_part / of_part.sum(), rims, color=colour, linestyle=style, linewidth=1.4, label=part)
            if index == 0:
                axes.stairs(of_part / of_part.sum(), rims, fill=True, color=colour, alpha=0.15)
        tail = "" if edges[-1] - edges[-2] <= step else f"; last bar: {edges[-2]:,} to {edges[-1] - 1:,}"
        axes.set(title=title, xlabel=f"{unit}{tail}", ylabel="share of the texts", ylim=(0, None), xlim=(0, rims[-1]))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(axis="y")
        legend_below(figure, axes)
        return as_svg(figure, title)


def draw_boxes(summaries: Mapping[str, Summary], *, title: str, unit: str) -> str:
    """Quartiles as boxes, whiskers within 1.5 times their range, the mean as a mark; what lies beyond is not drawn."""
    names, title = list(summaries)[:MOST_CLASSES], _titled(title, len(summaries))
    stats = [
        {
            "label": shorten(name, 26),
            "mean": summary.mean,
            "med": summary.median,
            "q1": summary.q1,
            "q3": summary.q3,
            "whislo": summary.low_whisker,
            "whishi": summary.high_whisker,
            "fliers": [],
        }
        for name, summary in ((name, summaries[name]) for name in names)
    ]
    line = {"color": INK, "linewidth": 0.9}
    with figure_on_page(1.1 + 0.26 * len(names)) as (figure, axes):
        axes.bxp(
            stats,
            orientation="horizontal",
            showfliers=False,
            showmeans=True,
            widths=0.6,
            patch_artist=True,
            boxprops={"facecolor": (*matplotlib.colors.to_rgb(OKABE_ITO[0]), 0.25), "edgecolor": INK, "linewidth": 0.9},
            medianprops={"color": OKABE_ITO[1], "linewidth": 1.6},
            meanprops={"marker": "D", "markersize": 3.2, "markerfacecolor": INK, "markeredgecolor": INK},
            whiskerprops=line,
            capprops=line,
        )
        axes.invert_yaxis()
        axes.set(title=title, xlabel=unit, xlim=(0, None))
        axes.tick_params(axis="y", length=0, labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(axis="x")
        return as_svg(figure, title)


def draw_choice(choice: LengthChoice, learnt: str, *, title: str) -> str:
    """Share cut and shares of padding over the candidate lengths, and the proposed one as a vertical mark."""
    rows = choice.rows
    lengths = [row.length for row in rows]
    lines = (
        (f"{learnt} cut", [row.truncated[learnt] for row in rows], "-"),
        ("padding, to the maximum", [row.padding_to_maximum for row in rows], "--"),
        ("padding, as they arrive", [row.padding_as_they_arrive for row in rows], "-."),
        ("padding, potstill's batches", [row.padding_in_batches for row in rows], ":"),
    )
    with figure_on_page(3.2) as (figure, axes):
        for index, (name, values, style) in enumerate(lines):
            colour, marker = OKABE_ITO[index], MARKERS[index]
            axes.plot(lengths, values, style, color=colour, marker=marker, markersize=3.5, linewidth=1.4, label=name)
        axes.axvline(choice.proposed, color=INK, linewidth=0.9, linestyle=(0, (1, 2)))
        axes.set(title=title, xlabel="maximum length (tokens)", ylabel="share", ylim=(0, 1))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
        axes.grid(axis="y")
        legend_below(figure, axes)
        return as_svg(figure, title)


def draw_correlation(values: Sequence[Sequence[float | None]], names: Sequence[str], *, title: str) -> str:
    """A symmetric matrix as depth of colour, negative values in vermilion; numbers written in for few names.

    Colour runs from the least to the greatest value off the diagonal, so that small differences are to be seen.
    """
    names, title = names[:MOST_CLASSES], _titled(title, len(names))
    table = np.array([[np.nan if value is None else value for value in line] for line in values], dtype=np.float64)
    table = table[: len(names), : len(names)]
    depth = _depth(table)
    with figure_on_page(min(5.0, 1.7 + 0.24 * len(names))) as (figure, axes):
        colours = np.zeros((*table.shape, 4))
        rgb = [matplotlib.colors.to_rgb(OKABE_ITO[0]), matplotlib.colors.to_rgb(OKABE_ITO[1])]
        colours[..., :3] = np.where(table[..., None] < 0, rgb[1], rgb[0])
        colours[..., 3] = depth
        axes.pcolormesh(colours)
        axes.set(title=title, xlim=(0, len(names)), ylim=(len(names), 0))
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(length=0)
        middle, shown = np.arange(len(names)) + 0.5, [shorten(name, 22) for name in names]
        upright = len(names) <= 3
        axes.set_xticks(middle, shown, rotation=0 if upright else 60, ha="center" if upright else "right", fontsize=7)
        axes.set_yticks(middle, shown, fontsize=7)
        if len(names) <= 8:
            for (row, column), value in np.ndenumerate(table):
                ink = "white" if depth[row, column] > 0.7 else INK
                text = "–" if np.isnan(value) else f"{value:.2f}".replace("-", "−")
                axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=ink, size=7.5)
        return as_svg(figure, title)


def _titled(title: str, n_classes: int) -> str:
    """``title``, which says how many classes are drawn where that is not all."""
    return title if n_classes <= MOST_CLASSES else f"{title}: the first {MOST_CLASSES} of {n_classes}"


def _depth(table: np.ndarray) -> np.ndarray:
    """Opacity in [0, 1] of each cell; the diagonal, which is always 1, does not set the scale."""
    others = np.abs(table[~np.eye(len(table), dtype=bool)])
    others = others[~np.isnan(others)]
    if not len(others):
        return np.where(np.isnan(table), 0.0, 0.9)
    low, high = min(others.min(), 0.0 if (table < 0).any() else 1.0), others.max()
    return np.nan_to_num(np.clip((np.abs(table) - low) / max(high - low, 1e-9), 0.03, 1.0), nan=0.0)
