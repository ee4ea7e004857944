"""Temperature and calibration error: against scikit-learn, numbers worked by hand, and what is known of a sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn import metrics as sk
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.frozen import FrozenEstimator

from potstill.errors import DataError
from potstill.evaluate.calibration import calibration_scores, fit_temperature, reliability, stated_and_true
from potstill.evaluate.held_out import HeldOut

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"


class AsGiven(ClassifierMixin, BaseEstimator):
    """A classifier whose scores are its inputs: stored logits, as scikit-learn wants them."""

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, x):
        raise AssertionError("scores are asked for, not decisions")

    def decision_function(self, x):
        return x if x.shape[1] > 1 else x[:, 0]


def temperature_of_scikit_learn(scores: np.ndarray, targets: np.ndarray) -> float:
    frozen = FrozenEstimator(AsGiven().fit(scores, targets))
    calibrated = CalibratedClassifierCV(frozen, method="temperature").fit(scores, targets)
    return 1 / float(calibrated.calibrated_classifiers_[0].calibrators[0].beta_)


def held_out(found):
    return HeldOut(found, replace(found, ids=np.char.add("reported-", found.ids)))


@pytest.fixture
def sample(make_predictions):
    """Rows whose truth is drawn from softmax or sigmoid of logits that are then multiplied by ``sharpness``."""

    def make(problem_type, n, k, *, sharpness=1.0, seed=0):
        rng = np.random.default_rng(seed)
        logits = rng.normal(0, 1.5, (n, k))
        if problem_type == MULTI:
            targets = (rng.random((n, k)) < expit(logits)).astype(np.int8)
        else:
            drawn = rng.random((n, 1)) > softmax(logits, axis=1).cumsum(axis=1)
            targets = drawn.sum(axis=1).clip(0, k - 1)
        return make_predictions(sharpness * logits, targets, problem_type)

    return make


@pytest.mark.parametrize(("problem_type", "k"), [(SINGLE, 2), (SINGLE, 5), (MULTI, 3)])
def test_a_calibrated_sample_has_temperature_one(problem_type, k, sample):
    assert fit_temperature(held_out(sample(problem_type, 20_000, k))).value == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("sharpness", [0.25, 3.0])
@pytest.mark.parametrize(("problem_type", "k"), [(SINGLE, 4), (MULTI, 3)])
def test_logits_that_were_sharpened_are_softened_again(problem_type, k, sharpness, sample):
    plain = fit_temperature(held_out(sample(problem_type, 2_000, k))).value
    sharpened = fit_temperature(held_out(sample(problem_type, 2_000, k, sharpness=sharpness))).value
    assert sharpened == pytest.approx(plain * sharpness, rel=1e-4)


def test_the_temperature_is_scikit_learns(sample):
    five = sample(SINGLE, 800, 5, sharpness=2.5)
    expected = temperature_of_scikit_learn(five.logits.astype(np.float64), five.targets)
    assert fit_temperature(held_out(five)).value == pytest.approx(expected, rel=1e-4)


def test_the_temperature_of_two_labels_is_scikit_learns(sample):
    # scikit-learn takes one score x for the logits (−x, x)
    two = sample(SINGLE, 800, 2, sharpness=2.5)
    half_gap = (two.logits[:, [1]] - two.logits[:, [0]]).astype(np.float64) / 2
    expected = temperature_of_scikit_learn(half_gap, two.targets)
    assert fit_temperature(held_out(two)).value == pytest.approx(expected, rel=1e-4)


def test_the_temperature_of_many_labels_is_scikit_learns_over_all_of_their_decisions(sample):
    many = sample(MULTI, 400, 3, sharpness=2.5)
    expected = temperature_of_scikit_learn(many.logits.astype(np.float64).reshape(-1, 1) / 2, many.targets.ravel())
    assert fit_temperature(held_out(many)).value == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("problem_type", "k"), [(SINGLE, 4), (MULTI, 3)])
def test_no_other_temperature_makes_the_truth_likelier(problem_type, k, sample):
    found = sample(problem_type, 500, k, sharpness=3.0)
    fitted = fit_temperature(held_out(found)).value
    best = calibration_scores(replace(found, temperature=fitted))["log_loss"]
    for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0):
        assert calibration_scores(replace(found, temperature=fitted * factor))["log_loss"] > best


def test_where_nothing_is_wrong_no_temperature_is_fitted(make_predictions):
    """The colder the likelier, without end."""
    right = make_predictions(np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0]]), np.array([0, 1, 0]))
    fitted = fit_temperature(held_out(right))
    assert fitted.value == 1
    assert "no decision is wrong" in fitted.notes[0]
    assert "3 rows" in fitted.notes[0]


def test_where_the_logits_mislead_no_temperature_is_fitted(make_predictions):
    wrong = make_predictions(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([1, 0]))
    fitted = fit_temperature(held_out(wrong))
    assert fitted.value == 1
    assert "equal probabilities are likelier" in fitted.notes[0]


def test_a_label_that_no_held_out_row_has_is_no_hindrance(make_predictions):
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(60, 3)), rng.integers(0, 2, 60)
    found = make_predictions(logits + 2 * np.eye(3)[targets], targets)
    assert 0.1 < fit_temperature(held_out(found)).value < 10


def test_a_regression_has_no_probabilities_to_calibrate(make_predictions):
    found = make_predictions(np.array([[1.0], [2.0]]), np.array([1.0, 2.0]), REGRESSION)
    with pytest.raises(DataError, match="no probabilities"):
        fit_temperature(held_out(found))
    with pytest.raises(DataError, match="no probabilities"):
        reliability(found)


def test_the_calibration_error_worked_by_hand(make_predictions):
    # probabilities .6 (right), .6 (wrong), .9 (right), .9 (right), in two bins: (2/4)·|.6 − 1/2| + (2/4)·|.9 − 1|
    logits = np.log(np.array([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.1, 0.9]]))
    found = make_predictions(logits, np.array([0, 1, 0, 1]))
    bins = reliability(found, n_bins=5)
    assert bins.counts.tolist() == [2, 2]
    np.testing.assert_allclose(bins.mean_probability, [0.6, 0.9], atol=1e-6)
    np.testing.assert_allclose(bins.share_right, [0.5, 1.0])
    assert bins.error == pytest.approx(0.5 * 0.1 + 0.5 * 0.1, abs=1e-6)


@pytest.mark.parametrize(("equal_mass", "strategy"), [(False, "uniform"), (True, "quantile")])
@pytest.mark.parametrize(("problem_type", "k"), [(SINGLE, 2), (SINGLE, 5), (MULTI, 3)])
def test_bins_are_scikit_learns_and_hold_every_decision(problem_type, k, equal_mass, strategy, sample):
    found = sample(problem_type, 700, k, sharpness=2.0)
    bins = reliability(found, n_bins=10, equal_mass=equal_mass)
    stated, true = stated_and_true(found)
    share_right, mean_probability = calibration_curve(true, stated, n_bins=10, strategy=strategy)
    np.testing.assert_allclose(bins.share_right, share_right)
    np.testing.assert_allclose(bins.mean_probability, mean_probability)
    assert bins.counts.sum() == len(stated)
    assert not equal_mass or np.ptp(bins.counts) <= 1


def test_a_calibrated_sample_has_next_to_no_error_and_a_sharpened_one_has(sample):
    assert calibration_scores(sample(SINGLE, 20_000, 4))["ece"] < 0.02
    assert calibration_scores(sample(SINGLE, 20_000, 4, sharpness=3.0))["ece"] > 0.1


def test_scores_of_calibration_are_scikit_learns(sample):
    five, two, many = sample(SINGLE, 300, 5), sample(SINGLE, 300, 2), sample(MULTI, 300, 3)
    exact = {"five": softmax(five.logits, axis=1), "two": softmax(two.logits, axis=1), "many": expit(many.logits)}
    expected = {
        "five": (sk.brier_score_loss(five.targets, exact["five"]), sk.log_loss(five.targets, exact["five"])),
        "two": (sk.brier_score_loss(two.targets, exact["two"][:, 1]), sk.log_loss(two.targets, exact["two"][:, 1])),
        "many": (
            np.mean([sk.brier_score_loss(many.targets[:, j], exact["many"][:, j]) for j in range(3)]),
            np.mean([sk.log_loss(many.targets[:, j], exact["many"][:, j]) for j in range(3)]),
        ),
    }
    for name, found in (("five", five), ("two", two), ("many", many)):
        scores = calibration_scores(found)
        assert (scores["brier_score"], scores["log_loss"]) == pytest.approx(expected[name], rel=1e-5)


def test_thresholds_change_no_score_of_calibration(sample):
    two = sample(SINGLE, 100, 2)
    assert calibration_scores(replace(two, thresholds=np.array([0.9]))) == calibration_scores(two)
