"""Which parts of a classifier suffer most from 8 bits: each rounded alone, and its logits held against the whole's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from potstill.export.calibration import Batch, changed_linear, logits_of
from potstill.export.rounding import Rounding, rounded_weight

_TOKENS = 4096
"""The logits of about so many tokens are compared, texts of every length among them."""


def group_errors(
    model: PreTrainedModel,
    roundings: Mapping[tuple[str, ...], Rounding],
    batches: Sequence[Batch],
) -> dict[tuple[str, ...], float]:
    """The mean squared change of a logit where one group of linear maps alone is in 8 bits, by its names."""
    some = _some(batches)
    whole = logits_of(model, some)
    errors = {}
    for names, rounding in roundings.items():
        with ExitStack() as changes:
            for name in names:
                weight = rounding.weights[name].weight(rounding.read.smoothing)
                changes.enter_context(changed_linear(_linear(model, name), weight, rounding.read))
            errors[names] = _difference(logits_of(model, some), whole)
    return errors


def embeddings_error(model: PreTrainedModel, batches: Sequence[Batch]) -> float:
    """The mean squared change of a logit where the embeddings of the tokens alone are in 8 bits."""
    some = _some(batches)
    whole = logits_of(model, some)
    table = model.get_input_embeddings().weight
    own = table.data
    levels, scales = rounded_weight(own)
    table.data = levels * scales[:, None]
    try:
        return _difference(logits_of(model, some), whole)
    finally:
        table.data = own


def _difference(logits: Tensor, whole: Tensor) -> float:
    return float((logits - whole).square().mean())


def _linear(model: PreTrainedModel, name: str) -> nn.Linear:
    module = model.get_submodule(name)
    assert isinstance(module, nn.Linear)
    return module


def _some(batches: Sequence[Batch]) -> list[Batch]:
    """Evenly spaced rows of every batch, so that all together have about ``_TOKENS`` positions."""
    positions = sum(batch["input_ids"].numel() for batch in batches)
    share = min(1.0, _TOKENS / positions)
    chosen = []
    for batch in batches:
        n_rows = len(batch["input_ids"])
        rows = torch.from_numpy(np.linspace(0, n_rows - 1, max(1, round(share * n_rows))).round().astype(np.int64))
        chosen.append({name: tensor[rows] for name, tensor in batch.items()})
    return chosen
