"""Linear maps in 8 bits: how their inputs and weights are rounded so that their outputs change least.

SmoothQuant (Xiao et al. 2023): what is read is divided channel by channel, and the weights are multiplied by the same,
so that no channel takes the range from all others. How strongly, and how much of the range is cut off, is chosen by the
error of the outputs on recorded states, for each group of maps by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from potstill.export.calibration import States

STRENGTHS = (0.0, 0.5, 0.65, 0.8, 0.95)
"""How much of the difference between channels is moved into the weights; 0 is none."""

KEPT_RANGES = (1.0, 0.85, 0.7, 0.5)
"""Shares of the range of inputs that are kept; what lies beyond is cut off."""

_LEVELS, _GREATEST_WEIGHT = 255, 127
_WIDEST_FACTOR = 100.0
"""Factors of channels lie between one hundredth and a hundred times their median: some channels are never used."""


@dataclass(frozen=True)
class RoundedInput:
    """Inputs as unsigned 8 bits: round(x / smoothing / scale) + zero_point, cut to 0 … 255.

    smoothing: ``(in,)``, None where nothing is divided. scale is above 0.
    """

    smoothing: Tensor | None
    scale: float
    zero_point: int

    def __call__(self, states: Tensor) -> Tensor:
        """The states ``(…, in)`` that are left of ``states`` in 8 bits, in float32."""
        divided = states if self.smoothing is None else states / self.smoothing
        levels = torch.clamp(torch.round(divided / self.scale) + self.zero_point, 0, _LEVELS)
        kept = (levels - self.zero_point) * self.scale
        return kept if self.smoothing is None else kept * self.smoothing


@dataclass(frozen=True)
class RoundedWeight:
    """Weights as signed 8 bits, one scale for each output, of the weights times the smoothing of the inputs.

    levels: ``(out, in)`` int8; scales: ``(out,)``; shift: ``(out,)``, what is added to the bias so that the outputs'
    mean over the recorded states stays what it was.
    """

    levels: Tensor
    scales: Tensor
    shift: Tensor

    def weight(self, smoothing: Tensor | None) -> Tensor:
        """``(out, in)`` float32: the weights that are left."""
        kept = self.levels * self.scales[:, None]
        return kept if smoothing is None else kept / smoothing


@dataclass(frozen=True)
class Rounding:
    """How a group of maps that read the same is computed in 8 bits. weights: by the name of the module.

    error: the squared error of the outputs on the recorded states, relative to the outputs' own squares.
    """

    read: RoundedInput
    weights: Mapping[str, RoundedWeight]
    error: float


def choose_rounding(states: States, weights: Mapping[str, Tensor]) -> Rounding:
    """The rounding of least error, of maps with ``weights`` ``(out, in)`` that read ``states``."""
    smoothings = [_smoothing(states, weights, strength) for strength in STRENGTHS]
    best = min((_rounding(states, weights, smoothing, 1.0) for smoothing in smoothings), key=_error)
    smoothing = best.read.smoothing
    return min((best, *(_rounding(states, weights, smoothing, kept) for kept in KEPT_RANGES[1:])), key=_error)


def rounded_weight(weight: Tensor, smoothing: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """``(out, in)`` int8 and ``(out,)`` float32: symmetric, a scale for each output; a row of zeros keeps its zeros."""
    multiplied = weight if smoothing is None else weight * smoothing
    scales = (multiplied.abs().amax(dim=1) / _GREATEST_WEIGHT).clamp_min(torch.finfo(torch.float32).tiny)
    return torch.round(multiplied / scales[:, None]).to(torch.int8), scales


def _error(rounding: Rounding) -> float:
    return rounding.error


def _smoothing(states: States, weights: Mapping[str, Tensor], strength: float) -> Tensor | None:
    if strength == 0:
        return None
    tiny = torch.finfo(torch.float32).tiny
    read = torch.maximum(states.least.abs(), states.greatest.abs()).clamp_min(tiny)
    multiplied = torch.stack([weight.abs().amax(dim=0) for weight in weights.values()]).amax(dim=0).clamp_min(tiny)
    factors = read**strength / multiplied ** (1 - strength)
    factors = factors / factors.median()
    return factors.clamp(1 / _WIDEST_FACTOR, _WIDEST_FACTOR)


def _rounding(states: States, weights: Mapping[str, Tensor], smoothing: Tensor | None, kept: float) -> Rounding:
    read = _input(states, smoothing, kept)
    left = read(states.sample)
    rounded, wrong, whole = {}, 0.0, 0.0
    for name, weight in weights.items():
        levels, scales = rounded_weight(weight, smoothing)
        outputs = states.sample @ weight.T
        difference = outputs - left @ RoundedWeight(levels, scales, scales).weight(smoothing).T
        shift = difference.mean(dim=0)
        rounded[name] = RoundedWeight(levels, scales, shift)
        wrong += float((difference - shift).square().sum())
        whole += float(outputs.square().sum())
    return Rounding(read, rounded, wrong / max(whole, torch.finfo(torch.float32).tiny))


def _input(states: States, smoothing: Tensor | None, kept: float) -> RoundedInput:
    least, greatest = states.least, states.greatest
    if smoothing is not None:
        least, greatest = least / smoothing, greatest / smoothing
    # Zero has a level of its own: what an engine pads with stays nothing.
    lowest, highest = min(0.0, float(least.min())) * kept, max(0.0, float(greatest.max())) * kept
    scale = max((highest - lowest) / _LEVELS, torch.finfo(torch.float32).tiny)
    return RoundedInput(smoothing, scale, round(-lowest / scale))
