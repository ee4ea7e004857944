"""The batches that training asks for by key: masked blocks of a corpus, and texts with their targets. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from potstill.data.batches import BatchKey, BatchPlan, Ragged, pack_rows, pad_rows
from potstill.data.masking import mask_batch, mask_weights
from potstill.data.tokens import TextTokenizer
from potstill.errors import DataError


@dataclass(frozen=True)
class Masking:
    """How tokens are chosen for masking: share of the maskable ones, smoothing of their counts, whole words or not."""

    share: float = 0.15
    smoothing: float = 0.7
    whole_word: bool = False


class TeacherOutputs(Protocol):
    """What a teacher said of every batch, found before training and kept."""

    def of(self, key: BatchKey) -> dict[str, np.ndarray]:
        """The arrays that the batch of ``key`` brings along, under names of their own."""
        ...


class MaskedBlocks:
    """Batches of corpus blocks, masked anew in every epoch as a function of seed, epoch and batch number.

    ``rows`` are the blocks this set consists of, so that training and validation share one file of blocks. Without
    ``shuffle`` the order is fixed, and with it the masks: what validation needs. With ``mask_draws`` only so many
    epochs differ: later ones repeat their batches and masks in another order. With ``batch_tokens`` a batch holds as
    many rows as fit, and not ``batch_size``. ``teacher``, set to what is kept of one, adds what it said of each batch.
    """

    teacher: TeacherOutputs | None = None

    def __init__(
        self,
        blocks: Ragged,
        token_counts: np.ndarray,
        rows: np.ndarray,
        tokenizer: TextTokenizer,
        masking: Masking,
        *,
        batch_size: int,
        seed: int,
        shuffle: bool = True,
        mask_draws: int | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        self._blocks, self._rows, self._tokenizer, self._seed = blocks, rows, tokenizer, seed
        self._masking = masking
        self._weights = mask_weights(token_counts, tokenizer.special_ids, masking.smoothing)
        self._word_starts = tokenizer.word_starts() if masking.whole_word else None
        lengths = np.diff(blocks.offsets)[rows]
        self.plan = BatchPlan(lengths, batch_size, seed, shuffle=shuffle, draws=mask_draws, tokens=batch_tokens)

    def __getitem__(self, key: BatchKey) -> dict[str, np.ndarray]:
        """The batch of ``key``: input_ids with masks, attention_mask, labels, and token types where there are any."""
        said = {} if self.teacher is None else self.teacher.of(key)
        batch = pad_rows(self._blocks, self._rows[key.rows], self._tokenizer.pad_id)
        masked = mask_batch(
            batch,
            key.generator(self._seed),
            weights=self._weights,
            mask_id=self._tokenizer.mask_id,
            special_ids=self._tokenizer.special_ids,
            fraction=self._masking.share,
            word_starts=self._word_starts,
        )
        return {**masked, **said}

    def identity(self) -> dict[str, Any]:
        """What decides batches and masks besides the blocks and the number of draws, as plain values."""
        return {
            "rows": hashlib.sha256(np.asarray(self._rows, dtype=np.int64).tobytes()).hexdigest(),
            "masking": asdict(self._masking),
            "seed": self._seed,
            **self.plan.identity(),
        }

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for (key,) in self.plan:
            yield self[key]


class LabelledTexts:
    """Batches of encoded texts with ``labels`` in the shape and type of the targets; the same rows padded or packed.

    With ``batch_tokens`` a batch holds as many rows as fit, and not ``batch_size``. ``teacher``, set to what is kept of
    one, adds what it said of each batch.
    """

    teacher: TeacherOutputs | None = None

    def __init__(
        self,
        encoded: Ragged,
        targets: np.ndarray,
        pad_id: int,
        *,
        batch_size: int,
        seed: int,
        packed: bool = False,
        batch_tokens: int | None = None,
    ) -> None:
        self._encoded, self._targets, self._pad_id = encoded, targets, pad_id
        self.packed = packed
        self.plan = BatchPlan(np.diff(encoded.offsets), batch_size, seed, tokens=batch_tokens)

    def __getitem__(self, key: BatchKey) -> dict[str, np.ndarray]:
        """The batch of ``key``: what ``pad_rows`` or ``pack_rows`` gives, labels, and what the teacher said."""
        rows = pack_rows(self._encoded, key.rows) if self.packed else pad_rows(self._encoded, key.rows, self._pad_id)
        said = {} if self.teacher is None else self.teacher.of(key)
        return {**rows, "labels": self._targets[key.rows], **said}


def hold_out(n_rows: int, share: float, most: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and for validation, drawn at random: ``share`` of them for the latter, from 1 to ``most``.

    Raises DataError where there is one row only, which cannot be both.
    """
    if n_rows < 2:
        raise DataError("the corpus fills one block only", do="give more text, or a shorter corpus.block_length")
    order = np.random.default_rng(seed).permutation(n_rows)
    held = min(max(1, round(share * n_rows)), most, n_rows - 1)
    return np.sort(order[held:]), np.sort(order[:held])


def truncated_sentence(n_truncated: int, n_texts: int, max_length: int, split: str) -> Sequence[str]:
    """What is told about texts that were cut; nothing when none was."""
    if n_truncated == 0:
        return ()
    share = n_truncated / n_texts
    return (
        f"{split}: {n_truncated:,} of {n_texts:,} texts ({share:.1%}) are longer than {max_length} tokens and were cut",
    )
