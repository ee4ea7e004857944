"""How attention is spread, and how far two models' attention lies apart: measured on each text, head by head.

A row of a map is a distribution: what one token gives to all tokens of its text. Everything here is taken row by row
and summed over the rows of a text, which are its tokens, special ones included; padding never gets here. A text that is
read in windows has the rows of all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import entr

from potstill.analyse.attention.token_kinds import KINDS, SPECIAL

SHARES = ("local", "special", *KINDS)
"""Shares of a row's attention, in [0, 1]. ``special`` is ``cls`` and ``sep`` together; the kinds sum to 1."""

MEASURES = ("entropy_nats", "relative_entropy", *SHARES)
"""``entropy_nats`` is in [0, ln n] for a text of n tokens; ``relative_entropy`` is its share of ln n, in [0, 1]."""


@dataclass(frozen=True)
class TextMeasures:
    """Sums over the ``n_rows`` tokens of one text.

    sums: model → measure → ``(layers, heads)`` float64. distance: likewise, None where there is one model.
    uniform: share → what the sum would be if every token gave all tokens the same.
    """

    n_rows: int
    sums: Mapping[str, Mapping[str, np.ndarray]]
    uniform: Mapping[str, float]
    distance: np.ndarray | None


@dataclass(frozen=True)
class SampleMeasures:
    """The same of t texts. n_rows: ``(t,)`` int64; sums and distance: ``(t, layers, heads)``; uniform: ``(t,)``."""

    n_rows: np.ndarray
    sums: dict[str, dict[str, np.ndarray]]
    uniform: dict[str, np.ndarray]
    distance: np.ndarray | None


def jensen_shannon(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Jensen–Shannon distance to base 2 of each pair of rows ``(…, n)``: 0 where they are equal, 1 without overlap.

    The square root of the divergence, which is the entropy of the mean less the mean of the entropies (Lin 1991); the
    same as ``scipy.spatial.distance.jensenshannon(before, after, base=2, axis=-1)`` in half the time, and never NaN
    where rounding makes a divergence of nothing negative.
    """
    return _distances(before, after, _row_entropies(before), _row_entropies(after))


def measure_text(maps: Mapping[str, np.ndarray], kinds: np.ndarray, reach: int) -> TextMeasures:
    """The measures of one text.

    maps: one or two models' ``(layers, heads, n, n)``, the one before first; kinds: ``(n,)``, from ``TokenReader``.
    reach: a token is local to those at most so many tokens away, and to itself.
    Rows are divided by their sums in float64, a layer at a time, so that memory is that of a layer.
    """
    counted = _counted_columns(kinds, reach)
    n_layers, n_heads, n_rows, _ = next(iter(maps.values())).shape
    sums = {model: {name: np.empty((n_layers, n_heads)) for name in MEASURES} for model in maps}
    distance = np.empty((n_layers, n_heads)) if len(maps) == 2 else None
    for layer in range(n_layers):
        weights = [_normalised(of_model[layer]) for of_model in maps.values()]
        entropies = [_row_entropies(of_model) for of_model in weights]
        for model, of_model, entropy in zip(maps, weights, entropies, strict=True):
            for name, value in _layer_sums(of_model, entropy, counted).items():
                sums[model][name][layer] = value
        if distance is not None:
            distance[layer] = _distances(*weights, *entropies).sum(axis=-1)
    uniform = dict(zip(SHARES, (counted.sum(axis=(1, 2)) / n_rows).tolist(), strict=True))
    return TextMeasures(n_rows, sums, uniform, distance)


def join_windows(windows: Sequence[TextMeasures]) -> TextMeasures:
    """The measures of one text read in several windows: all their rows, so that a token in two of them counts twice."""
    first = windows[0]
    if len(windows) == 1:
        return first
    return TextMeasures(
        n_rows=sum(window.n_rows for window in windows),
        sums={
            model: {name: _summed(window.sums[model][name] for window in windows) for name in MEASURES}
            for model in first.sums
        },
        uniform={name: sum(window.uniform[name] for window in windows) for name in SHARES},
        distance=None if first.distance is None else _summed(window.distance for window in windows),
    )


def collect(texts: Iterable[TextMeasures]) -> SampleMeasures:
    """The measures of texts as they come, stacked; there is at least one. Of two models of 144 heads, 22 kB a text."""
    measured = list(texts)
    first = measured[0]
    distances = [text.distance for text in measured if text.distance is not None]
    return SampleMeasures(
        n_rows=np.array([text.n_rows for text in measured]),
        sums={
            model: {name: np.stack([text.sums[model][name] for text in measured]) for name in MEASURES}
            for model in first.sums
        },
        uniform={name: np.array([text.uniform[name] for text in measured]) for name in SHARES},
        distance=np.stack(distances) if distances else None,
    )


def _summed(arrays: Iterable[np.ndarray | None]) -> np.ndarray:
    return np.sum([array for array in arrays if array is not None], axis=0)


def _layer_sums(weights: np.ndarray, entropy: np.ndarray, counted: np.ndarray) -> dict[str, np.ndarray]:
    """Each measure of one layer, ``(heads,)``: from ``(heads, n, n)`` weights and ``(heads, n)`` entropies."""
    total = entropy.sum(axis=-1)
    most = np.log(weights.shape[-1])
    shares = np.tensordot(weights, counted, axes=((1, 2), (1, 2))).T
    return {
        "entropy_nats": total,
        "relative_entropy": total / most if most else total,
        **dict(zip(SHARES, shares, strict=True)),
    }


def _counted_columns(kinds: np.ndarray, reach: int) -> np.ndarray:
    """``(shares, n, n)`` of 0 and 1: which tokens count towards each of ``SHARES`` in each row."""
    n, places = len(kinds), np.arange(len(kinds))
    by_kind = [np.broadcast_to(kinds == number, (n, n)) for number in range(len(KINDS))]
    special = np.logical_or.reduce([by_kind[KINDS.index(kind)] for kind in SPECIAL])
    local = np.abs(places[:, None] - places) <= reach
    return np.stack([local, special, *by_kind]).astype(np.float64)


def _normalised(weights: np.ndarray) -> np.ndarray:
    exact = weights.astype(np.float64)
    return exact / exact.sum(axis=-1, keepdims=True)


def _row_entropies(weights: np.ndarray) -> np.ndarray:
    """In nats, ``(…,)`` of ``(…, n)``."""
    return entr(weights).sum(axis=-1)


def _distances(before: np.ndarray, after: np.ndarray, *entropies: np.ndarray) -> np.ndarray:
    divergence = _row_entropies((before + after) / 2) - sum(entropies) / 2
    return np.sqrt(np.maximum(divergence, 0) / np.log(2))
