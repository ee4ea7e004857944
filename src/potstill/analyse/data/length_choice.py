"""How long a text may be: what each length cuts, what it pads, and the length that is proposed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from potstill.data.batches import BatchPlan, padding_share

MOST_TRUNCATED = 0.05
"""The length proposed is the shortest that cuts no larger share of the texts."""

ROUNDED_TO = 8
"""Lengths proposed are multiples of this."""

STEPS = (16, 32, 64, 128, 256, 384, 512, 768, 1024, 2048, 4096, 8192)
MOST_POINTS = 128


@dataclass(frozen=True)
class LengthRow:
    """What one maximum length does.

    truncated: part → share of its texts that are longer. tokens_lost: share of the learnt part's tokens cut away.
    Shares of all positions of an epoch over the learnt part that are padding: with every text padded to the maximum;
    in batches as the rows arrive, padded to the longest of each; in potstill's own batches. positions: of the last.
    """

    length: int
    truncated: Mapping[str, float]
    tokens_lost: float
    padding_to_maximum: float
    padding_as_they_arrive: float
    padding_in_batches: float
    positions: int


@dataclass(frozen=True)
class LengthChoice:
    """The candidates, shortest first; the one proposed; and two curves over ``lengths``.

    truncated: part → share of its texts that are longer; padded: padding of the learnt part with every text padded to
    that length.
    fits: whether the proposed length cuts no more than ``MOST_TRUNCATED`` of the learnt part; where none does, the
    longest that the tokenizer's model takes is proposed.
    """

    rows: Sequence[LengthRow]
    proposed: int
    fits: bool
    limit: int
    batch_size: int
    lengths: Sequence[int]
    truncated: Mapping[str, Sequence[float]]
    padded: Sequence[float]

    def row(self, length: int) -> LengthRow:
        """The candidate of ``length`` tokens."""
        return next(row for row in self.rows if row.length == length)


def choose_length(
    n_tokens: Mapping[str, np.ndarray], learnt: str, *, limit: int, batch_size: int, seed: int = 1
) -> LengthChoice:
    """What candidate lengths up to ``limit`` do to texts of ``n_tokens`` tokens by part, special tokens included.

    Batches are those of the first epoch of a training with ``seed``.
    """
    own = n_tokens[learnt]
    fitting = shortest_fitting(own, MOST_TRUNCATED)
    candidates = candidate_lengths(own, fitting, limit)
    proposed = min(fitting, limit)
    points = _points(max(candidates))
    return LengthChoice(
        rows=[_row(n_tokens, learnt, length, batch_size, seed) for length in candidates],
        proposed=proposed,
        fits=float((own > proposed).mean()) <= MOST_TRUNCATED,
        limit=limit,
        batch_size=batch_size,
        lengths=points,
        truncated={part: _shares_longer(of_part, points) for part, of_part in n_tokens.items() if len(of_part)},
        padded=[1 - float(np.minimum(own, length).mean(dtype=np.float64)) / length for length in points],
    )


def shortest_fitting(n_tokens: np.ndarray, most_truncated: float) -> int:
    """The shortest multiple of 8 that at most ``most_truncated`` of the texts are longer than."""
    exact = int(np.quantile(n_tokens, 1 - most_truncated, method="inverted_cdf"))
    return _rounded(exact)


def candidate_lengths(n_tokens: np.ndarray, fitting: int, limit: int) -> list[int]:
    """The usual lengths below the longest text, the shortest that fits and the one that cuts nothing, up to a limit."""
    longest = min(_rounded(int(n_tokens.max())), limit)
    return sorted({*(step for step in STEPS if step < longest), min(fitting, limit), longest})


def _rounded(length: int) -> int:
    return -(-length // ROUNDED_TO) * ROUNDED_TO


def _row(n_tokens: Mapping[str, np.ndarray], learnt: str, length: int, batch_size: int, seed: int) -> LengthRow:
    own = n_tokens[learnt].astype(np.int64)
    kept = np.minimum(own, length)
    in_batches = padding_share(kept, BatchPlan(kept, batch_size, seed))
    return LengthRow(
        length=length,
        truncated={part: float((of_part > length).mean()) for part, of_part in n_tokens.items() if len(of_part)},
        tokens_lost=1 - float(kept.sum() / max(int(own.sum()), 1)),
        padding_to_maximum=1 - float(kept.mean()) / length,
        padding_as_they_arrive=padding_share(kept, BatchPlan(kept, batch_size, seed, shuffle=False)),
        padding_in_batches=in_batches,
        positions=round(float(kept.sum()) / (1 - in_batches)),
    )


def _points(longest: int) -> list[int]:
    step = _rounded(max(1, -(-longest // MOST_POINTS)))
    return list(range(step, longest + step, step))


def _shares_longer(n_tokens: np.ndarray, lengths: Sequence[int]) -> list[float]:
    ordered = np.sort(n_tokens)
    return (1 - np.searchsorted(ordered, lengths, side="right") / len(ordered)).tolist()
