"""Confident learning. Oracles: an example worked by hand, labels that were flipped on purpose, properties."""

from __future__ import annotations

import numpy as np
import pytest

from potstill.analyse.failures.judged_rows import judge_rows
from potstill.analyse.failures.label_errors import confident_labels, suspect_labels, thresholds_of

# Two labels; rows 0 to 2 bear label 0, rows 3 to 5 label 1.
PROBABILITIES = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.4, 0.6], [0.65, 0.35]])
GIVEN = np.array([0, 0, 0, 1, 1, 1])


def logits_of(probabilities: np.ndarray) -> np.ndarray:
    return np.log(probabilities)


def test_thresholds_are_the_mean_probability_of_the_label_that_is_borne():
    np.testing.assert_allclose(thresholds_of(PROBABILITIES, GIVEN), [(0.9 + 0.8 + 0.1) / 3, (0.7 + 0.6 + 0.35) / 3])


def test_the_confident_joint_by_hand():
    # thresholds 0.6 and 0.55: row 2 counts as label 1, row 5 as label 0
    assert confident_labels(PROBABILITIES, GIVEN).tolist() == [0, 0, 1, 1, 1, 0]


def test_a_row_that_reaches_two_thresholds_counts_as_the_likelier():
    probabilities = np.array([[0.5, 0.4, 0.1], [0.3, 0.6, 0.1], [0.3, 0.4, 0.3], [0.34, 0.33, 0.33]])
    # thresholds 0.4, 0.4 and, of row 2, 0.3: row 0 reaches the first two, row 3 the third alone
    labels = confident_labels(probabilities, np.array([0, 1, 2, 0]))
    np.testing.assert_allclose(thresholds_of(probabilities, np.array([0, 1, 2, 0])), [0.42, 0.6, 0.3])
    assert labels.tolist() == [0, 1, 2, 2]


def test_a_row_that_reaches_no_threshold_is_not_suspected():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.55, 0.45]])
    given = np.array([0, 1, 1])  # thresholds 0.9 and 0.625
    assert confident_labels(probabilities, given).tolist() == [0, 1, -1]


def test_suspects_are_named_and_the_likeliest_comes_first(make_rows):
    found = suspect_labels(judge_rows(make_rows(logits_of(PROBABILITIES), GIVEN, label_names=("no", "yes"))))
    assert found.rows.tolist() == [2, 5]
    assert found.given == ("no", "yes")
    assert found.suggested == ("yes", "no")
    np.testing.assert_allclose(found.given_probability, [0.1, 0.35], rtol=1e-6)
    np.testing.assert_allclose(found.suggested_probability, [0.9, 0.65], rtol=1e-6)


def test_a_label_that_no_row_bears_is_never_suggested():
    probabilities = np.array([[0.1, 0.9], [0.2, 0.8]])
    assert np.isnan(thresholds_of(probabilities, np.array([0, 0]))[1])
    assert set(confident_labels(probabilities, np.array([0, 0])).tolist()) <= {0, -1}


def test_rows_of_one_and_the_same_probability_reach_their_mean():
    probabilities = np.full((7, 2), [0.1, 0.9])
    assert confident_labels(probabilities, np.ones(7, dtype=int)).tolist() == [1] * 7


def test_flipped_labels_are_found(make_rows):
    """Of a model that is right and calibrated, most labels flipped on purpose are suspected, and few others."""
    rng = np.random.default_rng(4)
    probabilities = rng.dirichlet((0.15, 0.15, 0.15), 2000)
    truth = np.array([rng.choice(3, p=row) for row in probabilities])
    flipped = rng.choice(2000, 100, replace=False)
    given = truth.copy()
    given[flipped] = (truth[flipped] + 1) % 3
    found = suspect_labels(judge_rows(make_rows(logits_of(probabilities + 1e-12), given)))
    assert np.isin(flipped, found.rows).mean() > 0.7
    before = suspect_labels(judge_rows(make_rows(logits_of(probabilities + 1e-12), truth)))
    assert len(before) < len(found) - 60


def test_many_labels_are_doubted_one_by_one(make_rows):
    # label "a" as above, label "b" always rightly given
    of_b = np.array([0.9, 0.9, 0.1, 0.1, 0.1, 0.1])
    logits = np.stack([np.log(PROBABILITIES[:, 1] / PROBABILITIES[:, 0]), np.log(of_b / (1 - of_b))], axis=1)
    targets = np.stack([GIVEN, of_b > 0.5], axis=1)
    rows = judge_rows(make_rows(logits, targets, "multi_label_classification", ("a", "b")))
    found = suspect_labels(rows)
    assert found.rows.tolist() == [2, 5]
    assert found.given == ("not a", "a")
    assert found.suggested == ("a", "not a")


def test_a_regression_has_no_labels_to_doubt(random_rows):
    assert suspect_labels(judge_rows(random_rows("regression", 20, 1))) is None


@pytest.mark.parametrize("kind", ["single_label_classification", "multi_label_classification"])
def test_the_order_of_rows_decides_nothing(kind, random_rows, shuffle_rows):
    predictions = random_rows(kind, 400, 1)
    found = suspect_labels(judge_rows(predictions))
    other = judge_rows(shuffle_rows(predictions, np.random.default_rng(5).permutation(400)))
    again = suspect_labels(other)
    assert len(found) > 5
    assert predictions.ids[found.rows].tolist() == other.ids[again.rows].tolist()
    assert found.suggested == again.suggested
