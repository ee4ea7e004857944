"""What the server asks of a predictor. Bundles and runs have it; so has the fake of the tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from potstill.data.tokens import TextTokenizer
from potstill.data.windows import Windows
from potstill.decisions import Decisions
from potstill.records import Predictions, ProblemType, Text


class ServedPredictor(Protocol):
    """A predictor that also says how it reads texts, and with what it decides."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels, in the order of the logits."""
        ...

    @property
    def problem_type(self) -> ProblemType:
        """One label, many labels or a value; it decides the activation."""
        ...

    @property
    def max_length(self) -> int:
        """The most tokens of a text that are read at a time, special tokens included."""
        ...

    @property
    def windows(self) -> Windows | None:
        """How longer texts are read whole, or None where they are cut."""
        ...

    @property
    def decisions(self) -> Decisions | None:
        """Temperature and thresholds; ``predict`` has obeyed them already."""
        ...

    @property
    def tokenizer(self) -> TextTokenizer:
        """What counts the tokens of a text."""
        ...

    def predict(self, texts: Sequence[Text]) -> Predictions:
        """Predictions for ``texts`` in their order. Called from one thread at a time, not always the same."""
        ...


OpenPredictor = Callable[[Path], ServedPredictor]
"""Opens the predictor in a folder; raises PotstillError where there is none."""
