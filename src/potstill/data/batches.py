"""Which rows go into which batch, padded or packed. No torch: the plan only looks like a torch batch sampler.

A plan is a pure function of lengths, seed and epoch, so a resumed run meets the batches it would have met.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from potstill.data.token_budget import batch_bounds, rows_near_in_length
from potstill.errors import DataError


class Ragged(Protocol):
    """Rows of token ids laid end to end: what :class:`~potstill.data.tokens.EncodedTexts` and ``Blocks`` share."""

    @property
    def input_ids(self) -> np.ndarray:
        """``(n_tokens,)`` int32, all rows end to end."""
        ...

    @property
    def offsets(self) -> np.ndarray:
        """``(n_rows + 1,)`` int64; row i lies between ``offsets[i]`` and ``offsets[i + 1]``."""
        ...

    @property
    def token_types(self) -> np.ndarray | None:
        """``(n_tokens,)`` int8, or None where the tokenizer has no token types."""
        ...


def plan_batches(
    lengths: Sequence[int] | np.ndarray,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    window: int = 50,
    shuffle: bool = True,
) -> list[np.ndarray]:
    """The batches of one epoch: arrays of row numbers (int64); each row exactly once, nothing dropped.

    Rows are shuffled, cut into windows of ``window`` batches, sorted by length inside each window and cut into batches,
    whose order is then shuffled: little padding, and no drift from short to long. Without ``shuffle`` rows keep the
    order they arrived in. There are always ceil(rows / batch_size) batches, at most one of them smaller.
    """
    if batch_size < 1 or window < 1:
        raise DataError("batch size and window must be positive", found=f"batch_size {batch_size}, window {window}")
    lengths = np.asarray(lengths)
    if not shuffle:
        return _cut(np.arange(len(lengths), dtype=np.int64), batch_size)
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    batches: list[np.ndarray] = []
    for rows in _cut(order, batch_size * window):
        batches += _cut(rows[np.argsort(lengths[rows], kind="stable")], batch_size)
    return _shuffled(batches, rng)


def plan_token_batches(
    lengths: Sequence[int] | np.ndarray, bounds: np.ndarray, *, seed: int, epoch: int
) -> list[np.ndarray]:
    """The batches of one epoch, cut at ``bounds`` (``batch_bounds``): row numbers (int64), each row exactly once.

    Rows of a batch are near in length; which ones meet, and the order of the batches, are drawn anew in each epoch.
    """
    rng = np.random.default_rng([seed, epoch])
    return _shuffled(np.split(rows_near_in_length(lengths, rng), bounds[1:-1]) if len(lengths) else [], rng)


def _shuffled(batches: Sequence[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    return [batches[i] for i in rng.permutation(len(batches))]


def _cut(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


@dataclass(frozen=True)
class BatchKey:
    """One batch of a plan: which rows, and the two numbers that seed whatever is drawn for it.

    ``epoch`` is the one the batch was planned for, which a plan of few draws repeats.

    Two keys are equal when epoch and number are; ``rows`` follow from those and the plan.
    """

    epoch: int
    number: int
    rows: np.ndarray = field(compare=False)

    def generator(self, seed: int) -> np.random.Generator:
        """The generator of this batch's draws; the same whether training got here straight or resumed."""
        return np.random.default_rng([seed, self.epoch, self.number])


