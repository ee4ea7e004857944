"""Texts as rows of tokens, cut into parts and put together again, so that nothing is tokenised twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from potstill.data.tokens import EncodedTexts


@dataclass(frozen=True)
class Tokenised:
    """n texts as rows of tokens: a row each, or a row for each window.

    owners: ``(n_rows,)`` int64, ascending from 0, which text each row is a part of; None where each text is one row.
    n_tokens: ``(n,)`` int32, before any was cut; truncated: ``(n,)`` bool.
    """

    rows: EncodedTexts
    owners: np.ndarray | None
    n_tokens: np.ndarray
    truncated: np.ndarray

    def __len__(self) -> int:
        return len(self.n_tokens)

    @property
    def costs(self) -> np.ndarray:
        """``(n,)`` int64, the tokens of each text that are computed: those of its row, or of all its windows."""
        lengths = self.rows.lengths
        if self.owners is None:
            return lengths
        return np.bincount(self.owners, weights=lengths, minlength=len(self)).astype(np.int64)

    def between(self, start: int, stop: int) -> Tokenised:
        """The texts from ``start`` up to ``stop``, counted from 0 anew."""
        first, last = start, stop
        if self.owners is not None:
            first, last = (int(row) for row in np.searchsorted(self.owners, [start, stop]))
        begin, end = self.rows.offsets[first], self.rows.offsets[last]
        types = self.rows.token_types
        rows = EncodedTexts(
            input_ids=self.rows.input_ids[begin:end],
            offsets=self.rows.offsets[first : last + 1] - begin,
            token_types=None if types is None else types[begin:end],
            n_tokens=self.rows.n_tokens[first:last],
            truncated=self.rows.truncated[first:last],
        )
        owners = None if self.owners is None else self.owners[first:last] - start
        return Tokenised(rows, owners, self.n_tokens[start:stop], self.truncated[start:stop])


def join_tokenised(parts: Sequence[Tokenised]) -> Tokenised:
    """The texts of all parts, one after another; at least one part, all of one tokenizer and read alike."""
    if len(parts) == 1:
        return parts[0]
    rows = [part.rows for part in parts]
    begins = np.cumsum([0, *(len(row.input_ids) for row in rows)])
    offsets = [row.offsets[1:] + begin for row, begin in zip(rows, begins[:-1], strict=True)]
    types = [row.token_types for row in rows if row.token_types is not None]
    joined = EncodedTexts(
        input_ids=np.concatenate([row.input_ids for row in rows]),
        offsets=np.concatenate([np.zeros(1, dtype=np.int64), *offsets]),
        token_types=np.concatenate(types) if types else None,
        n_tokens=np.concatenate([row.n_tokens for row in rows]),
        truncated=np.concatenate([row.truncated for row in rows]),
    )
    before = np.cumsum([0, *map(len, parts)])
    owners = [part.owners + n for part, n in zip(parts, before[:-1], strict=True) if part.owners is not None]
    return Tokenised(
        joined,
        np.concatenate(owners) if owners else None,
        np.concatenate([part.n_tokens for part in parts]),
        np.concatenate([part.truncated for part in parts]),
    )
