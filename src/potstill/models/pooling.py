"""From the states of a text's tokens to one state of the text: the first token's, their mean, or their maximum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from potstill.data.batches import is_packed

Pooling = Literal["cls", "mean", "max"]


def pool(states: Tensor, batch: Mapping[str, Tensor], pooling: Pooling) -> Tensor:
    """``(n, hidden)``: one state for each text of a padded or packed batch, from the last layer's ``states``.

    Padded, ``states`` are ``(n, length, hidden)`` and padding is what ``attention_mask`` is 0 for, nothing without one;
    packed, ``(1, n_tokens, hidden)``. Mean and maximum are over every token that is attended to, special ones included,
    the mean in float32; neither padding nor other texts of a pack change them.
    """
    if is_packed(batch):
        return _pool_packed(states[0], batch["sequence_starts"], pooling)
    if pooling == "cls":
        return states[:, 0]
    mask = batch.get("attention_mask")
    attended = torch.ones_like(states[..., :1], dtype=torch.bool) if mask is None else mask[..., None].bool()
    if pooling == "max":
        return states.masked_fill(~attended, -torch.inf).amax(dim=1)
    total = states.float().masked_fill(~attended, 0.0).sum(dim=1)
    return (total / attended.sum(dim=1)).to(states.dtype)


def _pool_packed(states: Tensor, starts: Tensor, pooling: Pooling) -> Tensor:
    """``(n, hidden)`` of ``(n_tokens, hidden)``, text i lying between ``starts[i]`` and ``starts[i + 1]``."""
    if pooling == "cls":
        return states.index_select(0, starts[:-1])
    lengths = starts.diff().long()
    return torch.segment_reduce(states.float(), pooling, lengths=lengths).to(states.dtype)
