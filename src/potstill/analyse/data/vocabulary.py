"""Which words there are, and how many texts of each class hold each: exact while they fit in a table of bounded size.

A table that overflows forgets its rarest words (lossy counting, Manku and Motwani 2002), and says by how much a count
can be too low since; the number of different words then comes from a sketch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from potstill.analyse.data.distinct import DistinctSketch, distinct

MOST_WORDS = 500_000
MOST_CELLS = 20_000_000
"""Words a table holds at most, and words times classes: 80 MB."""


@dataclass(frozen=True)
class WordCounts:
    """The words of a table, those in most texts first.

    words: ``(v,)``; occurrences: ``(v,)`` int64; texts: ``(v,)`` int64, texts that hold the word; by_class: ``(v, k)``
    int64, those of each class. class_texts: ``(k,)``, all texts of each class; n_texts and n_words: of all.
    different: words there are, exact where ``missed`` is 0, else with a standard error of ``different_error``.
    missed: a number in ``texts`` and ``by_class`` can be too low by at most this, and a word in no more texts absent.
    """

    words: Sequence[str]
    occurrences: np.ndarray
    texts: np.ndarray
    by_class: np.ndarray
    class_texts: np.ndarray
    n_texts: int
    n_words: int
    different: int
    different_error: float
    missed: int


class _Numbers(dict[str, int]):
    """Words numbered in the order in which they are asked for."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


class WordTable:
    """Counts words text by text; what it finds does not depend on how many texts it is given at a time."""

    def __init__(self, n_classes: int, most_words: int | None = None) -> None:
        self._most_words = most_words or min(MOST_WORDS, max(1, MOST_CELLS // (n_classes + 1)))
        self._numbers = _Numbers()
        self._occurrences = np.zeros(1024, dtype=np.int64)
        self._texts = np.zeros((1024, n_classes + 1), dtype=np.int32)  # the last column is of all texts
        self._class_texts = np.zeros(n_classes + 1, dtype=np.int64)
        self._sketch = DistinctSketch()
        self._missed = self._n_words = 0

    def add(self, words: Sequence[Sequence[str]], hashes: np.ndarray, members: np.ndarray) -> None:
        """Count the words of n texts, whose hashes lie end to end, and which belong to classes ``(n, k)`` bool."""
        members = np.column_stack([members, np.ones(len(words), dtype=bool)])
        self._class_texts += members.sum(axis=0)
        self._n_words += len(hashes)
        self._sketch.add(hashes)
        pending, first = [], 0
        for row, of_text in enumerate(words):
            pending.append(np.fromiter(map(self._numbers.__getitem__, of_text), dtype=np.int64, count=len(of_text)))
            if len(self._numbers) > self._most_words:
                self._count(pending, members[first : row + 1])
                self._forget()
                pending, first = [], row + 1
        self._count(pending, members[first:])

    def result(self) -> WordCounts:
        """What was counted so far."""
        n = len(self._numbers)
        words, texts = list(self._numbers), self._texts[:n]
        most_first = sorted(zip((-texts[:, -1]).tolist(), words, range(n), strict=True))
        order = np.array([number for *_, number in most_first], dtype=np.int64)
        return WordCounts(
            words=[words[number] for number in order],
            occurrences=self._occurrences[:n][order],
            texts=texts[order, -1].astype(np.int64),
            by_class=texts[order, :-1].astype(np.int64),
            class_texts=self._class_texts[:-1].copy(),
            n_texts=int(self._class_texts[-1]),
            n_words=self._n_words,
            different=self._sketch.estimate() if self._missed else n,
            different_error=self._sketch.error if self._missed else 0.0,
            missed=self._missed,
        )

    def _count(self, numbers: list[np.ndarray], members: np.ndarray) -> None:
        """Add texts, given as their words' numbers: occurrences one by one, and each text once to each of its words."""
        n_words = len(self._numbers)
        if not numbers or not n_words:
            return
        self._make_room(n_words)
        words = np.concatenate(numbers)
        self._occurrences[:n_words] += np.bincount(words, minlength=n_words)
        rows = np.repeat(np.arange(len(numbers)), [len(of_text) for of_text in numbers])
        held = distinct(rows * n_words + words)
        ones = np.ones(len(held), dtype=np.int32)
        presence = sparse.csr_array((ones, np.divmod(held, n_words)), shape=(len(numbers), n_words))
        found = (presence.T @ sparse.csr_array(members.astype(np.int32))).tocoo()
        self._texts[found.row, found.col] += found.data

    def _make_room(self, n_words: int) -> None:
        while n_words > len(self._occurrences):
            self._occurrences = np.concatenate([self._occurrences, np.zeros_like(self._occurrences)])
            self._texts = np.concatenate([self._texts, np.zeros_like(self._texts)])

    def _forget(self) -> None:
        """Keep at most half of the words that the table holds: those in more texts than all that are forgotten."""
        n = len(self._numbers)
        texts = self._texts[:n, -1]
        threshold = int(np.partition(texts, n - self._most_words // 2 - 1)[n - self._most_words // 2 - 1])
        kept = np.flatnonzero(texts > threshold)
        words = list(self._numbers)
        self._numbers = _Numbers((words[number], place) for place, number in enumerate(kept.tolist()))
        for table in (self._occurrences, self._texts):
            table[: len(kept)] = table[kept]
            table[len(kept) :] = 0
        self._missed += threshold
