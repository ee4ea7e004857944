"""What is found in one text, and its attention as a page can hold it: few enough tokens, and shares in 8 bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from potstill.analyse.attention.attribution import Attribution
from potstill.analyse.attention.token_kinds import TokenReader

MOST_MAP_BYTES = 24_000_000
"""All maps of a page together; base64 adds a third."""

FEWEST_TOKENS = 16
"""A text is shown by at least so many tokens."""

GAP = "⋯"


@dataclass(frozen=True)
class ShownAttention:
    """The attention of one text over T shown tokens.

    tokens: spellings; the tokens in the middle that are not shown stand together as ``GAP``. special: ``(T,)`` bool,
    [CLS] and [SEP]; starts: ``(T,)`` bool, the token begins a word; n_tokens: ``(T,)`` int, tokens that stand there, 1
    but for the gap. maps: model → ``(layers, heads, T, T)`` uint8: 255 times the square root of the share.
    """

    tokens: list[str]
    special: np.ndarray
    starts: np.ndarray
    n_tokens: np.ndarray
    maps: dict[str, np.ndarray]

    @property
    def n_hidden(self) -> int:
        """Tokens that stand in the gap."""
        largest = int(self.n_tokens.max())
        return largest if largest > 1 else 0

    def gather(self, values: np.ndarray) -> np.ndarray:
        """``(T,)``: one value for each of the text's tokens ``(n,)``, added up where tokens stand together."""
        return np.add.reduceat(values, np.cumsum(self.n_tokens) - self.n_tokens)


@dataclass(frozen=True)
class ExplainedText:
    """One text of n tokens, or one window of it, looked into.

    text: which of those asked about; window: which of its ``n_windows``, from 0; a text read whole or cut has one.
    tokens: all spellings; attention: what a page can show. received: model → ``(layers, n)`` float32, the attention
    that each token receives, as a mean over heads and tokens. attribution: of one output, None without captum;
    agreement: its rank correlation with what is received in the last layer of the classifier, special tokens left out.
    """

    text: int
    window: int
    n_windows: int
    tokens: list[str]
    attention: ShownAttention
    received: dict[str, np.ndarray]
    attribution: Attribution | None
    agreement: float | None


def tokens_that_fit(wished: int, n_texts: int, n_maps: int) -> int:
    """How many tokens of each text can be shown, ``wished`` at most, with ``n_maps`` maps for each of ``n_texts``."""
    fitting = int((MOST_MAP_BYTES / max(n_texts * n_maps, 1)) ** 0.5) - 1  # the gap is one more
    return min(wished, max(fitting, FEWEST_TOKENS))


def show_attention(
    reader: TokenReader, ids: np.ndarray, maps: Mapping[str, np.ndarray], most_tokens: int
) -> ShownAttention:
    """The text of tokens ``ids`` ``(n,)``, with the maps ``(layers, heads, n, n)`` of each model."""
    places = shown_places(len(ids), most_tokens)
    firsts = np.searchsorted(places, np.arange(places[-1] + 1))
    n_tokens = np.bincount(places)
    special = reader.is_special(ids)
    tokens = [GAP if n_tokens[place] > 1 else spelling for place, spelling in enumerate(reader.spell(ids[firsts]))]
    return ShownAttention(
        tokens=tokens,
        special=special[firsts] & (n_tokens == 1),
        starts=reader.word_starts(ids)[firsts] | (n_tokens > 1),
        n_tokens=n_tokens,
        maps={model: quantise(shorten(of_model, firsts, n_tokens)) for model, of_model in maps.items()},
    )


def shown_places(n: int, most_tokens: int) -> np.ndarray:
    """``(n,)`` int: where each of n tokens is shown; past ``most_tokens``, those in the middle share a place."""
    if n <= most_tokens:
        return np.arange(n)
    gap = most_tokens - 1
    return np.array([*range(gap), *[gap] * (n - most_tokens), gap + 1])


def shorten(maps: np.ndarray, firsts: np.ndarray, n_tokens: np.ndarray) -> np.ndarray:
    """Maps ``(…, n, n)`` over T places ``(…, T, T)``: place p holds ``n_tokens[p]`` tokens from ``firsts[p]`` on.

    What is given to tokens of one place is added up; what they give is their mean. Rows still sum to 1.
    """
    received = np.add.reduceat(maps, firsts, axis=-1)
    return np.add.reduceat(received, firsts, axis=-2) / n_tokens[:, None]


def quantise(shares: np.ndarray) -> np.ndarray:
    """Shares in [0, 1] as uint8, 255 times their square root: off by 0.004 at most, less where small."""
    return np.rint(255 * np.sqrt(np.clip(shares, 0, 1))).astype(np.uint8)


def restore(levels: np.ndarray) -> np.ndarray:
    """The shares that ``quantise`` stored, to rounding."""
    return (levels / 255.0) ** 2
