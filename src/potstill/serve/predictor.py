"""What the server asks of a predictor. An opened bundle has it; so has the fake of the tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from potstill.data.tokens import Kept
from potstill.data.windows import Windows
from potstill.decisions import Decisions
from potstill.records import Predictions, ProblemType, Text
from potstill.runtime.tokenised import Tokenised


class ServedPredictor(Protocol):
    """A predictor in two steps, tokens and logits, that also says how it reads texts and with what it decides.

    label_names: in the order of the logits. problem_type: decides the activation. max_length: the most tokens of a text
    that are read at a time, special tokens included. windows: how longer texts are read whole, None where they are cut.
    decisions: temperature and thresholds, which ``classify`` obeys. arithmetic: of the weights, such as ``fp32``.
    streams: how many batches are best computed side by side.
    """

    label_names: tuple[str, ...]
    problem_type: ProblemType
    max_length: int
    windows: Windows | None
    decisions: Decisions | None
    arithmetic: str
    streams: int

    def prepare(self) -> None:
        """Make now what texts will need. Raises BundleError where that cannot be."""
        ...

    def tokenise(self, texts: Sequence[Text], keep: Kept) -> Tokenised:
        """At least one text, as rows of tokens, cut so as to ``keep`` its start or its end, or in windows.

        Called from several threads at once. Raises DataError, which quotes no text, for what it does not take.
        """
        ...

    def classify(self, rows: Tokenised, *, alone: bool) -> Predictions:
        """Predictions for texts that ``tokenise`` made rows of.

        ``alone`` says that the predictor computes nothing else meanwhile; without, calls come from as many threads at
        once as there are ``streams``.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds; nothing is asked of it any more."""
        ...


OpenPredictor = Callable[[Path], ServedPredictor]
"""Opens the predictor in a folder; raises PotstillError where there is none."""
