"""Oracles: scipy.stats.bootstrap over rows, the binomial law by hand, and properties of equal and shuffled arms."""

from __future__ import annotations

import json
from dataclasses import replace
from math import comb
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from potstill.errors import DataError
from potstill.evaluate.metrics import METRICS, compute_metrics
from potstill.evaluate.retention import compare_arms
from potstill.evaluate.significance import (
    Interval,
    McNemar,
    PairedChange,
    align_outcomes,
    change_of,
    interval_of,
    mcnemar,
)
from potstill.records import PROBLEM_TYPES, Predictions

SINGLE, MULTI, REGRESSION = PROBLEM_TYPES
EVERY_METRIC = [(problem_type, name) for problem_type in PROBLEM_TYPES for name in METRICS[problem_type]]


def interval_alone(several: Predictions | list[Predictions], metric: str, **how: Any) -> Interval:
    """The interval of one arm that nothing is compared with."""
    seeds = [several] if isinstance(several, Predictions) else several
    return compare_arms({"arm": seeds}, "arm", metric, [metric], **how).arms["arm"].metrics[metric].interval


def change(arm: Predictions, reference: Predictions, metric: str, **how: Any) -> PairedChange:
    """What ``compare`` says that an arm changes against a reference."""
    both = {"arm": [arm], "reference": [reference]}
    return compare_arms(both, "reference", metric, [metric], **how).arms["arm"].changes[metric]


def mcnemar_of(a: Predictions, b: Predictions) -> McNemar:
    """The test on predictions that are first brought into one order."""
    outcomes = align_outcomes({"a": [a], "b": [b]})
    return mcnemar(outcomes["a"][0], outcomes["b"][0])


def _shuffle(predictions: Predictions, seed: int) -> Predictions:
    order = np.random.default_rng(seed).permutation(len(predictions))
    assert predictions.targets is not None
    return replace(
        predictions,
        ids=predictions.ids[order],
        logits=predictions.logits[order],
        targets=predictions.targets[order],
    )


@pytest.mark.parametrize(
    ("problem_type", "metric", "statistic"),
    [
        (SINGLE, "accuracy", sk.accuracy_score),
        (SINGLE, "f1_macro", lambda t, p: sk.f1_score(t, p, average="macro")),
        (REGRESSION, "pearsonr", lambda t, p: np.corrcoef(t, p)[0, 1]),
    ],
)
def test_interval_is_that_of_scipys_bootstrap_over_rows(random_predictions, problem_type, metric, statistic):
    predictions = random_predictions(problem_type, 200, 3, 1)
    ours = interval_alone(predictions, metric, n_resamples=4000, seed=1)
    theirs = stats.bootstrap(
        (predictions.targets, predictions.predicted),
        statistic,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=600,
        rng=np.random.default_rng(0),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.2 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.2 * width)


def test_interval_of_accuracy_has_the_width_of_the_binomial_law(labelled):
    predicted = [0] * 90 + [1] * 10
    interval = interval_alone(labelled([0] * 100, predicted, 2), "accuracy", n_resamples=20_000)
    assert interval.value == pytest.approx(0.9)
    assert interval.low == pytest.approx(stats.binom.ppf(0.025, 100, 0.9) / 100, abs=0.011)
    assert interval.high == pytest.approx(stats.binom.ppf(0.975, 100, 0.9) / 100, abs=0.011)


@pytest.mark.parametrize(("problem_type", "metric"), EVERY_METRIC)
def test_order_of_rows_changes_no_interval(random_predictions, problem_type, metric):
    predictions = random_predictions(problem_type, 60, 2, 4)
    first = interval_alone(predictions, metric, n_resamples=50, seed=3)
    second = interval_alone(_shuffle(predictions, 9), metric, n_resamples=50, seed=3)
    assert (second.value, second.low, second.high) == pytest.approx((first.value, first.low, first.high), nan_ok=True)


