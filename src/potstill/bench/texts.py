"""Texts of wanted lengths in tokens, for whatever tokenizer a predictor has."""

from __future__ import annotations

import itertools
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
        """Ask the predictor how many tokens each word has, and how many stand around the words."""
        self.pairs = pairs
        asked = [self._of_words([word] * times) for word in WORDS for times in (2, 4)]
        twice, more = predictor.predict(asked).n_tokens.reshape(-1, 2).T
        tokens = [(int(four) - int(two)) / 2 for two, four in zip(twice, more, strict=True)]
        if min(tokens) <= 0:
            raise DataError("more words are no more tokens to this predictor", found=f"{min(tokens)} tokens a word")
        self._tokens = dict(zip(WORDS, tokens, strict=True))
        self._around = int(twice[0]) - 2 * tokens[0]

    def text(self, n_tokens: int) -> Text:
        """One of about ``n_tokens`` tokens, special tokens included; at least one word, of a pair one each.

        Words follow one another as long as they fit, and the last ones are those that still do.
        """
        room, words = n_tokens - self._around, []
        for word in itertools.cycle(WORDS):
            if self._tokens[word] > room:
                break
            words.append(word)
            room -= self._tokens[word]
        for word in sorted(WORDS, key=lambda word: -self._tokens[word]):
            if self._tokens[word] <= room:
                words.append(word)
                room -= self._tokens[word]
        shortest = min(WORDS, key=lambda word: self._tokens[word])
        words += [shortest] * (1 + self.pairs - len(words))
        return self._of_words(words)

    def texts(self, lengths: Sequence[int] | np.ndarray) -> list[Text]:
        """One of about each length."""
        return [self.text(int(length)) for length in lengths]

    def drawn(self, name: str, longest: int) -> list[Text]:
        """Texts of a distribution of ``DISTRIBUTIONS``, none longer than a predictor reads."""
        return self.texts(DISTRIBUTIONS[name].draw(_TEXTS, longest))

    def _of_words(self, words: Sequence[str]) -> Text:
        if not self.pairs:
            return " ".join(words)
        return " ".join(words[::2]), " ".join(words[1::2])
