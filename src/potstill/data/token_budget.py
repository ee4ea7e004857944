"""Batches of as many rows as fit a number of tokens, padding included: few long texts, or many short ones. No torch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from potstill.errors import DataError

SPREAD = 0.05
"""Rows are sorted by length times a factor drawn between 1 − this and 1 + this: near lengths mix anew each epoch."""


def batch_bounds(lengths: Sequence[int] | np.ndarray, tokens: int, spread: float = SPREAD) -> np.ndarray:
    """Where the rows, once in order of length, are cut into batches: ``(n_batches + 1,)`` int64, from 0 to all rows.

    Rows between two bounds, padded to the longest of them, take at most ``tokens`` positions in whatever order
    ``rows_near_in_length`` gives; with a ``spread`` of 0, in order of length. Bounds depend on the lengths alone, so
    that each epoch has as many batches. Raises DataError where one row alone takes more.
    """
    ordered = np.sort(np.asarray(lengths, dtype=np.int64))
    longest = int(ordered[-1]) if len(ordered) else 0
    if longest > tokens:
        raise DataError(
            "a batch cannot hold the longest text",
            found=f"{longest} tokens, in a batch of {tokens}",
            do="raise batch_tokens, or lower the length at which texts are cut",
        )
    widths = np.minimum(ordered * (1 + spread) / (1 - spread), longest).astype(np.int64)
    bounds = [0]
    while (start := bounds[-1]) < len(ordered):
        ends = range(start + 1, min(len(ordered), start + tokens) + 1)
        bounds.append(start + bisect_right(ends, tokens, key=lambda end: (end - start) * int(widths[end - 1])))
    return np.array(bounds, dtype=np.int64)


def rows_near_in_length(lengths: Sequence[int] | np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """All row numbers, int64, from short to long but for the draw of each row's factor.

    What stands at a place is at most (1 + SPREAD) / (1 − SPREAD) times as long as what would stand there without it.
    """
    factors = generator.uniform(1 - SPREAD, 1 + SPREAD, size=len(lengths))
    return np.argsort(np.asarray(lengths) * factors, kind="stable")
