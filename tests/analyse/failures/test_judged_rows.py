"""Loss and confidence row by row, and rows put in the order of others. Oracles: numbers by hand, scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import log_loss, mean_squared_error

from potstill.analyse.failures.judged_rows import judge_beside, judge_rows, select_rows
from potstill.errors import DataError


def test_loss_and_confidence_of_one_label_by_hand(make_rows):
    # probabilities 3/4 and 1/4 in every row
    rows = judge_rows(make_rows([[math.log(3), 0.0]] * 2, [0, 1]))
    assert rows.wrong.tolist() == [False, True]
    np.testing.assert_allclose(rows.confidence, [0.75, 0.75], rtol=1e-6)
    np.testing.assert_allclose(rows.loss, [math.log(4 / 3), math.log(4)], rtol=1e-6)


def test_loss_and_confidence_of_many_labels_by_hand(make_rows):
    # probabilities 3/4 and 1/2, of which 0.5 counts as given
    rows = judge_rows(make_rows([[math.log(3), 0.0]] * 2, [[1, 1], [1, 0]], "multi_label_classification"))
    assert rows.wrong.tolist() == [False, True]
    np.testing.assert_allclose(rows.confidence, [0.375, 0.375], rtol=1e-6)
    np.testing.assert_allclose(rows.loss, [(math.log(4 / 3) + math.log(2)) / 2] * 2, rtol=1e-6)


def test_a_regression_has_errors_and_no_wrong_rows(make_rows):
    rows = judge_rows(make_rows([[1.0], [5.0]], [3.0, 4.5], "regression"))
    assert rows.wrong is None
    assert rows.confidence is None
    assert rows.errors.tolist() == [-2.0, 0.5]
    assert rows.loss.tolist() == [4.0, 0.25]


def test_the_mean_loss_is_scikit_learns(random_rows):
    single = judge_rows(random_rows("single_label_classification", 200, 1))
    assert single.loss.mean() == pytest.approx(log_loss(single.outcomes.targets, single.outcomes.probabilities))
    scores = judge_rows(random_rows("regression", 200, 1))
    assert scores.loss.mean() == pytest.approx(mean_squared_error(scores.outcomes.targets, scores.outcomes.predicted))
    many = judge_rows(random_rows("multi_label_classification", 200, 1))
    of_labels = [
        log_loss(many.outcomes.targets[:, label], many.outcomes.probabilities[:, label], labels=[0, 1])
        for label in range(3)
    ]
    assert many.loss.mean() == pytest.approx(np.mean(of_labels))


def test_a_loss_that_probabilities_in_float32_cannot_tell_is_told(make_rows):
    rows = judge_rows(make_rows([[0.0, 200.0], [0.0, 300.0]], [0, 0]))
    assert rows.predictions.probabilities[:, 0].tolist() == [0.0, 0.0]
    assert rows.loss.tolist() == [200.0, 300.0]


def test_equal_values_are_ranked_by_id(make_rows):
    rows = judge_rows(make_rows([[0.0, 1.0]] * 3, [0, 0, 0], ids=["c", "a", "b"]))
    assert rows.ids[rows.ranked(rows.loss)].tolist() == ["a", "b", "c"]
    assert rows.ids[rows.ranked(rows.loss, np.array([True, False, True]))].tolist() == ["b", "c"]


def test_a_teachers_rows_are_put_in_the_students_order(random_rows, shuffle_rows):
    student, teacher = (random_rows("single_label_classification", 50, seed) for seed in (1, 2))
    order = np.random.default_rng(0).permutation(50)
    beside = judge_beside(shuffle_rows(teacher, order), judge_rows(student))
    assert beside.ids.tolist() == student.ids.tolist()
    np.testing.assert_array_equal(beside.predictions.logits, teacher.logits)
    np.testing.assert_array_equal(beside.predictions.n_tokens, teacher.n_tokens)


def test_a_teacher_of_other_rows_is_refused(random_rows):
    student, teacher = (random_rows("single_label_classification", n, 1) for n in (50, 49))
    with pytest.raises(DataError, match="did not predict the same rows"):
        judge_beside(teacher, judge_rows(student))


def test_selected_rows_are_those_asked_for(random_rows):
    predictions = random_rows("multi_label_classification", 20, 1)
    chosen = select_rows(predictions, np.array([7, 3]))
    assert chosen.ids.tolist() == ["test-000007", "test-000003"]
    np.testing.assert_array_equal(chosen.targets, predictions.targets[[7, 3]])
