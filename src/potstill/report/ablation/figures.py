"""Drawings of an ablation: arms in order, fields, pairs of fields, quality against cost; and all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from potstill.analyse.ablation.effects import FieldEffect, Interaction, VarianceShares
from potstill.analyse.ablation.insights import say_value
from potstill.analyse.ablation.pareto import ParetoFront
from potstill.analyse.ablation.study import Study
from potstill.report.figures import INK, OKABE_ITO, as_svg, figure_on_page, shorten

Draw = Callable[[Axes], None]

MOST_ARMS_DRAWN = 40
"""Of more arms only the first so many, by rank, have a row in the figure of standings; the table has them all."""

_BLUE, _VERMILION, _GREEN = OKABE_ITO[:3]
_COLUMNS = 3
_PANEL = (3.4, 2.7)
"""Inches of one panel in the figure that has them all."""


def standings_height(n_arms: int) -> float:
    """Inches that the figure of standings takes."""
    return 0.9 + 0.19 * min(n_arms, MOST_ARMS_DRAWN)


def draw_study(study: Study) -> list[str]:
    """The study's figures for a page, one SVG each: standings, fields, pairs, shares of the variance, fronts."""
    return [_alone(draw, title, height) for title, height, draw in _drawings(study)]


def draw_panels(study: Study) -> str:
    """The same drawings as panels of one SVG, for a file."""
    drawings = _drawings(study)
    n_rows = -(-len(drawings) // _COLUMNS)
    tallest = max(1.0, drawings[0][1] / _PANEL[1])
    title = f"{study.task}: ablation"
    with figure_on_page(1.0) as (figure, only):
        only.remove()
        figure.set_size_inches(_COLUMNS * _PANEL[0], _PANEL[1] * (n_rows - 1 + tallest) + 0.3)
        heights = [tallest, *([1.0] * (n_rows - 1))]
        panels = figure.subplots(n_rows, _COLUMNS, squeeze=False, height_ratios=heights).ravel()
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
        for axes, (name, _, draw) in zip(panels, drawings, strict=False):
            draw(axes)
            axes.set_title(name)
        for axes in panels[len(drawings) :]:
            axes.remove()
        return as_svg(figure, title)


def _drawings(study: Study) -> list[tuple[str, float, Draw]]:
    """Title, height in inches and drawing of each figure."""
    metric, found = study.scores.metric, list[tuple[str, float, Draw]]()
    n_arms = len(study.arms)
    arms = "each arm" if n_arms <= MOST_ARMS_DRAWN else f"the best {MOST_ARMS_DRAWN} of {n_arms} arms"
    fields, _ = short_names(study.scores.arms)
    title = f"{metric} of {arms}" + (f" ({fields})" if fields else "")
    found.append((title, standings_height(n_arms), partial(_draw_standings, study)))
    for effect in study.effects:
        found.append((f"{effect.field}", 2.6, partial(_draw_effect, study, effect)))
    if study.variance is not None:
        found.append(("what the differences go with", 2.2, partial(_draw_variance, study.variance)))
    for pair in study.interactions:
        title = " × ".join(_last(field) for field in pair.fields)
        found.append((title, 1.3 + 0.34 * len(pair.levels[0]), partial(_draw_pair, pair)))
    for front in study.fronts:
        found.append((f"{metric} against {front.cost}", 2.9, partial(_draw_front, study, front)))
    return found


def short_names(names: Sequence[str]) -> tuple[str, list[str]]:
    """What stands for arms in a figure: where each is called by the same fields, these once and of each its values.

    No fields, and the names themselves, where one is called otherwise.
    """
    parts = [[part.partition("=") for part in name.split(",")] for name in names]
    fields = {tuple(field for field, _, _ in those) for those in parts}
    if len(fields) != 1 or not all(equals for those in parts for _, equals, _ in those):
        return "", list(names)
    return ", ".join(fields.pop()), [", ".join(value for _, _, value in those) for those in parts]


def _alone(draw: Draw, title: str, height: float) -> str:
    with figure_on_page(height) as (figure, axes):
        draw(axes)
        axes.set_title(title)
        return as_svg(figure, title)


def _draw_standings(study: Study, axes: Axes) -> None:
    """A row for each arm, best first: mean with its interval, seeds as small marks, the baseline as a line."""
    ordered = sorted(study.standings, key=lambda one: one.rank)[:MOST_ARMS_DRAWN]
    base = next(one for one in study.standings if one.change is None)
    _, names = short_names(study.scores.arms)
    shown = dict(zip(study.scores.arms, names, strict=True))
    for row, one in enumerate(ordered):
        colour = _VERMILION if one is base else _BLUE
        if len(one.per_seed) > 1:
            axes.plot(one.per_seed, [row] * len(one.per_seed), "|", color=INK, alpha=0.45, markersize=6)
        axes.plot((one.mean.low, one.mean.high), (row, row), color=colour, linewidth=1.6, alpha=0.75)
        axes.plot(one.mean.value, row, "D" if one is base else "o", color=colour, markersize=4.5)
    axes.axvline(base.mean.value, color=INK, linewidth=0.8, linestyle=":")
    axes.set(xlabel=f"{study.scores.metric} (◆ baseline)", ylim=(len(ordered) - 0.4, -0.6))
    axes.set_yticks(range(len(ordered)), [shorten(shown[one.arm], 34) for one in ordered], fontsize=7)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(4))


