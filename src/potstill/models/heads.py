"""Models in two halves, encoder and head.

Of a masked-language model, the last linear map apart as well, so that logits over the vocabulary are computed only
where they are needed; of a classifier, so that its head reads one state of each of the texts that lie end to end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from potstill.errors import ModelError
from potstill.models.packed_attention import encoder_inputs
from potstill.models.pooled_classifier import PooledForSequenceClassification
from potstill.models.pooling import Pooling, pool

_ROBERTA_LIKE = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet"})


@dataclass(frozen=True)
class Encoded:
    """What the encoder says of a batch.

    last: ``(batch, length, hidden)``, the states that the head reads; of a packed batch ``(1, n_tokens, hidden)``.
    hidden: the embeddings' output, then every layer's: ``n_layers + 1`` tensors like ``last``; None if not asked for.
    """

    last: Tensor
    hidden: tuple[Tensor, ...] | None


@dataclass(frozen=True)
class MaskedLMParts:
    """The parts of a masked-language model: ``project(encode(batch).last)`` are the whole model's logits.

    They are the model's own modules: gradients, the training flag and tied weights are the model's. ``decoder`` is the
    last linear map, from states to the vocabulary, and ``transform`` what comes between encoder and decoder. Where the
    head does not end in a linear map, ``decoder`` is None and ``transform`` the whole head.
    """

    model: PreTrainedModel
    transform: Callable[[Tensor], Tensor]
    """States ``(…, width)`` that the decoder reads, of hidden states ``(…, hidden)``."""
    decoder: nn.Linear | None

    def project(self, hidden: Tensor) -> Tensor:
        """Logits ``(…, vocabulary)`` of hidden states ``(…, hidden)``, for instance only of the masked positions."""
        states = self.transform(hidden)
        return states if self.decoder is None else self.decoder(states)

    def encode(self, batch: Mapping[str, Tensor], *, hidden_states: bool = False) -> Encoded:
        """Run the encoder on the tensors of ``batch`` that it takes; others, such as labels, are left aside."""
        inputs = encoder_inputs(self.model, batch)
        output = self.model.base_model(**inputs, output_hidden_states=hidden_states, return_dict=True)
        return Encoded(output.last_hidden_state, output.hidden_states if hidden_states else None)


def split_masked_lm(model: PreTrainedModel) -> MaskedLMParts:
    """Split ``model`` into encoder, transform and decoder.

    BERT, DistilBERT, RoBERTa and their like are known. For another family the modules after the encoder are applied in
    their order, and the result is compared with the model's own logits on three tokens: ``ModelError`` if they differ.
    """
    family = model.config.model_type
    if family == "bert":
        return MaskedLMParts(model, model.cls.predictions.transform, model.cls.predictions.decoder)
    if family == "distilbert":
        return MaskedLMParts(model, _distilbert_transform(model), model.vocab_projector)
    if family in _ROBERTA_LIKE:
        return MaskedLMParts(model, _roberta_transform(model), model.lm_head.decoder)
    parts = _in_order(model)
    _check_against_whole(parts)
    return parts


def _distilbert_transform(model: PreTrainedModel) -> Callable[[Tensor], Tensor]:
    def transform(hidden: Tensor) -> Tensor:
        states: Tensor = model.vocab_layer_norm(model.activation(model.vocab_transform(hidden)))
        return states

    return transform


def _roberta_transform(model: PreTrainedModel) -> Callable[[Tensor], Tensor]:
    head = model.lm_head

    def transform(hidden: Tensor) -> Tensor:
        states: Tensor = head.layer_norm(F.gelu(head.dense(hidden)))
        return states

    return transform


def _in_order(model: PreTrainedModel) -> MaskedLMParts:
    after = [
        module
        for module in model.children()
        if module is not model.base_model and any(True for _ in module.parameters())
    ]
    decoder = after.pop() if after and isinstance(after[-1], nn.Linear) else None
    return MaskedLMParts(model, nn.Sequential(*after), decoder)


def _check_against_whole(parts: MaskedLMParts) -> None:
    model, was_training = parts.model, parts.model.training
    model.eval()
    try:
        with torch.inference_mode():
            batch = {"input_ids": torch.ones(1, 3, dtype=torch.long, device=model.device)}
            whole = model(**batch).logits
            halves = parts.project(parts.encode(batch).last)
    except (TypeError, RuntimeError) as error:
        raise _unsplittable(model, str(error)) from error
    finally:
        model.train(was_training)
    if whole.shape != halves.shape or not torch.allclose(whole, halves, atol=1e-5):
        raise _unsplittable(model, "other logits than the whole model's")


def _unsplittable(model: PreTrainedModel, found: str) -> ModelError:
    return ModelError(
        f"the head of {type(model).__name__} cannot be applied apart from its encoder",
        found=found,
        do="use a teacher of the BERT, DistilBERT or RoBERTa family",
    )


@dataclass(frozen=True)
class ClassifierParts:
    """A classifier in two halves: encoder, and the head that reads one state of each text.

    Both halves are the model's own modules: gradients, the training flag and dropout are the model's.
    """

    model: PreTrainedModel
    classify: Callable[[Tensor], Tensor]
    """Logits ``(n, k)`` of the texts' states ``(n, 1, hidden)``."""
    pooling: Pooling = "cls"

    def encode(self, batch: Mapping[str, Tensor]) -> Tensor:
        """``(n, 1, hidden)``: what the pooling makes of the last layer's states, for each text, padded or packed."""
        last = self.model.base_model(**encoder_inputs(self.model, batch), return_dict=True).last_hidden_state
        return pool(last, batch, self.pooling)[:, None]


