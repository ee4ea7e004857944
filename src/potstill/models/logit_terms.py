"""The terms that are computed from logits, on a few rows at a time and in place: sums over rows, and their gradients.

The formulas are those of ``distil.losses``, arranged so that each number is read and written as few times as possible.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

Direction = Literal["forward", "reverse"]

AT_TARGETS = frozenset({"mlm", "mlm_accuracy", "agreement"})
"""Terms over the rows whose true token is known."""
OF_BOTH = frozenset({"kl", "logit_mse", "agreement"})
"""Terms that compare student and teacher."""


@dataclass
class Strip:
    """The logits of a few rows, ``(k, vocabulary)`` float32 or float64, which computing the terms uses up.

    ``targets``, ``(k,)``, are the true tokens. ``spare`` is memory for two more matrices of the logits' shape.
    """

    student: Tensor
    teacher: Tensor
    targets: Tensor
    temperature: float
    direction: Direction
    spare: tuple[Tensor, Tensor]
    with_gradient: bool
    _slopes: list[Tensor] = field(default_factory=list)

    def compute(self, weights: Mapping[str, float]) -> dict[str, Tensor]:
        """The sum over the rows of each term in ``weights``.

        With ``with_gradient``, ``student`` becomes the gradient of their weighted sum with respect to the logits.
        """
        sums = {name: term(self, weights[name]) for name, term in _IN_ORDER.items() if name in weights}
        if self.with_gradient:
            self._join_slopes()
        return sums

    def mlm(self, weight: float) -> Tensor:
        """``−Σ log p[target]``; its gradient is p, less one at the target."""
        column = self.targets.unsqueeze(-1)
        p = _shift(self.student, out=self.spare[0])
        at_target = p.gather(-1, column)
        z = _exponentiate(p)
        if self.with_gradient:
            p.mul_(weight / z).scatter_add_(-1, column, torch.full_like(at_target, -weight))
            self._slopes.append(p)
        return (z.log() - at_target).sum()

    def logit_mse(self, weight: float) -> Tensor:
        """``Σ mean (s − t)²``; its gradient is 2 (s − t) / vocabulary."""
        difference = self.student - self.teacher
        if self.with_gradient:
            self._slopes.append(difference * (2 * weight / difference.shape[-1]))
        return difference.square_().mean(dim=-1).sum()

    def kl(self, weight: float) -> Tensor:
        """``T² Σ KL`` of the softened softmaxes q of the student and p of the teacher.

        Forward, its gradient is T (q − p). In reverse, where a row's KL is the sum of ``q (log q − log p)``, it is T
        times each of these less q times their sum. q and p stand here without their divisors until the last moment, and
        so do their logarithms: the divisors' are the same in a whole row, add up to themselves, and leave no gradient.
        """
        forward, t = self.direction == "forward", self.temperature
        q, p = _shift(self.student, t, out=self.student), _shift(self.teacher, t, out=self.teacher)
        reference, other = (p, q) if forward else (q, p)
        terms = torch.sub(reference, other, out=self.spare[1])
        z_reference, z_other = _exponentiate(reference), _exponentiate(other)
        by_row = terms.mul_(reference).sum(dim=-1, keepdim=True) / z_reference
        if self.with_gradient:
            scale = weight * t / z_reference
            if forward:
                slope = q.mul_(weight * t / z_other).addcmul_(p, scale, value=-1)
            else:
                slope = terms.mul_(scale).addcmul_(q, scale * by_row, value=-1)
            self._slopes.append(slope)
        return t**2 * (by_row + z_other.log() - z_reference.log()).sum()

    def mlm_accuracy(self, _: float) -> Tensor:
        """Rows whose target is the student's first choice."""
        return (self.student.argmax(dim=-1) == self.targets).sum()

    def agreement(self, _: float) -> Tensor:
        """Rows in which student and teacher have the same first choice."""
        return (self.student.argmax(dim=-1) == self.teacher.argmax(dim=-1)).sum()

    def _join_slopes(self) -> None:
        *others, total = self._slopes or [self.student.zero_()]
        for slope in others:
            total.add_(slope)
        if total is not self.student:
            self.student.copy_(total)


# ``kl`` comes last: it writes over the logits.
_IN_ORDER: Mapping[str, Callable[[Strip, float], Tensor]] = {
    "mlm_accuracy": Strip.mlm_accuracy,
    "agreement": Strip.agreement,
    "mlm": Strip.mlm,
    "logit_mse": Strip.logit_mse,
    "kl": Strip.kl,
}


def _shift(logits: Tensor, temperature: float = 1.0, *, out: Tensor) -> Tensor:
    """``logits / T`` less each row's largest, so that no exponential overflows."""
    largest = logits.amax(dim=-1, keepdim=True)
    return torch.add(largest.div_(-temperature), logits, alpha=1 / temperature, out=out)


def _exponentiate(shifted: Tensor) -> Tensor:
    """Turn ``shifted`` into its exponentials, in place; returns ``(k, 1)`` their sum z, the divisor of the softmax."""
    return shifted.exp_().sum(dim=-1, keepdim=True)
