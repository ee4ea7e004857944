"""What each arm kept of the reference: every metric, how sure it is, and a sentence that says no more than that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from potstill.errors import CheckError, DataError
from potstill.evaluate.metrics import Outcomes, default_metrics, find_metric, higher_is_better, score
from potstill.evaluate.resampling import resample_metrics
from potstill.evaluate.significance import (
    Interval,
    McNemar,
    PairedChange,
    align_outcomes,
    change_of,
    interval_of,
    mcnemar,
    median_of_seeds,
    number_or_none,
)
from potstill.evaluate.speed import Speed, clear_ratio, paired_ratios
from potstill.records import Predictions, ProblemType


@dataclass(frozen=True)
class MetricSummary:
    """One metric of one arm: its value for each seed, and the median over seeds with its interval over examples.

    The spread from ``minimum`` to ``maximum`` is that of the seeds; the interval is that of the examples.
    """

    per_seed: tuple[float, ...]
    interval: Interval

    @property
    def median(self) -> float:
        """The figure that stands for the arm; NaN where one seed has no value."""
        return self.interval.value

    @property
    def minimum(self) -> float:
        """The value of the seed with the smallest, which is the worst one only where more is better."""
        return float(np.min(self.per_seed))

    @property
    def maximum(self) -> float:
        """The value of the seed with the largest."""
        return float(np.max(self.per_seed))

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values; NaN becomes None."""
        return {
            "per_seed": [number_or_none(value) for value in self.per_seed],
            "median": number_or_none(self.median),
            "minimum": number_or_none(self.minimum),
            "maximum": number_or_none(self.maximum),
            "interval": self.interval.to_dict(),
        }


@dataclass(frozen=True)
class PairedRows:
    """Row by row against the reference, for each pair of seeds (the first with the first, and so on).

    mcnemar: who was right, arm as ``a`` and reference as ``b``; with many labels a row is right if all of it is.
    agreement: share of rows on which both decided the same, rightly or wrongly.
    """

    mcnemar: tuple[McNemar, ...]
    agreement: tuple[float, ...]

    @property
    def p_value(self) -> float:
        """The median over the pairs of McNemar's p: a description; twice of it, at most 1, is a valid p-value."""
        return float(np.median([one.p_value for one in self.mcnemar]))

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values: each pair, and the medians over pairs under the names a table shows."""
        return {
            "per_seed": [asdict(one) for one in self.mcnemar],
            "p_value": self.p_value,
            "agreement": float(np.median(self.agreement)),
            "agreement_per_seed": list(self.agreement),
            "both_right": float(np.median([one.both_right for one in self.mcnemar])),
            "both_wrong": float(np.median([one.both_wrong for one in self.mcnemar])),
            "only_arm": float(np.median([one.only_a for one in self.mcnemar])),
            "only_reference": float(np.median([one.only_b for one in self.mcnemar])),
        }


@dataclass(frozen=True)
class ArmComparison:
    """One arm: its metrics, and what changes against the reference (empty and None for the reference itself).

    beside: the change of the primary metric against every other arm but the reference. rows: None for a regression,
    where no row is right or wrong.
    """

    name: str
    metrics: dict[str, MetricSummary]
    changes: dict[str, PairedChange]
    beside: dict[str, PairedChange]
    rows: PairedRows | None

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values; NaN becomes None."""
        return {
            "name": self.name,
            "metrics": {name: summary.to_dict() for name, summary in self.metrics.items()},
            "changes": {name: change.to_dict() for name, change in self.changes.items()},
            "beside": {name: change.to_dict() for name, change in self.beside.items()},
            "rows": None if self.rows is None else self.rows.to_dict(),
        }