@pytest.mark.parametrize(("problem_type", "metric"), EVERY_METRIC)
def test_equal_arms_retain_exactly_all_with_p_one(random_predictions, problem_type, metric):
    predictions = random_predictions(problem_type, 60, 2, 4)
    changed = change(_shuffle(predictions, 2), predictions, metric, n_resamples=60)
    assert (changed.difference.value, changed.difference.low, changed.difference.high) == (0, 0, 0)
    assert changed.p_value == 1
    if METRICS[problem_type][metric].higher_is_better:
        assert changed.retention is not None
        assert (changed.retention.value, changed.retention.low, changed.retention.high) == (1, 1, 1)
    else:
        assert changed.retention is None


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**20), skill=st.floats(0, 3))
def test_swapping_the_arms_turns_the_difference_around(random_predictions, seed, skill):
    a = random_predictions(SINGLE, 50, 3, seed, skill=skill, truth=seed)
    b = random_predictions(SINGLE, 50, 3, seed + 1, truth=seed)
    forth = change(a, b, "accuracy", n_resamples=99, seed=seed)
    back = change(b, a, "accuracy", n_resamples=99, seed=seed)
    assert back.p_value == forth.p_value
    assert back.difference.value == pytest.approx(-forth.difference.value)
    assert (back.difference.low, back.difference.high) == pytest.approx((-forth.difference.high, -forth.difference.low))


def test_pairing_narrows_the_difference_of_like_arms(labelled):
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 400)
    wrong = rng.random(400) < 0.3
    a, b = np.where(wrong, 1 - targets, targets), np.where(wrong, 1 - targets, targets)
    b[:4] = 1 - b[:4]
    arms = [labelled(targets.tolist(), predicted.tolist(), 2) for predicted in (a, b)]
    alone = interval_alone(arms[0], "accuracy")
    paired = change(arms[0], arms[1], "accuracy").difference
    assert paired.high - paired.low < 0.3 * (alone.high - alone.low)


def test_several_seeds_count_by_their_median(random_predictions):
    several = [random_predictions(SINGLE, 80, 3, seed) for seed in range(3)]
    interval = interval_alone(several, "accuracy", n_resamples=200)
    assert interval.value == sorted(compute_metrics(one, ["accuracy"])["accuracy"] for one in several)[1]
    assert interval.low < interval.value < interval.high


def test_one_seed_given_twice_has_the_interval_of_one(random_predictions):
    one = random_predictions(SINGLE, 80, 3, 1)
    assert interval_alone([one, one], "accuracy") == interval_alone(one, "accuracy")


def test_interval_of_an_arm_does_not_depend_on_the_other_arms(random_predictions):
    arms = {name: [random_predictions(SINGLE, 70, 3, seed)] for seed, name in enumerate("abcd")}
    alone = interval_alone(arms["b"], "f1_macro", n_resamples=80)
    four = compare_arms(arms, "a", "f1_macro", n_resamples=80).arms["b"]
    two = compare_arms({name: arms[name] for name in "ba"}, "a", "f1_macro", n_resamples=80).arms["b"]
    assert alone == four.metrics["f1_macro"].interval == two.metrics["f1_macro"].interval
    assert four.changes["f1_macro"] == two.changes["f1_macro"]


