"""An ablation on one task: facts of its arms and predictions in, standings, effects, fronts and sentences out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from potstill.analyse.ablation.budget import ArmBudget, BudgetStatement, state_budget
from potstill.analyse.ablation.effects import (
    FieldEffect,
    Interaction,
    VarianceShares,
    interactions,
    main_effects,
    variance_shares,
)
from potstill.analyse.ablation.insights import (
    Insight,
    say_baseline,
    say_best,
    say_effect,
    say_front,
    say_interaction,
    say_seeds,
    say_variance,
)
from potstill.analyse.ablation.pareto import ParetoFront, pareto_front
from potstill.analyse.ablation.standings import Scores, Standing, rank_arms, score_arms
from potstill.evaluate.significance import Interval, PairedChange, number_or_none
from potstill.records import Predictions


@dataclass(frozen=True)
class ArmFacts:
    """What is known of an arm besides its predictions.

    settings: every field in which arms differ; in_grid: it is of the full product. metrics: metric → one value per
    seed. training_s: of each seed's fine-tuning; encoder_s: of all trainings before it. latency_ms and texts_per_s are
    of the first seed; None where speed was not measured.
    """

    name: str
    settings: Mapping[str, Any]
    in_grid: bool
    budget: ArmBudget
    metrics: Mapping[str, Sequence[float | None]]
    n_parameters: int
    bytes_on_disk: int
    training_s: tuple[float, ...]
    encoder_s: float
    latency_ms: float | None = None
    texts_per_s: float | None = None


@dataclass(frozen=True)
class Study:
    """All that is said of one task."""

    task: str
    split: str
    fields: tuple[str, ...]
    arms: tuple[ArmFacts, ...]
    scores: Scores
    standings: tuple[Standing, ...]
    effects: tuple[FieldEffect, ...]
    interactions: tuple[Interaction, ...]
    variance: VarianceShares | None
    fronts: tuple[ParetoFront, ...]
    budget: BudgetStatement
    insights: tuple[Insight, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; what has no value is None."""
        return {
            "task": self.task,
            "metric": self.scores.metric,
            "split": self.split,
            "n_rows": self.scores.n_rows,
            "n_resamples": len(self.scores.draws),
            "level": self.scores.level,
            "baseline": self.scores.baseline,
            "fields": list(self.fields),
            "budget": asdict(self.budget),
            "insights": [asdict(insight) for insight in self.insights],
            "arms": [self._arm(number) for number in range(len(self.arms))],
            "effects": [_effect_dict(effect) for effect in self.effects],
            "interactions": [_interaction_dict(found) for found in self.interactions],
            "variance": None if self.variance is None else _variance_dict(self.variance),
            "fronts": [_front_dict(front, self.scores.arms) for front in self.fronts],
        }

    def _arm(self, number: int) -> dict[str, Any]:
        facts, standing = self.arms[number], self.standings[number]
        return {
            **asdict(facts),
            "mean": standing.mean.to_dict(),
            "per_seed": [number_or_none(value) for value in standing.per_seed],
            "rank": standing.rank,
            "rank_interval": [standing.rank_low, standing.rank_high],
            "first_share": standing.first_share,
            "change": None if standing.change is None else standing.change.to_dict(),
            "p_adjusted": standing.p_adjusted,
        }


