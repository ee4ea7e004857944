"""Which arms are worth their cost: those that no other arm beats in quality at no more cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from potstill.analyse.ablation.standings import Scores


@dataclass(frozen=True)
class ParetoFront:
    """One cost against quality.

    costs: of each arm, less is better; on_front: whether nobody is at least as good at no more cost, and strictly
    better in one of the two; shares: share of resamples of the quality in which that holds, costs as measured.
    dominated_by: the number of the arm that beats it by most, None on the front.
    """

    cost: str
    costs: tuple[float, ...]
    on_front: tuple[bool, ...]
    shares: tuple[float, ...]
    dominated_by: tuple[int | None, ...]


def pareto_front(scores: Scores, cost: str, costs: Sequence[float]) -> ParetoFront:
    """The front of the scores' metric against ``costs``, one value per arm; an arm without a score is never on it."""
    prices = np.asarray(costs, dtype=np.float64)
    quality = np.nan_to_num(scores.better * scores.means, nan=-np.inf, neginf=-np.inf)
    draws = np.nan_to_num(scores.better * scores.draws, nan=-np.inf, neginf=-np.inf)
    beaten = _beaten(quality[None], prices)[0]
    shares = 1 - _beaten(draws, prices).any(axis=2).mean(axis=0)
    by = [int(np.where(row, quality, -np.inf).argmax()) if row.any() else None for row in beaten]
    on_front = ~beaten.any(axis=1) & np.isfinite(quality)
    return ParetoFront(
        cost, tuple(map(float, prices)), tuple(map(bool, on_front)), tuple(map(float, shares)), tuple(by)
    )


def _beaten(quality: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """``(r, n, n)`` bool of ``(r, n)`` qualities: entry ``i, j`` says that arm j beats arm i."""
    better, no_worse = quality[:, None, :] > quality[:, :, None], quality[:, None, :] >= quality[:, :, None]
    cheaper, no_dearer = prices[None, :] < prices[:, None], prices[None, :] <= prices[:, None]
    return (no_worse & no_dearer) & (better | cheaper)
