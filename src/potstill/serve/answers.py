"""Predictions as each kind of client reads them. Scores are rounded to seven decimals, what a float32 holds near 1."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from potstill.records import Predictions, sigmoid, softmax
from potstill.serve.classify import Answer
from potstill.serve.metrics import Times
from potstill.serve.predictor import ServedPredictor

Activation = Literal["softmax", "sigmoid", "none"]
DECIMALS = 7


def scores_of(predictions: Predictions, activation: Activation | None) -> np.ndarray:
    """``(n, k)``: logits / temperature under an activation; ``none`` are the logits as they are.

    Without an activation it is that of the problem type, and nothing for a regression.
    """
    if activation is None:
        return predictions.probabilities
    if activation == "none":
        return predictions.logits
    scaled = predictions.logits / predictions.temperature
    return softmax(scaled) if activation == "softmax" else sigmoid(scaled)


def ranked(label_names: tuple[str, ...], scores: np.ndarray, top_k: int | None = None) -> list[list[dict[str, Any]]]:
    """For each row its labels with their scores, highest first; the first ``top_k`` of them."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k].tolist()
    rows = _rounded(scores)
    return [
        [{"label": label_names[label], "score": row[label]} for label in labels]
        for row, labels in zip(rows, order, strict=True)
    ]


def classified(name: str, answer: Answer) -> dict[str, Any]:
    """The answer of ``/v1/classify``: what was decided, by which thresholds, and where the time went."""
    predictions = answer.predictions
    regression = predictions.problem_type == "regression"
    return {
        "bundle": name,
        "problem_type": predictions.problem_type,
        "temperature": predictions.temperature,
        "thresholds": thresholds_of(predictions.problem_type, predictions.label_names, predictions.thresholds),
        "results": [
            {
                "labels": labels,
                "value": probabilities[0] if regression else None,
                "probabilities": {} if regression else dict(zip(predictions.label_names, probabilities, strict=True)),
                "tokens": n_tokens,
                "truncated": truncated,
            }
            for labels, probabilities, n_tokens, truncated in zip(
                given_labels(predictions),
                _rounded(predictions.probabilities),
                predictions.n_tokens.tolist(),
                predictions.truncated.tolist(),
                strict=True,
            )
        ],
        "milliseconds": milliseconds(answer.times),
    }


def given_labels(predictions: Predictions) -> list[list[str]]:
    """The labels that were decided for each row: one, any number, or none for a regression."""
    names, decided = predictions.label_names, predictions.predicted
    if predictions.problem_type == "single_label_classification":
        return [[names[label]] for label in decided.tolist()]
    if predictions.problem_type == "multi_label_classification":
        return [[names[label] for label in np.flatnonzero(row)] for row in decided]
    return [[] for _ in range(len(predictions))]


def thresholds_of(
    problem_type: str, label_names: tuple[str, ...], thresholds: np.ndarray | None
) -> dict[str, float] | None:
    """From which probability each label is given: all of many, the second of two; None for the likeliest."""
    if problem_type == "multi_label_classification":
        values = [0.5] * len(label_names) if thresholds is None else thresholds.tolist()
        return dict(zip(label_names, values, strict=True))
    return None if thresholds is None else {label_names[-1]: float(thresholds[0])}


def decided_by(predictor: ServedPredictor) -> tuple[float, dict[str, float] | None]:
    """The temperature and the thresholds a predictor obeys, before it has said anything."""
    decisions = predictor.decisions
    fitted = None if decisions is None or decisions.thresholds is None else np.array([*decisions.thresholds.values()])
    temperature = 1.0 if decisions is None else decisions.temperature
    return temperature, thresholds_of(predictor.problem_type, predictor.label_names, fitted)


def milliseconds(times: Times) -> dict[str, float]:
    """Where the time of a request went, to the microsecond."""
    return {
        "total": round(1000 * times.total_s, 3),
        "tokenisation": round(1000 * times.tokenisation_s, 3),
        "queue": round(1000 * times.queue_s, 3),
        "inference": round(1000 * times.inference_s, 3),
    }


def compute_headers(answer: Answer, n_characters: int) -> dict[str, str]:
    """text-embeddings-inference's headers of what an answer cost; times in whole milliseconds."""
    times = answer.times
    return {
        "x-compute-type": "cpu",
        "x-compute-time": _ms(times.total_s),
        "x-compute-characters": str(n_characters),
        "x-compute-tokens": str(int(answer.predictions.n_tokens.sum())),
        "x-total-time": _ms(times.total_s),
        "x-tokenization-time": _ms(times.tokenisation_s),
        "x-queue-time": _ms(times.queue_s),
        "x-inference-time": _ms(times.inference_s),
    }


def _ms(seconds: float) -> str:
    return str(round(1000 * seconds))


def _rounded(scores: np.ndarray) -> list[list[float]]:
    rows: list[list[float]] = scores.astype(np.float64).round(DECIMALS).tolist()
    return rows
