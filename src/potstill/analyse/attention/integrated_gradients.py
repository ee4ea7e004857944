"""Integrated gradients by captum, taken where a classifier's embeddings come out, until they are complete.

captum comes with the extra ``explain``; ``has_captum`` tells whether it is there, and all else is used without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import torch
from transformers import PreTrainedModel

from potstill.analyse.attention.attribution import Attribution
from potstill.data.batches import Ragged, pad_rows
from potstill.data.tokens import TextTokenizer
from potstill.models.teacher import first_position, select_inputs
from potstill.runtime.torch_predictor import evaluating

GET_CAPTUM = 'Get it with: pip install "potstill[explain]"'
STEPS = (50, 300)
"""Points on the way from baseline to text: more where completeness is not met. The paper takes 20 to 300."""

_TOKENS_AT_ONCE = 4096


def has_captum() -> bool:
    """Whether captum is installed."""
    return find_spec("captum") is not None


def captum_version() -> dict[str, str]:
    """What stands beside the versions of the other packages; empty without captum."""
    return {"captum": version("captum")} if has_captum() else {}


def attribute(model: PreTrainedModel, encoded: Ragged, row: int, texts: TextTokenizer, *, target: int) -> Attribution:
    """What each token of one row adds to output ``target`` of a classifier, taken at the output of its embeddings.

    Steps are added until completeness is met, ``STEPS[-1]`` at most. The model is in evaluation mode meanwhile.
    """
    inputs = _inputs(model, encoded, row, texts.pad_id)
    baseline = _baseline_ids(inputs["input_ids"], texts)
    with evaluating(model), torch.no_grad():
        output, of_baseline = (
            _output(model, {**inputs, "input_ids": ids}, target) for ids in (inputs["input_ids"], baseline)
        )
    for n_steps in STEPS:
        values = _integrate(model, inputs, baseline, target, n_steps)
        found = Attribution(values, target, output, of_baseline, n_steps)
        if found.is_complete:
            break
    return found


def _inputs(model: PreTrainedModel, encoded: Ragged, row: int, pad_id: int) -> dict[str, torch.Tensor]:
    """Everything a model may take of one row, each ``(1, n)`` on its device.

    Positions are given, because RoBERTa's family counts only tokens that are no [PAD]: the baseline would have others.
    """
    padded = pad_rows(encoded, [row], pad_id)
    inputs = {name: torch.from_numpy(array).to(model.device) for name, array in padded.items()}
    places = torch.arange(inputs["input_ids"].shape[1], device=model.device)[None]
    return {**inputs, "position_ids": places + first_position(model)}


def _baseline_ids(ids: torch.Tensor, texts: TextTokenizer) -> torch.Tensor:
    kept = torch.isin(ids, torch.tensor([texts.cls_id, texts.sep_id], device=ids.device))
    return torch.where(kept, ids, torch.full_like(ids, texts.pad_id))


def _output(model: PreTrainedModel, inputs: Mapping[str, torch.Tensor], target: int) -> float:
    return float(model(**select_inputs(model, inputs)).logits[0, target])


def _integrate(
    model: PreTrainedModel, inputs: Mapping[str, torch.Tensor], baseline: torch.Tensor, target: int, n_steps: int
) -> np.ndarray:
    """``(n,)`` float64: attributions of the embeddings' columns, summed over each token."""
    # Here and not at the top: captum is optional, and takes a second to load.
    from captum.attr import LayerIntegratedGradients

    others = {name: tensor for name, tensor in inputs.items() if name != "input_ids"}

    def logits(input_ids: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        batch = {"input_ids": input_ids, **dict(zip(others, rest, strict=True))}
        given: torch.Tensor = model(**select_inputs(model, batch)).logits
        return given

    with evaluating(model):
        attributed = LayerIntegratedGradients(logits, model.base_model.embeddings).attribute(
            inputs["input_ids"],
            baselines=baseline,
            target=target,
            additional_forward_args=tuple(others.values()),
            n_steps=n_steps,
            internal_batch_size=max(1, _TOKENS_AT_ONCE // inputs["input_ids"].shape[1]),
        )
    return attributed[0].sum(dim=-1).double().cpu().numpy()
