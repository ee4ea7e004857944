"""Which texts share a batch, how wide it is, and which batches run side by side. No torch.

Lengths, threads and the widths of the engine alone decide it: padding changes the last digits of a logit, and work that
is done twice, or goes on after a kill, has to end with the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

BATCH_TOKENS = 1024
"""Positions of a batch that has a core of its own: enough to keep it busy, few enough to stay in its cache."""

RUN_TOKENS = 32
"""What a run costs beside its positions, in positions: it reads the weights from memory, however few texts it holds."""

ALL_CORES_GAIN = 0.8
"""What all cores on one batch reach of what they would reach on a batch each."""

EVEN_BATCHES = 8
"""Up to so many batches a core they are made equally large, so that no core waits long for another; of more, the short
ones at the end see to that."""

WIDTHS_OF_MANY = 4
"""Batches that the budget fills are as wide as a multiple of so many tokens. An engine makes kernels for every shape
that it meets, which takes it as long as a twentieth of such a batch, and keeps them."""

WIDTHS_OF_FEW = ((64, 8), (256, 16), (math.inf, 32))
"""Other batches have up to 64 tokens a width that is a multiple of 8, and so on: every number of texts makes it another
shape, and all of them are a few hundred."""

EXACT = 64
"""The one text of a call is not padded up to so many tokens, unless its engine has widths for such texts."""


@dataclass(frozen=True)
class Schedule:
    """Batches of row numbers, each row in exactly one, longest first, and the positions that each row gets in them.

    side_by_side: each core has batches of its own; otherwise all work on one batch after the other. fixed: the one row
    there is got a width that the engine has for such rows.
    """

    batches: list[np.ndarray]
    widths: list[int]
    side_by_side: bool
    fixed: bool = False


def schedule_rows(
    lengths: np.ndarray, tokens: int, streams: int, max_length: int, single_widths: Sequence[int] = ()
) -> Schedule:
    """How rows of ``lengths`` are run where ``streams`` batches can be side by side, each of at most ``tokens``
    positions; no row is longer than ``max_length``, and no batch wider. ``single_widths``: those that the engine has
    for a row that comes alone, in rising order.

    Few rows are run by all cores together in groups of near length, or side by side in equal parts, whichever is done
    first. Raises ValueError where a row alone is above ``tokens``.
    """
    if len(lengths) == 0:
        return Schedule([], [], False)
    if len(lengths) == 1:
        return _alone(int(lengths[0]), single_widths, max_length)
    order, ordered = _longest_first(lengths, tokens)
    bounds = _filled(ordered, tokens)
    n_filled = len(bounds) - 2  # the last takes what is left
    side_by_side = streams > 1
    if n_filled < EVEN_BATCHES * streams:
        n_filled = 0
        apart = min(_evenly_cut(ordered, tokens, streams), key=lambda cut: _side_by_side_s(ordered, cut, streams))
        together = _near(ordered, tokens)
        side_by_side = _side_by_side_s(ordered, apart, streams) < _together_s(ordered, together, streams)
        bounds = apart if side_by_side else together
    widths = [min(_multiple(int(ordered[start]), WIDTHS_OF_MANY), max_length) for start in bounds[:-1]]
    for number in range(n_filled, len(widths)):
        widths[number] = _rounded_up(int(ordered[bounds[number]]), max_length)
    return Schedule([order[start:stop] for start, stop in pairwise(bounds)], widths, side_by_side)


def schedule_one_stream(lengths: np.ndarray, tokens: int, max_length: int) -> Schedule:
    """How rows of ``lengths`` are run one batch after the other on cores that are theirs, while others have work of
    their own; the rest is as in ``schedule_rows``.
    """
    order, ordered = _longest_first(lengths, tokens)
    bounds = _near(ordered, tokens)
    widths = [_rounded_up(int(ordered[start]), max_length) for start in bounds[:-1]]
    return Schedule([order[start:stop] for start, stop in pairwise(bounds)], widths, side_by_side=False)


def _longest_first(lengths: np.ndarray, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of rows and their lengths; ValueError where one alone is above ``tokens``."""
    order = np.argsort(-lengths, kind="stable")
    ordered = lengths[order]
    if len(ordered) and ordered[0] > tokens:
        raise ValueError(f"a row of {ordered[0]} tokens in a batch of {tokens}")
    return order, ordered


def _filled(ordered: np.ndarray, tokens: int) -> list[int]:
    """Bounds of batches of as many rows as fit, the longest first: a batch's width says how many rows it has."""
    bounds = [0]
    while bounds[-1] < len(ordered):
        width = _multiple(int(ordered[bounds[-1]]), WIDTHS_OF_MANY)
        bounds.append(min(len(ordered), bounds[-1] + max(1, tokens // width)))
    return bounds


def _evenly_cut(ordered: np.ndarray, tokens: int, streams: int) -> Iterator[list[int]]:
    """Bounds of batches as large as allowed, and of smaller ones, which share the cores more evenly and are more."""
    for most in (tokens, tokens // 2, tokens // 4):
        if most >= ordered[0]:
            yield _even(ordered, most, streams)


def _even(ordered: np.ndarray, tokens: int, streams: int) -> list[int]:
    """Bounds of no more batches than a multiple of ``streams`` that holds them all, the largest as small as can be."""
    bounds = _filled(ordered, tokens)
    most = -(-(len(bounds) - 1) // streams) * streams
    low, high = int(ordered[0]), tokens
    while low < high:
        middle = (low + high) // 2
        tried = _filled(ordered, middle)
        if len(tried) - 1 <= most:
            bounds, high = tried, middle
        else:
            low = middle + 1
    return bounds


def _near(ordered: np.ndarray, tokens: int) -> list[int]:
    """Bounds of groups that are no larger than allowed, and in which padding a row costs no more than a run of it."""
    bounds = [0]
    while bounds[-1] < len(ordered):
        start, longest = bounds[-1], int(ordered[bounds[-1]])
        near = int(np.searchsorted(-ordered, RUN_TOKENS - longest, side="right"))
        bounds.append(min(near, start + tokens // longest))
    return bounds


def _costs(ordered: np.ndarray, bounds: list[int]) -> list[int]:
    return [(stop - start) * int(ordered[start]) + RUN_TOKENS for start, stop in pairwise(bounds)]


def _side_by_side_s(ordered: np.ndarray, bounds: list[int], streams: int) -> float:
    """How long batches take side by side, in positions of one core; each goes to the core that is free first."""
    busy = [0] * streams
    for cost in _costs(ordered, bounds):
        busy[busy.index(min(busy))] += cost
    return max(busy)


def _together_s(ordered: np.ndarray, bounds: list[int], streams: int) -> float:
    """How long batches take one after the other, each on all cores, in positions of one core."""
    return sum(_costs(ordered, bounds)) / (1 + (streams - 1) * ALL_CORES_GAIN)


def _alone(length: int, single_widths: Sequence[int], max_length: int) -> Schedule:
    """One row of ``length`` tokens."""
    row = np.arange(1)
    for width in single_widths:
        if length <= width <= max_length:
            return Schedule([row], [width], side_by_side=False, fixed=True)
    exact = length <= EXACT and not single_widths
    return Schedule([row], [length if exact else _rounded_up(length, max_length)], side_by_side=False)


def _rounded_up(length: int, max_length: int) -> int:
    """The width of a batch of few rows whose longest has so many tokens."""
    step = next(step for most, step in WIDTHS_OF_FEW if length <= most)
    return min(_multiple(length, step), max_length)


def _multiple(length: int, step: int) -> int:
    return -(-length // step) * step