def test_same_seed_same_interval_another_seed_another(random_predictions):
    one = random_predictions(REGRESSION, 40, 1, 1)
    first, again, other = (interval_alone(one, "mean_squared_error", seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_bounds_are_not_placed_when_too_many_resamples_have_no_value():
    values = np.linspace(0, 1, 1000)
    values[:25] = np.nan
    assert interval_of(0.5, values, 0.95).n_undefined == 25
    assert interval_of(0.5, values, 0.95).high == pytest.approx((25 + 0.975 * 974) / 999)
    values[25] = np.nan
    unknown = interval_of(0.5, values, 0.95)
    assert np.isnan([unknown.low, unknown.high]).all()
    assert unknown.covers(12.0)
    assert json.loads(json.dumps(unknown.to_dict(), allow_nan=False))["low"] is None


def test_retention_is_refused_where_the_reference_is_not_above_zero():
    draws = np.array([0.1, 0.2, 0.3])
    assert change_of(0.2, 0.0, draws, draws, metric="matthews_corrcoef", level=0.95).retention is None
    partly = change_of(0.2, 0.1, draws, np.array([-0.1, 0.1, 0.1]), metric="matthews_corrcoef", level=0.95).retention
    assert partly is not None
    assert partly.value == pytest.approx(2.0)
    assert partly.n_undefined == 1
    assert np.isnan(partly.low)


def test_p_value_is_worked_by_hand():
    # 2 of 9 differences are not above nought: p = 2 (2 + 1) / (9 + 1).
    differences = np.array([-1.0, 0.0, 1, 1, 1, 1, 1, 1, 1])
    changed = change_of(1.0, 0.5, differences, np.zeros(9), metric="accuracy", level=0.95)
    assert changed.p_value == pytest.approx(0.6)


def test_interval_covers_its_bounds():
    interval = Interval(0.5, 0.0, 1.0, 0.95, 100)
    assert interval.covers(0.0)
    assert interval.covers(1.0)
    assert not interval.covers(-0.01)


def test_mcnemar_is_worked_by_hand(labelled):
    # Six rows only a has right, one row only b: p = 2 (C(7,0) + C(7,1)) / 2^7 = .125.
    a = labelled([0] * 10, [0] * 6 + [1] + [0, 0] + [1], 2)
    b = labelled([0] * 10, [1] * 6 + [0] + [0, 0] + [1], 2)
    result = mcnemar_of(a, b)
    assert (result.only_a, result.only_b, result.both_right, result.both_wrong) == (6, 1, 2, 1)
    assert result.p_value == pytest.approx(2 * (comb(7, 0) + comb(7, 1)) / 2**7)
    assert mcnemar_of(b, a).p_value == pytest.approx(result.p_value)


def test_mcnemar_of_equal_arms_is_one(random_predictions):
    predictions = random_predictions(SINGLE, 30, 3, 0)
    assert mcnemar_of(predictions, _shuffle(predictions, 1)).p_value == 1


def test_mcnemar_of_many_labels_asks_for_the_whole_row(make_predictions):
    targets = np.array([[1, 0], [1, 0]], dtype=np.int8)
    a = make_predictions(np.array([[3.0, -3], [3, -3]]), targets, MULTI)
    b = make_predictions(np.array([[3.0, 3], [3, -3]]), targets, MULTI)
    assert (mcnemar_of(a, b).only_a, mcnemar_of(a, b).both_right) == (1, 1)


def test_mcnemar_refuses_a_regression(random_predictions):
    predictions = random_predictions(REGRESSION, 5, 1, 0)
    with pytest.raises(DataError, match="no right and wrong rows"):
        mcnemar_of(predictions, predictions)


def test_pairing_refuses_other_rows_other_targets_and_other_labels(random_predictions):
    a = random_predictions(SINGLE, 20, 3, 0)
    ids = a.ids.copy()
    ids[7] = "elsewhere"
    assert a.targets is not None
    targets = a.targets.copy()
    targets[3] = (targets[3] + 1) % 3
    cases = [
        (replace(a, ids=ids), "did not predict the same rows.*1 only in the one.*elsewhere"),
        (replace(a, targets=targets), "different targets for the same rows.*1 rows, the first is row-000003"),
        (replace(a, label_names=("x", "y", "z")), "label names of .* differ"),
        (random_predictions(SINGLE, 19, 3, 0), "found '19 against 20 rows"),
    ]
    for b, message in cases:
        with pytest.raises(DataError, match=message):
            mcnemar_of(a, b)
    with pytest.raises(DataError, match="met twice"):
        mcnemar_of(replace(a, ids=np.array(["same"] * 20)), a)
