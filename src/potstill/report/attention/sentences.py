"""What a sample's attention says, in sentences computed from the numbers; nothing is claimed beyond its interval."""

from __future__ import annotations

import math
from typing import Literal

from potstill.analyse.attention.attribution import TOLERANCE, Attribution
from potstill.analyse.attention.change import FEWEST_TEXTS, AttentionChange, HeadMeans
from potstill.evaluate.significance import Interval
from potstill.report.sentences import percent

SMALLEST_MOVE = 0.01
"""A share that changes by less than one point is said to have hardly changed, however sure that is."""

Direction = Literal["rose", "fell", "hardly", "unsure"]


def attention_verdict(change: AttentionChange, *, of: str, by: str) -> list[str]:
    """How far attention moved and from what to what, the most important first, then where in the model and the rest.

    ``of``: which texts; ``by``: what made the difference.
    """
    read = f"Over {_texts(change.n_texts)} of {of} ({change.n_tokens:,} tokens)"
    if change.distance is None or change.changes is None:
        return [f"{read}, {_spread(change)}."]
    if change.distance.overall.value == 0:
        return [f"{read}, {by} changed nothing: every head attends as it did before."]
    moved = f"{read}, {by} moved attention by a Jensen–Shannon distance of {_distance(change.distance)}."
    if change.n_texts < FEWEST_TEXTS:
        return [f"{moved} {_composed(change)}", _where_in(change.distance), _too_few(change)]
    rest = [_where_in(change.distance), f"{_capital(_share(change, 'special'))}.", concentration(change)]
    return [f"{moved} {_where_to(change)}", *rest]


def direction_of(change: Interval) -> Direction:
    """What may be said of the change of a share: nothing where its interval holds zero or could not be placed."""
    if change.covers(0.0) or not math.isfinite(change.low + change.high):
        return "unsure"
    if abs(change.value) < SMALLEST_MOVE:
        return "hardly"
    return "rose" if change.value > 0 else "fell"


def concentration(change: AttentionChange) -> str:
    """Whether attention became more or less concentrated, by its entropy; empty where there is one model."""
    if change.changes is None:
        return ""
    before, after = (change.means[model]["relative_entropy"].overall for model in change.models)
    moved = {
        "rose": "is spread more widely",
        "fell": "is more concentrated",
        "hardly": "is hardly more or less concentrated",
        "unsure": "cannot be said to be more or less concentrated",
    }[direction_of(change.changes["relative_entropy"].overall)]
    return (
        f"Afterwards it {moved}: the entropy of a row is {percent(after.value)} of the most it could be, "
        f"and was {percent(before.value)}."
    )


def attribution_sentence(found: Attribution, label: str, agreement: float | None) -> str:
    """What a text's integrated gradients sum to, how complete they are, and whether attention ranks tokens alike."""
    told = (
        f"Integrated gradients towards “{label}”: its output is {_decimal(found.output)}, and "
        f"{_decimal(found.baseline)} with every word replaced by [PAD]. The bars sum to "
        f"{_decimal(float(found.values.sum()))} of {_decimal(found.output - found.baseline)}, "
        f"off by {100 * found.error:.2f}% of all bars together ({found.n_steps} steps)."
    )
    if not found.is_complete:
        told += f" That is more than the {percent(TOLERANCE)} allowed: take the bars with caution."
    if agreement is None:
        return told
    return (
        f"{told} Rank correlation of their sizes with the attention received in the last layer: {_decimal(agreement)}."
    )


def signed(number: str) -> str:
    """A formatted number with a true minus sign, and without one before zero."""
    plain = number.lstrip("+-") if not float(number.rstrip("%")) else number
    return plain.replace("-", "−")


def _decimal(value: float) -> str:
    return signed(f"{value:.2f}")


def _distance(distance: HeadMeans) -> str:
    overall = distance.overall
    between = "" if math.isnan(overall.low) else f", 95% interval {overall.low:.3f} to {overall.high:.3f}"
    return f"{overall.value:.3f} on average (0 is none, 1 the most there can be{between})"


def _where_in(distance: HeadMeans) -> str:
    """Which head moved most, and which layers most and least."""
    layer, head = divmod(int(distance.by_head.argmax()), distance.by_head.shape[1])
    told = f"The head that moved most is head {head} of layer {layer} ({distance.by_head[layer, head]:.2f})"
    by_layer = [mean.value for mean in distance.by_layer]
    if len(by_layer) < 2:
        return f"{told}."
    most, least = by_layer.index(max(by_layer)), by_layer.index(min(by_layer))
    return f"{told}; of the layers, {most} moved most ({by_layer[most]:.2f}) and {least} least ({by_layer[least]:.2f})."


def _where_to(change: AttentionChange) -> str:
    """The sentence on neighbours and content words."""
    assert change.changes is not None
    local, content = (direction_of(change.changes[name].overall) for name in ("local", "content"))
    shares = f"{_share(change, 'local')}, {_share(change, 'content')}"
    if (local, content) == ("fell", "rose"):
        return f"It moved from neighbouring tokens to content words: {shares}."
    if (local, content) == ("rose", "fell"):
        return f"It moved from content words to neighbouring tokens: {shares}."
    return f"{_capital(shares)}."


def _share(change: AttentionChange, name: str) -> str:
    """``the share on … fell from … to … (interval)``, or that it did not."""
    assert change.changes is not None
    before, after = (change.means[model][name].overall.value for model in change.models)
    moved = change.changes[name].overall
    subject = f"the share on {_what(change)[name]}"
    match direction_of(moved):
        case "unsure":
            return f"{subject} cannot be said to have changed ({percent(before)} and {percent(after)})"
        case "hardly":
            return f"{subject} hardly changed ({percent(before)} and {percent(after)})"
        case verb:
            return f"{subject} {verb} from {percent(before)} to {percent(after)} ({_points(moved)})"


def _composed(change: AttentionChange) -> str:
    before, after = change.models
    told = [
        f"{percent(change.means[before][name].overall.value)} and {percent(change.means[after][name].overall.value)} "
        f"to {_what(change)[name]}"
        for name in ("local", "content", "special")
    ]
    return f"Before and after, a token gives {told[0]}, {told[1]}, and {told[2]}."


def _spread(change: AttentionChange) -> str:
    (model,) = change.models
    told = [
        f"{percent(change.means[model][name].overall.value)} to {_what(change)[name]}"
        for name in ("special", "content", "local")
    ]
    return f"a token gives, on average over all heads, {told[0]}, {told[1]} and {told[2]}"


def _too_few(change: AttentionChange) -> str:
    told = "1 text tells" if change.n_texts == 1 else f"{change.n_texts} texts tell"
    return f"{told} little of others: no interval is given under {FEWEST_TEXTS}."


def _what(change: AttentionChange) -> dict[str, str]:
    near = f"tokens at most {change.reach} away" if change.reach else "the token itself"
    return {"local": near, "content": "content words", "special": "[CLS] and [SEP]"}


def _points(interval: Interval) -> str:
    low, high = (signed(f"{100 * bound:+.1f}") for bound in (interval.low, interval.high))
    return f"95% interval of the change {low} to {high} points"


def _texts(n_texts: int) -> str:
    return "1 text" if n_texts == 1 else f"{n_texts:,} texts"


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
