"""Attention maps as transformers computes them; each text is read alone, so that nothing is ever padded."""

from __future__ import annotations

import numpy as np
import torch
from transformers import PreTrainedModel

from potstill.data.batches import Ragged, pad_rows
from potstill.errors import ModelError
from potstill.models.checkpoints import quietly
from potstill.models.teacher import select_inputs

_FAMILIES = "encoders of BERT's family"


def open_attention(model: PreTrainedModel) -> PreTrainedModel:
    """The encoder inside ``model``, set to transformers' ``eager`` attention: no other gives its weights away.

    It shares its tensors with ``model``, whose results stay the same to rounding. Raises ``ModelError`` for a model
    without heads of self-attention, such as a BiLSTM.
    """
    encoder: PreTrainedModel = model.base_model
    if not hasattr(encoder.config, "num_attention_heads"):
        raise ModelError(f"{type(encoder).__name__} has no layers of attention heads", allowed=_FAMILIES)
    with quietly():
        encoder.set_attn_implementation("eager")
    return encoder


def attention_shape(encoder: PreTrainedModel) -> tuple[int, int]:
    """Number of layers, and of heads in each."""
    return int(encoder.config.num_hidden_layers), int(encoder.config.num_attention_heads)


@torch.inference_mode()
def read_attention(encoder: PreTrainedModel, encoded: Ragged, row: int, pad_id: int) -> np.ndarray:
    """The attention of one row of ``encoded``: ``(layers, heads, length, length)`` float32.

    Entry ``[l, h, i, j]`` is the share of its attention that token i gives to token j, so that each row sums to 1.
    ``encoder`` comes from ``open_attention``, in evaluation mode. Raises ``ModelError`` for one that keeps its weights.
    """
    padded = pad_rows(encoded, [row], pad_id)
    batch = {name: torch.from_numpy(array).to(encoder.device) for name, array in padded.items()}
    given = encoder(**select_inputs(encoder, batch), output_attentions=True).attentions
    if not given or any(layer is None for layer in given):
        raise ModelError(
            f"{type(encoder).__name__} does not give its attention weights",
            allowed=f"{_FAMILIES} with attn_implementation='eager'",
        )
    return torch.stack([layer[0] for layer in given]).float().cpu().numpy()


def require_same_heads(before: PreTrainedModel, after: PreTrainedModel) -> None:
    """Raise ``ModelError`` unless both have the same layers and heads: a distance pairs head with head."""
    shapes = attention_shape(before), attention_shape(after)
    if shapes[0] != shapes[1]:
        found, wanted = (f"{layers} layers of {heads} heads" for layers, heads in shapes)
        raise ModelError(
            "the two have different heads, so that none can be held beside another",
            found=found,
            allowed=wanted,
        )
