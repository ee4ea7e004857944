"""Every metric for many resamples at once: how often each row was drawn goes in, one value per resample comes out.

scikit-learn gives every figure; what stands here gives only its spread, because one scikit-learn call per resample, arm
and seed would take minutes. The forms below are the same formulas over weighted rows. Each time they are used they are
first held against scikit-learn's value of the sample itself: ``resampling.resample_metrics`` raises CheckError if they
differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import sparse

from potstill.evaluate.metrics import Outcomes
from potstill.records import ProblemType

Resampled = Callable[[np.ndarray], np.ndarray]
"""Takes counts ``(r, n)`` float64, how often each row is in each resample, and returns the metric ``(r,)`` float64."""


def _divide(numerator: np.ndarray, denominator: np.ndarray, otherwise: float = 0.0) -> np.ndarray:
    result = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), otherwise)
    return np.divide(numerator, denominator, out=result, where=denominator != 0)


# What was decided: every metric here is a function of three totals per label.


@dataclass(frozen=True)
class Totals:
    """Per resample and label ``(r, k)``: rows rightly given it, rows given it, rows that have it.

    n: rows in all, ``(r, 1)``.
    counted: bool, the labels over which a macro mean runs.
    """

    hit: np.ndarray
    said: np.ndarray
    true: np.ndarray
    n: np.ndarray
    counted: np.ndarray

    @property
    def precision(self) -> np.ndarray:
        """``(r, k)``: the share of the rows given a label that have it; 0 where none was given it."""
        return _divide(self.hit, self.said)

    @property
    def recall(self) -> np.ndarray:
        """``(r, k)``: the share of the rows that have a label that were given it; 0 where none has it."""
        return _divide(self.hit, self.true)

    @property
    def f1(self) -> np.ndarray:
        """``(r, k)``: the harmonic mean of both; 0 where no row has the label or was given it."""
        return _divide(2 * self.hit, self.said + self.true)


def _count_totals(outcomes: Outcomes) -> Callable[[np.ndarray], Totals]:
    if outcomes.problem_type == "multi_label_classification":
        true, said = outcomes.targets.astype(np.float64), outcomes.predicted.astype(np.float64)
        hit = true * said
    else:
        true, said = (one_hot(labels, outcomes.n_labels) for labels in (outcomes.targets, outcomes.predicted))
        hit = true.multiply(said).tocsr()

    def count(counts: np.ndarray) -> Totals:
        hits, saids, trues = counts @ hit, counts @ said, counts @ true
        every_label = outcomes.problem_type == "multi_label_classification"
        counted = np.ones(trues.shape, dtype=bool) if every_label else saids + trues > 0
        return Totals(hits, saids, trues, counts.sum(axis=1, keepdims=True), counted)

    return count


def one_hot(labels: np.ndarray, n_labels: int) -> sparse.csr_array:
    """``(n, n_labels)`` float64, one 1 in each row, at its label."""
    rows = np.arange(len(labels))
    return sparse.csr_array((np.ones(len(labels)), (rows, labels)), shape=(len(labels), n_labels))


def _accuracy(totals: Totals) -> np.ndarray:
    return totals.hit.sum(axis=1) / totals.n[:, 0]


def _balanced_accuracy(totals: Totals) -> np.ndarray:
    return totals.recall.sum(axis=1) / (totals.true > 0).sum(axis=1)


def _matthews(totals: Totals) -> np.ndarray:
    """R_K of Gorodkin (2004), which is Matthews' coefficient for two labels; 0 where either side is constant."""
    n = totals.n[:, 0]
    covariance = totals.hit.sum(axis=1) * n - (totals.said * totals.true).sum(axis=1)
    spread = (n**2 - (totals.said**2).sum(axis=1)) * (n**2 - (totals.true**2).sum(axis=1))
    return _divide(covariance, np.sqrt(spread))


def _second_label(kind: str, totals: Totals) -> np.ndarray:
    return np.asarray(getattr(totals, kind)[:, 1])


def _macro(kind: str, totals: Totals) -> np.ndarray:
    return np.asarray(getattr(totals, kind).sum(axis=1, where=totals.counted) / totals.counted.sum(axis=1))


