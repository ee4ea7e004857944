"""Which different values there are, exactly; and how many, in bounded memory."""

from __future__ import annotations

from math import sqrt

import numpy as np

SKETCH_SIZE = 65_536


def distinct(values: np.ndarray) -> np.ndarray:
    """The different values of ``(n,)`` in order: what ``np.unique`` gives, in a fraction of its time.

    From numpy 2.3 on, ``np.unique`` hashes what it is asked for without counts: 145 ms for 180,000 numbers, where
    sorting them takes 3.
    """
    ordered = np.sort(values)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered


class DistinctSketch:
    """How many different hashes there were, from the smallest of them (k minimum values, Bar-Yossef et al. 2002).

    Exact up to ``size``; above it the standard error is 1 / sqrt(size - 2) of the number.
    """

    def __init__(self, size: int = SKETCH_SIZE) -> None:
        self._size = size
        self._smallest = np.zeros(0, dtype=np.uint64)

    def add(self, hashes: np.ndarray) -> None:
        """Take ``(n,)`` uint64 hashes in, any of them any number of times."""
        if len(self._smallest) == self._size:
            hashes = hashes[hashes < self._smallest[-1]]
        if len(hashes):
            self._smallest = distinct(np.concatenate([self._smallest, hashes]))[: self._size]

    def estimate(self) -> int:
        """The number of different hashes."""
        if len(self._smallest) < self._size:
            return len(self._smallest)
        return round((self._size - 1) / (float(self._smallest[-1]) / 2.0**64))

    @property
    def error(self) -> float:
        """The standard error of ``estimate``, as a share of it."""
        return 0.0 if len(self._smallest) < self._size else 1 / sqrt(self._size - 2)
