from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

from potstill.analyse.data.class_balance import balance_of, correlate_labels, scores_of


def test_balance_counts_classes_by_split(make_rows):
    # oracle: worked by hand; the entropy of 3/4 and 1/4 is 0.8112781 bits
    rows = make_rows({"train": (["a"] * 4, [1, 1, 1, 0]), "test": (["b"] * 2, [0, 0])})
    balance = balance_of(rows)
    assert balance.counts == {"train": {"no": 1, "yes": 3}, "test": {"no": 2, "yes": 0}}
    assert (balance.largest, balance.smallest, balance.imbalance, balance.majority) == ("yes", "no", 3.0, 0.75)
    assert balance.evenness == pytest.approx(0.8112781)
    assert balance.shift == {"train": 0.0, "test": pytest.approx(0.75)}


def test_a_class_that_never_occurs_has_no_ratio(make_rows):
    balance = balance_of(make_rows({"train": (["a", "b"], [0, 1])}, label_names=("x", "y", "z")))
    assert (balance.smallest, balance.imbalance) == ("z", None)


def test_many_labels_are_counted_each_for_itself(make_rows):
    targets = [[1, 1], [0, 1], [0, 0], [1, 1]]
    balance = balance_of(make_rows({"train": (["a"] * 4, targets)}, ("x", "y"), "multi_label_classification"))
    assert balance.counts == {"train": {"x": 2, "y": 3}}
    assert balance.unlabelled == {"train": 1}
    assert balance.labels_per_text == {"train": 1.25}
    assert balance.evenness is None


def test_labels_correlate_as_matthews_coefficient_says():
    # oracle: scikit-learn; between two 0/1 columns Pearson's and Matthews' coefficients are one
    flags = np.random.default_rng(3).integers(2, size=(200, 3))
    found = correlate_labels(flags)
    assert found[0][2] == pytest.approx(matthews_corrcoef(flags[:, 0], flags[:, 2]))


def test_a_label_that_never_varies_correlates_with_nothing():
    found = correlate_labels(np.array([[1, 0], [1, 1], [1, 0]]))
    assert found[0] == [None, None]
    assert found[1][1] == pytest.approx(1.0)


def test_scores_have_a_summary_and_no_balance(make_rows):
    rows = make_rows({"train": (["a", "b"], [1.0, 4.0])}, problem_type="regression")
    assert balance_of(rows) is None
    assert (scores_of(rows)["train"].mean, scores_of(rows)["train"].maximum) == (2.5, 4.0)


def test_a_corpus_has_neither(make_rows):
    rows = make_rows({"texts": (["a", "b"], None)}, problem_type=None)
    assert (balance_of(rows), scores_of(rows)) == (None, None)
