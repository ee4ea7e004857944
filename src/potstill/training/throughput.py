"""How much of the machine training used, and where its time went: figures for a manifest, and a line for a person."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

Shape = tuple[int, ...]

_ASIDE = ("validation", "checkpoints")
"""Parts that are not training itself: the rates leave them out."""


@dataclass(frozen=True)
class Throughput:
    """What a training made of its time.

    tokens_per_s: padding, validation and checkpoints not counted. padding: share of all positions that held no token.
    padding_avoided: share of positions that padding every row to the longest of all would have added. of_matrix_rate:
    arithmetic of the matrix products over what this machine's products reach (``training/arithmetic.py``); None where
    none was counted. seconds: by part. precision: the arithmetic of training.
    """

    tokens_per_s: float
    padding: float
    padding_avoided: float
    of_matrix_rate: float | None
    seconds: Mapping[str, float]
    precision: str

    def sentence(self) -> str:
        """One line: rates, padding, and the parts of the time, largest first."""
        total = sum(self.seconds.values()) or 1.0
        by_size = sorted(self.seconds.items(), key=lambda part: -part[1])
        parts = ", ".join(f"{name} {share:.0%}" for name, value in by_size if (share := value / total) >= 0.005)
        used = "" if self.of_matrix_rate is None else f", {self.of_matrix_rate:.0%} of the machine's matrix rate"
        padding = f"{self.padding:.1%} padding ({self.padding_avoided:.0%} avoided)"
        return f"{self.tokens_per_s:,.0f} tokens/s in {self.precision}, {padding}{used}; time: {parts}"


def measured_throughput(
    *,
    tokens: int,
    positions: int,
    positions_unsorted: int,
    flops: float,
    rate_flops: float,
    seconds: Mapping[str, float],
    precision: str,
) -> Throughput:
    """The figures of one training from what it counted on this process.

    ``positions_unsorted`` are those that padding every row to the longest of all would have taken. ``flops`` are the
    operations of all matrix products, 0 where they were not counted. ``rate_flops`` is the machine's rate of matrix
    products in training's arithmetic, in FLOP/s.
    """
    training_s = sum(value for part, value in seconds.items() if part not in _ASIDE) or 1e-9
    return Throughput(
        tokens_per_s=tokens / training_s,
        padding=1 - tokens / positions if positions else 0.0,
        padding_avoided=max(0.0, 1 - positions / positions_unsorted) if positions_unsorted else 0.0,
        of_matrix_rate=flops / training_s / rate_flops if flops else None,
        seconds=dict(seconds),
        precision=precision,
    )


def flop_counter() -> FlopCounterMode:
    """torch's counter of the operations of matrix products, attention, LSTM and int8 of CPUs included."""
    aten = torch.ops.aten
    left_out = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
        aten.mkldnn_rnn_layer: _lstm_flops,
        aten.mkldnn_rnn_layer_backward: _lstm_backward_flops,
        torch.ops.quantized.linear_dynamic: _int8_flops,
    }
    return FlopCounterMode(display=False, custom_mapping=left_out)


def _attention_flops(query: Shape, key: Shape, value: Shape, *others: Any, **named: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward_flops(
    gradient: Shape, query: Shape, key: Shape, value: Shape, *others: Any, **named: Any
) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))


def _int8_flops(states: Shape, packed: Any, *others: Any, out_shape: Shape, **named: Any) -> int:
    """A linear layer whose weights are packed: what comes in is as wide as they are long."""
    return 2 * math.prod(out_shape) * states[-1]


def _lstm_flops(states: Shape, weight_ih: Shape, weight_hh: Shape, *others: Any, **named: Any) -> int:
    """Of states ``(length, batch, width)``: each is multiplied with both matrices of the four gates."""
    return 2 * math.prod(states[:-1]) * (math.prod(weight_ih) + math.prod(weight_hh))


def _lstm_backward_flops(states: Shape, weight_ih: Shape, weight_hh: Shape, *others: Any, **named: Any) -> int:
    return 2 * _lstm_flops(states, weight_ih, weight_hh)
