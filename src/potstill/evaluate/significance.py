"""How sure a figure is: bootstrap intervals over the examples, paired between arms, and McNemar's exact test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from potstill.errors import DataError
from potstill.evaluate.metrics import Outcomes, higher_is_better, read_outcomes, score
from potstill.records import Predictions


@dataclass(frozen=True)
class Interval:
    """A figure and its percentile bootstrap interval at ``level``; a bound that cannot be placed is NaN.

    n_undefined: resamples on which the figure has no value. Where they are more than the tail outside one bound, the
    place of the bounds is unknown and both are NaN.
    """

    value: float
    low: float
    high: float
    level: float
    n_resamples: int
    n_undefined: int = 0

    def covers(self, value: float) -> bool:
        """Whether ``value`` lies in the interval; an interval that could not be placed covers everything."""
        return not (value < self.low or value > self.high)

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain JSON values; NaN becomes None."""
        return {
            "value": number_or_none(self.value),
            "low": number_or_none(self.low),
            "high": number_or_none(self.high),
            "level": self.level,
            "n_resamples": self.n_resamples,
            "n_undefined": self.n_undefined,
        }


@dataclass(frozen=True)
class PairedChange:
    """What an arm changes against a reference on the same rows.

    difference: arm minus reference.
    retention: arm divided by reference; None for a metric of which less is better, and where the reference is not
        positive: "how much was kept" has no meaning there.
    p_value: two-sided, of no difference, from the same resamples as the interval.
    """

    difference: Interval
    retention: Interval | None
    p_value: float

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values; NaN becomes None."""
        return {
            "difference": self.difference.to_dict(),
            "retention": None if self.retention is None else self.retention.to_dict(),
            "p_value": number_or_none(self.p_value),
        }


@dataclass(frozen=True)
class McNemar:
    """Rows by who was right, and the exact two-sided p-value that ``only_a`` and ``only_b`` have one expectation."""

    both_right: int
    only_a: int
    only_b: int
    both_wrong: int
    p_value: float


def number_or_none(value: float) -> float | None:
    """``value``, or None where it is no finite number, which JSON cannot hold."""
    return value if math.isfinite(value) else None


def align_outcomes(arms: Mapping[str, Sequence[Predictions]]) -> dict[str, list[Outcomes]]:
    """The outcomes of all arms and seeds with their rows sorted by id, so that row i is the same text everywhere.

    Raises DataError, naming the arm, if the label names, the problem type, the ids or the targets differ from those of
    the first, or if an id is met twice.
    """
    named = [(f"{arm}, number {i + 1}", one) for arm, several in arms.items() for i, one in enumerate(several)]
    if not named:
        raise DataError("there are no predictions to compare")
    first_name, first = named[0]
    first_ids, aligned = np.sort(first.ids.astype(str)), {}
    if (first_ids[1:] == first_ids[:-1]).any():
        twice = first_ids[1:][first_ids[1:] == first_ids[:-1]][0]
        raise DataError(f"an id is met twice in the predictions of {first_name}", found=str(twice))
    for name, predictions in named:
        _check_same_task(name, predictions, first_name, first)
        order = np.argsort(predictions.ids.astype(str), kind="stable")
        _check_same_ids(name, predictions.ids.astype(str)[order], first_name, first_ids)
        aligned[name] = read_outcomes(predictions).take(order)
        _check_same_targets(name, aligned[name], first_name, aligned[first_name], first_ids)
    return {arm: [aligned[f"{arm}, number {i + 1}"] for i in range(len(several))] for arm, several in arms.items()}


def _check_same_task(name: str, predictions: Predictions, first_name: str, first: Predictions) -> None:
    for what, found, allowed in (
        ("problem types", predictions.problem_type, first.problem_type),
        ("label names", predictions.label_names, first.label_names),
    ):
        if found != allowed:
            raise DataError(
                f"the {what} of ({name}) and of ({first_name}) differ",
                found=str(found),
                allowed=str(allowed),
                do="compare runs of one task",
            )


def _check_same_ids(name: str, ids: np.ndarray, first_name: str, first_ids: np.ndarray) -> None:
    if np.array_equal(ids, first_ids):
        return
    only_here, only_there = np.setdiff1d(ids, first_ids), np.setdiff1d(first_ids, ids)
    example = np.concatenate([only_here, only_there, ids[:1]])[0]
    raise DataError(
        f"({name}) and ({first_name}) did not predict the same rows",
        found=f"{len(ids)} against {len(first_ids)} rows, {len(only_here)} only in the one, {len(only_there)} only in"
        f" the other, for example {example}",
        do="predict the same split with both",
    )


def _check_same_targets(name: str, outcomes: Outcomes, first_name: str, first: Outcomes, ids: np.ndarray) -> None:
    differ = (outcomes.targets != first.targets).reshape(len(ids), -1).any(axis=1)
    if differ.any():
        raise DataError(
            f"({name}) and ({first_name}) hold different targets for the same rows",
            found=f"{int(differ.sum())} rows, the first is {ids[differ][0]}",
            do="compare runs that were measured on the same labels",
        )


def median_of_seeds(outcomes: Sequence[Outcomes], metric: str) -> float:
    """The median over seeds of the metric; NaN if one seed has no value."""
    return float(np.median([score(one, metric) for one in outcomes]))


def interval_of(value: float, resamples: np.ndarray, level: float) -> Interval:
    """The percentile interval around ``value`` of its ``(n_resamples,)`` resampled values, of which some may be NaN.

    Efron (1979). Where the figure is a median over training seeds, the interval tells how far the choice of examples
    moves it, the seeds being given; it does not tell how far another seed would.
    """
    tail = (1 - level) / 2
    n_undefined = int(np.isnan(resamples).sum())
    low = high = math.nan
    if n_undefined <= tail * len(resamples):
        low, high = (float(bound) for bound in np.nanquantile(resamples, [tail, 1 - tail]))
    return Interval(value, low, high, level, len(resamples), n_undefined)


def change_of(
    value: float,
    reference: float,
    resamples: np.ndarray,
    reference_resamples: np.ndarray,
    *,
    metric: str,
    level: float,
) -> PairedChange:
    """The change of a figure from ``reference`` to ``value``, with their ``(n_resamples,)`` resampled values.

    The ratio of a resample whose reference is not positive has no value and is counted as undefined.
    """
    differences = resamples - reference_resamples
    retention = None
    if higher_is_better(metric) and reference > 0:
        positive = np.where(reference_resamples > 0, reference_resamples, np.nan)
        retention = interval_of(value / reference, resamples / positive, level)
    return PairedChange(interval_of(value - reference, differences, level), retention, _two_sided(differences))


def _two_sided(differences: np.ndarray) -> float:
    """Twice the smaller share of resamples on either side of no difference, itself counted in as one of them.

    Davison and Hinkley (1997), chapter 4; the added one keeps p from being nought. Differences without a value speak
    for neither side, so they count on both.
    """
    below, above = int((~(differences > 0)).sum()), int((~(differences < 0)).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (len(differences) + 1))


def mcnemar(a: Outcomes, b: Outcomes) -> McNemar:
    """McNemar's exact test (1947) on the rows that one of two classifiers gets right and the other wrong.

    Row i is the same text in both. With many labels a row is right if every label of it is. p is 1 where no row tells
    them apart. DataError for a regression, where no row is right or wrong.
    """
    both, only_a, only_b = (int(rows.sum()) for rows in (a.right & b.right, a.right & ~b.right, ~a.right & b.right))
    p_value = float(binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0
    return McNemar(both, only_a, only_b, len(a) - both - only_a - only_b, p_value)
