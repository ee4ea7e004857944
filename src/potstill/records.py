"""The narrow waist: the few types in which the rooms of the house speak to one another. numpy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from potstill.errors import DataError

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
"""The three problem types, under the names that transformers writes into ``config.json``."""

PROBLEM_TYPES: tuple[ProblemType, ...] = (
    "single_label_classification",
    "multi_label_classification",
    "regression",
)

Text = str | tuple[str, str]
"""One input of a classifier: a text, or a pair of texts."""


def is_unicode(text: str) -> bool:
    """Whether every code point of ``text`` is a character; a surrogate, which is half of a pair, is none."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities ``(n, k)`` float32 of ``(n, k)`` logits; written here because the runtime needs numpy alone."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Independent probabilities ``(n, k)`` float32 of ``(n, k)`` logits, without overflow on either side."""
    decay = np.exp(-np.abs(logits.astype(np.float64)))
    return (np.where(logits >= 0, 1.0, decay) / (1.0 + decay)).astype(np.float32)


@dataclass(frozen=True)
class Predictions:
    """What a predictor said of ``n`` texts. Every figure that potstill prints is computed from one of these.

    ids: ``(n,)`` str, the rows' identities; the same text set has the same ids in every run.
    logits: ``(n, k)`` float32, before the activation; ``k`` is 1 for regression.
    label_names: the ``k`` names, in the order of the columns.
    problem_type: decides the activation (softmax, sigmoid, none) and the shape of ``targets``.
    targets: ``(n,)`` int64 for one label, ``(n, k)`` int8 of 0/1 for many, ``(n,)`` float32 for regression, or None.
    n_tokens: ``(n,)`` int32, tokens per text before truncation, special tokens included.
    truncated: ``(n,)`` bool, texts longer than the model takes.
    elapsed_s: wall time of the prediction in seconds, tokenisation included.
    temperature: above 0, what the logits are divided by before the activation; the order of the labels stays.
    thresholds: in [0, 1], or None for 0.5 and the likeliest label. ``(k,)`` for many labels: the probability from which
        each counts as given. ``(1,)`` for one label of two: the probability from which it is the second.
    """

    ids: np.ndarray
    logits: np.ndarray
    label_names: tuple[str, ...]
    problem_type: ProblemType
    n_tokens: np.ndarray
    truncated: np.ndarray
    elapsed_s: float
    targets: np.ndarray | None = None
    temperature: float = 1.0
    thresholds: np.ndarray | None = field(default=None)

    def __post_init__(self) -> None:
        self._check_sizes()
        scaled = self.problem_type != "regression"
        if not (0 < self.temperature < math.inf if scaled else self.temperature == 1):
            raise DataError(
                f"logits of a {self.problem_type} cannot be divided by this temperature",
                found=self.temperature,
                allowed="a finite number above 0" if scaled else "1",
            )

    def _check_sizes(self) -> None:
        n, k = self.logits.shape
        wrong = [
            name
            for name, holds in (
                ("ids", self.ids.shape == (n,)),
                ("label_names", len(self.label_names) == k),
                ("n_tokens", self.n_tokens.shape == (n,)),
                ("truncated", self.truncated.shape == (n,)),
                ("targets", self.targets is None or self.targets.shape[0] == n),
                ("thresholds", self.thresholds is None or self.thresholds.shape == self._thresholds_shape),
            )
            if not holds
        ]
        if wrong:
            raise DataError(f"predictions of {n} texts and {k} labels have fields of another size: {', '.join(wrong)}")

    @property
    def _thresholds_shape(self) -> tuple[int] | None:
        k = self.logits.shape[1]
        return {"multi_label_classification": (k,), "single_label_classification": (1,) if k == 2 else None}.get(
            self.problem_type
        )

    def __len__(self) -> int:
        return int(self.logits.shape[0])

    @cached_property
    def probabilities(self) -> np.ndarray:
        """``(n, k)`` float32 in [0, 1]: softmax or sigmoid of logits / temperature; for regression the values."""
        if self.problem_type == "single_label_classification":
            return softmax(self.logits / self.temperature)
        if self.problem_type == "multi_label_classification":
            return sigmoid(self.logits / self.temperature)
        return self.logits

    @cached_property
    def predicted(self) -> np.ndarray:
        """What the model decided, in the shape of ``targets``: a class, a row of 0/1, or a value.

        Without thresholds it is read from the logits, so that no temperature changes it, not even by rounding.
        """
        if self.problem_type == "single_label_classification":
            if self.thresholds is None:
                return self.logits.argmax(axis=1).astype(np.int64)
            return (self.probabilities[:, 1] >= self.thresholds[0]).astype(np.int64)
        if self.problem_type == "multi_label_classification":
            given = self.logits >= 0 if self.thresholds is None else self.probabilities >= self.thresholds
            return given.astype(np.int8)
        return self.logits[:, 0]

    def undecided(self) -> Predictions:
        """The same logits with no temperature and no threshold, as they are stored."""
        return replace(self, temperature=1.0, thresholds=None)

    def with_targets(self, targets: np.ndarray, ids: np.ndarray) -> Predictions:
        """The same predictions, with the truth and the rows' ids beside them."""
        return replace(self, targets=targets, ids=ids)


class Predictor(Protocol):
    """Anything that classifies texts: a torch model, a bundle, a baseline, a fake in a test."""

    label_names: tuple[str, ...]
    problem_type: ProblemType

    def predict(self, texts: Sequence[Text]) -> Predictions:
        """Predictions for ``texts`` in their order, ``ids`` counting from 0; returns when the work is truly done."""
        ...
