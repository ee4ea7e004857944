"""What the linear maps of a classifier read, recorded on training texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from potstill.data.batches import pad_rows
from potstill.data.token_budget import batch_bounds
from potstill.data.tokens import EncodedTexts
from potstill.export.first_token import only_first_token
from potstill.export.gate import evenly_spaced
from potstill.models.teacher import select_inputs

ROWS = 512
"""States kept of each linear map, spread over all texts: enough for the error of a rounding to be read off."""

_BATCH_TOKENS = 4096

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class States:
    """What one linear map read: least and greatest value of each channel, ``(in,)``, and a sample ``(n, in)``."""

    least: Tensor
    greatest: Tensor
    sample: Tensor


class _Recorder:
    """States of one linear map, batch by batch; of a padded batch the positions of texts alone."""

    def __init__(self, rows_per_batch: int) -> None:
        self._rows = rows_per_batch
        self._least: list[Tensor] = []
        self._greatest: list[Tensor] = []
        self._samples: list[Tensor] = []

    def record(self, states: Tensor, attended: Tensor) -> None:
        """``(n, length, in)`` of a batch whose mask is ``attended``; or whatever else has a state a text."""
        padded = states.ndim == 3 and states.shape[:2] == attended.shape
        rows = states[attended] if padded else states.flatten(0, -2)
        self._least.append(rows.amin(dim=0))
        self._greatest.append(rows.amax(dim=0))
        evenly = torch.linspace(0, len(rows) - 1, min(len(rows), self._rows)).round().long()
        self._samples.append(rows[evenly])

    def states(self) -> States:
        """All that was recorded."""
        least, greatest = torch.stack(self._least).amin(dim=0), torch.stack(self._greatest).amax(dim=0)
        return States(least, greatest, torch.cat(self._samples))


def calibration_batches(encoded: EncodedTexts, pad_id: int, most_rows: int) -> list[Batch]:
    """At most so many rows, evenly spaced, those of like length as a padded batch of tensors; short ones first."""
    rows = evenly_spaced(len(encoded), most_rows)
    lengths = encoded.lengths[rows]
    bounds = batch_bounds(lengths, max(_BATCH_TOKENS, int(lengths.max(initial=1))), spread=0.0)
    shortest_first = rows[np.argsort(lengths, kind="stable")]
    return [
        {name: torch.from_numpy(array) for name, array in pad_rows(encoded, batch, pad_id).items()}
        for batch in np.split(shortest_first, bounds[1:-1])
    ]


def record_states(model: PreTrainedModel, names: Sequence[str], batches: Sequence[Batch]) -> dict[str, States]:
    """What the modules called ``names`` read, on all batches, as far as the logits depend on it."""
    recorders = {name: _Recorder(-(-ROWS // len(batches))) for name in names}
    now: list[Tensor] = []

    def hook(recorder: _Recorder) -> Any:
        return lambda module, inputs: recorder.record(inputs[0], now[-1])

    modules = dict(model.named_modules())
    handles = [modules[name].register_forward_pre_hook(hook(recorder)) for name, recorder in recorders.items()]
    try:
        for batch in batches:
            now[:] = [batch["attention_mask"].bool()]
            logits_of(model, [batch])
    finally:
        for handle in handles:
            handle.remove()
    return {name: recorder.states() for name, recorder in recorders.items()}


@torch.inference_mode()
def logits_of(model: PreTrainedModel, batches: Sequence[Batch]) -> Tensor:
    """``(n, k)`` float32, the batches one after another, computed as the graph does."""
    with only_first_token(model):
        return torch.cat([model(**select_inputs(model, batch)).logits.float() for batch in batches])


@contextmanager
def changed_linear(module: nn.Linear, weight: Tensor, change: Any) -> Iterator[None]:
    """Meanwhile ``module`` has this ``weight``, and reads what ``change`` makes of its input."""
    own = module.weight.data
    handle = module.register_forward_pre_hook(lambda _, inputs: (change(inputs[0]),))
    module.weight.data = weight
    try:
        yield
    finally:
        module.weight.data = own
        handle.remove()