def split_classifier(model: PreTrainedModel) -> ClassifierParts:
    """Split ``model`` into encoder and head.

    DistilBERT's head is known, and those of ours. Of other families the pooler, where there is one, and the modules
    after the encoder are applied in their order. All are compared with the model's own logits on a few tokens, in
    training mode with the same draws of dropout: ``ModelError`` if they differ.
    """
    if isinstance(model, PooledForSequenceClassification):
        parts = ClassifierParts(model, nn.Sequential(nn.Flatten(), model.head), model.config.pooling)
    else:
        in_order = _distilbert_head if model.config.model_type == "distilbert" else _head_in_order
        parts = ClassifierParts(model, in_order(model))
    _check_classifier_against_whole(parts)
    return parts


def _distilbert_head(model: PreTrainedModel) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), model.pre_classifier, nn.ReLU(), model.dropout, model.classifier)


def _head_in_order(model: PreTrainedModel) -> nn.Sequential:
    encoder = model.base_model
    after = [module for module in model.children() if module is not encoder]
    pooler = getattr(encoder, "pooler", None)
    return nn.Sequential(*after) if pooler is None else nn.Sequential(pooler, *after)


def _check_classifier_against_whole(parts: ClassifierParts) -> None:
    model, was_training = parts.model, parts.model.training
    batch = {"input_ids": torch.ones(2, 3, dtype=torch.long, device=model.device)}
    model.train()
    try:
        with torch.inference_mode(), torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
            torch.manual_seed(0)
            whole = model(**batch).logits
            torch.manual_seed(0)
            halves = parts.classify(parts.encode(batch))
    except (TypeError, RuntimeError) as error:
        raise _unsplittable_classifier(model, str(error)) from error
    finally:
        model.train(was_training)
    if whole.shape != halves.shape or not torch.allclose(whole, halves, atol=1e-5):
        raise _unsplittable_classifier(model, "other logits than the whole model's")


def _unsplittable_classifier(model: PreTrainedModel, found: str) -> ModelError:
    return ModelError(
        f"the head of {type(model).__name__} cannot be applied to single tokens", found=found, do="pad its batches"
    )
