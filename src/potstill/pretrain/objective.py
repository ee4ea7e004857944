"""What a masked-language model learns from on its own: the tokens that were masked."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from potstill.data.masking import IGNORED
from potstill.models.heads import MaskedLMParts, split_masked_lm
from potstill.models.lazy_logits import LazyLogits
from potstill.models.vocabulary_losses import vocabulary_losses
from potstill.training.objective import Batch


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
        return self._sum(model, batch, {"mlm": 1.0})

    @torch.no_grad()
    def diagnostics(self, model: nn.Module, batch: Batch) -> dict[str, tuple[float, float]]:
        """(sum, masked tokens) of what validation watches; add both over all batches, then divide.

        ``mlm`` is the cross-entropy (its mean's exponential is the perplexity), ``mlm_accuracy`` how often the true
        token is the first choice. The caller sets the model's mode.
        """
        n_masked = float(_masked(batch).sum())
        sums = self._sum(model, batch, {"mlm": 1.0, "mlm_accuracy": 0.0})
        return {name: (float(total), n_masked) for name, total in sums.items()}

    def _sum(self, model: nn.Module, batch: Batch, wanted: Mapping[str, float]) -> dict[str, Tensor]:
        if self._parts is None or self._parts.model is not model:
            self._parts = split_masked_lm(model)
        masked = _masked(batch)
        states = self._parts.transform(self._parts.encode(batch).last[masked])
        return vocabulary_losses(LazyLogits(states, self._parts.decoder), wanted, targets=batch["labels"][masked])


def _masked(batch: Batch) -> Tensor:
    return (batch["labels"] != IGNORED) & batch["attention_mask"].bool()
