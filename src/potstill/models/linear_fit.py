"""Fitting TF-IDF under a linear model, by scikit-learn: features, then one model for one strength of its penalty."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier

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
    class_weights: Literal["none", "balanced"] = "none",
    max_iterations: int = 1000,
) -> Fit:
    """A linear model of ``targets`` by scikit-learn, with an L2 penalty of this strength; nothing in it is drawn.

    One label: ``LogisticRegression`` over all labels at once; many: one for each (``OneVsRestClassifier``); both with
    ``C = 1 / penalty``. Regression: ``Ridge`` with ``alpha = penalty``. A label that no row carries is never given, and
    one that every row carries always is; both are told, as is a solver that needed more than ``max_iterations``.
    """
    if problem_type == "regression":
        ridge = Ridge(alpha=penalty, max_iter=max_iterations)
        fitted = _as_fit(ridge, features, targets.astype(np.float64), penalty)
        unused = ["a regression has no classes to weigh: class_weights is left out"] if class_weights != "none" else []
        return Fit(fitted.coefficients, fitted.intercepts, [*fitted.notes, *unused])
    weights = "balanced" if class_weights == "balanced" else None
    logistic = LogisticRegression(C=1 / penalty, max_iter=max_iterations, class_weight=weights)
    if problem_type == "multi_label_classification":
        return _fit_many(logistic, features, targets, label_names, penalty)
    return _over_all_labels(_as_fit(logistic, features, targets, penalty), np.unique(targets), label_names)


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


def _as_fit(estimator: Any, features: csr_matrix, targets: np.ndarray, penalty: float) -> Fit:
    notes = _fit_noting(estimator, features, targets, penalty)
    coefficients = np.atleast_2d(estimator.coef_).astype(np.float32)
    return Fit(coefficients, np.atleast_1d(estimator.intercept_).astype(np.float64), notes)


def _fit_noting(estimator: Any, features: csr_matrix, targets: np.ndarray, penalty: float) -> list[str]:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ConvergenceWarning)
        estimator.fit(features, targets)
    if not any(issubclass(warning.category, ConvergenceWarning) for warning in warned):
        return []
    return [f"penalty {penalty:g}: the solver stopped at its most iterations; raise tfidf.max_iterations"]


def _fit_many(
    logistic: LogisticRegression, features: csr_matrix, targets: np.ndarray, label_names: Sequence[str], penalty: float
) -> Fit:
    given = targets.sum(axis=0)
    fitted = np.flatnonzero((given > 0) & (given < len(targets)))
    coefficients = np.zeros((len(label_names), features.shape[1]), dtype=np.float32)
    intercepts = np.where(given > 0, -NEVER, NEVER).astype(np.float64)
    notes = []
    if len(fitted):
        every = OneVsRestClassifier(logistic)
        notes += _fit_noting(every, features, targets[:, fitted], penalty)
        coefficients[fitted] = np.vstack([each.coef_ for each in every.estimators_])
        intercepts[fitted] = [each.intercept_[0] for each in every.estimators_]
    for index in np.setdiff1d(np.arange(len(label_names)), fitted):
        rows, answer = ("every", "always") if given[index] else ("no", "never")
        notes.append(f"{rows} training row is {label_names[index]}: {answer} predicted")
    return Fit(coefficients, intercepts, notes)