class BatchPlan:
    """The batches of every epoch, in the shape that ``DataLoader(batch_sampler=...)`` and accelerate expect.

    Iterating yields one-element lists ``[BatchKey]``: the data set receives one key and returns one ready batch.
    ``batch_size`` is therefore 1, the length of those lists: accelerate compares the two when it deals batches out to
    processes. A batch has ``rows_per_batch`` rows; with ``tokens``, as many rows of like length as fit that number of
    positions. Lengths are in tokens; ``len`` is the same in each epoch.

    With ``draws``, only so many epochs differ: epoch e meets the batches of epoch e mod ``draws``, under the same keys,
    so that what is drawn for them is the same too. From the second round on their order is the epoch's own.
    """

    batch_size = 1
    drop_last = False

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch_size: int,
        seed: int,
        shuffle: bool = True,
        window: int = 50,
        draws: int | None = None,
        tokens: int | None = None,
    ) -> None:
        """Raises DataError for a number of draws below 1, and for ``tokens`` without shuffling or too few for a row."""
        if draws is not None and draws < 1:
            raise DataError("the number of draws must be positive", found=draws)
        if tokens is not None and not shuffle:
            raise DataError("rows that keep their order are not batched by tokens", found=tokens)
        self.lengths = np.asarray(lengths)
        self.rows_per_batch = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.window = window
        self.draws = draws
        self.tokens = tokens
        self.epoch = 0
        self._bounds = None if tokens is None else batch_bounds(self.lengths, tokens)

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration give the batches of ``epoch`` (from 0)."""
        self.epoch = epoch

    def batches(self) -> list[np.ndarray]:
        """The rows of each batch of the current epoch."""
        return [key.rows for key in self.keys(self.epoch)]

    def keys(self, epoch: int) -> list[BatchKey]:
        """The batches of ``epoch`` in the order in which it meets them; in the first round, that of their numbers."""
        draw = epoch if self.draws is None else epoch % self.draws
        keys = [BatchKey(draw, number, rows) for number, rows in enumerate(self._planned(draw))]
        if draw == epoch or not self.shuffle:
            return keys
        return [keys[i] for i in np.random.default_rng([self.seed, epoch]).permutation(len(keys))]

    def identity(self) -> dict[str, Any]:
        """What decides the batches besides the rows, the seed and the number of draws, as plain values."""
        return {
            "batch_size": self.rows_per_batch,
            "window": self.window,
            "shuffle": self.shuffle,
            "tokens": self.tokens,
            "bounds": None if self._bounds is None else hashlib.sha256(self._bounds.tobytes()).hexdigest(),
        }

    def _planned(self, draw: int) -> list[np.ndarray]:
        if self._bounds is not None:
            return plan_token_batches(self.lengths, self._bounds, seed=self.seed, epoch=draw)
        return plan_batches(
            self.lengths,
            batch_size=self.rows_per_batch,
            seed=self.seed,
            epoch=draw,
            window=self.window,
            shuffle=self.shuffle,
        )

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.rows_per_batch) if self._bounds is None else len(self._bounds) - 1

    def __iter__(self) -> Iterator[list[BatchKey]]:
        for key in self.keys(self.epoch):
            yield [key]


def pad_rows(
    encoded: Ragged, rows: Sequence[int] | np.ndarray, pad_id: int, width: int | None = None
) -> dict[str, np.ndarray]:
    """The rows as one batch, padded on the right to the longest of them, or to ``width`` where that is given.

    input_ids, attention_mask (1 on tokens, 0 on padding) and, if the tokenizer has token types, token_type_ids; each
    ``(len(rows), length)`` int64.
    """
    rows = np.asarray(rows, dtype=np.int64)
    starts = encoded.offsets[rows]
    lengths = encoded.offsets[rows + 1] - starts
    columns = np.arange(int(lengths.max(initial=1)) if width is None else width)
    attended = columns < lengths[:, None]
    sources = (starts[:, None] + columns)[attended]
    input_ids = np.full(attended.shape, pad_id, dtype=np.int64)
    input_ids[attended] = encoded.input_ids[sources]
    batch = {"input_ids": input_ids, "attention_mask": attended.astype(np.int64)}
    if encoded.token_types is not None:
        batch["token_type_ids"] = np.zeros(attended.shape, dtype=np.int64)
        batch["token_type_ids"][attended] = encoded.token_types[sources]
    return batch


def pack_rows(encoded: Ragged, rows: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
    """The rows as one batch without padding: end to end, in the order given.

    input_ids, position_ids (from 0 in each row) and, if the tokenizer has token types, token_type_ids: each
    ``(1, n_tokens)`` int64. sequence_starts, ``(len(rows) + 1,)`` int32: row i lies between its entries i and i + 1.
    Raises DataError for a row without tokens, which has no first token to be classified by.
    """
    rows = np.asarray(rows, dtype=np.int64)
    lengths = encoded.offsets[rows + 1] - encoded.offsets[rows]
    if not lengths.all():
        raise DataError("a row without tokens cannot be packed", found=f"row {rows[lengths == 0][0]}")
    starts = np.r_[0, np.cumsum(lengths)]
    positions = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
    sources = np.repeat(encoded.offsets[rows], lengths) + positions
    batch = {"input_ids": encoded.input_ids[sources], "position_ids": positions}
    if encoded.token_types is not None:
        batch["token_type_ids"] = encoded.token_types[sources]
    tokens = {name: array.astype(np.int64)[None] for name, array in batch.items()}
    return {**tokens, "sequence_starts": starts.astype(np.int32)}


def is_packed(batch: Mapping[str, Any]) -> bool:
    """Whether a batch holds its texts end to end, as ``pack_rows`` lays them, and not padded."""
    return "sequence_starts" in batch


def padding_share(lengths: Sequence[int] | np.ndarray, plan: BatchPlan | Iterable[np.ndarray]) -> float:
    """The share of all positions of a plan's batches that are padding, from 0 to below 1."""
    lengths = np.asarray(lengths)
    tokens = positions = 0
    for rows in plan.batches() if isinstance(plan, BatchPlan) else plan:
        tokens += int(lengths[rows].sum())
        positions += int(lengths[rows].max()) * len(rows)
    return 1.0 - tokens / positions if positions else 0.0
