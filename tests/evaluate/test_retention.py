"""Oracles: tables worked by hand, scikit-learn's figures, and the sentences the numbers must lead to."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from potstill.errors import CheckError, DataError
from potstill.evaluate.metrics import compute_metrics
from potstill.evaluate.retention import Comparison, compare_arms, verdict
from potstill.evaluate.speed import Latency, Speed, Spread
from potstill.records import PROBLEM_TYPES

SINGLE, MULTI, REGRESSION = PROBLEM_TYPES


def _speed(ms: list[float], texts_per_s: list[float]) -> Speed:
    latency = Latency(float(np.median(ms)), max(ms), min(ms), max(ms), tuple(ms))
    return Speed(latency, Spread.over(texts_per_s), None, len(ms), 1, 32, 256, 0, 2)


@pytest.fixture
def clear(labelled) -> Comparison:
    """A teacher with 95 of 100 right and a student with 75, two seeds each."""
    teacher, student = labelled([0] * 100, [0] * 95 + [1] * 5, 2), labelled([0] * 100, [0] * 75 + [1] * 25, 2)
    return compare_arms({"teacher": [teacher] * 2, "student": [student] * 2}, "teacher", "accuracy", ["accuracy"])


def test_every_number_of_a_small_table_is_worked_by_hand(clear):
    student = clear.arms["student"]
    assert student.metrics["accuracy"].per_seed == (0.75, 0.75)
    assert student.changes["accuracy"].difference.value == pytest.approx(-0.20)
    assert student.changes["accuracy"].retention is not None
    assert student.changes["accuracy"].retention.value == pytest.approx(0.75 / 0.95)
    assert student.rows is not None
    rows = student.rows.to_dict()
    assert (rows["both_right"], rows["both_wrong"], rows["only_arm"], rows["only_reference"]) == (75, 5, 0, 20)
    assert rows["agreement"] == pytest.approx(0.80)
    assert rows["p_value"] == pytest.approx(2 * 0.5**20)
    assert (clear.n_rows, clear.n_seeds) == (100, 2)


def test_reference_has_metrics_but_nothing_to_change_against_itself(clear):
    assert clear.arms["teacher"].metrics["accuracy"].median == pytest.approx(0.95)
    assert clear.arms["teacher"].changes == {}
    assert clear.arms["teacher"].rows is None


def test_median_and_spread_are_those_of_the_seeds(random_predictions):
    arms = {name: [random_predictions(SINGLE, 60, 3, s, skill=k) for s in range(3)] for name, k in (("a", 2), ("b", 1))}
    summary = compare_arms(arms, "a", "f1_macro", n_resamples=50).arms["b"].metrics["f1_macro"]
    values = sorted(compute_metrics(one, ["f1_macro"])["f1_macro"] for one in arms["b"])
    assert [summary.minimum, summary.median, summary.maximum] == values


def test_primary_metric_comes_first_and_once(random_predictions):
    arms = {name: [random_predictions(SINGLE, 40, 2, seed)] for seed, name in enumerate("ab")}
    comparison = compare_arms(arms, "a", "matthews_corrcoef", n_resamples=20)
    assert list(comparison.arms["b"].metrics) == ["matthews_corrcoef", "accuracy", "f1"]


def test_identical_arms_are_not_distinguishable(random_predictions):
    one = random_predictions(SINGLE, 50, 3, 0)
    comparison = compare_arms({"teacher": [one], "student": [one]}, "teacher", "accuracy", n_resamples=50)
    assert comparison.arms["student"].rows is not None
    assert comparison.arms["student"].rows.agreement == (1.0,)
    assert verdict(comparison).startswith(
        "student is not distinguishable from teacher by accuracy on 50 rows (one seed)"
    )
    assert "100.0% retained (95% interval 100.0% to 100.0%)" in verdict(comparison)


@pytest.mark.parametrize("problem_type", PROBLEM_TYPES)
def test_comparison_is_plain_json(random_predictions, problem_type):
    arms = {name: [random_predictions(problem_type, 30, 2, seed)] for seed, name in enumerate("ab")}
    metric = {SINGLE: "roc_auc", MULTI: "jaccard_samples", REGRESSION: "spearmanr"}[problem_type]
    comparison = compare_arms(arms, "a", metric, n_resamples=20)
    plain = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert plain["arms"]["b"]["metrics"][metric]["median"] == comparison.arms["b"].metrics[metric].median
    assert (plain["arms"]["b"]["rows"] is None) == (problem_type == REGRESSION)


def test_arms_of_unequal_seeds_are_refused(random_predictions):
    one = random_predictions(SINGLE, 20, 2, 0)
    with pytest.raises(CheckError, match=r"same number of seeds.*teacher 1, student 2"):
        compare_arms({"teacher": [one], "student": [one, one]}, "teacher", "accuracy")


def test_arms_of_other_rows_are_refused_by_name(random_predictions):
    arms = {"teacher": [random_predictions(SINGLE, 20, 2, 0)], "student": [random_predictions(SINGLE, 18, 2, 0)]}
    with pytest.raises(
        DataError, match=r"\(student, number 1\) and \(teacher, number 1\) did not predict the same rows"
    ):
        compare_arms(arms, "teacher", "accuracy")


def test_arms_of_other_targets_are_refused_by_name(random_predictions):
    arms = {
        name: [random_predictions(SINGLE, 20, 2, 0, truth=truth)] for truth, name in enumerate(("teacher", "student"))
    }
    with pytest.raises(DataError, match=r"\(student, number 1\) and .* different targets"):
        compare_arms(arms, "teacher", "accuracy")


def test_missing_reference_and_empty_arm_are_refused(random_predictions):
    one = random_predictions(SINGLE, 20, 2, 0)
    with pytest.raises(DataError, match="not among the arms; found 'techer'; allowed: teacher"):
        compare_arms({"teacher": [one]}, "techer", "accuracy")
    with pytest.raises(DataError, match="no predictions; found 'student'"):
        compare_arms({"teacher": [one], "student": []}, "teacher", "accuracy")


def test_verdict_on_a_clear_loss_says_so_with_its_interval(clear):
    sentence = verdict(clear)
    assert sentence.startswith("student falls short of teacher by accuracy on 100 rows (median of 2 seeds)")
    assert "0.75 against 0.95, difference -0.2 (95% interval -0." in sentence
    assert "78.9% retained (95% interval 7" in sentence


def test_verdict_on_a_clear_gain_says_so(labelled):
    arms = {
        "teacher": [labelled([0] * 100, [0] * 75 + [1] * 25, 2)],
        "student": [labelled([0] * 100, [0] * 95 + [1] * 5, 2)],
    }
    assert verdict(compare_arms(arms, "teacher", "accuracy")).startswith("student is better than teacher by accuracy")


def test_verdict_knows_that_less_loss_is_better(make_predictions):
    targets = np.random.default_rng(0).normal(size=(200, 1))
    noise = np.random.default_rng(1).normal(size=(200, 1))
    teacher, student = (make_predictions(targets + s * noise, targets[:, 0], REGRESSION) for s in (0.2, 1.0))
    comparison = compare_arms({"teacher": [teacher], "student": [student]}, "teacher", "mean_squared_error")
    assert verdict(comparison).startswith("student falls short of teacher by mean_squared_error")
    assert "retained" not in verdict(comparison)
    assert "mean_squared_error is better when smaller, so no retention is given for it." in comparison.notes


def test_verdict_does_not_claim_a_difference_of_one_row_in_a_hundred(labelled):
    arms = {
        "teacher": [labelled([0] * 100, [0] * 95 + [1] * 5, 2)],
        "student": [labelled([0] * 100, [0] * 94 + [1] * 6, 2)],
    }
    assert "is not distinguishable from" in verdict(compare_arms(arms, "teacher", "accuracy"))


def test_verdict_on_a_metric_without_value_claims_nothing(labelled):
    one_class = labelled([1, 1, 1], [1, 0, 1], 2)
    comparison = compare_arms({"teacher": [one_class], "student": [one_class]}, "teacher", "roc_auc", n_resamples=20)
    assert (
        verdict(comparison) == "student cannot be compared with teacher by roc_auc, which has no value for one of them."
    )
    assert "roc_auc of student has no value: 1 of 2 labels are not among the targets." in comparison.notes


def test_verdict_on_size_and_speed_follows_the_numbers(clear):
    sentence = verdict(
        clear,
        n_parameters={"teacher": 200_000, "student": 120_000},
        speeds={
            "teacher": _speed([20.0, 22.0, 24.0], [100.0, 90.0, 110.0]),
            "student": _speed([10.0, 10.0, 10.0], [101.0, 95.0, 90.0]),
        },
    )
    assert "it is 40.0% smaller (120,000 parameters against 200,000)" in sentence
    assert "one text takes 10 ms against 22 ms, 2.20 times as fast (2.00 to 2.40 over 3 repeats)" in sentence
    # Faster in two repeats and slower in the third: no claim.
    assert sentence.endswith("in bulk it scores 95 texts/s against 100, not distinguishable over 3 repeats.")


def test_verdict_says_when_an_arm_is_larger_and_slower(clear):
    sentence = verdict(
        clear,
        "student",
        n_parameters={"teacher": 100, "student": 150},
        speeds={"teacher": _speed([10.0], [200.0]), "student": _speed([20.0], [100.0])},
    )
    assert "it is 50.0% larger" in sentence
    assert "slower, 0.50 times the speed (0.50 to 0.50 over one repeat)" in sentence


def test_verdict_refuses_the_reference_and_strangers(clear):
    for arm in ("teacher", "nobody"):
        with pytest.raises(DataError, match="other than the reference"):
            verdict(clear, arm)


@pytest.mark.slow
def test_25_000_rows_and_four_arms_take_seconds(random_predictions):
    arms = {f"arm-{s}": [random_predictions(SINGLE, 25_000, 14, s)] for s in range(4)}
    start = time.process_time()
    compare_arms(arms, "arm-0", "accuracy", n_resamples=1000)
    assert time.process_time() - start < 10


def test_arms_are_held_against_one_another_too(random_predictions):
    # oracle: the comparison in which the other arm is the reference, from the same resamples
    arms = {
        name: [random_predictions(SINGLE, 80, 3, seed)] for seed, name in enumerate(("teacher", "student", "copied"))
    }
    beside = compare_arms(arms, "teacher", "accuracy", n_resamples=200).arms["student"].beside
    against = compare_arms(arms, "copied", "accuracy", n_resamples=200).arms["student"].changes["accuracy"]
    assert list(beside) == ["copied"]
    assert beside["copied"].difference == against.difference
    assert beside["copied"].p_value == against.p_value
    assert compare_arms(arms, "teacher", "accuracy", n_resamples=200).arms["teacher"].beside == {}
