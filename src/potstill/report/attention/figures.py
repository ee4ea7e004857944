"""The figure of the attention page that is no part of its viewer: a number for every head of every layer."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from potstill.report.attention.sentences import signed
from potstill.report.figures import INK, OKABE_ITO, as_svg, figure_on_page

NUMBERS_UP_TO = 16
"""Values are written in for at most so many heads in a layer."""


def draw_heads(values: np.ndarray, *, title: str, form: str = "{:.2f}") -> str:
    """``(layers, heads)`` of values as depth of colour, layers down and heads across, both numbered from 0.

    Negative values are vermilion, the others blue; each is written in by ``form``.
    """
    n_layers, n_heads = values.shape
    sizes = np.abs(values) / max(float(np.abs(values).max()), 1e-12)
    with figure_on_page(min(5.6, 1.1 + 0.3 * n_layers)) as (figure, axes):
        colours = np.zeros((n_layers, n_heads, 4))
        blue, vermilion = (matplotlib.colors.to_rgb(colour) for colour in OKABE_ITO[:2])
        colours[..., :3] = np.where(values[..., None] < 0, vermilion, blue)
        colours[..., 3] = sizes
        axes.pcolormesh(colours)
        axes.set(title=title, xlabel="head", ylabel="layer", xlim=(0, n_heads), ylim=(n_layers, 0))
        _number_cells(axes, n_layers, n_heads)
        if n_heads <= NUMBERS_UP_TO:
            for (layer, head), value in np.ndenumerate(values):
                ink = "white" if sizes[layer, head] > 0.7 else INK
                text = signed(form.format(value))
                axes.text(head + 0.5, layer + 0.5, text, ha="center", va="center", color=ink, size=6.5)
        return as_svg(figure, title)


def _number_cells(axes: Axes, n_layers: int, n_heads: int) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(n_heads) + 0.5, [str(head) for head in range(n_heads)], fontsize=7.5)
    axes.set_yticks(np.arange(n_layers) + 0.5, [str(layer) for layer in range(n_layers)], fontsize=7.5)
