"""A bundle as the server asks it: texts joined and cleaned as for training, tokenised once, and then classified."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from potstill.data.tokens import Kept
from potstill.errors import DataError
from potstill.records import Predictions, Text
from potstill.runtime.bundle_predictor import BundlePredictor
from potstill.runtime.row_texts import TextReader
from potstill.runtime.schedule import BATCH_TOKENS
from potstill.runtime.tokenised import Tokenised, join_tokenised


class OpenedBundle:
    """A bundle's predictor behind the ``ServedPredictor`` protocol."""

    def __init__(self, predictor: BundlePredictor) -> None:
        bundle = predictor.bundle
        self.label_names, self.problem_type = bundle.label_names, bundle.problem_type
        self.max_length, self.windows = bundle.reading.max_length, bundle.reading.windows
        self.decisions, self.arithmetic = bundle.decisions, bundle.graph.arithmetic
        self.streams = predictor.streams
        self._predictor, self._reader = predictor, TextReader(bundle.reading)

    @classmethod
    def open(
        cls, folder: Path, *, threads: int | None = None, engine: str | None = None, batch_tokens: int = BATCH_TOKENS
    ) -> OpenedBundle:
        """Open a bundle, every file of it checked; BundleError for whatever is wrong with it, a run among that."""
        return cls(BundlePredictor.open(folder, threads=threads, engine=engine, batch_tokens=batch_tokens))

    def prepare(self) -> None:
        """Compile the engines for one text, for few and for many."""
        self._predictor.compile_all()

    def tokenise(self, texts: Sequence[Text], keep: Kept) -> Tokenised:
        """The texts as rows of tokens; DataError names the first that the bundle does not take."""
        read = [self._read(text, number) for number, text in enumerate(texts)]
        return join_tokenised(list(self._predictor.tokenise(read, keep)))

    def classify(self, rows: Tokenised, *, alone: bool) -> Predictions:
        """Predictions, temperature and thresholds obeyed."""
        return self._predictor.classify(rows, alone=alone)

    def close(self) -> None:
        """End the threads that run batches."""
        self._predictor.close()

    def _read(self, text: Text, number: int) -> Text:
        parts = (text,) if isinstance(text, str) else text
        if len(parts) not in self._reader.numbers:
            found, taken = ("a single text", "pairs") if len(parts) == 1 else ("a pair", "single texts")
            raise DataError(f"input {number} is {found}", allowed=f"this bundle takes {taken}")
        try:
            return self._reader.read(parts)
        except ValueError as error:
            raise DataError(f"input {number} holds nothing to read: {error}") from error
