"""Stored predictions row by row: what is true, what was answered, how sure the model was, how hard the row was."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import log_expit, log_softmax

from potstill.evaluate.metrics import Outcomes, read_outcomes
from potstill.evaluate.significance import align_outcomes
from potstill.records import Predictions, ProblemType


@dataclass(frozen=True)
class JudgedRows:
    """``n`` predictions with their truth beside them, checked by ``read_outcomes``."""

    predictions: Predictions
    outcomes: Outcomes

    def __len__(self) -> int:
        return len(self.outcomes)

    @property
    def problem_type(self) -> ProblemType:
        """What kind of answer the rows ask for."""
        return self.outcomes.problem_type

    @property
    def ids(self) -> np.ndarray:
        """``(n,)`` str, the rows' identities."""
        return self.predictions.ids

    @property
    def label_names(self) -> tuple[str, ...]:
        """The ``k`` labels in the order of their numbers."""
        return self.predictions.label_names

    @cached_property
    def wrong(self) -> np.ndarray | None:
        """``(n,)`` bool, with many labels any label decided wrongly; None for a regression, where no row is wrong."""
        return None if self.problem_type == "regression" else ~self.outcomes.right

    @cached_property
    def confidence(self) -> np.ndarray | None:
        """``(n,)`` float64 in [0, 1], the probability that the model gave to its whole answer; None for a regression.

        With many labels the product over the labels of the probability of the decided side, as if they were
        independent, which the sigmoid takes them for.
        """
        probabilities, predicted = self.outcomes.probabilities, self.outcomes.predicted
        if self.problem_type == "regression":
            return None
        if self.problem_type == "multi_label_classification":
            return np.where(predicted == 1, probabilities, 1 - probabilities).prod(axis=1)
        return probabilities[np.arange(len(self)), predicted]

    @cached_property
    def loss(self) -> np.ndarray:
        """``(n,)`` float64, the loss of training without weights or temperature, from the logits.

        Cross-entropy; binary cross-entropy, mean over the labels; squared error.
        """
        logits, targets = self.predictions.logits.astype(np.float64), self.outcomes.targets
        if self.problem_type == "regression":
            return self.errors**2
        if self.problem_type == "multi_label_classification":
            return -log_expit(np.where(targets == 1, logits, -logits)).mean(axis=1)
        return -log_softmax(logits, axis=1)[np.arange(len(self)), targets]

    @cached_property
    def errors(self) -> np.ndarray:
        """``(n,)`` float64, predicted minus true value of a regression."""
        return self.outcomes.predicted - self.outcomes.targets

    def ranked(self, values: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
        """Numbers of the rows (of those that ``among`` marks) from the greatest of ``values`` ``(n,)`` to the least.

        Rows of equal value come in the order of their ids, so that the order they are stored in decides nothing.
        """
        order = np.lexsort((self.ids, -values))
        return order if among is None else order[among[order]]


def judge_rows(predictions: Predictions) -> JudgedRows:
    """``predictions`` with their truth; DataError without targets, rows, or finite logits."""
    return JudgedRows(predictions, read_outcomes(predictions))


def judge_beside(predictions: Predictions, student: JudgedRows) -> JudgedRows:
    """Another model's ``predictions`` of the same rows, put in the order of the student's.

    DataError if they are of other rows, targets or labels.
    """
    align_outcomes({"the student": [student.predictions], "the teacher": [predictions]})
    theirs = np.empty(len(student), dtype=np.int64)
    theirs[np.argsort(student.ids, kind="stable")] = np.argsort(predictions.ids, kind="stable")
    return judge_rows(select_rows(predictions, theirs))


def select_rows(predictions: Predictions, rows: np.ndarray) -> Predictions:
    """The predictions of ``rows``, in that order; the elapsed time stays that of all."""
    per_row = ("ids", "logits", "n_tokens", "truncated", "targets")
    values = {name: getattr(predictions, name) for name in per_row}
    chosen: dict[str, Any] = {name: None if value is None else value[rows] for name, value in values.items()}
    return replace(predictions, **chosen)