@dataclass(frozen=True)
class Comparison:
    """All arms on the same rows and as many seeds each. ``metric`` is primary; ``notes`` must be told."""

    reference: str
    metric: str
    problem_type: ProblemType
    n_rows: int
    n_seeds: int
    n_resamples: int
    level: float
    seed: int
    arms: dict[str, ArmComparison]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values; NaN becomes None."""
        plain = {name: value for name, value in vars(self).items() if name not in ("arms", "notes")}
        return {**plain, "arms": {name: arm.to_dict() for name, arm in self.arms.items()}, "notes": list(self.notes)}


def compare_arms(
    arms: Mapping[str, Sequence[Predictions]],
    reference: str,
    metric: str,
    metrics: Sequence[str] | None = None,
    *,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Every arm (predictions of the same rows, one per training seed) against the arm called ``reference``.

    ``metrics`` adds to ``metric``; by default those of the problem type. Intervals are over examples, paired between
    arms; a figure of several seeds is their median, in the sample and in each resample. Raises DataError if the arms
    are not of the same rows, targets and labels, CheckError if they have different numbers of seeds.
    """
    _check_arms(arms, reference)
    aligned = align_outcomes(arms)
    first = next(iter(aligned.values()))[0]
    wanted = default_metrics(first.problem_type, first.n_labels) if metrics is None else metrics
    names = list(dict.fromkeys([metric, *wanted]))
    drawn = resample_metrics(aligned, names, n_resamples, seed)
    resamples = {name: {arm: np.median(values, axis=1) for arm, values in drawn[name].items()} for name in names}
    compared = {arm: _compare_arm(arm, aligned, reference, resamples, level) for arm in aligned}
    return Comparison(
        reference=reference,
        metric=metric,
        problem_type=first.problem_type,
        n_rows=len(first),
        n_seeds=len(aligned[reference]),
        n_resamples=n_resamples,
        level=level,
        seed=seed,
        arms=compared,
        notes=tuple(_notes(aligned, compared, reference, names)),
    )


def _check_arms(arms: Mapping[str, Sequence[Predictions]], reference: str) -> None:
    if reference not in arms:
        raise DataError("the reference is not among the arms", found=reference, allowed=list(arms))
    n_seeds = {name: len(seeds) for name, seeds in arms.items()}
    if 0 in n_seeds.values():
        raise DataError("an arm has no predictions", found=next(name for name, n in n_seeds.items() if n == 0))
    if len(set(n_seeds.values())) > 1:
        raise CheckError(
            "the arms were not trained with the same number of seeds, so their medians cannot be compared",
            found=", ".join(f"{name} {n}" for name, n in n_seeds.items()),
            do="train the missing seeds or leave out the surplus",
        )


def _compare_arm(
    arm: str,
    aligned: Mapping[str, list[Outcomes]],
    reference: str,
    resamples: Mapping[str, Mapping[str, np.ndarray]],
    level: float,
) -> ArmComparison:
    outcomes, summaries, changes = aligned[arm], {}, {}
    for name, drawn in resamples.items():
        per_seed = tuple(score(one, name) for one in outcomes)
        summaries[name] = MetricSummary(per_seed, interval_of(float(np.median(per_seed)), drawn[arm], level))
        if arm != reference:
            of_reference = median_of_seeds(aligned[reference], name)
            changes[name] = change_of(
                summaries[name].median, of_reference, drawn[arm], drawn[reference], metric=name, level=level
            )
    rows = None if arm == reference else _pair_rows(outcomes, aligned[reference])
    return ArmComparison(arm, summaries, changes, _beside(arm, aligned, reference, resamples, level), rows)


def _beside(
    arm: str,
    aligned: Mapping[str, list[Outcomes]],
    reference: str,
    resamples: Mapping[str, Mapping[str, np.ndarray]],
    level: float,
) -> dict[str, PairedChange]:
    """The change of the first metric against each other arm but the reference, from the same resamples."""
    metric, drawn = next(iter(resamples.items()))
    medians = {name: median_of_seeds(outcomes, metric) for name, outcomes in aligned.items()}
    return {
        other: change_of(medians[arm], medians[other], drawn[arm], drawn[other], metric=metric, level=level)
        for other in aligned
        if reference not in (arm, other) and arm != other
    }


def _pair_rows(outcomes: list[Outcomes], reference: list[Outcomes]) -> PairedRows | None:
    if outcomes[0].problem_type == "regression":
        return None
    pairs = list(zip(outcomes, reference, strict=True))
    same = [(a.predicted == b.predicted).reshape(len(a), -1).all(axis=1) for a, b in pairs]
    return PairedRows(tuple(mcnemar(a, b) for a, b in pairs), tuple(float(rows.mean()) for rows in same))


def _notes(
    aligned: Mapping[str, list[Outcomes]], compared: Mapping[str, ArmComparison], reference: str, names: Sequence[str]
) -> list[str]:
    notes = []
    for name in names:
        for arm, outcomes in aligned.items():
            metric = find_metric(name, outcomes[0].problem_type, outcomes[0].n_labels)
            reasons = {reason for one in outcomes if (reason := metric.undefined(one)) is not None}
            notes += [f"{name} of {arm} has no value: {reason}." for reason in sorted(reasons)]
            interval = compared[arm].metrics[name].interval
            if not reasons and interval.n_undefined:
                notes.append(
                    f"{name} of {arm} has no value on {interval.n_undefined} of {interval.n_resamples} resamples."
                )
        if not higher_is_better(name):
            notes.append(f"{name} is better when smaller, so no retention is given for it.")
        elif compared[reference].metrics[name].median <= 0:
            notes.append(f"{name} of {reference} is not above 0, so no retention is given for it.")
    return notes


