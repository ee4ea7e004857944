"""The last layer of an encoder computed for the first token alone, where the head reads no other.

Keys and values are those of every token; query, output, feed-forward layer and norms are computed once a text. Of six
layers that saves a seventh of all products, and no logit changes by more than rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from potstill.models.pooled_classifier import PooledForSequenceClassification


@dataclass(frozen=True)
class LayerParts:
    """The modules of one layer of BERT's kind, norms behind the additions."""

    query: nn.Module
    key: nn.Module
    value: nn.Module
    out: nn.Module
    attention_norm: nn.Module
    up: nn.Module
    activation: Callable[[Tensor], Tensor]
    down: nn.Module
    output_norm: nn.Module
    n_heads: int


def _bert(layer: Any) -> LayerParts:
    attention, output = layer.attention.self, layer.attention.output
    return LayerParts(
        query=attention.query,
        key=attention.key,
        value=attention.value,
        out=output.dense,
        attention_norm=output.LayerNorm,
        up=layer.intermediate.dense,
        activation=layer.intermediate.intermediate_act_fn,
        down=layer.output.dense,
        output_norm=layer.output.LayerNorm,
        n_heads=attention.num_attention_heads,
    )


def _distilbert(layer: Any) -> LayerParts:
    attention, ffn = layer.attention, layer.ffn
    return LayerParts(
        query=attention.q_lin,
        key=attention.k_lin,
        value=attention.v_lin,
        out=attention.out_lin,
        attention_norm=layer.sa_layer_norm,
        up=ffn.lin1,
        activation=ffn.activation,
        down=ffn.lin2,
        output_norm=layer.output_layer_norm,
        n_heads=attention.n_heads,
    )


_FAMILIES: dict[str, tuple[str, Callable[[Any], LayerParts]]] = {
    "bert": ("encoder", _bert),
    "distilbert": ("transformer", _distilbert),
    "electra": ("encoder", _bert),
    "roberta": ("encoder", _bert),
}
"""By model type: where in the encoder the list of layers is, and how one is taken apart."""


def reads_first_token(model: PreTrainedModel) -> bool:
    """Whether the head reads the first token's state alone, and the encoder's last layer can be taken apart.

    transformers' own heads of the families that are known here all do.
    """
    if isinstance(model, PooledForSequenceClassification) and model.config.pooling != "cls":
        return False
    config = model.base_model.config
    return config.model_type in _FAMILIES and not getattr(config, "is_decoder", False)


class FirstTokenLayer(nn.Module):
    """A layer that gives the state of the first token of each text, ``(n, 1, hidden)``."""

    def __init__(self, layer: nn.Module, parts: LayerParts) -> None:
        """Take the modules of ``layer`` as they are; their weights stay its own."""
        super().__init__()
        self.layer = layer
        self.parts = parts

    def forward(self, states: Tensor, attention_mask: Tensor | None = None, *others: Any, **options: Any) -> Tensor:
        """From ``(n, length, hidden)``; ``attention_mask``, ``(n, 1, 1 or length, length)``, is added to
        the scores, or says of each token whether it is attended to.

        ``others`` are what an encoder passes to each of its layers and this one has no use for.
        """
        first = states[:, :1]
        attended = self.parts.attention_norm(self.parts.out(self._context(first, states, attention_mask)) + first)
        fed = self.parts.down(self.parts.activation(self.parts.up(attended)))
        result: Tensor = self.parts.output_norm(fed + attended)
        return result

    def _context(self, first: Tensor, states: Tensor, mask: Tensor | None) -> Tensor:
        query, key, value = self.parts.query(first), self.parts.key(states), self.parts.value(states)
        width = query.shape[-1] // self.parts.n_heads
        query, key, value = (
            whole.unflatten(-1, (self.parts.n_heads, width)).transpose(1, 2) for whole in (query, key, value)
        )
        scores = torch.matmul(query, key.transpose(2, 3)) * width**-0.5
        if mask is not None:
            first_row = mask[:, :, :1]
            if first_row.dtype == torch.bool:  # as torch's own attention takes it
                scores = scores.masked_fill(~first_row, torch.finfo(scores.dtype).min)
            else:
                scores = scores + first_row
        return torch.matmul(scores.softmax(dim=-1), value).transpose(1, 2).flatten(2)


@contextmanager
def only_first_token(model: PreTrainedModel) -> Iterator[None]:
    """Meanwhile the last layer is computed for the first token alone, where nothing else is read of it."""
    if not reads_first_token(model):
        yield
        return
    encoder = model.base_model
    place, taken_apart = _FAMILIES[encoder.config.model_type]
    layers = getattr(encoder, place).layer
    last = layers[-1]
    layers[-1] = FirstTokenLayer(last, taken_apart(last))
    try:
        yield
    finally:
        layers[-1] = last
