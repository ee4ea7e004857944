"""A classifier with a head of ours on any encoder, stored like a model of transformers under a model type of its own.

``config.json`` names the head and the pooling and holds the encoder's configuration; ``model.safetensors`` holds the
tensors of both. Importing this module tells transformers' Auto classes of the type. Without it they refuse the folder,
which they would otherwise open as the family's own classifier, with a head drawn at random.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from potstill.models.pooling import Pooling, pool

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}
_DROPOUTS = ("seq_classif_dropout", "classifier_dropout", "hidden_dropout_prob", "dropout")
"""Where families keep the probability before their own classifier, the nearest first."""
_SHARED = (
    "vocab_size", "max_position_embeddings", "type_vocab_size", "hidden_size", "num_hidden_layers", "initializer_range",
    "pad_token_id",
)  # fmt: skip
"""Facts of the encoder that are looked for in a model's own configuration."""
_OF_A_HEAD = ("_name_or_path", "architectures", "id2label", "label2id", "problem_type", "transformers_version")
"""Entries of an encoder's configuration that tell what once stood on it, and where it lay."""


@dataclass(frozen=True)
class HeadShape:
    """A head of ours: one linear map, or one hidden layer before it, on what ``pooling`` makes of a text's states.

    size: width of the hidden layer, None for the encoder's. activation: a name of ``ACTIVATIONS``.
    """

    kind: Literal["linear", "hidden"]
    pooling: Pooling = "cls"
    size: int | None = None
    activation: str = "relu"


class PooledConfig(PreTrainedConfig):
    """Configuration of :class:`PooledForSequenceClassification`; ``encoder`` is that of the encoder as plain values."""

    model_type = "potstill_classifier"

    encoder: dict[str, Any] | None = None
    head: str = "linear"
    head_size: int | None = None
    head_activation: str | None = None
    pooling: str = "cls"
    classifier_dropout: float = 0.0

    @classmethod
    def around(cls, encoder: Any, shape: HeadShape, dropout: float | None, **labels: Any) -> PooledConfig:
        """That of a head of ``shape`` on an encoder of this configuration; ``labels`` as transformers has them.

        ``dropout`` None is the probability that the family has before its own classifier.
        """
        own = (getattr(encoder, name, None) for name in _DROPOUTS)
        hidden = shape.kind == "hidden"
        return cls(
            encoder=_plain(encoder),
            head=shape.kind,
            head_size=(shape.size or encoder.hidden_size) if hidden else None,
            head_activation=shape.activation if hidden else None,
            pooling=shape.pooling,
            classifier_dropout=next(rate for rate in (dropout, *own, 0.0) if rate is not None),
            **{name: getattr(encoder, name) for name in _SHARED if hasattr(encoder, name)},
            **labels,
        )

    def has_head(self, shape: HeadShape) -> bool:
        """Whether the head is of this shape."""
        if (self.head, self.pooling) != (shape.kind, shape.pooling):
            return False
        width = (shape.size or self.hidden_size, shape.activation)
        return shape.kind == "linear" or (self.head_size, self.head_activation) == width


def _plain(encoder: Any) -> dict[str, Any]:
    values = {name: value for name, value in encoder.to_diff_dict().items() if name not in _OF_A_HEAD}
    return values | {"model_type": encoder.model_type}


class PooledForSequenceClassification(PreTrainedModel):
    """An encoder, a pooling and a head: dropout and a linear map, or linear map, activation, dropout and linear map."""

    config_class = PooledConfig
    base_model_prefix = "encoder"
    _supports_sdpa = True

    def __init__(self, config: Any) -> None:
        """With drawn weights; attention is what ``config`` asks for, else the encoder's own choice."""
        asked = config._attn_implementation
        super().__init__(config)
        encoder = AutoConfig.for_model(**config.encoder)
        self.encoder = AutoModel.from_config(encoder, **({} if asked is None else {"attn_implementation": asked}))
        if hasattr(self.encoder, "pooler"):
            self.encoder.pooler = None  # of the family's own head
        config._attn_implementation = self.encoder.config._attn_implementation
        self.num_labels = config.num_labels
        self.head = _head(config)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **options: Any,
    ) -> SequenceClassifierOutput:
        """Logits ``(n, k)`` of a padded batch; ``options`` and what is not None go on to the encoder."""
        inputs: Mapping[str, Tensor | None] = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "position_ids": position_ids,
            "inputs_embeds": inputs_embeds,
        }
        given = {name: tensor for name, tensor in inputs.items() if tensor is not None}
        encoded = self.encoder(**given, **{**options, "return_dict": True})
        logits = self.head(pool(encoded.last_hidden_state, given, self.config.pooling))
        return SequenceClassifierOutput(
            logits=logits, hidden_states=encoded.hidden_states, attentions=encoded.attentions
        )


def _head(config: Any) -> nn.Sequential:
    dropout = nn.Dropout(config.classifier_dropout)
    if config.head == "linear":
        return nn.Sequential(OrderedDict(dropout=dropout, out=nn.Linear(config.hidden_size, config.num_labels)))
    return nn.Sequential(
        OrderedDict(
            dense=nn.Linear(config.hidden_size, config.head_size),
            activation=ACTIVATIONS[config.head_activation](),
            dropout=dropout,
            out=nn.Linear(config.head_size, config.num_labels),
        )
    )


AutoConfig.register(PooledConfig.model_type, PooledConfig)
AutoModelForSequenceClassification.register(PooledConfig, PooledForSequenceClassification)
