"""Predictions: activations against scipy, decisions by definition, and shapes that do not fit refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special

from potstill.errors import DataError
from potstill.records import Predictions, ProblemType, sigmoid, softmax

LOGITS = hnp.arrays(
    np.float32, st.tuples(st.integers(0, 6), st.integers(1, 5)), elements=st.floats(-1e4, 1e4, width=32)
)


def predictions(logits: Any, problem_type: ProblemType = "single_label_classification", **others: Any) -> Predictions:
    logits = np.asarray(logits, dtype=np.float32)
    n, k = logits.shape
    plain: dict[str, Any] = {
        "ids": np.array([f"row-{i}" for i in range(n)], dtype=str), "label_names": tuple("abcdefgh"[:k]),
        "n_tokens": np.zeros(n, dtype=np.int32), "truncated": np.zeros(n, dtype=bool), "elapsed_s": 0.0,
    }  # fmt: skip
    return Predictions(logits=logits, problem_type=problem_type, **{**plain, **others})


@settings(deadline=None)
@given(logits=LOGITS)
def test_softmax_and_sigmoid_are_those_of_scipy(logits: np.ndarray):
    exact = logits.astype(np.float64)
    np.testing.assert_allclose(softmax(logits), special.softmax(exact, axis=1), atol=1e-7)
    np.testing.assert_allclose(sigmoid(logits), special.expit(exact), atol=1e-7)
    assert softmax(logits).dtype == sigmoid(logits).dtype == np.float32


@settings(deadline=None)
@given(logits=LOGITS, shift=st.floats(-100, 100))
def test_softmax_sums_to_one_and_a_shift_changes_nothing(logits: np.ndarray, shift: float):
    probabilities = softmax(logits)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(softmax(logits.astype(np.float64) + shift), probabilities, atol=1e-6)


def test_the_problem_type_decides_probabilities_and_decisions():
    logits = [[2.0, -1.0], [0.0, 3.0]]
    one, many = predictions(logits), predictions(logits, "multi_label_classification")
    assert one.predicted.tolist() == [0, 1]
    np.testing.assert_allclose(one.probabilities.sum(axis=1), 1.0)
    assert many.predicted.tolist() == [[1, 0], [1, 1]]
    np.testing.assert_allclose(many.probabilities, special.expit(logits), atol=1e-7)
    score = predictions([[2.5], [-1.0]], "regression")
    assert score.predicted.tolist() == [2.5, -1.0]
    assert score.probabilities is score.logits
    assert (one.predicted.dtype, many.predicted.dtype, score.predicted.dtype) == (np.int64, np.int8, np.float32)


def test_thresholds_of_labels_are_obeyed():
    # oracle: sigmoid(0) is exactly one half, and a label counts from its threshold on
    many = predictions(
        [[0.0, 0.0, 0.0]], "multi_label_classification", thresholds=np.array([0.4, 0.5, 0.6], dtype=np.float32)
    )
    assert many.predicted.tolist() == [[1, 1, 0]]


def test_a_threshold_of_two_labels_is_the_second_ones():
    # oracle: softmax of (0, log 3) is (1/4, 3/4)
    logits = [[0.0, np.log(3.0)], [np.log(3.0), 0.0]]
    for threshold, decided in ((0.2, [1, 1]), (0.5, [1, 0]), (0.8, [0, 0])):
        assert predictions(logits, thresholds=np.array([threshold])).predicted.tolist() == decided


def test_a_temperature_divides_the_logits():
    # oracle: scipy's activations of the divided logits
    logits = np.array([[2.0, -1.0], [0.5, 3.0]])
    one = predictions(logits, temperature=4.0)
    many = predictions(logits, "multi_label_classification", temperature=4.0)
    np.testing.assert_allclose(one.probabilities, special.softmax(logits / 4, axis=1), atol=1e-7)
    np.testing.assert_allclose(many.probabilities, special.expit(logits / 4), atol=1e-7)


@settings(deadline=None)
@given(logits=LOGITS, temperature=st.floats(1e-3, 1e3))
def test_no_temperature_changes_a_decision_without_thresholds(logits: np.ndarray, temperature: float):
    for problem_type in ("single_label_classification", "multi_label_classification"):
        plain = predictions(logits, problem_type)
        scaled = predictions(logits, problem_type, temperature=temperature)
        np.testing.assert_array_equal(scaled.predicted, plain.predicted)
        np.testing.assert_array_equal(scaled.undecided().probabilities, plain.probabilities)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_a_temperature_that_is_none_is_refused(temperature: float):
    with pytest.raises(DataError, match="above 0"):
        predictions([[1.0, 2.0]], temperature=temperature)


def test_a_regression_has_neither_temperature_nor_thresholds():
    with pytest.raises(DataError, match="allowed: 1"):
        predictions([[1.0]], "regression", temperature=2.0)
    with pytest.raises(DataError, match="thresholds"):
        predictions([[1.0]], "regression", thresholds=np.array([0.5]))


def test_one_label_of_three_has_no_thresholds():
    with pytest.raises(DataError, match="thresholds"):
        predictions(np.zeros((2, 3)), thresholds=np.full(3, 0.5))


WRONG = {
    "ids": np.array(["a"]),
    "label_names": ("a",),
    "n_tokens": np.zeros(2, dtype=np.int32),
    "truncated": np.zeros((3, 1), dtype=bool),
    "targets": np.zeros((2, 3), dtype=np.int64),
    "thresholds": np.zeros(3, dtype=np.float32),
}


@pytest.mark.parametrize("field", WRONG)
def test_a_field_of_another_size_is_refused_by_name(field: str):
    with pytest.raises(DataError, match=f"predictions of 3 texts and 2 labels have fields of another size: {field}"):
        predictions(np.zeros((3, 2)), **{field: WRONG[field]})


def test_targets_and_ids_are_put_beside_the_same_predictions():
    bare, targets = predictions([[2.0, -1.0], [0.0, 3.0]]), np.array([1, 0])
    found = bare.with_targets(targets, np.array(["x", "y"]))
    assert (found.targets is targets, found.ids.tolist(), bare.targets) == (True, ["x", "y"], None)
    np.testing.assert_array_equal(found.predicted, bare.predicted)
    with pytest.raises(DataError, match="targets"):
        bare.with_targets(np.array([1]), np.array(["x", "y"]))


def test_no_texts_are_no_predictions():
    nothing = predictions(np.zeros((0, 3)))
    assert (len(nothing), nothing.predicted.tolist(), nothing.probabilities.shape) == (0, [], (0, 3))
