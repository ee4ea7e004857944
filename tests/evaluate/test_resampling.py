"""Oracles: the laws of drawing with replacement, and identities between metrics that see the same draws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from potstill.errors import CheckError
from potstill.evaluate import resampling
from potstill.evaluate.metrics import read_outcomes
from potstill.evaluate.resampled_metrics import RESAMPLED
from potstill.evaluate.resampling import count_drawn, draw_rows, group_rows, resample_metrics
from potstill.records import PROBLEM_TYPES


def test_grouped_rows_stand_for_all_of_their_group():
    targets, predicted = np.array([0, 1, 0, 1, 0]), np.array([0, 0, 0, 1, 1])
    groups = group_rows([targets, predicted])
    assert len(groups) == 4
    np.testing.assert_array_equal(targets[groups.first_rows][groups.of_row], targets)
    np.testing.assert_array_equal(predicted[groups.first_rows][groups.of_row], predicted)


def test_rows_of_many_labels_are_grouped_by_the_whole_row():
    groups = group_rows([np.array([[0, 1], [1, 0], [0, 1]], dtype=np.int8)])
    assert len(groups) == 2
    assert groups.of_row[0] == groups.of_row[2] != groups.of_row[1]


def test_size_of_the_chunks_changes_no_draw(monkeypatch):
    whole = np.concatenate(list(draw_rows(7, 30, seed=5)))
    monkeypatch.setattr(resampling, "CHUNK_ENTRIES", 20)
    chunks = list(draw_rows(7, 30, seed=5))
    assert len(chunks) == 15
    np.testing.assert_array_equal(np.concatenate(chunks), whole)


def test_counts_are_how_often_each_row_was_drawn():
    counts = count_drawn(np.array([[0, 2, 2], [1, 1, 1]]), 4)
    assert counts.tolist() == [[1, 0, 2, 0], [0, 3, 0, 0]]


def test_every_row_is_drawn_as_often_as_any_other():
    # Binomial law: mean 1, variance 1 - 1/n.
    counts = count_drawn(np.concatenate(list(draw_rows(10, 20_000, seed=0))), 10)
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.03)
    np.testing.assert_allclose(counts.var(axis=0), 0.9, rtol=0.05)


def test_metrics_of_labels_and_of_scores_see_the_same_draws(random_predictions):
    # With two labels and probabilities of 0 and 1, log loss is a fixed price per error, so it follows from accuracy.
    predictions = random_predictions(PROBLEM_TYPES[0], 40, 2, 0)
    certain = np.where(np.eye(2)[predictions.predicted] == 1, 99, -99).astype(np.float32)
    sure = read_outcomes(replace(predictions, logits=certain))
    drawn = resample_metrics({"a": [sure]}, ["log_loss", "accuracy"], 30, seed=1)
    price = -np.log(np.finfo(float).eps)
    np.testing.assert_allclose(drawn["log_loss"]["a"], price * (1 - drawn["accuracy"]["a"]), atol=1e-6)


def test_arms_with_equal_predictions_get_equal_resamples(random_predictions):
    outcomes = read_outcomes(random_predictions(PROBLEM_TYPES[0], 50, 3, 0))
    other = read_outcomes(random_predictions(PROBLEM_TYPES[0], 50, 3, 1))
    drawn = resample_metrics({"a": [outcomes], "b": [outcomes, other]}, ["f1_macro"], 40, seed=2)["f1_macro"]
    assert drawn["a"].shape == (40, 1)
    assert drawn["b"].shape == (40, 2)
    np.testing.assert_array_equal(drawn["a"][:, 0], drawn["b"][:, 0])


def test_a_resampled_form_that_differs_from_scikit_learn_is_caught(random_predictions, monkeypatch):
    table = RESAMPLED[PROBLEM_TYPES[0]]
    monkeypatch.setitem(table, "precision_macro", table["recall_macro"])
    outcomes = read_outcomes(random_predictions(PROBLEM_TYPES[0], 50, 3, 0))
    with pytest.raises(CheckError, match="not scikit-learn's"):
        resample_metrics({"a": [outcomes]}, ["precision_macro"], 10, seed=0)
