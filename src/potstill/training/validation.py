"""Validation by sums and counts: nothing is kept but two numbers a term, however large the set."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from potstill.training.objective import Batch
from potstill.training.settings import Precision, autocast

Diagnostics = Callable[[nn.Module, Batch], Mapping[str, tuple[Tensor | float, Tensor | float]]]
"""``(model, batch)`` → by name, a sum and the number of units it was taken over."""


def mean_diagnostics(
    diagnostics: Diagnostics,
    model: nn.Module,
    batches: Iterable[Mapping[str, np.ndarray]],
    *,
    device: torch.device,
    precision: Precision,
) -> dict[str, float]:
    """The mean of each diagnostic over all units of all batches, in the arithmetic of training."""
    sums: defaultdict[str, float] = defaultdict(float)
    counts: defaultdict[str, float] = defaultdict(float)
    with torch.no_grad(), autocast(device, precision):
        for batch in batches:
            tensors = {name: torch.from_numpy(array).to(device) for name, array in batch.items()}
            for name, (total, count) in diagnostics(model, tensors).items():
                sums[name] += float(total)
                counts[name] += float(count)
    return {name: sums[name] / (counts[name] or 1.0) for name in sums}


def perplexity(cross_entropy: float) -> float:
    """The exponential of a mean cross-entropy in nats; infinite where a float cannot hold it."""
    try:
        return math.exp(cross_entropy)
    except OverflowError:
        return math.inf
