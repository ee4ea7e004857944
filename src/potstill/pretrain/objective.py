"""What a masked-language model learns from on its own: the tokens that were masked."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from potstill.models.heads import MaskedLMParts, split_masked_lm
from potstill.training.objective import Batch

_NOT_MASKED = -100


class MaskedLMObjective:
    """Cross-entropy with the true token, in nats, a mean over the masked tokens; no temperature.

    The vocabulary is projected at the masked positions only. A label on padding does not count. Arithmetic after the
    projection is float32. Source: Devlin et al. 2019, §3.1, task 1.
    """

    weights: Mapping[str, float] = {"mlm": 1.0}
    modules: nn.ModuleDict | None = None

    def __init__(self) -> None:
        self._parts: MaskedLMParts | None = None

    def counts(self, batch: Batch) -> dict[str, float]:
        """The masked tokens of ``batch``."""
        return {"mlm": float(_masked(batch).sum())}

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The summed cross-entropy, a scalar float32; 0 where nothing is masked."""
        return {"mlm": _cross_entropy(*self._predict(model, batch))}

    @torch.no_grad()
    def diagnostics(self, model: nn.Module, batch: Batch) -> dict[str, tuple[float, float]]:
        """(sum, masked tokens) of what validation watches; add both over all batches, then divide.

        ``mlm`` is the cross-entropy (its mean's exponential is the perplexity), ``mlm_accuracy`` how often the true
        token is the first choice. The caller sets the model's mode.
        """
        logits, targets = self._predict(model, batch)
        n_masked = float(len(targets))
        right = (logits.argmax(dim=-1) == targets).sum()
        return {"mlm": (float(_cross_entropy(logits, targets)), n_masked), "mlm_accuracy": (float(right), n_masked)}

    def _predict(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits ``(n_masked, vocabulary)`` and the true tokens ``(n_masked,)``."""
        if self._parts is None or self._parts.model is not model:
            self._parts = split_masked_lm(model)
        masked = _masked(batch)
        return self._parts.project(self._parts.encode(batch).last[masked]), batch["labels"][masked]


def _masked(batch: Batch) -> Tensor:
    return (batch["labels"] != _NOT_MASKED) & batch["attention_mask"].bool()


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), targets, reduction="sum")
