"""Texts longer than a model takes, read in windows that overlap instead of cut at their end. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from potstill.data.tokens import EncodedTexts, TextTokenizer
from potstill.errors import DataError
from potstill.records import Text

UNCUT = 2**31 - 1
"""A maximum length that cuts no text."""
WINDOWS_ENTRY = "potstill_windows"
"""Where the ``config.json`` of a classifier says how it reads long texts; absent from one that cuts them."""


@dataclass(frozen=True)
class Windows:
    """How long texts are read: ``overlap`` tokens that neighbours share, and how their logits become the text's."""

    overlap: int = 32
    pooling: Literal["mean", "max"] = "mean"


@dataclass(frozen=True)
class WindowedTexts:
    """The windows of n texts.

    rows: one row per window, in the order of the texts. owners: ``(n_windows,)`` int64, which text each is a part of.
    n_tokens: ``(n,)`` int32, tokens of the whole texts, special tokens included.
    """

    rows: EncodedTexts
    owners: np.ndarray
    n_tokens: np.ndarray

    @property
    def n_long(self) -> int:
        """Texts that take more than one window."""
        return int((np.bincount(self.owners, minlength=len(self.n_tokens)) > 1).sum())


def single_texts(texts: Iterable[Text]) -> Iterator[str]:
    """The texts as they are; DataError at the first pair, which cannot be cut into windows."""
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(
                f"row {number} is a pair, and windows are cut from single texts", do="leave long_texts: cut for pairs"
            )
        yield text


def cut_windows(whole: EncodedTexts, tokenizer: TextTokenizer, max_length: int, overlap: int) -> WindowedTexts:
    """Uncut single texts as windows of at most ``max_length`` tokens, each with the special tokens around it.

    A text that fits is one window. Of a longer one every window is full: each begins ``overlap`` tokens before the last
    one ended, and the last ends where the text does. Raises DataError where windows would not move on.
    """
    prefix, tail = tokenizer.special_sides
    room = max_length - prefix - tail
    if not 0 <= overlap < room:
        raise DataError("windows overlap too much", found=overlap, allowed=f"0 to {room - 1} tokens")
    content = whole.lengths - prefix - tail
    counts = 1 + -(-np.maximum(content - room, 0) // (room - overlap))
    owners = np.repeat(np.arange(len(whole)), counts)
    numbers = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    begins = np.minimum(numbers * (room - overlap), np.maximum(content - room, 0)[owners])
    lengths = np.minimum(content[owners], room)
    sources = _sources(whole.offsets[owners], whole.offsets[owners + 1], begins, lengths, (prefix, tail))
    offsets = np.r_[0, np.cumsum(lengths + prefix + tail)].astype(np.int64)
    rows = EncodedTexts(
        input_ids=np.asarray(whole.input_ids[sources], dtype=np.int32),
        offsets=offsets,
        token_types=None if whole.token_types is None else np.asarray(whole.token_types[sources], dtype=np.int8),
        n_tokens=np.diff(offsets).astype(np.int32),
        truncated=np.zeros(len(owners), dtype=bool),
        fingerprint=_fingerprint(whole.fingerprint, max_length, overlap),
        notes=whole.notes,
    )
    return WindowedTexts(rows, owners, whole.n_tokens)


def pool_windows(logits: np.ndarray, owners: np.ndarray, pooling: Literal["mean", "max"]) -> np.ndarray:
    """Logits ``(n, k)`` float32 of whole texts from ``(n_windows, k)`` of their windows, in the order of ``owners``."""
    if len(logits) == 0:
        return logits
    starts = np.flatnonzero(np.r_[True, np.diff(owners) > 0])
    if pooling == "max":
        return np.maximum.reduceat(logits, starts, axis=0)
    sums = np.add.reduceat(logits.astype(np.float64), starts, axis=0)
    return (sums / np.diff(np.r_[starts, len(owners)])[:, None]).astype(np.float32)


def _sources(
    starts: np.ndarray, ends: np.ndarray, begins: np.ndarray, lengths: np.ndarray, sides: tuple[int, int]
) -> np.ndarray:
    """Where each token of each window stands in the flat texts: prefix, content from ``begins`` on, and tail."""
    prefix, tail = sides
    widths = lengths + prefix + tail
    columns = np.arange(int(widths.sum())) - np.repeat(np.cumsum(widths) - widths, widths)
    before, after = np.repeat(lengths + prefix, widths), np.repeat(ends - widths, widths)
    inside = np.repeat(starts + begins, widths)
    first = np.repeat(starts, widths)
    sources: np.ndarray = np.where(columns < prefix, first, np.where(columns < before, inside, after)) + columns
    return sources


def _fingerprint(whole: str | None, max_length: int, overlap: int) -> str | None:
    if whole is None:
        return None
    return hashlib.sha256(f"windows\n{whole}\n{max_length}\n{overlap}\n".encode()).hexdigest()
