"""Sentences of an ablation, each computed from the numbers that stand beside it; none is written for one result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from potstill.analyse.ablation.effects import FieldEffect, Interaction, LevelEffect, VarianceShares
from potstill.analyse.ablation.pareto import ParetoFront
from potstill.analyse.ablation.standings import Scores, Standing, adjust
from potstill.evaluate.significance import Interval, number_or_none

SIGNIFICANT = 0.05
"""Below this p-value, corrected for the number of comparisons, a difference is more than chance explains."""

FEW_SEEDS = 5
"""With fewer seeds than this, intervals over them are said to be too narrow."""

MOST_NAMED = 4


@dataclass(frozen=True)
class Insight:
    """One thing that the numbers say: its kind, a sentence, and the numbers in it."""

    kind: str
    sentence: str
    numbers: Mapping[str, Any]


def say_value(value: Any) -> str:
    """A value of a field as a person writes it."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(say_value, value)) + "]"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def say_best(scores: Scores, standings: Sequence[Standing]) -> Insight:
    """The arm with the best mean, how sure its place is, and who cannot be told from it."""
    best = min(standings, key=lambda one: one.rank)
    number = scores.arms.index(best.arm)
    others = [other for other in range(len(scores.arms)) if other != number]
    p_values = adjust([scores.change([other], [number]) for other in others])
    close = [scores.arms[other] for other, p in zip(others, p_values, strict=True) if p is None or p >= SIGNIFICANT]
    seeds = f"the mean of {scores.n_seeds} seeds" if scores.n_seeds > 1 else "one seed"
    sentence = (
        f"“{best.arm}” has the best {scores.metric}, {_with_interval(best.mean)}, {seeds} on {scores.n_rows:,} rows. "
        f"It comes first in {best.first_share:.0%} of resamples; {_close(close, len(others))}."
    )
    numbers = {"arm": best.arm, **best.mean.to_dict(), "first_share": best.first_share, "not_distinguishable": close}
    return Insight("best", sentence, numbers)


def say_baseline(scores: Scores, standings: Sequence[Standing]) -> Insight:
    """How many arms are better and worse than the baseline by more than chance explains."""
    base = next(one for one in standings if one.arm == scores.baseline)
    others = [one for one in standings if one.change is not None]
    better = [one.arm for one in others if one.differs(SIGNIFICANT) and _gain(scores, one) > 0]
    worse = [one.arm for one in others if one.differs(SIGNIFICANT) and _gain(scores, one) < 0]
    rest = len(others) - len(better) - len(worse)
    level = f"; {rest} cannot be told from it" if rest else ""
    sentence = (
        f"Against the baseline “{base.arm}” ({_fig(base.mean.value)}), {_named(better, 'better')} and "
        f"{_named(worse, 'worse')}{level} (at p < {SIGNIFICANT}, corrected for "
        f"{len(others)} {'comparison' if len(others) == 1 else 'comparisons'})."
    )
    return Insight("baseline", sentence, {"baseline": base.arm, "better": better, "worse": worse, "neither": rest})


def say_effect(scores: Scores, effect: FieldEffect) -> Insight:
    """A field's values side by side, and the largest change from the reference value."""
    values = ", ".join(f"{_fig(level.mean.value)} at {say_value(level.level)}" for level in effect.levels)
    sets = "one set" if effect.n_sets == 1 else f"{effect.n_sets} sets"
    changed = [level for level in effect.levels if level.change is not None]
    strongest = max(changed, key=_size)
    sure = strongest.p_adjusted is not None and strongest.p_adjusted < SIGNIFICANT
    told = "changes by" if sure else "does not change by more than chance explains:"
    change = f"it {told} {_signed(_difference(strongest))}, {_p(strongest.p_adjusted)}"
    change += _trend(scores, effect) if sure else ""
    sentence = (
        f"{effect.field}: {scores.metric} is {values}, over {sets} of arms alike in all else; from "
        f"{say_value(effect.reference)} to {say_value(strongest.level)} "
        f"{change if _size(strongest) >= 0 else 'the change has no value'}."
    )
    numbers = {
        "field": effect.field,
        "means": {say_value(level.level): level.mean.to_dict() for level in effect.levels},
        "reference": effect.reference,
        "strongest": strongest.level,
        "change": _difference(strongest).to_dict(),
        "p_adjusted": strongest.p_adjusted,
    }
    return Insight("effect", sentence, numbers)


def say_variance(shares: VarianceShares, n_arms: int) -> Insight:
    """Which fields the differences between arms go with."""
    fields = sorted(shares.fields.items(), key=lambda item: -item[1])
    pairs = sum(shares.pairs.values())
    (field, share), *others = fields
    parts = [f"{share:.0%} goes with {field}", *(f"{share:.0%} with {field}" for field, share in others)]
    parts.append(f"{pairs:.0%} with pairs of fields")
    if shares.rest >= 0.005:
        parts.append(f"{shares.rest:.0%} with more than two at once")
    chance = (
        "one seed does not tell how much of it is chance"
        if shares.chance is None
        else f"if all arms were equal, seeds alone would be expected to make {shares.chance:.0%} of it"
    )
    sentence = f"Of the variance between the {n_arms} arms of the full grid, {_listed(parts)}; {chance}."
    numbers = {
        "fields": dict(shares.fields),
        "pairs": {" × ".join(pair): share for pair, share in shares.pairs.items()},
        "rest": shares.rest,
        "chance": shares.chance,
    }
    return Insight("variance", sentence, numbers)


