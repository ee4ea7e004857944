"""Weights of labels; the oracle is scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from potstill.errors import RecipeError
from potstill.finetune.class_weights import label_weights, weights_by_name
from potstill.records import PROBLEM_TYPES

SINGLE, MULTI, REGRESSION = PROBLEM_TYPES
NAMES = ("few", "many", "some")
TARGETS = np.array([0] * 2 + [1] * 20 + [2] * 8)
TAGS = (np.random.default_rng(3).random((50, 3)) < [0.05, 0.5, 0.2]).astype(np.int8)


def test_balanced_weights_are_scikit_learns():
    weights = label_weights("balanced", TARGETS, NAMES, SINGLE)
    assert weights is not None
    expected = compute_class_weight("balanced", classes=np.arange(3), y=TARGETS)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert weights[TARGETS].sum() == pytest.approx(len(TARGETS))


def test_balanced_weights_of_many_labels_are_scikit_learns_of_each():
    # oracle: sample weights of each column, which scikit-learn multiplies over columns if it is given several
    weights = label_weights("balanced", TAGS, NAMES, MULTI)
    assert weights is not None
    for number, column in enumerate(TAGS.T):
        np.testing.assert_allclose(weights[number][column], compute_sample_weight("balanced", column), rtol=1e-6)


def test_a_class_that_no_row_has_weighs_one_and_changes_no_other():
    names = (*NAMES, "absent")
    weights = label_weights("balanced", TARGETS, names, SINGLE)
    assert weights is not None
    np.testing.assert_array_equal(weights[:3], label_weights("balanced", TARGETS, NAMES, SINGLE))
    assert weights[3] == 1.0
    never = label_weights("balanced", np.zeros((5, 1), dtype=np.int8), ("never",), MULTI)
    assert never is not None
    assert never.tolist() == [[1.0, 1.0]]


def test_weights_by_name_go_to_their_labels_and_the_others_have_one():
    assert label_weights({"some": 3.0, "few": 0.5}, TARGETS, NAMES, SINGLE).tolist() == [0.5, 1.0, 3.0]
    many = label_weights({"some": 3.0}, TAGS, NAMES, MULTI)
    assert many.tolist() == [[1.0, 1.0], [1.0, 1.0], [1.0, 3.0]]
    assert weights_by_name(many, NAMES) == {"few": [1.0, 1.0], "many": [1.0, 1.0], "some": [1.0, 3.0]}


def test_no_weights_are_none():
    assert label_weights("none", TARGETS, NAMES, SINGLE) is None
    assert label_weights("none", np.zeros(3), ("score",), REGRESSION) is None
    assert weights_by_name(None, NAMES) is None


def test_what_cannot_be_weighed_is_refused():
    with pytest.raises(RecipeError, match=r"class_weights names no label; found 'mny'; did you mean 'many'\?"):
        label_weights({"mny": 2.0}, TARGETS, NAMES, SINGLE)
    with pytest.raises(RecipeError, match="known are few, many, some"):
        label_weights({"zzzz": 2.0}, TARGETS, NAMES, SINGLE)
    with pytest.raises(RecipeError, match="a regression has no labels"):
        label_weights("balanced", np.zeros(3), ("score",), REGRESSION)
