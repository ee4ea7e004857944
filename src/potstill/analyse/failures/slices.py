"""Kinds of rows (long, negated, of one label, …) and whether a model fails on them more or less than on the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from scipy.stats import binomtest, false_discovery_control, fisher_exact, mannwhitneyu, quantile_test

from potstill.analyse.failures.judged_rows import JudgedRows
from potstill.analyse.failures.text_marks import TextMarks

LEVEL = 0.95
"""Level of the intervals."""
FALSE_DISCOVERIES = 0.05
"""Of the slices that are said to differ, the share expected to differ by chance alone."""
MIN_ROWS = 10
"""A slice is looked at if as many rows lie in it, and outside it."""
CONFIDENCE_EDGES = (0.5, 0.7, 0.9, 0.99)
"""Where one band of confidence ends and the next begins; a bound belongs to the band above it."""


@dataclass(frozen=True)
class Slice:
    """Rows of one kind: what was looked at (``family``), the kind (``name``), and ``(n,)`` bool, the rows of it."""

    family: str
    name: str
    rows: np.ndarray


@dataclass(frozen=True)
class Rate:
    """A figure of some rows, the share that is wrong or a median error, with its interval at ``LEVEL``."""

    value: float
    low: float
    high: float


Compare = Callable[[np.ndarray, np.ndarray], tuple[Rate, Rate, float]]
"""Values inside and outside of a slice → their figures, and the p-value that they are of one kind."""


@dataclass(frozen=True)
class SliceFinding:
    """A slice held against all rows outside it.

    inside: the figure of its rows; outside: that of the others. p_value: two-sided, that both are one.
    q_value: the least share of false discoveries at which the slice is still said to differ (Benjamini, Hochberg 1995).
    """

    slice: Slice
    n_rows: int
    inside: Rate
    outside: Rate
    p_value: float
    q_value: float

    @property
    def differs(self) -> bool:
        """Whether the difference stands after correction for all slices that were looked at."""
        return self.q_value <= FALSE_DISCOVERIES


@dataclass(frozen=True)
class SliceFindings:
    """Every slice that was looked at, the surest difference first, and how many were too small to be looked at."""

    findings: tuple[SliceFinding, ...]
    n_too_small: int


def wilson_rate(n_hits: int, n: int) -> Rate:
    """The share ``n_hits / n`` with Wilson's interval (1927)."""
    interval = binomtest(n_hits, n).proportion_ci(LEVEL, method="wilson")
    return Rate(n_hits / n, float(interval.low), float(interval.high))


def median_rate(values: np.ndarray) -> Rate:
    """The median with the exact interval that the binomial distribution of ranks gives; NaN where it cannot be placed.

    Conover 1999, Practical Nonparametric Statistics, 3.2.
    """
    interval = quantile_test(values, q=0, p=0.5).confidence_interval(LEVEL)
    return Rate(float(np.median(values)), float(interval.low), float(interval.high))


def compare_shares(slices: Sequence[Slice], hits: np.ndarray) -> SliceFindings:
    """Each slice by the share of its rows that ``hits`` ``(n,)`` bool marks, tested by Fisher's exact test."""

    def compare(inside: np.ndarray, outside: np.ndarray) -> tuple[Rate, Rate, float]:
        hit, other = int(inside.sum()), int(outside.sum())
        table = [[hit, len(inside) - hit], [other, len(outside) - other]]
        return wilson_rate(hit, len(inside)), wilson_rate(other, len(outside)), float(fisher_exact(table).pvalue)

    return _corrected(slices, hits, compare)


def compare_errors(slices: Sequence[Slice], errors: np.ndarray) -> SliceFindings:
    """Each slice by the median of its ``errors`` ``(n,)``, tested by Mann and Whitney's test (1947)."""

    def compare(inside: np.ndarray, outside: np.ndarray) -> tuple[Rate, Rate, float]:
        return median_rate(inside), median_rate(outside), float(mannwhitneyu(inside, outside).pvalue)

    return _corrected(slices, errors, compare)