def say_interaction(scores: Scores, found: Interaction) -> Insight:
    """Whether what one field changes depends on another, by the strongest contrast."""
    strongest, (one, other) = found.contrasts[0], found.fields
    sure = strongest.p_adjusted is not None and strongest.p_adjusted < SIGNIFICANT
    change = strongest.change.difference
    step = f"the step from {say_value(found.references[0])} to {say_value(strongest.level)} changes {scores.metric}"
    where = f"at {other} {say_value(strongest.other_level)} than at {say_value(found.references[1])}"
    figures = f"by {_signed(change)}, {_p(strongest.p_adjusted)}"
    sentence = (
        f"What {one} changes depends on {other}: {step} differently {where}, {figures}."
        if sure
        else f"Chance explains every sign that what {one} changes depends on {other}: at most {step} differently "
        f"{where}, {figures}."
    )
    numbers = {
        "fields": list(found.fields),
        "level": strongest.level,
        "other_level": strongest.other_level,
        "change": change.to_dict(),
        "p_adjusted": strongest.p_adjusted,
    }
    return Insight("interaction", sentence, numbers)


def say_front(scores: Scores, front: ParetoFront) -> Insight:
    """The arms that no other beats at no more cost, cheapest first, and what beats the baseline if something does."""
    order = sorted((number for number, on in enumerate(front.on_front) if on), key=lambda number: front.costs[number])
    told = [f"“{scores.arms[n]}” ({say_cost(front.costs[n])}, {_fig(float(scores.means[n]))})" for n in order]
    listed = _listed(told if len(told) <= 2 * MOST_NAMED else [*told[:MOST_NAMED], f"{len(told) - MOST_NAMED} more"])
    sentence = (
        f"{len(order)} of {len(scores.arms)} arms are on the front of {scores.metric} against {front.cost}: {listed}."
    )
    base = scores.arms.index(scores.baseline) if scores.baseline in scores.arms else None
    by = None if base is None else front.dominated_by[base]
    if base is not None and by is not None:
        sentence += f" The baseline is not: “{scores.arms[by]}” is at least as good at no more cost."
    numbers = {
        "cost": front.cost,
        "front": [scores.arms[number] for number in order],
        "shares": {scores.arms[number]: front.shares[number] for number in order},
        "beats_the_baseline": None if by is None else scores.arms[by],
    }
    return Insight("front", sentence, numbers)


def say_seeds(scores: Scores, *, encoders_once: bool) -> Insight:
    """How far seeds move a figure beside what arms do, and what is not in the intervals."""
    between = float(np.nanstd(scores.means, ddof=1))
    encoders = " Each encoder was made once, so the chance in making it is in no interval." if encoders_once else ""
    if scores.n_seeds == 1:
        sentence = "Every arm has one seed: intervals are over the rows, and what another seed would change is unknown."
        return Insight("seeds", sentence + encoders, {"n_seeds": 1, "between_arms": number_or_none(between)})
    within = float(np.sqrt(np.nanmean(scores.per_seed.var(axis=1, ddof=1))))
    few = " So few seeds say little of others: the intervals are too narrow." if scores.n_seeds < FEW_SEEDS else ""
    sentence = (
        f"Seeds of one arm differ by {_fig(within)} in {scores.metric} (standard deviation, over the arms), the "
        f"means of the arms by {_fig(between)}.{few}"
    )
    numbers = {"n_seeds": scores.n_seeds, "within_arm": number_or_none(within), "between_arms": number_or_none(between)}
    return Insight("seeds", sentence + encoders, numbers)


def say_cost(value: float) -> str:
    """A cost in few characters: ``4.1 M``, ``12.3``."""
    return f"{value / 1e6:.3g} M" if value >= 1e5 else f"{value:.3g}"


def _difference(level: LevelEffect) -> Interval:
    assert level.change is not None, "only the reference has none"
    return level.change.difference


def _size(level: LevelEffect) -> float:
    """How large its change is; below any where that has no value."""
    value = abs(_difference(level).value)
    return -1.0 if np.isnan(value) else value


def _gain(scores: Scores, standing: Standing) -> float:
    return 0.0 if standing.change is None else scores.better * standing.change.difference.value


def _trend(scores: Scores, effect: FieldEffect) -> str:
    """Whether the metric rises or falls with every step of a field of three numbers or more."""
    if len(effect.levels) < 3 or not all(_is_number(level.level) for level in effect.levels):
        return ""
    steps = np.diff([level.mean.value for level in effect.levels])
    word = "rises" if (steps > 0).all() else "falls" if (steps < 0).all() else ""
    return f", and it {word} with every step" if word else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fig(value: float) -> str:
    return "no value" if np.isnan(value) else f"{value:.4g}"


def _with_interval(interval: Interval) -> str:
    if np.isnan(interval.low):
        return _fig(interval.value)
    return f"{_fig(interval.value)} ({interval.level:.0%} interval {_fig(interval.low)} to {_fig(interval.high)})"


def _signed(interval: Interval) -> str:
    if np.isnan(interval.low):
        return f"{interval.value:+.3g}"
    return f"{interval.value:+.3g} ({interval.level:.0%} interval {interval.low:+.3g} to {interval.high:+.3g})"


def _p(p_value: float | None) -> str:
    if p_value is None:
        return "not tested"
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def _close(names: Sequence[str], n_all: int) -> str:
    """Who cannot be told from the best arm."""
    if not names:
        return "chance does not explain its lead over any other"
    if len(names) <= MOST_NAMED:
        return f"{_listed([f'“{name}”' for name in names])} cannot be told from it"
    return f"{len(names)} of the other {n_all} cannot be told from it"


def _named(names: Sequence[str], word: str) -> str:
    """``2 arms are better (a and b)``."""
    shown = f" ({_listed(names)})" if 0 < len(names) <= MOST_NAMED else ""
    return f"{len(names) or 'no'} {'arm is' if len(names) == 1 else 'arms are'} {word}{shown}"


def _listed(words: Sequence[str]) -> str:
    items = list(words)
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