def _micro(kind: str, totals: Totals) -> np.ndarray:
    hit, said, true = (total.sum(axis=1) for total in (totals.hit, totals.said, totals.true))
    if kind == "f1":
        return _divide(2 * hit, said + true)
    return _divide(hit, said if kind == "precision" else true)


def _f1_weighted(totals: Totals) -> np.ndarray:
    return _divide((totals.f1 * totals.true).sum(axis=1), totals.true.sum(axis=1))


def _by_totals(finish: Callable[[Totals], np.ndarray], outcomes: Outcomes) -> Resampled:
    count = _count_totals(outcomes)
    return lambda counts: finish(count(counts))


# Means of one value per row.


def _mean_of(row_values: Callable[[Outcomes], np.ndarray], outcomes: Outcomes) -> Resampled:
    values = row_values(outcomes)
    return lambda counts: (counts @ values) / counts.sum(axis=1)


def _row_jaccard(outcomes: Outcomes) -> np.ndarray:
    either = (outcomes.targets | outcomes.predicted).sum(axis=1).astype(np.float64)
    return _divide((outcomes.targets & outcomes.predicted).sum(axis=1), either, otherwise=1.0)


def _row_hamming(outcomes: Outcomes) -> np.ndarray:
    return np.asarray((outcomes.targets != outcomes.predicted).mean(axis=1))


def _row_exact(outcomes: Outcomes) -> np.ndarray:
    return outcomes.right.astype(np.float64)


def _row_log_loss(outcomes: Outcomes) -> np.ndarray:
    given = outcomes.probabilities[np.arange(len(outcomes)), outcomes.targets]
    smallest = np.finfo(np.float64).eps
    return -np.log(np.clip(given, smallest, 1 - smallest))


def _row_squared_error(outcomes: Outcomes) -> np.ndarray:
    return np.asarray((outcomes.targets - outcomes.predicted) ** 2)


def _row_absolute_error(outcomes: Outcomes) -> np.ndarray:
    return np.abs(outcomes.targets - outcomes.predicted)


# Ranks and moments.


