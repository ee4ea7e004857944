"""Predictions in each client's words. Oracles: scipy's softmax and expit, and decisions worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, softmax

from potstill.records import Predictions
from potstill.serve.answers import classified, compute_headers, decided_by, given_labels, ranked, scores_of
from potstill.serve.classify import Answer
from potstill.serve.metrics import Times

SINGLE, MULTI, SCORE = "single_label_classification", "multi_label_classification", "regression"
LOGITS = np.array([[1.0, 3.0, -2.0], [0.5, 0.25, 0.0]], dtype=np.float32)


def predictions(kind: Any, logits: np.ndarray = LOGITS, **more: Any) -> Predictions:
    n, k = logits.shape
    names = ("good", "bad", "dull")[:k]
    return Predictions(
        np.arange(n).astype(str), logits, names, kind, np.full(n, 5, np.int32), np.zeros(n, bool), 0.01, **more
    )


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_activation_is_that_of_the_problem_type(temperature):
    single = scores_of(predictions(SINGLE, temperature=temperature), None)
    np.testing.assert_allclose(single, softmax(LOGITS / temperature, axis=1), rtol=1e-6)
    multi = scores_of(predictions(MULTI, temperature=temperature), None)
    np.testing.assert_allclose(multi, expit(LOGITS / temperature), rtol=1e-6)
    value = LOGITS[:, :1]
    assert scores_of(predictions(SCORE, value), None).tolist() == value.tolist()


@pytest.mark.parametrize("kind", [SINGLE, MULTI])
def test_another_activation_can_be_asked_for(kind):
    of = predictions(kind, temperature=2.0)
    np.testing.assert_allclose(scores_of(of, "softmax"), softmax(LOGITS / 2, axis=1), rtol=1e-6)
    np.testing.assert_allclose(scores_of(of, "sigmoid"), expit(LOGITS / 2), rtol=1e-6)
    assert scores_of(of, "none").tolist() == LOGITS.tolist()


def test_labels_are_ranked_and_ties_keep_their_order():
    rows = ranked(("good", "bad", "dull"), np.array([[0.1, 0.8, 0.1], [0.2, 0.2, 0.6]], dtype=np.float32))
    assert [[score["label"] for score in row] for row in rows] == [["bad", "good", "dull"], ["dull", "good", "bad"]]
    assert rows[0][0] == {"label": "bad", "score": 0.8}
    assert [len(row) for row in ranked(("good", "bad", "dull"), LOGITS, top_k=2)] == [2, 2]


def test_thresholds_decide_which_labels_are_given():
    assert given_labels(predictions(SINGLE)) == [["bad"], ["good"]]
    assert given_labels(predictions(MULTI)) == [["good", "bad"], ["good", "bad", "dull"]]
    stricter = predictions(MULTI, thresholds=np.array([0.9, 0.5, 0.5]))
    assert given_labels(stricter) == [["bad"], ["bad", "dull"]]
    of_two = predictions(SINGLE, LOGITS[:, :2], thresholds=np.array([0.95]))
    assert given_labels(of_two) == [["good"], ["good"]]
    assert given_labels(predictions(SCORE, LOGITS[:, :1])) == [[], []]


def answer_of(done: Predictions) -> Answer:
    seen = replace(done, n_tokens=np.array([5, 20], np.int32), truncated=np.array([False, True]))
    return Answer(seen, Times(0.0123456, 0.001, 0.002, 0.009))


def test_the_own_answer_tells_by_what_it_was_decided():
    told = classified("words", answer_of(predictions(MULTI, thresholds=np.array([0.9, 0.5, 0.5]), temperature=1.5)))
    assert told["thresholds"] == {"good": 0.9, "bad": 0.5, "dull": 0.5}
    assert (told["bundle"], told["temperature"], told["problem_type"]) == ("words", 1.5, MULTI)
    first, second = told["results"]
    assert first["probabilities"]["bad"] == pytest.approx(float(expit(3 / 1.5)), abs=1e-6)
    assert (first["tokens"], first["truncated"], second["tokens"], second["truncated"]) == (5, False, 20, True)
    assert told["milliseconds"] == {"total": 12.346, "tokenisation": 1.0, "queue": 2.0, "inference": 9.0}


def test_many_labels_without_thresholds_are_given_from_a_half_on():
    assert classified("x", answer_of(predictions(MULTI)))["thresholds"] == {"good": 0.5, "bad": 0.5, "dull": 0.5}
    assert classified("x", answer_of(predictions(SINGLE)))["thresholds"] is None


def test_a_regression_has_a_value_and_no_probabilities():
    told = classified("x", answer_of(predictions(SCORE, LOGITS[:, :1])))
    assert [(result["value"], result["probabilities"], result["labels"]) for result in told["results"]] == [
        (1.0, {}, []),
        (0.5, {}, []),
    ]


def test_a_predictor_says_its_decisions_before_it_predicts(fake):
    labels, kind = ("no", "yes"), SINGLE
    decisions = fake.decisions_of(labels, kind, 1.7, {"yes": 0.3})
    assert decided_by(fake.FakePredictor(labels, kind, decisions=decisions)) == (1.7, {"yes": 0.3})
    assert decided_by(fake.FakePredictor()) == (1.0, None)


def test_headers_tell_what_an_answer_cost():
    headers = compute_headers(answer_of(predictions(SINGLE)), n_characters=44)
    assert headers == {
        "x-compute-type": "cpu",
        "x-compute-time": "12",
        "x-compute-characters": "44",
        "x-compute-tokens": "25",
        "x-total-time": "12",
        "x-tokenization-time": "1",
        "x-queue-time": "2",
        "x-inference-time": "9",
    }
