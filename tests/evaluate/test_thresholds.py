"""Thresholds: worked by hand, and against scikit-learn's curves and scores at every threshold there is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit
from sklearn import metrics as sk

from potstill.decisions import ThresholdRule
from potstill.errors import DataError
from potstill.evaluate.held_out import HeldOut
from potstill.evaluate.thresholds import choose_threshold, fit_thresholds, operating_points

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
RULES = {
    "g_mean": ThresholdRule("g_mean"),
    "f1": ThresholdRule("f1"),
    "f_beta": ThresholdRule("f_beta", beta=2.0),
    "precision": ThresholdRule("precision", at_least=0.6),
    "recall": ThresholdRule("recall", at_least=0.7),
    "cost": ThresholdRule("cost", false_positive_cost=1.0, false_negative_cost=3.0),
}

# Eight rows, probabilities falling: the label is there in rows 1, 2, 4 and 7.
SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
TRUTH = np.array([1, 1, 0, 1, 0, 0, 1, 0])
# given   true  false  precision  recall  false-positive rate  F1 = 2·true / (given + 4)
#   0      0      0       –         0            0              0
#   1      1      0       1        1/4           0             2/5
#   2      2      0       1        1/2           0             2/3
#   3      2      1      2/3       1/2          1/4            4/7
#   4      3      1      3/4       3/4          1/4            6/8   F2 = 5·3 / (4·4 + 4) = .75
#   5      3      2      3/5       3/4          1/2            6/9
#   6      3      3      1/2       3/4          3/4            6/10
#   7      4      3      4/7        1           3/4            8/11  F2 = 5·4 / (4·4 + 7) = .87
#   8      4      4      1/2        1            1             8/12
BY_HAND = {
    "g_mean": (RULES["g_mean"], 0.55),  # √(3/4 · 3/4)
    "f1": (RULES["f1"], 0.55),
    "f_beta": (RULES["f_beta"], 0.25),
    "precision .75": (ThresholdRule("precision", at_least=0.75), 0.55),
    "precision 1": (ThresholdRule("precision", at_least=1.0), 0.75),
    "recall .75": (ThresholdRule("recall", at_least=0.75), 0.55),
    "recall 1": (ThresholdRule("recall", at_least=1.0), 0.25),
    "cost 1:1": (ThresholdRule("cost", false_positive_cost=1.0, false_negative_cost=1.0), 0.55),  # 2, as at 0.75
    "cost 1:3": (ThresholdRule("cost", false_positive_cost=1.0, false_negative_cost=3.0), 0.25),  # 3; 4 at 0.55
    "cost 5:1": (ThresholdRule("cost", false_positive_cost=5.0, false_negative_cost=1.0), 0.75),  # 2; 4 for nobody
    "none": (ThresholdRule(), 0.5),
}


@pytest.mark.parametrize(("rule", "expected"), BY_HAND.values(), ids=BY_HAND)
def test_thresholds_worked_by_hand(rule, expected):
    assert choose_threshold(operating_points(TRUTH, SCORES), rule) == pytest.approx(expected)


def test_a_cost_that_forbids_every_false_positive_gives_the_label_to_nobody():
    """The most probable row lacks the label, so one false positive comes before the first true one."""
    points = operating_points(np.array([0, 1]), np.array([0.8, 0.6]))
    chosen = choose_threshold(points, ThresholdRule("cost", false_positive_cost=10.0, false_negative_cost=1.0))
    assert chosen == pytest.approx(0.9)  # half way between 0.8 and 1


def test_a_label_told_apart_perfectly_is_cut_in_the_middle():
    for rule in RULES.values():
        assert choose_threshold(operating_points(np.array([0, 0, 1, 1]), np.array([0.1, 0.3, 0.7, 0.8])), rule) == 0.5


def samples(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth with both values among it, and rounded probabilities, so that ties occur."""
    rng = np.random.default_rng(seed)
    truth = np.concatenate([[0, 1], rng.integers(0, 2, n)])
    return truth, np.clip(0.3 * truth + rng.random(n + 2) * 0.7, 0, 1).round(2)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**20), n=st.integers(0, 40))
def test_operating_points_lie_on_scikit_learns_curves(seed, n):
    truth, scores = samples(seed, n)
    points = operating_points(truth, scores)
    false_positive_rate, recall, _ = sk.roc_curve(truth, scores, drop_intermediate=False)
    missing = len(recall) - len(points.recall)  # the one that gives the label to nobody, where a probability is 1
    assert missing == (scores.max() == 1)
    np.testing.assert_allclose(points.recall, recall[missing:])
    np.testing.assert_allclose(points.false_positive_rate, false_positive_rate[missing:])
    precision, recall, _ = sk.precision_recall_curve(truth, scores)
    np.testing.assert_allclose(points.precision[::-1], precision[: len(points.precision)])
    np.testing.assert_allclose(points.recall[::-1], recall[: len(points.recall)])


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**20), n=st.integers(0, 30))
def test_what_a_point_counts_is_what_its_threshold_does(seed, n):
    truth, scores = samples(seed, n)
    points = operating_points(truth, scores)
    for threshold, right, wrong in zip(points.thresholds, points.true_positives, points.false_positives, strict=True):
        given_rows = scores >= threshold
        assert (given_rows & (truth == 1)).sum() == right
        assert (given_rows & (truth == 0)).sum() == wrong
        assert 0 <= threshold <= 1