def verdict(
    comparison: Comparison,
    arm: str | None = None,
    *,
    n_parameters: Mapping[str, int] | None = None,
    speeds: Mapping[str, Speed] | None = None,
) -> str:
    """One sentence on ``arm`` (by default the first that is not the reference), every word decided by the numbers.

    A difference whose interval covers 0 is called not distinguishable, which is not the same as equal; a speed is
    called different only if every repeat says the same. DataError for an arm that was not compared.
    """
    others = [name for name in comparison.arms if name != comparison.reference]
    chosen = arm if arm is not None else next(iter(others), "")
    if chosen not in others:
        raise DataError("the verdict needs an arm other than the reference", found=chosen, allowed=others)
    clauses = [_quality_clause(comparison, chosen)]
    if n_parameters is not None:
        clauses.append(_size_clause(n_parameters[chosen], n_parameters[comparison.reference]))
    if speeds is not None:
        clauses += _speed_clauses(speeds[chosen], speeds[comparison.reference])
    return "; ".join(clauses) + "."


def _quality_clause(comparison: Comparison, arm: str) -> str:
    name, reference = comparison.metric, comparison.reference
    change, better = comparison.arms[arm].changes[name], higher_is_better(comparison.metric)
    figures = [
        f"{comparison.arms[arm].metrics[name].median:.4g} against {comparison.arms[reference].metrics[name].median:.4g}"
    ]
    difference = change.difference
    figures.append(f"difference {difference.value:+.3g} ({_bounds(difference, '+.3g')})")
    if change.retention is not None:
        figures.append(f"{change.retention.value:.1%} retained ({_bounds(change.retention, '.1%')})")
    seeds = f"median of {comparison.n_seeds} seeds" if comparison.n_seeds > 1 else "one seed"
    if np.isnan(difference.value):
        return f"{arm} cannot be compared with {reference} by {name}, which has no value for one of them"
    if difference.covers(0):
        word = "is not distinguishable from"
    else:
        word = "is better than" if (difference.low > 0) == better else "falls short of"
    return f"{arm} {word} {reference} by {name} on {comparison.n_rows:,} rows ({seeds}): {', '.join(figures)}"


def _bounds(interval: Interval, style: str) -> str:
    if np.isnan(interval.low):
        return "no interval could be placed"
    return f"{interval.level:.0%} interval {interval.low:{style}} to {interval.high:{style}}"


def _size_clause(n_parameters: int, n_reference: int) -> str:
    counts = f"{n_parameters:,} parameters against {n_reference:,}"
    if n_parameters == n_reference:
        return f"it is of the same size ({counts})"
    word = "smaller" if n_parameters < n_reference else "larger"
    return f"it is {abs(1 - n_parameters / n_reference):.1%} {word} ({counts})"


def _speed_clauses(speed: Speed, reference: Speed) -> list[str]:
    latency, reference_latency = speed.latency_ms, reference.latency_ms
    times = paired_ratios(reference_latency.per_repeat, latency.per_repeat)
    bulk, reference_bulk = speed.texts_per_s, reference.texts_per_s
    bulk_times = paired_ratios(bulk.per_repeat, reference_bulk.per_repeat)
    return [
        f"one text takes {latency.p50:.3g} ms against {reference_latency.p50:.3g} ms, {_times(times)}",
        f"in bulk it scores {bulk.median:,.0f} texts/s against {reference_bulk.median:,.0f}, {_times(bulk_times)}",
    ]


def _times(ratios: Sequence[float]) -> str:
    """The ratios of two speeds (above 1 is faster) in words."""
    repeats = f"{len(ratios)} repeats" if len(ratios) > 1 else "one repeat"
    ratio = clear_ratio(ratios)
    if ratio is None:
        return f"not distinguishable over {repeats}"
    words = f"{ratio:.2f} times as fast" if ratio > 1 else f"slower, {ratio:.2f} times the speed"
    return f"{words} ({min(ratios):.2f} to {max(ratios):.2f} over {repeats})"
