"""What a text shows by itself: its words, negation, digits, a question, words that training never met. English only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from potstill.records import Text

NEGATIONS = (
    "no",
    "not",
    "nor",
    "never",
    "none",
    "nobody",
    "nothing",
    "neither",
    "nowhere",
    "cannot",
    "without",
    "hardly",
    "barely",
    "scarcely",
)
"""Words that negate; so does every word that ends in n't."""

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_DIGIT = re.compile(r"\d")
_NEGATING = frozenset(NEGATIONS)


@dataclass(frozen=True)
class TextMarks:
    """Marks of ``n`` texts; those of a pair are of both texts together.

    n_words, n_characters: ``(n,)`` int64. negation, digits, question: ``(n,)`` bool.
    unseen_share: ``(n,)`` float64 in [0, 1], the share of a text's words that no training text holds; None where the
    training texts were not at hand.
    shared_words: ``(n,)`` float64 in [0, 1], the Jaccard index of the words of a pair; None unless all are pairs.
    """

    n_words: np.ndarray
    n_characters: np.ndarray
    negation: np.ndarray
    digits: np.ndarray
    question: np.ndarray
    unseen_share: np.ndarray | None = None
    shared_words: np.ndarray | None = None


def words_of(text: str) -> list[str]:
    """The words of ``text`` in lower case: runs of letters, with apostrophes inside; numbers are no words."""
    return _WORD.findall(text.lower().replace("’", "'"))


def negates(words: Sequence[str]) -> bool:
    """Whether one of ``words`` is among ``NEGATIONS`` or ends in n't."""
    return not _NEGATING.isdisjoint(words) or any(word.endswith("n't") for word in words)


class _Marks(NamedTuple):
    n_words: int
    n_characters: int
    negation: bool
    digits: bool
    question: bool
    shared_words: float | None


def mark_texts(texts: Sequence[Text], training_texts: Iterable[Text] | None = None) -> TextMarks:
    """Marks of ``texts``, one at least; with ``training_texts``, which are read once, they are read three times.

    Memory grows with the words of ``texts``, not with the training texts.
    """
    columns = [np.asarray(column) for column in zip(*map(_mark, texts), strict=True)]
    paired = not any(value is None for value in columns[5])
    unseen = None if training_texts is None else _unseen_shares(texts, training_texts)
    return TextMarks(
        n_words=columns[0].astype(np.int64),
        n_characters=columns[1].astype(np.int64),
        negation=columns[2],
        digits=columns[3],
        question=columns[4],
        unseen_share=unseen,
        shared_words=columns[5].astype(np.float64) if paired else None,
    )


def _mark(text: Text) -> _Marks:
    parts = (text,) if isinstance(text, str) else text
    words = [words_of(part) for part in parts]
    everything = [word for part in words for word in part]
    return _Marks(
        n_words=len(everything),
        n_characters=sum(map(len, parts)),
        negation=negates(everything),
        digits=any(_DIGIT.search(part) for part in parts),
        question=any("?" in part for part in parts),
        shared_words=_jaccard(set(words[0]), set(words[1])) if len(parts) == 2 else None,
    )


def _jaccard(first: set[str], second: set[str]) -> float:
    union = len(first | second)
    return len(first & second) / union if union else 1.0


def _unseen_shares(texts: Iterable[Text], training_texts: Iterable[Text]) -> np.ndarray:
    unseen: set[str] = set()
    for words in _words_of_each(texts):
        unseen.update(words)
    for words in _words_of_each(training_texts):
        unseen.difference_update(words)
    n_unseen = ((sum(map(unseen.__contains__, words)), len(words)) for words in _words_of_each(texts))
    return np.array([count / max(n_words, 1) for count, n_words in n_unseen])


def _words_of_each(texts: Iterable[Text]) -> Iterator[list[str]]:
    for text in texts:
        yield words_of(text if isinstance(text, str) else " ".join(text))
