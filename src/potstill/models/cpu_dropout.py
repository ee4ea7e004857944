"""Dropout on a CPU: masks drawn in bulk, and attention that applies them itself.

torch draws the masks of dropout one number at a time on one core, and its attention has no fast path with dropout:
together they took a third of the training step of an encoder of 6 layers, 384 wide (``docs/log.md``, 2026-11-21). What
is computed here is the same in distribution; the numbers drawn are others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

ATTENTION = "potstill"
"""The name under which transformers' models find the attention of this file."""

_LEVELS = 2**16
"""A probability is rounded to a multiple of 1/65,536: a draw takes two bytes."""

_CHUNK_SCORES = 2**19
"""Attention scores computed at a time: 2 MiB in float32, so that they are met again in the cache."""


def use_bulk_dropout(model: PreTrainedModel) -> None:
    """Let ``model`` use the dropout and the attention of this file; its parameters and their names stay as they are.

    Attention changes only where the model runs torch's ``sdpa``; one that was asked for ``eager`` keeps it.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, BulkDropout(child.p).train(child.training))
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(ATTENTION)


class BulkDropout(nn.Dropout):
    """``nn.Dropout`` that draws with :func:`draw_kept` on a CPU; elsewhere, and in evaluation, it is ``nn.Dropout``."""

    def forward(self, input: Tensor) -> Tensor:
        """``input`` with entries zeroed and the rest scaled up, of the same shape and type."""
        if not self.training or input.device.type != "cpu" or _level(self.p) in (0, _LEVELS):
            return super().forward(input)
        return (input * draw_kept(input.shape, self.p)).mul_(kept_scale(self.p))


def draw_kept(shape: Sequence[int], p: float) -> Tensor:
    """uint8: 0 with probability ``p``, rounded to 1/65,536, and else 1, each entry by a draw of its own.

    uint8 because torch multiplies floats by it four times as fast as by bool. The draws come from a generator seeded by
    torch's global one: ``torch.manual_seed`` and a checkpoint's random state decide them, as they do torch's own.
    """
    n = math.prod(shape)
    seed = int(torch.randint(2**62, ()))
    raw = np.random.SFC64(seed).random_raw(-(-n // 4))
    kept = raw.view(np.uint16)[:n] >= _level(p)
    return torch.from_numpy(kept.view(np.uint8)).view(*shape)


def kept_scale(p: float) -> float:
    """What the kept entries are multiplied with, so that the expectation stays: 1 / (1 − p), p as it is drawn."""
    return _LEVELS / (_LEVELS - _level(p))


def _level(p: float) -> int:
    return round(p * _LEVELS)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention for transformers: ``(batch, heads, length, width)`` in, ``(batch, length, heads, width)`` out.

    With dropout on a CPU it is computed here; anything else, attention that looks back only or with a bias by position
    included, is torch's own, through transformers' ``sdpa``.
    """
    both_ways = getattr(module, "is_causal", True) is False and not kwargs.get("is_causal") and query.shape == key.shape
    plain = both_ways and kwargs.get("position_bias") is None
    if not plain or query.device.type != "cpu" or _level(dropout) in (0, _LEVELS):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    kept = draw_kept((*query.shape[:3], query.shape[2]), dropout)
    attended: Tensor = _DroppedAttention.apply(query, key, value, _bias(attention_mask, query), kept, scale, dropout)
    return attended.transpose(1, 2), None


def _bias(mask: Tensor | None, query: Tensor) -> Tensor | None:
    """What is added to the scores, ``(batch, 1, 1 or length, length)`` float32: nothing, or a very low number."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    lowest = torch.finfo(torch.float32).min
    return torch.zeros(mask.shape).masked_fill_(~mask, lowest).expand(query.shape[0], -1, -1, -1)


class _DroppedAttention(torch.autograd.Function):
    """``dropout(softmax(scale · q kᵀ + bias)) v``, a few texts at a time; nothing of size length² is kept but the mask.

    The backward pass computes the probabilities again, and takes the sum that softmax's gradient subtracts from
    ``gradient · output`` (Dao et al. 2022, FlashAttention, appendix B.2).
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, kept: Tensor, scale: float, p: float
    ) -> Tensor:
        """``query``, ``key``, ``value`` and what comes: ``(batch, heads, length, size)``, in the precision they have.

        kept: ``(batch, heads, length, length)`` uint8, 0 where a probability is dropped, else 1; p: the share of the
        dropped, in [0, 1).
        """
        with torch.autocast("cpu", enabled=False):
            output = torch.empty_like(query, memory_format=torch.contiguous_format)
            for rows in _chunks(query):
                weights = _probabilities(query[rows], key[rows], bias, rows, scale).mul_(kept[rows])
                torch.matmul(weights.to(value.dtype), value[rows], out=output[rows])
            output.mul_(kept_scale(p))
        ctx.save_for_backward(query, key, value, kept, output)
        ctx.bias, ctx.scale, ctx.p = bias, scale, p
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of query, key and value; bias, mask and numbers have none."""
        query, key, value, kept, output = ctx.saved_tensors
        (gradient,) = gradients
        d_query, d_key, d_value = (
            torch.empty_like(t, memory_format=torch.contiguous_format) for t in (query, key, value)
        )
        with torch.autocast("cpu", enabled=False):
            for rows in _chunks(query):
                outer = gradient[rows] * kept_scale(ctx.p)
                weights = _probabilities(query[rows], key[rows], ctx.bias, rows, ctx.scale)
                passed = torch.matmul(outer, value[rows].transpose(-1, -2)).float().mul_(kept[rows])
                subtracted = (gradient[rows].float() * output[rows]).sum(dim=-1, keepdim=True)
                d_scores = passed.sub_(subtracted).mul_(weights).mul_(ctx.scale).to(query.dtype)
                weights = weights.mul_(kept[rows]).to(value.dtype)
                torch.matmul(weights.transpose(-1, -2), outer, out=d_value[rows])
                torch.matmul(d_scores, key[rows], out=d_query[rows])
                torch.matmul(d_scores.transpose(-1, -2), query[rows], out=d_key[rows])
        return d_query, d_key, d_value, None, None, None, None


def _chunks(query: Tensor) -> Iterator[slice]:
    """Slices of the batch, each of about ``_CHUNK_SCORES`` scores, one text at least."""
    batch, heads, length, _ = query.shape
    step = max(1, _CHUNK_SCORES // (heads * length * length))
    return (slice(start, start + step) for start in range(0, batch, step))


def _probabilities(query: Tensor, key: Tensor, bias: Tensor | None, rows: slice, scale: float) -> Tensor:
    """``softmax(scale · q kᵀ + bias)`` in float32, ``(rows, heads, length, length)``."""
    scores = torch.matmul(query, key.transpose(-1, -2)).float().mul_(scale)
    if bias is not None:
        scores += bias[rows]
    return torch.softmax(scores, dim=-1)


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
