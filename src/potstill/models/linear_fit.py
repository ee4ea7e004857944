"""Fitting TF-IDF under a linear model, by scikit-learn: features, then one model for one strength of its penalty."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from potstill.errors import DataError
from potstill.models.linear import Features, joined
from potstill.records import ProblemType, Text

NEVER = -30.0
"""The logit of a label that no training row carries; fitted logits of the others come nowhere near it."""


def fit_features(features: Features, texts: Iterable[Text]) -> tuple[TfidfVectorizer, csr_matrix]:
    """scikit-learn's vectorizer fitted on ``texts``, and their features ``(texts, features)`` float64.

    Words are lowercased runs of two or more letters and digits, scikit-learn's default. Raises DataError where no
    feature occurs often enough.
    """
    vectorizer = TfidfVectorizer(
        ngram_range=features.ngrams,
        min_df=features.min_count,
        max_features=features.max_features,
        sublinear_tf=features.sublinear,
    )
    try:
        return vectorizer, vectorizer.fit_transform(joined(texts))
    except ValueError as error:  # scikit-learn's word for an empty vocabulary
        raise DataError(f"no word of the training texts can be used: {error}", do="lower tfidf.min_count") from error


@dataclass(frozen=True)
class Fit:
    """What one fit gave: rows of coefficients and intercepts, and in words what is to be told of it."""

    coefficients: np.ndarray
    intercepts: np.ndarray
    notes: Sequence[str] = ()


def fit_linear(
    features: csr_matrix,
    targets: np.ndarray,
    label_names: Sequence[str],
    problem_type: ProblemType,
    *,
    penalty: float,
    weights: np.ndarray | None = None,
    max_iterations: int = 1000,
) -> Fit:
    """A linear model of ``targets`` by scikit-learn, with an L2 penalty of this strength; nothing in it is drawn.

    One label: ``LogisticRegression`` over all labels at once; many: one for each label; both with ``C = 1 / penalty``.
    Regression: ``Ridge`` with ``alpha = penalty``. A label that no row carries is never given, and one that every row
    carries always is; both are told, as is a solver that needed more than ``max_iterations``.

    weights: what a row counts in the loss, by its label ``(classes,)``; of many labels ``(labels, 2)``, by whether each
    is given. None counts all alike.
    """
    if problem_type == "regression":
        return _as_fit(Ridge(alpha=penalty, max_iter=max_iterations), features, targets.astype(np.float64), penalty)
    logistic = LogisticRegression(C=1 / penalty, max_iter=max_iterations)
    if problem_type == "multi_label_classification":
        return _fit_many(logistic, features, targets, label_names, penalty, weights)
    present = np.unique(targets)
    if len(present) == 1:
        return _one_label_only(int(present[0]), features.shape[1], label_names)
    of_rows = None if weights is None else weights[targets]
    return _over_all_labels(_as_fit(logistic, features, targets, penalty, of_rows), present, label_names)


def _one_label_only(label: int, n_features: int, label_names: Sequence[str]) -> Fit:
    intercepts = np.full(len(label_names), NEVER)
    intercepts[label] = 0.0
    coefficients = np.zeros((len(label_names), n_features), dtype=np.float32)
    return Fit(coefficients, intercepts, [f"every training row is {label_names[label]}: always predicted"])


def _over_all_labels(fitted: Fit, present: np.ndarray, label_names: Sequence[str]) -> Fit:
    """The fit with a row for each label, those that no training row carries included; of two present it stays one."""
    if len(present) == len(label_names):
        return fitted
    rows, offsets = fitted.coefficients, fitted.intercepts
    if len(offsets) == 1:
        rows, offsets = np.vstack([-rows / 2, rows / 2]), np.concatenate([-offsets / 2, offsets / 2])
    coefficients = np.zeros((len(label_names), rows.shape[1]), dtype=np.float32)
    intercepts = np.full(len(label_names), NEVER)
    coefficients[present], intercepts[present] = rows, offsets
    absent = [name for index, name in enumerate(label_names) if index not in present]
    return Fit(coefficients, intercepts, [*fitted.notes, f"no training row is {', '.join(absent)}: never predicted"])


def _fit_many(
    logistic: LogisticRegression,
    features: csr_matrix,
    targets: np.ndarray,
    label_names: Sequence[str],
    penalty: float,
    weights: np.ndarray | None,
) -> Fit:
    given = targets.sum(axis=0)
    coefficients = np.zeros((len(label_names), features.shape[1]), dtype=np.float32)
    intercepts = np.where(given > 0, -NEVER, NEVER).astype(np.float64)
    notes = []
    for index, name in enumerate(label_names):
        column = targets[:, index]
        if given[index] in (0, len(targets)):
            rows, answer = ("every", "always") if given[index] else ("no", "never")
            notes.append(f"{rows} training row is {name}: {answer} predicted")
            continue
        of_rows = None if weights is None else weights[index][column]
        fitted = _as_fit(logistic, features, column, penalty, of_rows)
        coefficients[index], intercepts[index] = fitted.coefficients[0], fitted.intercepts[0]
        notes += [note for note in fitted.notes if note not in notes]
    return Fit(coefficients, intercepts, notes)


def _as_fit(
    estimator: Any, features: csr_matrix, targets: np.ndarray, penalty: float, of_rows: np.ndarray | None = None
) -> Fit:
    """The estimator fitted anew; ``of_rows`` ``(n,)`` are the weights of the rows."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ConvergenceWarning)
        estimator.fit(features, targets, sample_weight=of_rows)
    stopped = any(issubclass(warning.category, ConvergenceWarning) for warning in warned)
    told = f"penalty {penalty:g}: the solver stopped at its most iterations; raise tfidf.max_iterations"
    coefficients = np.atleast_2d(estimator.coef_).astype(np.float32)
    intercepts = np.atleast_1d(estimator.intercept_).astype(np.float64)
    return Fit(coefficients, intercepts, [told] if stopped else [])
