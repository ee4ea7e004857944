"""How the arms of an ablation stand: means over seeds, ranks with what chance leaves of them, changes from a baseline.

Chance enters in two ways, and both are resampled: which rows were reported on, and which seeds were trained. A resample
draws rows and seeds with replacement, the same for all arms, so that differences between arms are paired. With one seed
the intervals are over rows alone; with two or three they are too narrow, because so few seeds say little of others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import false_discovery_control, rankdata

from potstill.errors import CheckError, DataError
from potstill.evaluate.metrics import higher_is_better, score
from potstill.evaluate.resampling import resample_metrics
from potstill.evaluate.significance import Interval, PairedChange, align_outcomes, change_of, interval_of
from potstill.records import Predictions


@dataclass(frozen=True)
class Scores:
    """One metric of ``n`` arms. ``per_seed``: ``(n, n_seeds)``; ``draws``: ``(n_resamples, n)``, means over seeds.

    baseline: the arm that others are held against; level: of every interval; n_rows: those that were reported on.
    """

    arms: tuple[str, ...]
    baseline: str
    metric: str
    per_seed: np.ndarray
    draws: np.ndarray
    n_rows: int
    level: float = 0.95

    @property
    def means(self) -> np.ndarray:
        """``(n,)``, the mean over seeds of each arm; NaN where one seed has no value.

        Rounded to 12 decimals, so that the same values in another order of seeds are equal.
        """
        return np.round(self.per_seed.mean(axis=1), 12)

    @property
    def n_seeds(self) -> int:
        """Seeds of every arm."""
        return int(self.per_seed.shape[1])

    @property
    def better(self) -> int:
        """1 where more of the metric is better, else -1."""
        return 1 if higher_is_better(self.metric) else -1

    def only(self, arms: Sequence[int]) -> Scores:
        """The scores of some arms, by number; the baseline keeps its name, also where it is not among them."""
        chosen = list(arms)
        return replace(
            self,
            arms=tuple(self.arms[number] for number in chosen),
            per_seed=self.per_seed[chosen],
            draws=self.draws[:, chosen],
        )

    def interval(self, arms: Sequence[int]) -> Interval:
        """The mean of some arms, by number, with its interval."""
        return interval_of(float(self.means[list(arms)].mean()), self.draws[:, list(arms)].mean(axis=1), self.level)

    def change(self, arms: Sequence[int], reference: Sequence[int]) -> PairedChange:
        """The mean of some arms against that of others."""
        chosen, others = list(arms), list(reference)
        return change_of(
            float(self.means[chosen].mean()),
            float(self.means[others].mean()),
            self.draws[:, chosen].mean(axis=1),
            self.draws[:, others].mean(axis=1),
            metric=self.metric,
            level=self.level,
        )


@dataclass(frozen=True)
class Standing:
    """Where an arm stands.

    rank: 1 is best, equals share the better number; rank_low and rank_high: bounds of its rank at the level of the
    scores, rounded outward, with every place that equals could have. first_share: share of resamples in which it comes
    first, shared where several do.
    change: from the baseline, None for itself; p_adjusted: its p-value corrected for the number of arms (Benjamini and
    Hochberg 1995), which holds under the positive dependence that a common baseline brings.
    """

    arm: str
    mean: Interval
    per_seed: tuple[float, ...]
    rank: int
    rank_low: int
    rank_high: int
    first_share: float
    change: PairedChange | None
    p_adjusted: float | None

    def differs(self, level: float = 0.05) -> bool:
        """Whether the arm differs from the baseline by more than chance explains, after correction."""
        return self.p_adjusted is not None and self.p_adjusted < level


def score_arms(
    predictions: Mapping[str, Sequence[Predictions]],
    baseline: str,
    metric: str,
    *,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Scores:
    """The metric of every arm (predictions of the same rows, one per training seed), in the sample and resampled.

    Raises DataError if arms were measured on different rows, CheckError if they have different numbers of seeds.
    """
    if baseline not in predictions:
        raise DataError("the baseline is not among the arms", found=baseline, allowed=list(predictions))
    n_seeds = {arm: len(several) for arm, several in predictions.items()}
    if len(set(n_seeds.values())) > 1:
        found = ", ".join(f"{arm} {n}" for arm, n in n_seeds.items())
        raise CheckError("the arms were not trained with the same number of seeds", found=found)
    aligned = align_outcomes(predictions)
    drawn = resample_metrics(aligned, [metric], n_resamples, seed)[metric]
    per_seed = np.array([[score(one, metric) for one in several] for several in aligned.values()])
    rows = np.stack([drawn[arm] for arm in aligned], axis=1)
    n_rows = len(next(iter(aligned.values()))[0])
    return Scores(tuple(aligned), baseline, metric, per_seed, draw_seeds(rows, seed), n_rows, level)


def draw_seeds(rows: np.ndarray, seed: int) -> np.ndarray:
    """``(n_resamples, n)`` means over seeds drawn with replacement, of ``(n_resamples, n, n_seeds)`` resampled values.

    A resample draws the same seeds for all arms. One seed is drawn as itself.
    """
    n_resamples, _, n_seeds = rows.shape
    chosen = np.random.default_rng([seed, n_seeds]).integers(0, n_seeds, size=(n_resamples, 1, n_seeds))
    return np.take_along_axis(rows, np.broadcast_to(chosen, rows.shape), axis=2).mean(axis=2)


def rank_arms(scores: Scores) -> list[Standing]:
    """Every arm's standing, in the order of ``scores.arms``; an arm without a value is last."""
    base = scores.arms.index(scores.baseline)
    ranks, first = _ranks(scores.better * scores.means[None], "min")[0], _first_shares(scores)
    tail = 100 * (1 - scores.level) / 2
    drawn = scores.better * scores.draws
    low = np.percentile(_ranks(drawn, "min"), tail, axis=0)
    high = np.percentile(_ranks(drawn, "max"), 100 - tail, axis=0)
    changes = [None if number == base else scores.change([number], [base]) for number in range(len(scores.arms))]
    adjusted = adjust(changes)
    return [
        Standing(
            arm=arm,
            mean=scores.interval([number]),
            per_seed=tuple(map(float, scores.per_seed[number])),
            rank=int(ranks[number]),
            rank_low=math.floor(low[number]),
            rank_high=math.ceil(high[number]),
            first_share=float(first[number]),
            change=changes[number],
            p_adjusted=adjusted[number],
        )
        for number, arm in enumerate(scores.arms)
    ]


def adjust(changes: Sequence[PairedChange | None]) -> list[float | None]:
    """The p-values of the changes, corrected for their number; None where there is no change."""
    known = [change.p_value for change in changes if change is not None]
    corrected = iter(false_discovery_control(known, method="bh") if known else ())
    return [None if change is None else float(next(corrected)) for change in changes]


def _ranks(quality: np.ndarray, method: str) -> np.ndarray:
    """``(r, n)`` ranks of ``(r, n)`` values of which more is better; what is not defined is last."""
    return rankdata(-np.nan_to_num(quality, nan=-np.inf, neginf=-np.inf), method=method, axis=1)


def _first_shares(scores: Scores) -> np.ndarray:
    quality = np.nan_to_num(scores.better * scores.draws, nan=-np.inf, neginf=-np.inf)
    first = quality == quality.max(axis=1, keepdims=True)
    return (first / first.sum(axis=1, keepdims=True)).mean(axis=0)
