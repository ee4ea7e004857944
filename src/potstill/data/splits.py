"""Splits and samples that keep the labels' shares, the same for the same seed. numpy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from potstill.errors import DataError
from potstill.records import ProblemType

QUANTILE_BINS = 10
"""Scores are stratified as ten classes of about equal size."""


def stratified_split(
    targets: np.ndarray, fractions: Sequence[float], seed: int, problem_type: ProblemType
) -> list[np.ndarray]:
    """For each of ``fractions`` the sorted indices of its rows; every row falls into exactly one split.

    ``targets`` are shaped as in ``records.Predictions``. One label: every class has its share of every split to within
    one row, and the first split holds every class. Scores: the same over ten quantile bins. Many labels: iterative
    stratification (Sechidis, Tsoumakas and Vlahavas 2011), the rarest label first.
    Raises DataError unless the fractions are above 0 and sum to 1.
    """
    shares = np.asarray(fractions, dtype=np.float64)
    if (shares <= 0).any() or not np.isclose(shares.sum(), 1.0):
        raise DataError("the shares of the splits must be above 0 and sum to 1", found=list(fractions))
    rng = np.random.default_rng(seed)
    if problem_type == "multi_label_classification":
        assigned = _split_by_labels(np.asarray(targets) > 0, shares, rng)
    else:
        classes = _quantile_bins(targets) if problem_type == "regression" else np.asarray(targets)
        assigned = _split_by_class(classes, shares, rng)
    return [np.flatnonzero(assigned == split) for split in range(len(shares))]


def stratified_sample(targets: np.ndarray, n_rows: int, seed: int, problem_type: ProblemType) -> np.ndarray:
    """Sorted indices of exactly ``n_rows`` rows (all, if there are no more) with the labels' shares kept."""
    n_all = len(targets)
    if n_rows < 1:
        raise DataError("a sample needs at least one row", found=n_rows)
    if n_rows >= n_all:
        return np.arange(n_all)
    taken, left = stratified_split(targets, (n_rows / n_all, 1 - n_rows / n_all), seed, problem_type)
    rng = np.random.default_rng([seed, n_rows])
    if len(taken) > n_rows:
        taken = rng.choice(taken, n_rows, replace=False)
    elif len(taken) < n_rows:
        taken = np.concatenate([taken, rng.choice(left, n_rows - len(taken), replace=False)])
    return np.sort(taken)


def _quantile_bins(scores: np.ndarray) -> np.ndarray:
    edges = np.quantile(scores, np.linspace(0, 1, QUANTILE_BINS + 1)[1:-1])
    return np.searchsorted(np.unique(edges), scores, side="right")


def _split_by_class(classes: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``(n,)`` split of each row: whole quotas first, leftover rows of a class where most is owed over all classes."""
    assigned = np.empty(len(classes), dtype=np.int64)
    owed = np.zeros(len(shares))
    for value in np.unique(classes):
        rows = rng.permutation(np.flatnonzero(classes == value))
        quotas = len(rows) * shares
        sizes = np.floor(quotas + 1e-9).astype(np.int64)
        owed += quotas - sizes
        order = np.argsort(-owed, kind="stable")
        if sizes[0] == 0:
            order = np.concatenate([[0], order[order != 0]])
        extra = order[: len(rows) - sizes.sum()]
        sizes[extra] += 1
        owed[extra] -= 1
        assigned[rows] = np.repeat(np.arange(len(shares)), sizes)
    return assigned


def _split_by_labels(given: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``(n,)`` split of each row of ``(n, k)`` bool. One row at a time goes to the split that wants its label most."""
    n = len(given)
    assigned = np.full(n, -1)
    wanted = n * shares
    wanted_by_label = given.sum(axis=0)[:, None] * shares
    while (left := (given & (assigned < 0)[:, None]).sum(axis=0)).any():
        label = int(np.where(left > 0, left, n + 1).argmin())
        for row in rng.permutation(np.flatnonzero(given[:, label] & (assigned < 0))):
            split = _most_wanted(wanted_by_label[label], wanted, rng)
            assigned[row] = split
            wanted[split] -= 1
            wanted_by_label[given[row], split] -= 1
    unlabelled = rng.permutation(np.flatnonzero(assigned < 0))
    assigned[unlabelled] = np.repeat(np.arange(len(shares)), _whole_numbers(np.maximum(wanted, 0), len(unlabelled)))
    return assigned


def _most_wanted(by_label: np.ndarray, overall: np.ndarray, rng: np.random.Generator) -> int:
    """The split that wants the label most; of equals the one that wants rows most; of equals again any."""
    candidates = np.flatnonzero(np.isclose(by_label, by_label.max()))
    candidates = candidates[np.isclose(overall[candidates], overall[candidates].max())]
    return int(candidates[0] if len(candidates) == 1 else rng.choice(candidates))


def _whole_numbers(wanted: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers in the proportions of ``wanted`` that sum to ``total``, by largest remainder."""
    quotas = wanted * (total / wanted.sum()) if wanted.sum() else np.full(len(wanted), total / len(wanted))
    sizes = np.floor(quotas).astype(np.int64)
    sizes[np.argsort(sizes - quotas, kind="stable")[: total - sizes.sum()]] += 1
    return sizes
