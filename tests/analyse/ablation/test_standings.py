"""Means, ranks and resamples. The oracles are numpy and scipy step by step, scikit-learn, and numbers by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import false_discovery_control, rankdata
from sklearn.metrics import accuracy_score

from potstill.analyse.ablation.standings import draw_seeds, rank_arms, score_arms
from potstill.errors import CheckError, DataError
from potstill.evaluate.resampling import draw_rows


def test_the_scores_of_arms_are_scikit_learns(three_arms):
    scores = score_arms(three_arms, "middle", "accuracy", n_resamples=20)
    expected = [[accuracy_score(one.targets, one.predicted) for one in seeds] for seeds in three_arms.values()]
    np.testing.assert_array_equal(scores.per_seed, expected)
    np.testing.assert_allclose(scores.means, np.mean(expected, axis=1))
    assert (scores.arms, scores.n_rows, scores.n_seeds) == (("weak", "middle", "strong"), 200, 3)


def test_a_resample_draws_rows_and_seeds_alike_for_all_arms(three_arms):
    # oracle: the same rows drawn by evaluate, the same seeds drawn here, accuracies counted row by row
    scores = score_arms(three_arms, "middle", "accuracy", n_resamples=30, seed=5)
    right = np.array([[one.predicted == one.targets for one in seeds] for seeds in three_arms.values()])
    rows = np.concatenate(list(draw_rows(200, 30, 5)))
    seeds = np.random.default_rng([5, 3]).integers(0, 3, size=(30, 1, 3))[:, 0]
    for resample in range(30):
        drawn = right[:, seeds[resample]][:, :, rows[resample]]
        np.testing.assert_allclose(scores.draws[resample], drawn.mean(axis=(1, 2)))


def test_one_seed_is_drawn_as_itself():
    rows = np.random.default_rng(0).random((50, 4, 1))
    np.testing.assert_array_equal(draw_seeds(rows, 9), rows[:, :, 0])


def test_seeds_drawn_with_replacement_spread_as_theory_says():
    # the bootstrap's standard error of a mean of n values is their standard deviation (ddof 0) over the root of n
    values = np.array([0.2, 0.5, 0.9])
    drawn = draw_seeds(np.broadcast_to(values, (40_000, 1, 3)), 0)[:, 0]
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.005)
    assert drawn.std() == pytest.approx(values.std() / np.sqrt(3), rel=0.02)


def test_ranks_and_their_bounds_are_scipys(make_scores):
    scores = make_scores({"a": [0.50, 0.52], "b": [0.70, 0.69], "c": [0.71, 0.69], "d": [0.90, 0.91]}, "a")
    standings = rank_arms(scores)
    assert [one.rank for one in standings] == [4, 3, 2, 1]
    ranks = np.array([rankdata(-draw) for draw in scores.draws])
    low, high = np.percentile(ranks, [2.5, 97.5], axis=0)
    assert [one.rank_low for one in standings] == np.floor(low).tolist()
    assert [one.rank_high for one in standings] == np.ceil(high).tolist()
    assert [(one.rank_low, one.rank_high) for one in standings] == [(4, 4), (2, 3), (2, 3), (1, 1)]
    first = np.argmax(scores.draws, axis=1)
    assert [one.first_share for one in standings] == [pytest.approx((first == arm).mean()) for arm in range(4)]
    for number, one in enumerate(standings):
        assert one.mean.value == pytest.approx(np.mean(one.per_seed))
        assert (one.mean.low, one.mean.high) == pytest.approx(np.quantile(scores.draws[:, number], [0.025, 0.975]))


def test_arms_that_are_equal_share_the_better_rank_and_the_first_place(make_scores):
    scores = make_scores({"a": [0.5], "b": [0.8], "c": [0.8]}, noise=0.0)
    standings = rank_arms(scores)
    assert [one.rank for one in standings] == [3, 1, 1]
    assert [one.first_share for one in standings] == [0.0, 0.5, 0.5]
    assert [(one.rank_low, one.rank_high) for one in standings[1:]] == [(1, 2), (1, 2)]


def test_the_rank_of_many_equal_arms_lies_within_its_bounds(make_scores):
    # arms that answer one class always are equal in every resample: each may be first, each may be last of them
    scores = make_scores({"a": [0.5], "b": [0.0], "c": [0.0], "d": [0.0], "e": [0.0]}, noise=0.0)
    standings = rank_arms(scores)
    assert [(one.rank, one.rank_low, one.rank_high) for one in standings] == [(1, 1, 1), *[(2, 2, 5)] * 4]


def test_the_order_of_seeds_parts_no_arms(make_scores):
    # 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in their last bit
    assert (0.1 + 0.2 + 0.3) != (0.3 + 0.2 + 0.1)
    assert [one.rank for one in rank_arms(make_scores({"a": [0.1, 0.2, 0.3], "b": [0.3, 0.2, 0.1]}))] == [1, 1]


def test_less_is_better_of_a_loss(make_scores):
    standings = rank_arms(make_scores({"a": [0.5], "b": [0.8]}, metric="log_loss"))
    assert [one.rank for one in standings] == [1, 2]


def test_an_arm_without_a_value_is_last(make_scores):
    standings = rank_arms(make_scores({"a": [0.5], "b": [float("nan")], "c": [0.4]}))
    assert [one.rank for one in standings] == [1, 3, 2]


def test_changes_are_held_against_the_baseline_and_corrected_for_their_number(make_scores):
    scores = make_scores({"base": [0.7], "same": [0.7], "worse": [0.5], "better": [0.9]}, "base")
    standings = rank_arms(scores)
    assert standings[0].change is None
    assert [one.change.difference.value for one in standings[1:]] == pytest.approx([0.0, -0.2, 0.2])
    p_values = [one.change.p_value for one in standings[1:]]
    assert [one.p_adjusted for one in standings[1:]] == pytest.approx(false_discovery_control(p_values))
    assert [one.differs() for one in standings] == [False, False, True, True]
    # by hand: nothing of 400 resamples on the other side, itself counted in, twice, times 3 comparisons over 2 so small
    assert p_values[1] == pytest.approx(2 / 401)
    assert standings[2].p_adjusted == pytest.approx(3 / 2 * 2 / 401)


def test_arms_of_other_rows_or_other_numbers_of_seeds_are_refused(make_predictions, three_arms):
    fewer = {**three_arms, "weak": three_arms["weak"][:2]}
    with pytest.raises(CheckError, match="weak 2, middle 3, strong 3"):
        score_arms(fewer, "middle", "accuracy")
    others = {**three_arms, "weak": [make_predictions([True] * 199)] * 3}
    with pytest.raises(DataError, match="did not predict the same rows"):
        score_arms(others, "middle", "accuracy")
    with pytest.raises(DataError, match="the baseline is not among the arms"):
        score_arms(three_arms, "absent", "accuracy")
