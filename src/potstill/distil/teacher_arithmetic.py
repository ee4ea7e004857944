"""The teacher's layers in int8, where what it says stays the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from potstill.data.masking import IGNORED
from potstill.distil.losses import cosine_distance, kl_divergence
from potstill.models.heads import split_masked_lm
from potstill.models.int8_layers import int8_encoder
from potstill.runtime.torch_predictor import evaluating

LEAST_AGREEMENT = 0.97
"""Share of the tokens at which both have the same first choice."""
MOST_KL = 0.01
"""Nats between the two distributions at a token, on average, without temperature."""
MOST_COSINE_DISTANCE = 0.005
"""1 − cos between the two last states of an attended token, on average."""

ENOUGH_TOKENS = 1000
"""Tokens whose logits have to be compared; after so many no further batch is read."""


@dataclass(frozen=True)
class Agreement:
    """How near a teacher in int8 is to itself in float32, on masked batches.

    first_choice: the share of the compared tokens with the same likeliest token. kl: nats, KL(float32 ‖ int8), mean
    over them. cosine_distance: 1 − cos of the last hidden states, mean over the attended tokens. compared: how many.
    """

    first_choice: float
    kl: float
    cosine_distance: float
    compared: int

    @property
    def allows(self) -> bool:
        """Whether a student may learn from the one as it would from the other."""
        return (
            self.compared >= ENOUGH_TOKENS
            and self.first_choice >= LEAST_AGREEMENT
            and self.kl <= MOST_KL
            and self.cosine_distance <= MOST_COSINE_DISTANCE
        )

    def sentence(self) -> str:
        """What was measured and what follows, in words."""
        why = f"which is fewer than {ENOUGH_TOKENS:,}" if self.compared < ENOUGH_TOKENS else "which is too far"
        taken = "so it runs in int8" if self.allows else f"{why}, so it runs in float32"
        return (
            f"the teacher in int8, held against float32 on {self.compared:,} tokens: the same first choice at "
            f"{self.first_choice:.1%} (at least {LEAST_AGREEMENT:.0%}), KL {self.kl:.2g} nats (at most {MOST_KL:g}), "
            f"1 − cos of the last states {self.cosine_distance:.2g} (at most {MOST_COSINE_DISTANCE:g}), {taken}"
        )


@torch.inference_mode()
def agreement(
    teacher: PreTrainedModel,
    other: PreTrainedModel,
    batches: Iterable[Mapping[str, np.ndarray]],
    positions: Literal["masked", "attended"] = "masked",
) -> Agreement:
    """``other`` against ``teacher``, both on the CPU, on masked batches until a thousand tokens were compared.

    ``positions`` are those whose logits are compared: what the student will learn from.
    """
    exact, near = split_masked_lm(teacher), split_masked_lm(other)
    same, kl, cosine, compared, attended = 0.0, 0.0, 0.0, 0, 0
    with evaluating(teacher), evaluating(other):
        for arrays in batches:
            batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
            is_attended = batch["attention_mask"].bool()
            is_chosen = is_attended if positions == "attended" else batch["labels"] != IGNORED
            states = [parts.encode(batch).last for parts in (exact, near)]
            logits: list[Tensor] = [
                parts.project(own[is_chosen]) for parts, own in zip((exact, near), states, strict=True)
            ]
            same += float((logits[0].argmax(-1) == logits[1].argmax(-1)).sum())
            kl += float(kl_divergence(logits[1], logits[0]))
            cosine += float(cosine_distance(states[1][is_attended], states[0][is_attended]))
            compared, attended = compared + len(logits[0]), attended + int(is_attended.sum())
            if compared >= ENOUGH_TOKENS:
                break
    return Agreement(same / max(compared, 1), kl / max(compared, 1), cosine / max(attended, 1), compared)


def in_int8(
    teacher: PreTrainedModel,
    batches: Iterable[Mapping[str, np.ndarray]],
    positions: Literal["masked", "attended"] = "masked",
) -> tuple[PreTrainedModel, Agreement]:
    """The teacher with an encoder in int8 if it agrees with itself on ``batches``, or as it is; and how it agreed."""
    other = int8_encoder(teacher)
    found = agreement(teacher, other, batches, positions)
    return (other if found.allows else teacher), found
