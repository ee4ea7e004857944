"""Oracles: scikit-learn and scipy called directly, numbers worked by hand, and identities between figures."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from potstill.errors import DataError, RecipeError
from potstill.evaluate.metrics import (
    METRICS,
    compute_metrics,
    confusion,
    default_metrics,
    find_metric,
    higher_is_better,
    per_class,
    undefined_reason,
)
from potstill.records import PROBLEM_TYPES

SINGLE, MULTI, REGRESSION = PROBLEM_TYPES
EVERY_METRIC = [(problem_type, name) for problem_type in PROBLEM_TYPES for name in METRICS[problem_type]]


@settings(deadline=None)
@given(seed=st.integers(0, 2**20), n=st.integers(1, 60), k=st.integers(2, 6))
def test_accuracy_is_the_trace_of_its_own_confusion_matrix(random_predictions, seed, n, k):
    predictions = random_predictions(SINGLE, n, k, seed)
    matrix = confusion(predictions)
    assert matrix.shape == (k, k)
    assert matrix.sum() == n
    assert compute_metrics(predictions, ["accuracy"])["accuracy"] == pytest.approx(np.trace(matrix) / matrix.sum())


def test_confusion_matrix_has_targets_in_its_rows(labelled):
    predictions = labelled([0, 0, 1, 2], [0, 1, 1, 1], 3)
    assert confusion(predictions).tolist() == [[1, 1, 0], [0, 1, 0], [0, 1, 0]]


def test_jaccard_and_hamming_are_what_their_names_say(make_predictions):
    """Pitfall 9."""
    # Row 1: given {0, 1}, true {0}; row 2: nothing given, nothing true; row 3: given {2}, true {1}.
    predicted = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]])
    targets = np.array([[1, 0, 0], [0, 0, 0], [0, 1, 0]], dtype=np.int8)
    predictions = make_predictions(4.0 * predicted - 2, targets, MULTI)
    values = compute_metrics(predictions, ["jaccard_samples", "hamming_loss", "subset_accuracy"])
    assert values["jaccard_samples"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert values["hamming_loss"] == pytest.approx(3 / 9)
    assert values["subset_accuracy"] == pytest.approx(1 / 3)


AVERAGES = ("macro", "micro", "weighted", "samples")


def namesake(name):
    """The function of scikit-learn or scipy that ``name`` is called after, with the average that it names."""
    if name == "subset_accuracy":  # scikit-learn's word for accuracy_score of many labels
        return partial(sk.accuracy_score)
    base, _, average = name.rpartition("_")
    base, given = (base, {"average": average}) if average in AVERAGES else (name, {})
    found = (getattr(room, word, None) for room in (sk, stats) for word in (f"{base}_score", base))
    return partial(next(function for function in found if function is not None), **given)


@pytest.mark.parametrize(("problem_type", "name"), EVERY_METRIC)
def test_a_metric_is_what_scikit_learn_calls_so(random_predictions, problem_type, name):
    """Pitfall 9: a Jaccard index that was called a Hamming score."""
    predictions = random_predictions(problem_type, 120, 2, 4)
    answer = predictions.predicted
    if name.startswith(("roc_auc", "log_loss")):
        answer = predictions.probabilities.astype(np.float64)
        if problem_type == SINGLE:
            answer = (answer / answer.sum(axis=1, keepdims=True))[:, 1]
    more = {"zero_division": 1} if name.startswith("jaccard") else {}
    expected = namesake(name)(predictions.targets, answer, **more)
    expected = getattr(expected, "statistic", expected)
    assert compute_metrics(predictions, [name])[name] == pytest.approx(expected, rel=1e-5)


def test_no_metric_is_called_a_hamming_score():
    """Pitfall 9."""
    assert [name for _, name in EVERY_METRIC if "hamming" in name] == ["hamming_loss"]
    assert not higher_is_better("hamming_loss")


def test_single_label_metrics_are_scikit_learns(random_predictions):
    predictions = random_predictions(SINGLE, 200, 4, 3)
    t, p = predictions.targets, predictions.predicted
    expected = {
        "accuracy": sk.accuracy_score(t, p),
        "balanced_accuracy": sk.balanced_accuracy_score(t, p),
        "matthews_corrcoef": sk.matthews_corrcoef(t, p),
        "f1_macro": sk.f1_score(t, p, average="macro"),
        "f1_micro": sk.f1_score(t, p, average="micro"),
        "f1_weighted": sk.f1_score(t, p, average="weighted"),
        "precision_macro": sk.precision_score(t, p, average="macro"),
        "recall_macro": sk.recall_score(t, p, average="macro"),
        "roc_auc": np.mean([sk.roc_auc_score(t == j, predictions.probabilities[:, j]) for j in range(4)]),
        "log_loss": -np.log(predictions.probabilities[np.arange(200), t]).mean(),
    }
    assert compute_metrics(predictions, list(expected)) == pytest.approx(expected, rel=1e-6)


def test_binary_metrics_take_the_second_label_as_positive(labelled):
    predictions = labelled([1, 1, 1, 0, 0], [1, 1, 0, 1, 0], 2)
    expected = {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3}
    assert compute_metrics(predictions, list(expected)) == pytest.approx(expected)


def test_multi_label_metrics_are_scikit_learns(random_predictions):
    predictions = random_predictions(MULTI, 150, 5, 1)
    t, p = predictions.targets, predictions.predicted
    expected = {
        "f1_micro": sk.f1_score(t, p, average="micro"),
        "f1_macro": sk.f1_score(t, p, average="macro"),
        "recall_micro": sk.recall_score(t, p, average="micro"),
        "roc_auc_macro": sk.roc_auc_score(t, predictions.probabilities, average="macro"),
    }
    assert compute_metrics(predictions, list(expected)) == pytest.approx(expected)


def test_thresholds_move_multi_label_metrics(make_predictions):
    targets = np.array([[1], [1], [0]], dtype=np.int8)
    logits = np.array([[2.0], [-1.0], [-3.0]])  # probabilities .88, .27, .05
    plain = make_predictions(logits, targets, MULTI)
    fitted = make_predictions(logits, targets, MULTI, thresholds=np.array([0.2], dtype=np.float32))
    assert compute_metrics(plain, ["subset_accuracy"])["subset_accuracy"] == pytest.approx(2 / 3)
    assert compute_metrics(fitted, ["subset_accuracy"])["subset_accuracy"] == 1


def test_regression_metrics_are_scipys_and_scikit_learns(random_predictions):
    predictions = random_predictions(REGRESSION, 80, 1, 2)
    t, p = predictions.targets.astype(float), predictions.logits[:, 0].astype(float)
    expected = {
        "pearsonr": stats.pearsonr(t, p).statistic,
        "spearmanr": stats.spearmanr(t, p).statistic,
        "mean_squared_error": np.mean((t - p) ** 2),
        "r2": sk.r2_score(t, p),
    }
    assert compute_metrics(predictions, list(expected)) == pytest.approx(expected)


@pytest.mark.parametrize(("problem_type", "name"), EVERY_METRIC)
def test_order_of_rows_changes_no_metric(random_predictions, make_predictions, problem_type, name):
    predictions = random_predictions(problem_type, 90, 2, 5)
    order = np.random.default_rng(0).permutation(90)
    shuffled = make_predictions(predictions.logits[order], predictions.targets[order], problem_type)
    assert compute_metrics(shuffled, [name]) == pytest.approx(compute_metrics(predictions, [name]), rel=1e-9)


@pytest.mark.parametrize(("problem_type", "name"), EVERY_METRIC)
def test_perfect_predictions_are_at_the_better_end(make_predictions, problem_type, name):
    one, many = np.array([0, 1, 1, 0]), np.array([[0, 1], [1, 0], [1, 1], [0, 0]], dtype=np.int8)
    values = np.array([1.0, 2.0, 4.0, 3.0], dtype=np.float32)
    logits, targets = {
        SINGLE: (60 * np.eye(2)[one], one),
        MULTI: (60.0 * many - 30, many),
        REGRESSION: (values[:, None], values),
    }[problem_type]
    value = compute_metrics(make_predictions(logits, targets, problem_type), [name])[name]
    assert value == pytest.approx(1.0 if higher_is_better(name) else 0.0, abs=1e-6)


def test_undefined_metric_is_nan_and_says_why(labelled, make_predictions):
    one_class = labelled([1, 1, 1], [1, 0, 1], 2)
    assert np.isnan(compute_metrics(one_class, ["roc_auc"])["roc_auc"])
    assert undefined_reason(one_class, "roc_auc") == "1 of 2 labels are not among the targets"
    assert undefined_reason(one_class, "accuracy") is None
    constant = make_predictions(np.ones((3, 1)), np.array([1.0, 2.0, 3.0]), REGRESSION)
    assert np.isnan(compute_metrics(constant, ["spearmanr"])["spearmanr"])
    assert undefined_reason(constant, "pearsonr") == "all predictions are equal"


def test_unknown_metric_names_the_nearest(labelled):
    with pytest.raises(RecipeError, match=r"acuracy is not known.*did you mean accuracy\?"):
        compute_metrics(labelled([0, 1], [0, 1], 2), ["acuracy"])
    with pytest.raises(RecipeError, match="did you mean pearsonr"):
        higher_is_better("pearson")


def test_binary_f1_is_refused_with_three_labels():
    with pytest.raises(RecipeError, match="f1 needs exactly two labels"):
        find_metric("f1", SINGLE, 3)


@pytest.mark.parametrize("problem_type", PROBLEM_TYPES)
@pytest.mark.parametrize("n_labels", [2, 5])
def test_default_metrics_exist(problem_type, n_labels):
    for name in default_metrics(problem_type, n_labels):
        assert find_metric(name, problem_type, n_labels).name == name


def test_per_class_rows_are_worked_by_hand(labelled):
    rows = per_class(labelled([0, 0, 1, 2], [0, 1, 1, 1], 3))
    assert rows[0] == {"label": "label-0", "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    assert rows[1] == {"label": "label-1", "precision": pytest.approx(1 / 3), "recall": 1.0, "f1": 0.5, "support": 1}
    assert rows[2] == {"label": "label-2", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}


def test_per_class_f1_averages_to_the_macro_metric(random_predictions):
    for problem_type in (SINGLE, MULTI):
        predictions = random_predictions(problem_type, 120, 4, 8)
        mean = np.mean([row["f1"] for row in per_class(predictions)])
        assert compute_metrics(predictions, ["f1_macro"])["f1_macro"] == pytest.approx(mean)


@pytest.mark.parametrize(
    ("logits", "targets", "problem_type", "message"),
    [
        (np.eye(2), None, SINGLE, "carry no targets"),
        (np.zeros((0, 2)), np.zeros(0, dtype=np.int64), SINGLE, "not one prediction"),
        (np.eye(2), np.array([0, 2]), SINGLE, "outside the labels; found 2"),
        (np.eye(2), np.array([0.0, np.nan]), SINGLE, "whole numbers"),
        (np.eye(2), np.array([0, 1], dtype=np.int8), MULTI, "wrong shape"),
        (np.ones((2, 1)), np.array([0.5, np.nan]), REGRESSION, "no finite number"),
        (np.array([[0.0, 1.0], [np.nan, 1.0]]), np.array([0, 1]), SINGLE, r"logits.*row-000001"),
    ],
)
def test_what_cannot_be_measured_is_refused(make_predictions, logits, targets, problem_type, message):
    with pytest.raises(DataError, match=message):
        compute_metrics(make_predictions(logits, targets, problem_type))


def test_confusion_and_per_class_refuse_the_wrong_problem_type(random_predictions):
    with pytest.raises(DataError, match="exactly one label"):
        confusion(random_predictions(MULTI, 5, 2, 0))
    with pytest.raises(DataError, match="no classes"):
        per_class(random_predictions(REGRESSION, 5, 1, 0))
