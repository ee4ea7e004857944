"""Sentences on attention say what the numbers say, and no more."""

from __future__ import annotations

import math

import numpy as np
import pytest

from potstill.analyse.attention.attribution import Attribution
from potstill.analyse.attention.change import AttentionChange, HeadMeans
from potstill.analyse.attention.distance import MEASURES, SHARES
from potstill.evaluate.significance import Interval
from potstill.report.attention.sentences import attention_verdict, attribution_sentence, concentration, direction_of

MOVED = "It moved from neighbouring tokens to content words"


def means_of(value, spread=0.001):
    """A mean with an interval of ``spread`` on either side; two layers of two heads, the last head the largest."""
    interval = Interval(value, value - spread, value + spread, 0.95, 1000)
    by_head = np.array([[value - 0.02, value], [value, value + 0.02]])
    layers = tuple(Interval(float(row.mean()), math.nan, math.nan, 0.95, 1000) for row in by_head)
    return HeadMeans(interval, layers, by_head)


def change_of(spread=0.001, n_texts=500, distance=0.2, **changes):
    """Every share 0.3 before, and changed by what is given for it."""
    moved = {name: changes.get(name, 0.0) for name in MEASURES}
    return AttentionChange(
        n_texts=n_texts,
        n_tokens=40 * n_texts,
        reach=2,
        means={
            "before": {name: means_of(0.3) for name in MEASURES},
            "after": {name: means_of(0.3 + moved[name]) for name in MEASURES},
        },
        changes={name: means_of(value, spread) for name, value in moved.items()},
        distance=means_of(distance),
        uniform=dict.fromkeys(SHARES, 0.2),
    )


def told(change):
    return " ".join(attention_verdict(change, of="imdb, split test", by="fine-tuning"))


def test_attention_moved_to_content_words_only_where_both_numbers_say_so():
    assert MOVED in told(change_of(local=-0.05, content=0.06))
    assert "fell from 30.0% to 25.0% (95% interval of the change −5.1 to −4.9 points)" in told(
        change_of(local=-0.05, content=0.06)
    )
    assert "from content words to neighbouring tokens" in told(change_of(local=0.05, content=-0.06))
    for less in (
        change_of(local=-0.05),
        change_of(content=0.06),
        change_of(local=0.05, content=0.06),
        change_of(local=-0.005, content=0.006),
        change_of(spread=0.08, local=-0.05, content=0.06),
        change_of(spread=math.nan, local=-0.05, content=0.06),
        change_of(n_texts=5, local=-0.05, content=0.06),
    ):
        assert "It moved from" not in told(less)


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (0.05, 0.04, 0.06, "rose"),
        (-0.05, -0.06, -0.04, "fell"),
        (0.005, 0.004, 0.006, "hardly"),
        (0.05, -0.01, 0.11, "unsure"),
        (0.05, math.nan, math.nan, "unsure"),
        (0.0, 0.0, 0.0, "unsure"),
    ],
)
def test_a_direction_needs_an_interval_beside_zero_and_a_point_of_change(value, low, high, expected):
    assert direction_of(Interval(value, low, high, 0.95, 1000)) == expected


def test_the_verdict_names_the_distance_and_where_it_is_largest():
    sentence = told(change_of())
    assert "Over 500 texts of imdb, split test (20,000 tokens), fine-tuning moved attention" in sentence
    assert "0.200 on average (0 is none, 1 the most there can be, 95% interval 0.199 to 0.201)" in sentence
    assert "head 1 of layer 1 (0.22); of the layers, 1 moved most (0.21) and 0 least (0.19)" in sentence


def test_attention_that_did_not_move_is_said_not_to_have():
    still = change_of()
    nothing = HeadMeans(Interval(0, 0, 0, 0.95, 1000), (Interval(0, 0, 0, 0.95, 1000),) * 2, np.zeros((2, 2)))
    still = AttentionChange(**{**still.__dict__, "distance": nothing})
    assert "changed nothing: every head attends as it did before" in told(still)


def test_few_texts_are_said_to_tell_little():
    assert "5 texts tell little of others: no interval is given under 20." in told(change_of(n_texts=5))
    assert "1 text tells little of others" in told(change_of(n_texts=1))


def test_one_model_is_described_and_not_compared():
    change = change_of()
    alone = AttentionChange(
        **{**change.__dict__, "means": {"after": change.means["after"]}, "changes": None, "distance": None}
    )
    assert "a token gives, on average over all heads, 30.0% to [CLS] and [SEP]" in told(alone)
    assert concentration(alone) == ""


def test_concentration_follows_the_entropy():
    assert "is more concentrated" in concentration(change_of(relative_entropy=-0.05))
    assert "is spread more widely" in concentration(change_of(relative_entropy=0.05))
    assert "cannot be said" in concentration(change_of(spread=0.1, relative_entropy=0.05))
    assert "hardly" in concentration(change_of(spread=0.0001, relative_entropy=0.005))


def test_an_attribution_says_how_complete_it_is():
    complete = Attribution(np.array([2.0, -0.5, 0.499]), 1, output=2.5, baseline=0.5, n_steps=50)
    sentence = attribution_sentence(complete, "pos", 0.25)
    assert "The bars sum to 2.00 of 2.00, off by 0.03% of all bars together (50 steps)." in sentence
    assert "last layer: 0.25." in sentence
    assert "caution" not in sentence
    broken = Attribution(np.array([2.0, -0.5]), 1, output=2.5, baseline=0.5, n_steps=300)
    assert "more than the 5.0% allowed: take the bars with caution" in attribution_sentence(broken, "pos", None)
