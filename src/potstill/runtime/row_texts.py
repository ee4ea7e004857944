"""From the values of a row to the text, or pair of texts, that a model reads: as its training rows were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from potstill.bundle import Reading
from potstill.data.cleaning import check_steps
from potstill.data.names import suggest
from potstill.data.texts import SEPARATOR
from potstill.errors import DataError
from potstill.records import Text, is_unicode

LONGEST_TEXT = 500_000
"""In characters; the bound that training data have too. A longer text is a bad row."""


class TextReader:
    """From the text or texts that somebody has to what the model reads: joined and cleaned as for training."""

    def __init__(self, reading: Reading) -> None:
        self._pairs = reading.takes_pairs
        self._steps = check_steps(reading.cleaning)
        self.numbers = frozenset({2} if self._pairs else {1, len(reading.columns)})
        """Of how many parts a text can be."""

    def read(self, parts: Sequence[str]) -> Text:
        """The text or pair of as many ``parts`` as ``numbers`` allows; ValueError where cleaning leaves none."""
        if not self._pairs:
            parts = parts if len(parts) == 1 else [SEPARATOR.join(part for part in parts if part.strip())]
        for _, step in self._steps:
            parts = [step(part) for part in parts]
        if self._steps and not all(part.strip() for part in parts):
            raise ValueError("cleaning left no text")
        return parts[0] if len(parts) == 1 else (parts[0], parts[1])


class RowTexts:
    """The text of each row: its columns, joined and cleaned as the bundle says."""

    def __init__(self, reading: Reading, columns: Sequence[str] = ()) -> None:
        """``columns`` are those of the file, by default the ones that the model was trained on; DataError where their
        number does not fit.
        """
        self._pairs, self._reader = reading.takes_pairs, TextReader(reading)
        self.columns: tuple[str, ...] = tuple(columns) or reading.columns
        if len(self.columns) not in self._reader.numbers:
            raise DataError(
                "the bundle takes another number of text columns",
                found=", ".join(self.columns),
                allowed=" or ".join(map(str, sorted(self._reader.numbers))),
            )

    def for_lines(self) -> RowTexts:
        """The same for rows that have the one column ``text``; DataError where two are needed."""
        if self._pairs:
            raise DataError(
                "a txt file has one text a line, and the bundle takes pairs", allowed="csv, tsv, jsonl, parquet"
            )
        self.columns = ("text",)
        return self

    def require_in(self, columns: Sequence[str], title: str) -> None:
        """Raise DataError naming the first text column that a file lacks, and the nearest that it has."""
        for column in self.columns:
            if column not in columns:
                raise DataError(
                    f"{title} has no column {column!r}",
                    allowed=list(columns),
                    do=suggest(column, columns) or "name the text columns with --text-column",
                )

    def text_of(self, values: Mapping[str, Any]) -> Text:
        """The text or pair of a row; ValueError or TypeError that says why there is none."""
        parts = [self._part(values, column) for column in self.columns]
        if not any(part.strip() for part in parts):
            raise ValueError(f"no text in {' or '.join(map(repr, self.columns))}")
        return self._reader.read(parts)

    def _part(self, values: Mapping[str, Any], column: str) -> str:
        if column not in values:
            raise ValueError(f"no field {column!r}")
        value = values[column]
        if value is None:
            return ""
        if not isinstance(value, str):
            raise TypeError(f"{column!r} is no text, but {type(value).__name__}")
        if len(value) > LONGEST_TEXT:
            raise ValueError(f"{column!r} has {len(value):,} characters, more than {LONGEST_TEXT:,}")
        if not is_unicode(value):
            raise ValueError(f"{column!r} holds half of a surrogate pair, which is no character")
        return value
