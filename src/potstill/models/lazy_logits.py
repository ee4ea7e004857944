"""Logits over a large vocabulary that are written a few rows at a time, into memory that the next rows use again."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LogitSource(Protocol):
    """Logits of n rows, no more of them at once than are asked for.

    What a live model says is one source (``LazyLogits``); what was kept of it on disk can be another.
    """

    vocabulary: int

    def fill(self, rows: Tensor, out: Tensor, student: Tensor) -> None:
        """Write the logits of ``rows``, ``(k,)`` int64, into ``out``, ``(k, vocabulary)`` float32; none is infinite.

        ``student`` are the logits of the same rows that they are going to be compared with.
        """
        ...


class LazyLogits:
    """``decoder(states)``, row by row when asked for; without a decoder ``states`` are the logits themselves.

    ``states`` are ``(n, width)``. The matrix product is computed in the arithmetic in which ``decoder(states)`` would
    have been where this object is made: under autocast in its type, otherwise in that of the states.
    """

    def __init__(self, states: Tensor, decoder: nn.Linear | None) -> None:
        self.states = states
        self.weight = None if decoder is None else decoder.weight
        self.bias = None if decoder is None else decoder.bias
        self.vocabulary: int = states.shape[-1] if self.weight is None else self.weight.shape[0]
        self.product_dtype = states.dtype if self.weight is None else _product_dtype(states)

    @cached_property
    def product_weight(self) -> Tensor | None:
        """The decoder's weight ``(vocabulary, width)`` in the type of the product, without gradient."""
        return None if self.weight is None else self.weight.detach().to(self.product_dtype)

    @torch.no_grad()
    def fill(self, rows: Tensor, out: Tensor, student: Tensor | None = None) -> None:
        """Write the logits of ``rows`` into ``out``; nothing is differentiated, and ``student`` does not count."""
        states, weight = self.product_states(rows), self.product_weight
        if weight is None:
            out.copy_(states)
            return
        bias = None if self.bias is None else self.bias.detach().to(self.product_dtype)
        if out.dtype != self.product_dtype:
            out.copy_(F.linear(states, weight, bias))
        elif bias is None:
            torch.mm(states, weight.t(), out=out)
        else:
            torch.addmm(bias, states, weight.t(), out=out)

    def product_states(self, rows: Tensor) -> Tensor:
        """The states of ``rows``, ``(k, width)``, in the type of the product, without gradient."""
        return self.states.detach()[rows].to(self.product_dtype)


class TopKLogits:
    """A teacher of which k classes a row are known, and the mass of all others, shared out as the student does.

    Forward KL against such a teacher has the value of KL over k + 1 outcomes, the k classes and "any other", and its
    gradient too: ``T · (q − p)``, where p outside the k classes is proportional to the student's q
    (``distil.losses.top_k_kl_divergence`` is the definition). So what serves a whole vocabulary serves this.

    indices and log_probabilities: ``(n, k)``, log_tail: ``(n,)``, all at ``temperature``, as
    ``distil.losses.TopK`` has them. What rounding took from the k + 1 masses is given back.
    """

    def __init__(
        self, indices: Tensor, log_probabilities: Tensor, log_tail: Tensor, *, temperature: float, vocabulary: int
    ) -> None:
        masses = torch.cat([log_probabilities.float(), log_tail.float().unsqueeze(-1)], dim=-1)
        if indices.shape[-1] == vocabulary:
            masses = masses[:, :-1]
        masses = torch.log_softmax(masses, dim=-1) * temperature
        self._indices, self._known, self._tail = indices, masses[:, : indices.shape[-1]], masses[:, -1:]
        self._temperature, self.vocabulary = temperature, vocabulary

    @torch.no_grad()
    def fill(self, rows: Tensor, out: Tensor, student: Tensor) -> None:
        """Write ``T · log p`` of ``rows`` into ``out``: for classes not known, the student's logits less a constant."""
        indices = self._indices[rows]
        if indices.shape[-1] < self.vocabulary:
            torch.div(student, self._temperature, out=out)
            others = out.scatter_(-1, indices, float("-inf")).logsumexp(dim=-1, keepdim=True)
            torch.add(student, self._tail[rows] - self._temperature * others, out=out)
        out.scatter_(-1, indices, self._known[rows].to(out.dtype))


def _product_dtype(states: Tensor) -> torch.dtype:
    kind = states.device.type
    # Autocast leaves float64 alone.
    if torch.is_autocast_enabled(kind) and states.dtype != torch.float64:
        return torch.get_autocast_dtype(kind)
    return states.dtype
