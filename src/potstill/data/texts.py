"""Texts that stay on disk: a sequence over the text columns of a memory-mapped data set, and one that cleans them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, overload

import numpy as np

from potstill.data.catalogue import Join
from potstill.errors import DataError
from potstill.records import Text

if TYPE_CHECKING:
    from datasets import Dataset

SEPARATOR = " [SEP] "
"""Between title and content: BERT's tokenizers read it as the special token."""

READ_AT_ONCE = 1000


class TextColumn(Sequence[Text]):
    """The texts of ``dataset``, in the order of ``rows``, read from the disk when they are asked for.

    One column gives strings; two give pairs, or with ``join="sep"`` strings joined through ``[SEP]``, an empty part
    left out with its separator. A missing text is the empty string.
    """

    def __init__(
        self, dataset: Dataset, columns: tuple[str, ...], join: Join = "pair", rows: np.ndarray | None = None
    ) -> None:
        self._dataset = dataset.select_columns(list(columns))
        self._columns, self._join = columns, join
        self._rows = np.arange(len(dataset)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Text: ...

    @overload
    def __getitem__(self, index: slice) -> list[Text]: ...

    def __getitem__(self, index: int | slice) -> Text | list[Text]:
        if isinstance(index, slice):
            return self._read(self._rows[index])
        return self._read(self._rows[[index]])[0]

    def __iter__(self) -> Iterator[Text]:
        for start in range(0, len(self), READ_AT_ONCE):
            yield from self._read(self._rows[start : start + READ_AT_ONCE])

    def select(self, indices: np.ndarray) -> TextColumn:
        """The texts at ``indices``, in that order, still on disk."""
        return TextColumn(self._dataset, self._columns, self._join, self._rows[indices])

    def _read(self, rows: np.ndarray) -> list[Text]:
        if not len(rows):
            return []
        try:
            batch = self._dataset[rows.tolist()]
        except UnicodeDecodeError as error:
            raise DataError(
                f"a text among rows {rows.min() + 1} to {rows.max() + 1} is not UTF-8", found=str(error)
            ) from error
        parts = [["" if part is None else str(part) for part in batch[column]] for column in self._columns]
        if len(parts) == 1:
            return list(parts[0])
        if self._join == "pair":
            return list(zip(parts[0], parts[1], strict=True))
        return [SEPARATOR.join(part for part in row if part.strip()) for row in zip(*parts, strict=True)]


class CleanedTexts(Sequence[Text]):
    """Texts changed by ``cleaned`` whenever they are read, so that memory never holds them all.

    ``cleaned`` gives the same for the same text every time; the texts that it would leave empty are not among them.
    """

    def __init__(self, texts: Sequence[Text], cleaned: Callable[[Text], Text]) -> None:
        self._texts, self._cleaned = texts, cleaned

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, index: int) -> Text: ...

    @overload
    def __getitem__(self, index: slice) -> list[Text]: ...

    def __getitem__(self, index: int | slice) -> Text | list[Text]:
        if isinstance(index, slice):
            return [self._cleaned(text) for text in self._texts[index]]
        return self._cleaned(self._texts[index])

    def __iter__(self) -> Iterator[Text]:
        return map(self._cleaned, self._texts)

    def select(self, indices: np.ndarray) -> CleanedTexts:
        """The texts at ``indices``, in that order, still to be cleaned when they are read."""
        return CleanedTexts(select_texts(self._texts, indices), self._cleaned)


def select_texts(texts: Sequence[Text], indices: np.ndarray) -> Sequence[Text]:
    """The texts at ``indices``, in that order; those that are on disk stay there."""
    return texts.select(indices) if isinstance(texts, TextColumn | CleanedTexts) else [texts[row] for row in indices]