def study_arms(
    arms: Sequence[ArmFacts],
    predictions: Mapping[str, Sequence[Predictions]],
    *,
    task: str,
    split: str,
    metric: str,
    baseline: str,
    fields: Sequence[str],
    grid_fields: Sequence[str],
    unequal: Sequence[str],
    encoders_once: bool,
    n_resamples: int,
) -> Study:
    """The study of the arms, whose predictions (one per seed) are of the split that the task reports on.

    ``grid_fields`` are those of the full product, of which the variance is taken apart; ``unequal`` those declared to
    change the budget. Raises what ``score_arms`` raises.
    """
    scores = score_arms(predictions, baseline, metric, n_resamples=n_resamples)
    settings, standings = [arm.settings for arm in arms], rank_arms(scores)
    reference = settings[scores.arms.index(baseline)]
    effects = sorted(main_effects(scores, settings, fields, reference), key=lambda effect: -effect.span)
    inside = [number for number, arm in enumerate(arms) if arm.in_grid] or list(range(len(arms)))
    crossed = list(grid_fields) if arms[inside[0]].in_grid else list(fields)
    alone = [{field: settings[number][field] for field in crossed} for number in inside]
    pairs = interactions(scores.only(inside), alone, crossed, reference)
    variance = variance_shares(scores.only(inside), alone, crossed)
    fronts = [pareto_front(scores, cost, values) for cost, values in _costs(arms).items()]
    budget = state_budget([arm.budget for arm in arms], unequal)
    insights = [
        say_best(scores, standings),
        say_baseline(scores, standings),
        *(say_effect(scores, effect) for effect in effects),
        *([] if variance is None else [say_variance(variance, len(inside))]),
        *(say_interaction(scores, found) for found in pairs),
        *(say_front(scores, front) for front in fronts),
        say_seeds(scores, encoders_once=encoders_once and any(arm.encoder_s for arm in arms)),
    ]
    return Study(
        task,
        split,
        tuple(fields),
        tuple(arms),
        scores,
        tuple(standings),
        tuple(effects),
        tuple(pairs),
        variance,
        tuple(fronts),
        budget,
        tuple(insights),
    )


def _costs(arms: Sequence[ArmFacts]) -> dict[str, list[float]]:
    """What the arms cost, by name with its unit; a cost that all arms share tells them apart no more than none."""
    costs = {"parameters": [float(arm.n_parameters) for arm in arms]}
    times = [arm.latency_ms for arm in arms if arm.latency_ms is not None]
    if len(times) == len(arms):
        costs["ms for one text"] = times
    return {name: values for name, values in costs.items() if len(set(values)) > 1}


def _change_dict(change: PairedChange | None) -> dict[str, Any] | None:
    return None if change is None else {**_interval_dict(change.difference), "p_value": change.p_value}


def _interval_dict(interval: Interval) -> dict[str, Any]:
    return {name: value for name, value in interval.to_dict().items() if name in ("value", "low", "high")}


def _effect_dict(effect: FieldEffect) -> dict[str, Any]:
    return {
        "field": effect.field,
        "reference": effect.reference,
        "n_sets": effect.n_sets,
        "levels": [
            {
                "level": level.level,
                "mean": _interval_dict(level.mean),
                "change": _change_dict(level.change),
                "p_adjusted": level.p_adjusted,
            }
            for level in effect.levels
        ],
    }


def _interaction_dict(found: Interaction) -> dict[str, Any]:
    return {
        "fields": list(found.fields),
        "levels": [list(levels) for levels in found.levels],
        "references": list(found.references),
        "n_sets": found.n_sets,
        "cells": [list(row) for row in found.cells],
        "contrasts": [
            {
                "level": contrast.level,
                "other_level": contrast.other_level,
                "change": _change_dict(contrast.change),
                "p_adjusted": contrast.p_adjusted,
            }
            for contrast in found.contrasts
        ],
    }


def _variance_dict(shares: VarianceShares) -> dict[str, Any]:
    pairs = [{"fields": list(pair), "share": share} for pair, share in shares.pairs.items()]
    return {"fields": dict(shares.fields), "pairs": pairs, "rest": shares.rest, "chance": shares.chance}


def _front_dict(front: ParetoFront, arms: Sequence[str]) -> dict[str, Any]:
    return {
        "cost": front.cost,
        "arms": [
            {
                "arm": arm,
                "cost": front.costs[number],
                "on_front": front.on_front[number],
                "share": front.shares[number],
                "dominated_by": None if (by := front.dominated_by[number]) is None else arms[by],
            }
            for number, arm in enumerate(arms)
        ],
    }