def _draw_effect(study: Study, effect: FieldEffect, axes: Axes) -> None:
    """Values of a field: the mean over matched arms with its interval, the arms themselves behind it."""
    places = range(len(effect.levels))
    own = [[arm.settings[effect.field] == level.level for arm in study.arms] for level in effect.levels]
    for place, mask in zip(places, own, strict=True):
        values = study.scores.means[np.array(mask)]
        axes.plot([place] * len(values), values, ".", color=INK, alpha=0.25, markersize=5)
    means = [level.mean for level in effect.levels]
    axes.vlines(
        places, [mean.low for mean in means], [mean.high for mean in means], color=_BLUE, linewidth=2, alpha=0.75
    )
    axes.plot(places, [mean.value for mean in means], "o-", color=_BLUE, markersize=5.5, linewidth=1.1)
    axes.set(ylabel=study.scores.metric, xlim=(-0.5, len(effect.levels) - 0.5))
    axes.set_xticks(places, [_tick(level.level) for level in effect.levels])
    axes.grid(axis="y")
    axes.yaxis.set_major_locator(MaxNLocator(5))


def _draw_variance(shares: VarianceShares, axes: Axes) -> None:
    """Bars of the shares, largest first, and a line at what seeds alone would be expected to make."""
    named = {_last(field): share for field, share in shares.fields.items()}
    named |= {" × ".join(map(_last, pair)): share for pair, share in shares.pairs.items()}
    ordered = sorted({**named, "the rest": shares.rest}.items(), key=lambda item: -item[1])
    axes.barh(range(len(ordered)), [100 * share for _, share in ordered], color=_BLUE, height=0.62)
    axes.set_yticks(range(len(ordered)), [shorten(name, 34) for name, _ in ordered], fontsize=7.5)
    axes.invert_yaxis()
    if shares.chance is not None:
        axes.axvline(
            100 * shares.chance, color=_VERMILION, linewidth=1, linestyle="--", label="seeds alone, all together"
        )
        axes.legend(loc="lower right")
    axes.set(xlabel="share of the variance between arms (%)")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")


def _draw_pair(pair: Interaction, axes: Axes) -> None:
    """The mean of every pair of values, written in, and as depth of colour from the worst to the best number."""
    cells = np.array(pair.cells)
    span = float(cells.max() - cells.min()) or 1.0
    depth = 0.08 + 0.72 * (cells - cells.min()) / span
    colours = np.zeros((*cells.shape, 4))
    colours[..., :3] = matplotlib.colors.to_rgb(_BLUE)
    colours[..., 3] = depth
    axes.pcolormesh(colours)
    for (row, column), value in np.ndenumerate(cells):
        ink = "white" if depth[row, column] > 0.62 else INK
        axes.text(column + 0.5, row + 0.5, f"{value:.4g}", ha="center", va="center", color=ink, size=7.5)
    axes.set(xlabel=pair.fields[1], ylabel=pair.fields[0], xlim=(0, cells.shape[1]), ylim=(cells.shape[0], 0))
    axes.set_xticks(np.arange(cells.shape[1]) + 0.5, [_tick(level) for level in pair.levels[1]])
    axes.set_yticks(np.arange(cells.shape[0]) + 0.5, [_tick(level) for level in pair.levels[0]])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_front(study: Study, front: ParetoFront, axes: Axes) -> None:
    """Every arm by cost and quality; those on the front filled, joined and named where there is room for names."""
    means, costs, on = study.scores.means, np.array(front.costs), np.array(front.on_front)
    base = study.scores.arms.index(study.scores.baseline)
    axes.plot(costs[~on], means[~on], "o", markerfacecolor="none", color=INK, alpha=0.55, markersize=5, label="beaten")
    order = np.flatnonzero(on)[np.argsort(costs[on], kind="stable")]
    axes.step(costs[order], means[order], where="post", color=_GREEN, linewidth=1.1, alpha=0.8)
    axes.plot(costs[order], means[order], "o", color=_GREEN, markersize=6, label="on the front")
    axes.plot(costs[base], means[base], "D", markerfacecolor="none", color=_VERMILION, markersize=9, label="baseline")
    _, names = short_names(study.scores.arms)
    for number in order if len(order) <= 6 else order[[0, -1]]:
        left = costs[number] > (costs.min() + costs.max()) / 2
        axes.annotate(
            shorten(names[number], 30),
            (costs[number], means[number]),
            xytext=(-5 if left else 5, 5),
            textcoords="offset points",
            ha="right" if left else "left",
            fontsize=6.5,
        )
    axes.set(xlabel=front.cost, ylabel=study.scores.metric)
    # From 0 on, but where all cost nearly the same, which would push them to the edge.
    lowest = 0 if costs.min() < costs.max() / 2 else costs.min()
    margin = max(0.1 * (costs.max() - lowest), 0.01 * costs.max())
    axes.set_xlim(max(0, lowest - margin), costs.max() + margin)
    axes.margins(y=0.16)
    axes.xaxis.set_major_formatter(
        lambda value, _: f"{value / 1e6:g} M" if front.cost == "parameters" else f"{value:g}"
    )
    axes.legend(loc="best")
    axes.grid()


def _last(field: str) -> str:
    return field.rpartition(".")[2]


def _tick(value: object) -> str:
    return shorten(say_value(value), 14)
