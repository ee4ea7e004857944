"""What attention is like on average over a sample, and what changed: overall, by layer and by head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from potstill.analyse.attention.distance import MEASURES, SampleMeasures
from potstill.evaluate.resampling import count_drawn, draw_rows
from potstill.evaluate.significance import Interval

LEVEL = 0.95
FEWEST_TEXTS = 20
"""Of fewer texts no interval is given: resamples of so few tell little of what other texts would show."""


@dataclass(frozen=True)
class HeadMeans:
    """The mean of one measure over all tokens of a sample: overall, by layer, and by head, ``(layers, heads)``.

    ``overall`` and ``by_layer`` are plain means over heads, with 95% bootstrap intervals over texts (NaN bounds where
    there are fewer than ``FEWEST_TEXTS``).
    """

    overall: Interval
    by_layer: tuple[Interval, ...]
    by_head: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "overall": self.overall.to_dict(),
            "by_layer": [layer.to_dict() for layer in self.by_layer],
            "by_head": self.by_head.tolist(),
        }


@dataclass(frozen=True)
class AttentionChange:
    """Measures of one or two models on the same texts.

    means: model → measure → its mean. changes: measure → mean after less mean before, paired by text; distance: mean
    Jensen–Shannon distance; both None where there is one model. uniform: share → what attention spread evenly would
    give, which is the share of the tokens that count. reach: how far away a token still counts as local.
    """

    n_texts: int
    n_tokens: int
    reach: int
    means: dict[str, dict[str, HeadMeans]]
    changes: dict[str, HeadMeans] | None
    distance: HeadMeans | None
    uniform: dict[str, float]

    @property
    def models(self) -> tuple[str, ...]:
        """The models' names, the one before first."""
        return tuple(self.means)

    def ranked_heads(self) -> list[tuple[int, int]]:
        """``(layer, head)`` of every head, the one whose attention changed most first; in order where none changed."""
        if self.distance is None:
            return list(np.ndindex(next(iter(self.means.values()))["local"].by_head.shape))
        by_head = self.distance.by_head
        order = np.argsort(-by_head, axis=None, kind="stable")
        return [(int(layer), int(head)) for layer, head in np.stack(np.unravel_index(order, by_head.shape), axis=1)]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "n_texts": self.n_texts,
            "n_tokens": self.n_tokens,
            "reach": self.reach,
            "means": {model: _plain(measures) for model, measures in self.means.items()},
            "changes": None if self.changes is None else _plain(self.changes),
            "distance": None if self.distance is None else self.distance.to_dict(),
            "uniform": self.uniform,
        }


def summarise(sample: SampleMeasures, *, reach: int, seed: int, n_resamples: int = 1000) -> AttentionChange:
    """Means over all tokens of a sample, each token counting once, and their bootstrap intervals over texts.

    The texts drawn are the same for all measures and both models, so that changes are paired.
    """
    sums: dict[tuple[str, str], np.ndarray] = {
        (model, name): array for model, measures in sample.sums.items() for name, array in measures.items()
    }
    if sample.distance is not None:
        before, after = sample.sums.values()
        sums |= {("change", name): after[name] - before[name] for name in MEASURES}
        sums["change", "distance"] = sample.distance
    means = _head_means(sums, sample.n_rows, seed, n_resamples)
    paired = sample.distance is not None
    total = int(sample.n_rows.sum())
    return AttentionChange(
        n_texts=len(sample.n_rows),
        n_tokens=total,
        reach=reach,
        means={model: {name: means[model, name] for name in MEASURES} for model in sample.sums},
        changes={name: means["change", name] for name in MEASURES} if paired else None,
        distance=means["change", "distance"] if paired else None,
        uniform={name: float(array.sum()) / total for name, array in sample.uniform.items()},
    )


def _head_means(
    sums: Mapping[tuple[str, str], np.ndarray], n_rows: np.ndarray, seed: int, n_resamples: int
) -> dict[tuple[str, str], HeadMeans]:
    """The means of every ``(t, layers, heads)`` of sums, whose intervals come from the same draws."""
    columns = [np.column_stack([of.mean(axis=(1, 2)), of.mean(axis=2)]) for of in sums.values()]
    low, high = _bounds(np.column_stack(columns), n_rows, seed, n_resamples)
    means, start = {}, 0
    for key, of_texts in sums.items():
        by_head = of_texts.sum(axis=0) / n_rows.sum()
        values = [by_head.mean(), *by_head.mean(axis=1)]
        intervals = [
            Interval(float(value), float(low[start + i]), float(high[start + i]), LEVEL, n_resamples)
            for i, value in enumerate(values)
        ]
        means[key] = HeadMeans(intervals[0], tuple(intervals[1:]), by_head)
        start += len(values)
    return means


def _bounds(sums: np.ndarray, n_rows: np.ndarray, seed: int, n_resamples: int) -> np.ndarray:
    """``(2, k)``: bounds of the percentile interval of each column's sum over the number of rows."""
    if len(n_rows) < FEWEST_TEXTS:
        return np.full((2, sums.shape[1]), np.nan)
    drawn = [count_drawn(rows, len(n_rows)) for rows in draw_rows(len(n_rows), n_resamples, seed)]
    ratios = np.concatenate([(counts @ sums) / (counts @ n_rows)[:, None] for counts in drawn])
    tail = (1 - LEVEL) / 2
    return np.quantile(ratios, [tail, 1 - tail], axis=0)


def _plain(measures: Mapping[str, HeadMeans]) -> dict[str, Any]:
    return {name: means.to_dict() for name, means in measures.items()}
