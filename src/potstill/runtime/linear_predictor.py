"""A linear model behind the ``Predictor`` protocol; no torch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from potstill.decisions import Decisions, read_decisions
from potstill.models.linear import LinearModel, joined, open_linear
from potstill.records import Predictions, ProblemType, Text


class LinearPredictor:
    """Classifies texts by their words; nothing is ever cut, and no text changes the answer for another."""

    def __init__(self, model: LinearModel, decisions: Decisions | None = None) -> None:
        """Take a fitted model; without ``decisions`` the likeliest label is given, or those from 0.5."""
        self.model = model
        self.label_names = model.label_names
        self.problem_type: ProblemType = model.problem_type
        self.decisions = decisions
        self._vectorizer = model.vectorizer()
        self._words = self._vectorizer.build_tokenizer()

    @classmethod
    def open(cls, folder: str | Path) -> LinearPredictor:
        """The model of a finished run or of its folder, with the temperature and thresholds kept there.

        Raises ``ModelError`` as ``open_linear`` does, and ``RunFolderError`` for decisions that were fitted on other
        predictions than those in the folder.
        """
        return cls(open_linear(folder), read_decisions(Path(folder).expanduser()))

    @property
    def n_parameters(self) -> int:
        """Coefficients and intercepts."""
        return self.model.n_parameters

    def predict(self, texts: Sequence[Text]) -> Predictions:
        """Predictions for ``texts`` in their order, ``ids`` counting from 0; ``n_tokens`` are words."""
        started = time.perf_counter()
        plain = list(joined(texts))
        n_tokens = np.fromiter((len(self._words(text)) for text in plain), dtype=np.int32, count=len(plain))
        logits = self._logits(plain)
        elapsed_s = time.perf_counter() - started
        predictions = Predictions(
            ids=np.arange(len(plain)).astype(str),
            logits=logits,
            label_names=self.label_names,
            problem_type=self.problem_type,
            n_tokens=n_tokens,
            truncated=np.zeros(len(plain), dtype=bool),
            elapsed_s=elapsed_s,
        )
        return predictions if self.decisions is None else self.decisions.apply(predictions)

    def _logits(self, plain: list[str]) -> np.ndarray:
        if not plain:  # scikit-learn refuses to transform nothing
            return np.empty((0, len(self.label_names)), dtype=np.float32)
        return self.model.logits(self._vectorizer.transform(plain))
