"""Draws rows with replacement, the same for every metric, arm and seed, and returns each metric of every resample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from potstill.errors import CheckError
from potstill.evaluate.metrics import Outcomes, find_metric, score
from potstill.evaluate.resampled_metrics import RESAMPLED, one_hot

CHUNK_ENTRIES = 500_000
"""Drawn rows held at one time, 4 MB and as much again for their counts; larger chunks leave the cache and are slow."""


@dataclass(frozen=True)
class Groups:
    """Rows that no metric of decided labels can tell apart. first_rows: ``(g,)``, one of each; of_row: ``(n,)``."""

    first_rows: np.ndarray
    of_row: np.ndarray

    def __len__(self) -> int:
        return len(self.first_rows)


def group_rows(columns: Sequence[np.ndarray]) -> Groups:
    """Groups of rows that are equal in all ``columns``, each ``(n,)`` or ``(n, k)`` of integers from 0."""
    codes = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        for values in column.reshape(len(column), -1).T:
            wide = codes * (int(values.max()) + 1) + values
            codes = np.unique(wide, return_inverse=True)[1].astype(np.int64)
    _, first_rows = np.unique(codes, return_index=True)
    return Groups(first_rows, codes)


def draw_rows(n: int, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Rows of ``n`` drawn with replacement, ``n`` for each resample: chunks ``(r, n)`` of ``n_resamples`` altogether.

    The draws depend on nothing else, so an arm has the same interval whatever it is compared with.
    """
    rng = np.random.default_rng(seed)
    n_at_once = max(1, CHUNK_ENTRIES // n)
    for start in range(0, n_resamples, n_at_once):
        yield rng.integers(0, n, size=(min(n_at_once, n_resamples - start), n))


def count_drawn(drawn: np.ndarray, n_kinds: int) -> np.ndarray:
    """``(r, n_kinds)`` float64: how often each number below ``n_kinds`` is met in each row of ``drawn``."""
    offsets = np.arange(len(drawn))[:, None] * n_kinds
    counts = np.bincount((drawn + offsets).ravel(), minlength=len(drawn) * n_kinds)
    return counts.reshape(len(drawn), n_kinds).astype(np.float64)


class _LabelForms:
    """All metrics of decided labels of one arm and seed, from counts of the groups shared by all arms.

    Those groups are first folded into the far fewer pairs of target and decision that this arm has.
    """

    def __init__(self, outcomes: Outcomes, groups: Groups, names: Sequence[str]) -> None:
        met = outcomes.take(groups.first_rows)
        own = group_rows([met.targets, met.predicted])
        self._fold = one_hot(own.of_row, len(own))
        folded = met.take(own.first_rows)
        self._forms = {name: RESAMPLED[outcomes.problem_type][name](folded) for name in names}

    def __call__(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        """``(r,)`` of each metric for ``(r, n_groups)`` float64: how often each group was drawn in each resample."""
        folded = counts @ self._fold
        return {name: form(folded) for name, form in self._forms.items()}


class _ScoreForms:
    """All metrics of scores of one arm and seed, from counts of rows."""

    def __init__(self, outcomes: Outcomes, names: Sequence[str]) -> None:
        self._forms = {name: RESAMPLED[outcomes.problem_type][name](outcomes) for name in names}

    def __call__(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        """``(r,)`` of each metric for ``(r, n)`` float64: how often each row was drawn in each resample."""
        return {name: form(counts) for name, form in self._forms.items()}


class _Resampler:
    """Values ``(r, n_outcomes)`` of each metric for drawn rows ``(r, n)``; the rows are the same for all outcomes."""

    def __init__(self, everything: Sequence[Outcomes], names: Sequence[str]) -> None:
        first = everything[0]
        metrics = [find_metric(name, first.problem_type, first.n_labels) for name in names]
        by_label = [metric.name for metric in metrics if metric.looks_at == "labels"]
        by_score = [metric.name for metric in metrics if metric.looks_at == "scores"]
        self._names, self._n = list(names), len(first)
        self._groups, self._by_label, self._by_score = None, [], []
        if by_label:
            self._groups = group_rows([first.targets, *(outcomes.predicted for outcomes in everything)])
            self._by_label = [_LabelForms(outcomes, self._groups, by_label) for outcomes in everything]
        if by_score:
            self._by_score = [_ScoreForms(outcomes, by_score) for outcomes in everything]

    def __call__(self, drawn: np.ndarray) -> dict[str, np.ndarray]:
        values: list[dict[str, np.ndarray]] = []
        if self._groups is not None:
            counts = count_drawn(self._groups.of_row[drawn], len(self._groups))
            values = [forms(counts) for forms in self._by_label]
        if self._by_score:
            counts = count_drawn(drawn, self._n)
            scored = [forms(counts) for forms in self._by_score]
            values = [a | b for a, b in zip(values, scored, strict=True)] if values else scored
        return {name: np.stack([one[name] for one in values], axis=1) for name in self._names}


def resample_metrics(
    arms: Mapping[str, Sequence[Outcomes]], names: Sequence[str], n_resamples: int, seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Every metric of every arm in every resample: ``(n_resamples, n_seeds)`` float64, by metric, then by arm.

    A resample draws the same rows for all metrics, arms and seeds, so differences between arms are paired. All outcomes
    must be of the same rows in the same order. NaN where the metric is not defined on a resample. Raises CheckError if
    the resampled form of a metric and scikit-learn disagree on the sample itself.
    """
    everything = [outcomes for seeds in arms.values() for outcomes in seeds]
    resampler, n = _Resampler(everything, names), len(everything[0])
    _check_forms(resampler(np.arange(n)[None]), everything)
    chunks = [resampler(drawn) for drawn in draw_rows(n, n_resamples, seed)]
    bounds = np.cumsum([len(seeds) for seeds in arms.values()])[:-1]
    return {
        name: dict(zip(arms, np.split(np.concatenate([chunk[name] for chunk in chunks]), bounds, axis=1), strict=True))
        for name in names
    }


def _check_forms(of_sample: Mapping[str, np.ndarray], everything: Sequence[Outcomes]) -> None:
    for name, values in of_sample.items():
        expected = [score(outcomes, name) for outcomes in everything]
        if not np.allclose(values[0], expected, rtol=1e-6, atol=1e-9, equal_nan=True):
            raise CheckError(
                f"the resampled {name} of the sample is not scikit-learn's",
                found=values[0].tolist(),
                allowed=expected,
                do="this is a fault of potstill: please report it with the versions of both",
            )
