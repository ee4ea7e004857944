"""The front of quality against cost, against its definition over all pairs, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.analyse.ablation.pareto import pareto_front


def test_the_front_by_hand(make_scores):
    # small and poor, large and good stand; the middle is beaten by an arm as large and better, the last by all
    scores = make_scores({"small": [0.5], "beaten": [0.6], "good": [0.7], "large": [0.8], "worst": [0.4]}, noise=0.0)
    front = pareto_front(scores, "parameters", [1, 2, 2, 3, 4])
    assert front.on_front == (True, False, True, True, False)
    assert front.dominated_by == (None, 2, None, None, 3)
    assert front.shares == (1.0, 0.0, 1.0, 1.0, 0.0)


def test_equal_arms_do_not_beat_each_other(make_scores):
    front = pareto_front(make_scores({"a": [0.5], "b": [0.5]}, noise=0.0), "parameters", [3, 3])
    assert front.on_front == (True, True)


def test_of_a_loss_less_is_on_the_front(make_scores):
    front = pareto_front(make_scores({"a": [0.5], "b": [0.9]}, metric="log_loss", noise=0.0), "parameters", [3, 3])
    assert front.on_front == (True, False)


def test_an_arm_without_a_score_is_not_on_the_front(make_scores):
    front = pareto_front(make_scores({"a": [0.5], "b": [float("nan")]}, noise=0.0), "parameters", [3, 1])
    assert front.on_front == (True, False)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8))
def test_the_front_is_who_nobody_beats(make_scores, arms: list[tuple[int, int]]):
    scores = make_scores({str(n): [quality / 10] for n, (quality, _) in enumerate(arms)}, noise=0.0)
    front = pareto_front(scores, "cost", [cost for _, cost in arms])
    for number, (quality, cost) in enumerate(arms):
        beaten = any(q >= quality and c <= cost and (q > quality or c < cost) for q, c in arms)
        assert front.on_front[number] is not beaten


def test_shares_are_counted_over_the_resamples(make_scores):
    # the cheap arm is always on the front; the dear one where it is better, which is half of the time
    scores = make_scores({"cheap": [0.5], "dear": [0.5]}, noise=0.01)
    front = pareto_front(scores, "cost", [1, 2])
    assert front.shares[0] == 1.0
    assert front.shares[1] == pytest.approx(np.mean(scores.draws[:, 1] > scores.draws[:, 0]))
    assert 0.3 < front.shares[1] < 0.7