def _corrected(slices: Sequence[Slice], values: np.ndarray, compare: Compare) -> SliceFindings:
    looked_at = [one for one in slices if MIN_ROWS <= one.rows.sum() <= len(values) - MIN_ROWS]
    compared = [compare(values[one.rows], values[~one.rows]) for one in looked_at]
    corrected = false_discovery_control([p_value for *_, p_value in compared]) if compared else []
    findings = [
        SliceFinding(one, int(one.rows.sum()), inside, outside, p_value, float(q_value))
        for one, (inside, outside, p_value), q_value in zip(looked_at, compared, corrected, strict=True)
    ]
    findings.sort(key=lambda found: (found.p_value, found.slice.family, found.slice.name))
    return SliceFindings(tuple(findings), len(slices) - len(looked_at))


def slices_of(rows: JudgedRows, marks: TextMarks) -> list[Slice]:
    """The slices that potstill looks at; of two that are each other's rest, as with two labels, only the first.

    Lengths and values in quarters by rank, confidence in fixed bands, labels one by one, and each mark of the texts.
    """
    families = [
        _of_labels(rows),
        _quarters("words", marks.n_words),
        _quarters("tokens", rows.predictions.n_tokens),
        [
            Slice("text", "cut for the model", rows.predictions.truncated),
            Slice("text", "with negation", marks.negation),
            Slice("text", "with digits", marks.digits),
            Slice("text", "with a question mark", marks.question),
        ],
        _quarters("unseen words", marks.unseen_share, percent=True),
        _quarters("words both texts share", marks.shared_words, percent=True),
        _of_confidence(rows.confidence),
    ]
    by_family = groupby((one for family in families for one in family), key=lambda one: one.family)
    return [one for _, family in by_family for one in _without_rest(list(family))]


def _of_labels(rows: JudgedRows) -> Iterator[Slice]:
    """By what is true and by what was answered."""
    for family, values in (("true", rows.outcomes.targets), ("predicted", rows.outcomes.predicted)):
        if rows.problem_type == "regression":
            yield from _quarters(f"{family} value", values)
            continue
        for label, name in enumerate(rows.label_names):
            yield Slice(family, name, values == label if values.ndim == 1 else values[:, label] == 1)
        if values.ndim == 2:
            yield Slice(family, "no label", values.sum(axis=1) == 0)


def _quarters(family: str, values: np.ndarray | None, *, percent: bool = False) -> Iterator[Slice]:
    """Four bands with as many rows as ties allow; equal values share a band, so there may be fewer."""
    if values is None:
        return
    edges = np.unique(np.quantile(values, [0.25, 0.5, 0.75], method="inverted_cdf"))
    band = np.searchsorted(edges, values)
    for number in np.unique(band):
        inside = values[band == number]
        yield Slice(family, _span(inside.min(), inside.max(), percent=percent), band == number)


def _span(low: float, high: float, *, percent: bool) -> str:
    form = "{:.1%}" if percent else "{:.4g}" if isinstance(low, np.floating) else "{:,}"
    words = [form.format(bound) for bound in (low, high)]
    return words[0] if words[0] == words[1] else f"{words[0]} to {words[1]}"


def _of_confidence(confidence: np.ndarray | None) -> Iterator[Slice]:
    if confidence is None:
        return
    edges = (0.0, *CONFIDENCE_EDGES, 1.0)
    band = np.digitize(confidence, CONFIDENCE_EDGES)
    for number in np.unique(band):
        name = f"{100 * edges[number]:g}% to {100 * edges[number + 1]:g}%"
        yield Slice("confidence", name, band == number)


def _without_rest(family: list[Slice]) -> list[Slice]:
    pair = len(family) == 2 and np.array_equal(family[0].rows, ~family[1].rows)
    return family[:1] if pair else family