def value_of(name: str, truth: np.ndarray, given_rows: np.ndarray) -> float:
    """What a rule wishes for, by scikit-learn's own scores; −∞ where the rule forbids it."""
    rule = RULES[name]
    match name:
        case "g_mean":
            return float(np.sqrt(sk.recall_score(truth, given_rows) * sk.recall_score(truth, given_rows, pos_label=0)))
        case "f1":
            return float(sk.f1_score(truth, given_rows, zero_division=0))
        case "f_beta":
            return float(sk.fbeta_score(truth, given_rows, beta=rule.beta, zero_division=0))
        case "precision" | "recall":
            precision = sk.precision_score(truth, given_rows, zero_division=1)
            recall = sk.recall_score(truth, given_rows)
            held, wish = (precision, recall) if name == "precision" else (recall, precision)
            return wish if held >= rule.at_least and recall > 0 else -np.inf
    wrong, missed = (given_rows > truth).sum(), (given_rows < truth).sum()
    return -float(rule.false_positive_cost * wrong + rule.false_negative_cost * missed)


@pytest.mark.parametrize("name", RULES)
@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 2**20), n=st.integers(0, 14))
def test_no_threshold_is_better_than_the_chosen_one(name, seed, n):
    # oracle: scikit-learn's scores at every threshold between two probabilities
    truth, scores = samples(seed, n)
    chosen = choose_threshold(operating_points(truth, scores), RULES[name])
    edges = np.concatenate([[0], np.unique(scores), [1.0 + 1e-9]])
    others = [value_of(name, truth, (scores >= edge).astype(int)) for edge in (edges[:-1] + edges[1:]) / 2]
    if chosen is None:
        assert max(others) == -np.inf
    else:
        assert value_of(name, truth, (scores >= chosen).astype(int)) == pytest.approx(max(others))


@pytest.fixture
def held_out(make_predictions):
    """Held-out predictions of these probabilities ``(n, k)`` and truth; what is reported is another row."""

    def make(probabilities, targets, problem_type=MULTI):
        values = np.asarray(probabilities, dtype=np.float64)
        logits = logit(values) if problem_type == MULTI else np.log(values)
        found = make_predictions(logits, np.asarray(targets), problem_type)
        return HeldOut(found, replace(found, ids=np.char.add("reported-", found.ids)))

    return make


def test_every_label_has_its_own_threshold(held_out):
    columns = np.stack([SCORES, SCORES / 2], axis=1)
    fitted = fit_thresholds(held_out(columns, np.stack([TRUTH, TRUTH], axis=1).astype(np.int8)), ThresholdRule("f1"))
    assert fitted.values == pytest.approx({"label-0": 0.55, "label-1": 0.275})
    assert fitted.notes == ()


def test_of_two_labels_the_second_has_the_threshold(held_out):
    rows = held_out(np.stack([1 - SCORES, SCORES], axis=1), TRUTH, SINGLE)
    assert fit_thresholds(rows, ThresholdRule("f1")).values == pytest.approx({"label-1": 0.55})


def test_thresholds_are_of_probabilities_after_the_temperature(held_out):
    rows = held_out(SCORES[:, None], TRUTH[:, None].astype(np.int8))
    fitted = fit_thresholds(rows, ThresholdRule("f1"), temperature=2.0)
    scaled = replace(rows.predictions, temperature=2.0).probabilities[:, 0]
    assert fitted.values["label-0"] == pytest.approx((scaled[3] + scaled[4]) / 2)


def test_fitted_thresholds_decide_as_they_were_meant_to(held_out):
    rows = held_out(SCORES[:, None], TRUTH[:, None].astype(np.int8))
    fitted = fit_thresholds(rows, ThresholdRule("precision", at_least=1.0))
    decided = replace(rows.predictions, thresholds=np.array(list(fitted.values.values())))
    assert decided.predicted[:, 0].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


def test_a_label_that_no_row_or_every_row_has_keeps_one_half_and_is_counted(held_out):
    nobody, everybody = np.zeros(8, dtype=int), np.ones(8, dtype=int)
    truth = np.stack([TRUTH, nobody, everybody], axis=1).astype(np.int8)
    fitted = fit_thresholds(held_out(np.stack([SCORES] * 3, axis=1), truth), ThresholdRule("f1"))
    assert fitted.values == pytest.approx({"label-0": 0.55, "label-1": 0.5, "label-2": 0.5})
    (note,) = fitted.notes
    assert note.startswith("2 of 3 labels keep the threshold 0.5")
    assert note.endswith("label-1, label-2")
    assert "8 rows" in note


def test_a_precision_out_of_reach_keeps_one_half_and_is_counted(held_out):
    worst_first = np.array([[0.9], [0.5], [0.4]])
    rows = held_out(worst_first, np.array([[0], [1], [0]], dtype=np.int8))
    fitted = fit_thresholds(rows, ThresholdRule("precision", at_least=0.9))
    assert fitted.values == {"label-0": 0.5}
    assert "1 of 1 labels keep the threshold 0.5, because no threshold reaches a precision of 0.9" in fitted.notes[0]


def test_no_thresholds_are_none(held_out):
    rows = held_out(SCORES[:, None], TRUTH[:, None].astype(np.int8))
    assert fit_thresholds(rows, ThresholdRule()).values is None


def test_a_task_that_does_not_decide_label_by_label_is_refused(make_predictions):
    three = make_predictions(np.zeros((3, 3)), np.array([0, 1, 2]))
    score = make_predictions(np.zeros((3, 1)), np.zeros(3), REGRESSION)
    for found in (three, score):
        with pytest.raises(DataError, match="many labels, or one of two"):
            fit_thresholds(HeldOut(found, replace(found, ids=np.array(["x", "y", "z"]))), ThresholdRule("f1"))
