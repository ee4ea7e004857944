"""The loss against the labels: cross-entropy and its kin, with class weights and focus on what is undecided."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from potstill.distil.losses import squared_error
from potstill.errors import RecipeError
from potstill.records import PROBLEM_TYPES, ProblemType


def hard_loss(
    logits: Tensor,
    targets: Tensor,
    problem_type: ProblemType,
    *,
    label_weights: Tensor | None = None,
    gamma: float = 0.0,
) -> Tensor:
    """The loss against the labels, summed over the ``n`` examples: a scalar, computed in float32, in nats.

    One label: cross-entropy of ``(n, classes)`` with ``(n,)`` class numbers; ``label_weights`` ``(classes,)`` multiply
    that of their class. Many labels: binary cross-entropy of ``(n, labels)`` with ``(n, labels)`` of 0/1, mean over the
    labels; ``label_weights`` ``(labels, 2)`` multiply that of a label which is not given, and which is. Regression:
    squared error of ``(n, 1)`` with ``(n,)``. Either cross-entropy is multiplied by ``(1 − p)^gamma``, p being the
    probability of what is true: the focal loss (Lin et al. 2017, equations 4 and 5).
    """
    logits = logits.float()
    if problem_type == "regression":
        return squared_error(logits, targets.reshape(-1, 1))
    weights = _weights_of(targets, label_weights)
    if problem_type == "single_label_classification":
        losses = F.cross_entropy(logits, targets.long(), reduction="none")
        return (_focused(losses, gamma) * weights).sum()
    losses = F.binary_cross_entropy_with_logits(logits, targets.float(), reduction="none")
    return (_focused(losses, gamma) * weights).mean(dim=-1).sum()


def _weights_of(targets: Tensor, label_weights: Tensor | None) -> Tensor | float:
    """What each loss is multiplied with, in the shape of ``targets``; 1 without weights."""
    if label_weights is None:
        return 1.0
    by_label, drawn = label_weights.to(targets.device), targets.long()
    return by_label[drawn] if by_label.dim() == 1 else torch.where(drawn == 1, by_label[:, 1], by_label[:, 0])


def _focused(losses: Tensor, gamma: float) -> Tensor:
    """``(1 − p)^γ · −ln p`` of losses ``−ln p``."""
    if gamma == 0:
        return losses
    # Below 1e-12 the slope of a power under 1 has no end, and is met by a loss of 0.
    return (-torch.expm1(-losses)).clamp_min(1e-12) ** gamma * losses


@dataclass(frozen=True)
class HardLoss:
    """The loss against the labels with all that is fixed about it, and the units that its mean is taken over.

    label_weights: as in :func:`hard_loss`. Raises RecipeError for an unknown problem type, and for weights or focus on
    a regression.
    """

    problem_type: ProblemType
    label_weights: Tensor | None = None
    gamma: float = 0.0

    def __post_init__(self) -> None:
        if self.problem_type not in PROBLEM_TYPES:
            raise RecipeError("the problem type is unknown", found=self.problem_type, allowed=PROBLEM_TYPES)
        if self.problem_type == "regression" and (self.label_weights is not None or self.gamma):
            raise RecipeError(
                "a regression has no labels, so it takes neither class_weights nor focal_gamma",
                allowed="class_weights: none, focal_gamma: 0",
            )

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The sum over the examples, as :func:`hard_loss` gives it."""
        return hard_loss(logits, targets, self.problem_type, label_weights=self.label_weights, gamma=self.gamma)

    def count(self, targets: Tensor) -> float:
        """The units of ``targets``: examples, those of one label each counted with the weight of its class.

        So the mean is that of torch's ``CrossEntropyLoss(weight)`` and ``BCEWithLogitsLoss(pos_weight)``, over a whole
        optimiser step.
        """
        if self.label_weights is None or self.problem_type != "single_label_classification":
            return float(len(targets))
        return float(torch.as_tensor(_weights_of(targets, self.label_weights)).sum())

    def mean(self, logits: Tensor, targets: Tensor) -> float:
        """The mean over the units."""
        return float(self(logits, targets).detach()) / (self.count(targets) or 1.0)
