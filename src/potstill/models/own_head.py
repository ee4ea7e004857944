"""A head of ours as transformers' own, where both compute the same: so that plain transformers opens the model."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from potstill.models.long_texts import keep_windows, windows_of
from potstill.models.pooled_classifier import PooledForSequenceClassification
from potstill.models.teacher import classifier_config

_LIKE_ROBERTA = ("tanh", "classifier.dense", "classifier.out_proj")
_OWN: Mapping[str, tuple[str, str, str]] = {
    "bert": ("tanh", "bert.pooler.dense", "classifier"),
    "distilbert": ("relu", "pre_classifier", "classifier"),
    "electra": ("gelu", "classifier.dense", "classifier.out_proj"),
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert"), _LIKE_ROBERTA),
}
"""Of each family the activation of its own head, and where the maps before and after that lie."""


def with_own_head(model: PreTrainedModel) -> PreTrainedModel:
    """``model``, or the classifier that transformers has for its encoder, computing the same logits in evaluation.

    The latter for a hidden layer on the first token, no wider than the encoder and with the activation of the family's
    own head: that head has a layer as wide as the encoder, whose other units are set to 0 before and after. In
    training, dropout comes where the family has it. Parameters are copied; the result is in evaluation mode.
    """
    if not isinstance(model, PooledForSequenceClassification) or not _fits(model):
        return model
    _, first, last = _OWN[model.encoder.config.model_type]
    names = [model.config.id2label[number] for number in range(model.config.num_labels)]
    config = classifier_config(
        copy.deepcopy(model.encoder.config), names, model.config.problem_type, model.config.classifier_dropout
    )
    with torch.random.fork_rng(devices=[]):
        plain = AutoModelForSequenceClassification.from_config(config, dtype=model.dtype).to(model.device).eval()
    pooler = {name: t for name, t in plain.base_model.state_dict().items() if name.startswith("pooler.")}
    plain.base_model.load_state_dict(model.encoder.state_dict() | pooler, strict=True)
    keep_windows(plain, windows_of(model))
    _copy_padded(model.head.get_submodule("dense"), plain.get_submodule(first))
    _copy_padded(model.head.get_submodule("out"), plain.get_submodule(last))
    return plain


def _fits(model: PooledForSequenceClassification) -> bool:
    config = model.config
    activation = _OWN.get(model.encoder.config.model_type, ("",))[0]
    hidden_on_first = config.head == "hidden" and config.pooling == "cls"
    return hidden_on_first and config.head_activation == activation and config.head_size <= config.hidden_size


@torch.no_grad()
def _copy_padded(source: nn.Module, target: nn.Module) -> None:
    """Give the leading rows and columns of a linear map what another has, and the others 0."""
    for ours, own in zip(source.parameters(), target.parameters(), strict=True):
        own.zero_()
        own[tuple(slice(size) for size in ours.shape)] = ours