def _tied_groups(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows in rising order ``(n,)``, where groups of equal values start in it ``(g,)``, each row's group ``(n,)``."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(values[order]) != 0])
    group_of_row = np.searchsorted(values[order][starts], values)
    return order, starts, group_of_row


def _area(scores: np.ndarray, positive: np.ndarray) -> Resampled:
    """Area under the ROC curve as the share of (positive, negative) pairs in the right order, ties counting half."""
    order, starts, _ = _tied_groups(scores)
    is_positive = positive[order].astype(np.float64)

    def resampled(counts: np.ndarray) -> np.ndarray:
        ordered = counts[:, order]
        everything = np.add.reduceat(ordered, starts, axis=1)
        positives = np.add.reduceat(ordered * is_positive, starts, axis=1)
        negatives = everything - positives
        below = np.cumsum(negatives, axis=1) - negatives
        pairs = positives.sum(axis=1) * negatives.sum(axis=1)
        return _divide((positives * (below + negatives / 2)).sum(axis=1), pairs, otherwise=np.nan)

    return resampled


def _roc_auc(outcomes: Outcomes) -> Resampled:
    if outcomes.problem_type == "multi_label_classification":
        positives = [outcomes.targets[:, label] == 1 for label in range(outcomes.n_labels)]
    else:
        positives = [outcomes.targets == label for label in range(outcomes.n_labels)]
    areas = [_area(outcomes.probabilities[:, label], positive) for label, positive in enumerate(positives)]
    if outcomes.problem_type == "single_label_classification" and outcomes.n_labels == 2:
        return areas[1]
    return lambda counts: np.mean([area(counts) for area in areas], axis=0)


def _pearson(outcomes: Outcomes) -> Resampled:
    x = outcomes.targets - outcomes.targets.mean()
    y = outcomes.predicted - outcomes.predicted.mean()
    moments = np.stack([x, y, x * x, y * y, x * y], axis=1)

    def resampled(counts: np.ndarray) -> np.ndarray:
        mx, my, xx, yy, xy = (counts @ moments / counts.sum(axis=1, keepdims=True)).T
        x_variance, y_variance = xx - mx**2, yy - my**2
        # A resample of one value repeated leaves rounding noise where its variance should be nought.
        defined = (x_variance > 1e-12 * np.mean(x * x)) & (y_variance > 1e-12 * np.mean(y * y))
        spread = np.sqrt(np.where(defined, x_variance * y_variance, 0.0))
        return _divide(xy - mx * my, spread, otherwise=np.nan)

    return resampled


def _spearman(outcomes: Outcomes) -> Resampled:
    sides = [_tied_groups(values) for values in (outcomes.targets, outcomes.predicted)]

    def centred_ranks(counts: np.ndarray, side: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
        order, starts, group_of_row = side
        sizes = np.add.reduceat(counts[:, order], starts, axis=1)
        middles = np.cumsum(sizes, axis=1) - (sizes - 1) / 2
        return (middles - (counts.sum(axis=1, keepdims=True) + 1) / 2)[:, group_of_row]

    def resampled(counts: np.ndarray) -> np.ndarray:
        x, y = (centred_ranks(counts, side) for side in sides)
        spread = np.sqrt((counts * x * x).sum(axis=1) * (counts * y * y).sum(axis=1))
        return _divide((counts * x * y).sum(axis=1), spread, otherwise=np.nan)

    return resampled


def _r2(outcomes: Outcomes) -> Resampled:
    centred = outcomes.targets - outcomes.targets.mean()
    sums = np.stack([centred, centred**2, _row_squared_error(outcomes)], axis=1)

    def resampled(counts: np.ndarray) -> np.ndarray:
        mean, square, error = (counts @ sums / counts.sum(axis=1, keepdims=True)).T
        variance = square - mean**2
        constant = variance <= 1e-12 * np.mean(centred**2)
        # scikit-learn: with constant targets 1 for a perfect prediction and 0 for any other.
        return np.where(constant, np.where(error == 0, 1.0, 0.0), 1 - _divide(error, np.where(constant, 1, variance)))

    return resampled


_AVERAGED: dict[str, Callable[[Outcomes], Resampled]] = {
    "f1_macro": partial(_by_totals, partial(_macro, "f1")),
    "f1_micro": partial(_by_totals, partial(_micro, "f1")),
    "f1_weighted": partial(_by_totals, _f1_weighted),
    "precision_macro": partial(_by_totals, partial(_macro, "precision")),
    "recall_macro": partial(_by_totals, partial(_macro, "recall")),
}

RESAMPLED: dict[ProblemType, dict[str, Callable[[Outcomes], Resampled]]] = {
    "single_label_classification": {
        "accuracy": partial(_by_totals, _accuracy),
        "balanced_accuracy": partial(_by_totals, _balanced_accuracy),
        "matthews_corrcoef": partial(_by_totals, _matthews),
        "f1": partial(_by_totals, partial(_second_label, "f1")),
        "precision": partial(_by_totals, partial(_second_label, "precision")),
        "recall": partial(_by_totals, partial(_second_label, "recall")),
        **_AVERAGED,
        "roc_auc": _roc_auc,
        "log_loss": partial(_mean_of, _row_log_loss),
    },
    "multi_label_classification": {
        "jaccard_samples": partial(_mean_of, _row_jaccard),
        "hamming_loss": partial(_mean_of, _row_hamming),
        "subset_accuracy": partial(_mean_of, _row_exact),
        **_AVERAGED,
        "precision_micro": partial(_by_totals, partial(_micro, "precision")),
        "recall_micro": partial(_by_totals, partial(_micro, "recall")),
        "roc_auc_macro": _roc_auc,
    },
    "regression": {
        "pearsonr": _pearson,
        "spearmanr": _spearman,
        "mean_squared_error": partial(_mean_of, _row_squared_error),
        "mean_absolute_error": partial(_mean_of, _row_absolute_error),
        "r2": _r2,
    },
}
"""The resampled form of every metric of ``metrics.METRICS``."""
