"""What training asks of an objective: named sums and how many units each was summed over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn

from potstill.data.batches import is_packed

Batch = Mapping[str, Tensor]
"""Tensors by name: ``input_ids``, ``labels``, perhaps ``token_type_ids``.

Padded, with ``attention_mask``, all ``(batch, length)``; or packed, with ``position_ids``, all ``(1, n_tokens)``, and
``sequence_starts`` ``(n_texts + 1,)``.
"""


def count_examples(batch: Batch) -> int:
    """The texts in ``batch``."""
    return len(batch["sequence_starts"]) - 1 if is_packed(batch) else len(batch["input_ids"])


def count_tokens(batch: Batch) -> int:
    """The tokens in ``batch``, special ones included and padding not."""
    return batch["input_ids"].numel() if is_packed(batch) else int(batch["attention_mask"].sum())


class Objective(Protocol):
    """A weighted sum of terms, each a mean over its own units (tokens or examples).

    An objective returns *sums*, and says separately how many units a batch holds. The trainer adds the sums of all
    the micro-batches of one optimiser step and divides once, so that neither accumulation nor the number of processes
    changes the result: the loss is ``Σ_t weights[t] · Σ_batches terms[t] / Σ_batches counts[t]``.
    """

    weights: Mapping[str, float]
    """α of each term; a term of weight 0 is neither computed nor returned."""

    modules: nn.ModuleDict | None
    """Trainable parts that belong to the loss and not to the student (a projection between widths), or None."""

    def counts(self, batch: Batch) -> dict[str, float]:
        """Units of each term in ``batch``, read off the batch alone."""
        ...

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The sum of each term over its units: scalar tensors, differentiable."""
        ...
