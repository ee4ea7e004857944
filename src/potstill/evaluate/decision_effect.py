"""What decisions change on the reported rows: every metric before and after, so that what hurts is seen to hurt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from potstill.evaluate.calibration import calibration_scores
from potstill.evaluate.metrics import METRICS, compute_metrics, higher_is_better
from potstill.evaluate.retention import compare_arms
from potstill.evaluate.significance import Interval, number_or_none
from potstill.records import Predictions

Word = Literal["better", "worse", "unchanged", "not distinguishable", "undefined", "higher", "lower"]
BEFORE, AFTER = "before", "after"
WITHOUT_INTERVAL = ("roc_auc", "roc_auc_macro")
"""Metrics of ranks, which thresholds leave alone and a temperature all but does; their resampling takes longest."""


@dataclass(frozen=True)
class MetricEffect:
    """One metric without and with the decisions, medians over seeds; NaN where it is not defined.

    difference: after minus before, with its interval over the same resampled rows; None for a metric without one here.
    """

    name: str
    before: float
    after: float
    higher_is_better: bool
    difference: Interval | None

    @property
    def word(self) -> Word:
        """What may be said of the change: an interval that covers 0 allows neither better nor worse."""
        change = self.after - self.before
        if np.isnan(change):
            return "undefined"
        if change == 0 and (self.difference is None or self.difference.low == self.difference.high == 0):
            return "unchanged"
        if self.difference is None:
            return "higher" if change > 0 else "lower"
        if self.difference.covers(0):
            return "not distinguishable"
        return "better" if (change > 0) == self.higher_is_better else "worse"

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values; NaN becomes None."""
        return {
            "before": number_or_none(self.before),
            "after": number_or_none(self.after),
            "higher_is_better": self.higher_is_better,
            "difference": None if self.difference is None else self.difference.to_dict(),
            "word": self.word,
        }


@dataclass(frozen=True)
class DecisionEffect:
    """Every metric of the task on the rows of ``split``; ``metric`` is the primary one."""

    metric: str
    split: str
    n_rows: int
    n_seeds: int
    metrics: Mapping[str, MetricEffect]

    @property
    def sentence(self) -> str:
        """What the decisions did, every word decided by the numbers; metrics are looked at one by one."""
        primary = self.metrics[self.metric]
        seeds = f", median of {self.n_seeds} seeds" if self.n_seeds > 1 else ""
        where = f"on {self.n_rows:,} rows of {self.split}{seeds}"
        figures = "" if primary.word == "undefined" else f": {_figures(primary)}{_interval(primary)}"
        parts = [f"{_judgement(primary)} {where}{figures}."]
        others = [effect for name, effect in self.metrics.items() if name != self.metric]
        for words, title in (
            (("worse",), "Worse beyond chance"),
            (("better",), "Better beyond chance"),
            (("higher", "lower"), "Without an interval"),
        ):
            if named := [_figures(effect) for effect in others if effect.word in words]:
                parts.append(f"{title}: {'; '.join(named)}.")
        return " ".join(parts)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values; NaN becomes None."""
        plain = {name: value for name, value in vars(self).items() if name != "metrics"}
        metrics = {name: effect.to_dict() for name, effect in self.metrics.items()}
        return {**plain, "metrics": metrics, "sentence": self.sentence}


def _judgement(primary: MetricEffect) -> str:
    return {
        "better": f"The decisions help {primary.name}",
        "worse": f"The decisions hurt {primary.name}",
        "unchanged": f"The decisions leave {primary.name} as it is",
        "not distinguishable": f"Whether the decisions change {primary.name} for better or worse cannot be told",
    }.get(primary.word, f"{primary.name} has no value")


def _figures(effect: MetricEffect) -> str:
    return f"{effect.name} {effect.before:.4g} before, {effect.after:.4g} after"


def _interval(effect: MetricEffect) -> str:
    change = effect.difference
    if change is None or effect.word in ("unchanged", "undefined"):
        return ""
    return f" ({change.value:+.3g}, {change.level:.0%} interval {change.low:+.3g} to {change.high:+.3g})"


def measure_effect(
    before: Sequence[Predictions],
    after: Sequence[Predictions],
    metric: str,
    split: str,
    *,
    n_resamples: int = 1000,
) -> DecisionEffect:
    """The effect on every metric of the problem type and on calibration; one pair of predictions per training seed.

    Both are of the same rows and logits, those of ``after`` under the decisions. ``metric`` is the primary one.
    """
    first, table = before[0], METRICS[before[0].problem_type].values()
    names = [one.name for one in table if not one.two_labels or len(first.label_names) == 2]
    resampled = _with_intervals(before, after, metric, names, n_resamples)
    plain = _without_intervals(before, after, [name for name in names if name not in resampled])
    plain = {name: effect for name, effect in plain.items() if name not in resampled}
    return DecisionEffect(metric, split, len(first), len(before), {**resampled, **plain})


def _with_intervals(
    before: Sequence[Predictions], after: Sequence[Predictions], metric: str, names: Sequence[str], n_resamples: int
) -> dict[str, MetricEffect]:
    quick = [name for name in names if name not in WITHOUT_INTERVAL]
    arms = compare_arms({BEFORE: before, AFTER: after}, BEFORE, metric, quick, n_resamples=n_resamples).arms
    plain, decided = arms[BEFORE].metrics, arms[AFTER]
    return {
        name: MetricEffect(
            name, plain[name].median, decided.metrics[name].median, higher_is_better(name), change.difference
        )
        for name, change in decided.changes.items()
    }


def _without_intervals(
    before: Sequence[Predictions], after: Sequence[Predictions], names: Sequence[str]
) -> dict[str, MetricEffect]:
    medians = []
    for several in (before, after):
        scores = [{**compute_metrics(one, names), **calibration_scores(one)} for one in several]
        medians.append({name: float(np.median([one[name] for one in scores])) for name in scores[0]})
    return {
        name: MetricEffect(name, value, medians[1][name], name in names and higher_is_better(name), None)
        for name, value in medians[0].items()
    }
