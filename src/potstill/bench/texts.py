"""Texts of wanted lengths in tokens, for whatever tokenizer a predictor has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from potstill.errors import DataError
from potstill.records import Predictor, Text

WORDS = (
    "time", "people", "year", "way", "day", "thing", "man", "world", "life", "hand", "part", "child", "eye", "woman",
    "place", "work", "week", "case", "point", "government", "company", "number", "group", "problem", "fact", "water",
    "room", "mother", "area", "money", "story", "month", "lot", "right", "study", "book", "job", "word", "business",
)  # fmt: skip
"""Common words, most of them one token in any English vocabulary."""

_FEW, _MANY = 10, 60
_TEXTS = 256
"""Texts drawn from a distribution of lengths."""


@dataclass(frozen=True)
class Lengths:
    """A log-normal distribution of tokens a text: half are below ``median``, 95% below ``percentile_95``."""

    median: float
    percentile_95: float

    def draw(self, n_texts: int, longest: int) -> np.ndarray:
        """``(n_texts,)`` int64 from 4 to ``longest``; the same in every call."""
        sigma = math.log(self.percentile_95 / self.median) / 1.645
        lengths = np.random.default_rng(0).lognormal(math.log(self.median), sigma, n_texts)
        return lengths.round().clip(4, longest).astype(np.int64)


DISTRIBUTIONS = {"sentences": Lengths(24, 48), "paragraphs": Lengths(132, 220), "pages": Lengths(320, 600)}
"""By name. ``paragraphs`` is about DBpedia's, ``pages`` about IMDb's."""


class TextMaker:
    """Makes texts, or pairs of texts, of about a wanted number of tokens for one predictor."""

    def __init__(self, predictor: Predictor, *, pairs: bool) -> None:
        """Ask the predictor how many tokens some texts have."""
        self.pairs = pairs
        few, many = predictor.predict([self._of_words(_FEW), self._of_words(_MANY)]).n_tokens
        self._per_word = (int(many) - int(few)) / (_MANY - _FEW)
        self._around = int(few) - self._per_word * _FEW
        if self._per_word <= 0:
            raise DataError("more words are no more tokens to this predictor", found=f"{few} and {many} tokens")

    def text(self, n_tokens: int) -> Text:
        """One of about ``n_tokens`` tokens, special tokens included; at least one word, of a pair one each."""
        return self._of_words(max(1 + self.pairs, round((n_tokens - self._around) / self._per_word)))

    def texts(self, lengths: Sequence[int] | np.ndarray) -> list[Text]:
        """One of about each length."""
        return [self.text(int(length)) for length in lengths]

    def drawn(self, name: str, longest: int) -> list[Text]:
        """Texts of a distribution of ``DISTRIBUTIONS``, none longer than a predictor reads."""
        return self.texts(DISTRIBUTIONS[name].draw(_TEXTS, longest))

    def _of_words(self, n_words: int) -> Text:
        words = [WORDS[place % len(WORDS)] for place in range(n_words)]
        if not self.pairs:
            return " ".join(words)
        return " ".join(words[::2]), " ".join(words[1::2])
