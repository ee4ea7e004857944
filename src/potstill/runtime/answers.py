"""What a prediction adds to a row: the decision, and the probability of each label or of the likeliest ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from potstill.errors import DataError, UsageError
from potstill.records import Predictions, ProblemType

DECIMALS = 6
"""Probabilities and values are rounded to so many: what engines differ by lies behind them."""

Kind = Literal["label", "labels", "number"]
_DECISIONS: Mapping[ProblemType, Kind] = {
    "single_label_classification": "label",
    "multi_label_classification": "labels",
    "regression": "number",
}


class Answers:
    """The columns that are added, and their values.

    ``predicted`` is the label, the list of labels given, or the value; then ``probability_<label>`` for each label, or
    with ``top_k`` the columns ``label_1``, ``probability_1`` and so on, likeliest first. ``prefix`` stands before each.
    """

    def __init__(
        self, label_names: Sequence[str], problem_type: ProblemType, top_k: int | None = None, prefix: str = ""
    ) -> None:
        """Raises UsageError for a ``top_k`` that the labels do not allow."""
        self._names, self._type, self._top_k = tuple(label_names), problem_type, top_k
        if top_k is not None and (problem_type == "regression" or not 1 <= top_k <= len(label_names)):
            allowed = (
                "nothing: a regression has no labels" if problem_type == "regression" else f"1 to {len(label_names)}"
            )
            raise UsageError("there are not so many likeliest labels", found=top_k, allowed=allowed)
        self.columns: tuple[str, ...] = tuple(prefix + name for name in self._columns())
        if len(set(self.columns)) != len(self.columns):
            raise DataError("two labels would get one column", found=", ".join(self.columns))

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What each column holds."""
        if self._top_k is not None:
            likeliest: tuple[Kind, ...] = ("label", "number")
            return (_DECISIONS[self._type], *(likeliest * self._top_k))
        number: tuple[Kind, ...] = ("number",)
        return (_DECISIONS[self._type], *(number * (len(self.columns) - 1)))

    def of(self, predictions: Predictions) -> list[list[Any]]:
        """For each text the values of the columns, in their order; plain Python values."""
        decisions = self._decisions(predictions)
        if self._type == "regression":
            return [[value] for value in decisions]
        probabilities = predictions.probabilities.astype(np.float64).round(DECIMALS)
        if self._top_k is None:
            return [[decided, *row] for decided, row in zip(decisions, probabilities.tolist(), strict=True)]
        likeliest = np.argsort(-predictions.logits, axis=1, kind="stable")[:, : self._top_k]
        best = np.take_along_axis(probabilities, likeliest, axis=1).tolist()
        return [
            [
                decided,
                *(part for label, share in zip(labels, shares, strict=True) for part in (self._names[label], share)),
            ]
            for decided, labels, shares in zip(decisions, likeliest.tolist(), best, strict=True)
        ]

    def _columns(self) -> list[str]:
        if self._type == "regression":
            return ["predicted"]
        if self._top_k is None:
            return ["predicted", *(f"probability_{name}" for name in self._names)]
        numbers = range(1, self._top_k + 1)
        return ["predicted", *(f"{what}_{number}" for number in numbers for what in ("label", "probability"))]

    def _decisions(self, predictions: Predictions) -> list[Any]:
        predicted = predictions.predicted
        if self._type == "single_label_classification":
            return [self._names[label] for label in predicted.tolist()]
        if self._type == "multi_label_classification":
            return [[self._names[label] for label in np.flatnonzero(row)] for row in predicted]
        return list(predicted.astype(np.float64).round(DECIMALS).tolist())
