"""Losses over a large vocabulary, without the matrix of all logits ever being there.

A masked-language model has some 30,000 logits a token. Computed plainly, the logits of student and teacher, their
softmaxes and the gradients are matrices of hundreds of megabytes, each written and read several times. Here rows go in
chunks: a chunk's logits are computed, all the terms and their gradient at once, and what the gradient gives to states
and decoder is added up; then the next chunk takes the same memory. Values and gradients are those of the plain formulas
of ``distil.losses``, to rounding.

Chunks, and a gradient that is computed before the backward pass, are the idea of the fused linear cross-entropy of Hsu
et al. 2024 (Liger Kernel). Here several terms share one pass, and their weights need not be known before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from potstill.data.masking import IGNORED
from potstill.models.lazy_logits import LazyLogits, LogitSource
from potstill.models.logit_terms import AT_TARGETS, OF_BOTH, Direction, Strip

NO_TARGET = IGNORED
"""The target of a row whose true token is not asked for."""

CPU_CHUNK_ROWS, CHUNK_ROWS = 256, 2048
"""Rows of one matrix product, on a CPU and elsewhere. 30,522 float32 logits of 256 rows are 31 MB. Each chunk reads the
decoder's weight three times and the sum of its gradients once: with fewer rows that takes longer than the products, and
with more a CPU gains nothing (``benchmarks/vocabulary_losses.py``); a GPU needs large products to be busy."""

CPU_STRIP_ROWS = 16
"""Rows of a chunk whose softmaxes a CPU computes together: what is written in between takes 2 MB a matrix instead of a
chunk's 31. Elsewhere, where each operation costs a launch, a chunk is one strip."""


def vocabulary_losses(
    student: LazyLogits,
    wanted: Mapping[str, float],
    *,
    targets: Tensor | None = None,
    teacher: LogitSource | None = None,
    temperature: float = 1.0,
    direction: Direction = "forward",
    chunk_rows: int | None = None,
) -> dict[str, Tensor]:
    """The sum over rows of each term in ``wanted``: scalars, float32, or float64 where the student's states are.

    ============  ======================================================================  =============
    term          what is summed                                                          over the rows
    ============  ======================================================================  =============
    mlm           cross-entropy of the student with the target, in nats                   with a target
    kl            ``T² · KL(teacher ‖ student)`` of the softened softmaxes, in nats       all
    logit_mse     squared difference of the logits, mean over the vocabulary              all
    mlm_accuracy  1 where the target is the student's first choice; no gradient           with a target
    agreement     1 where student and teacher have the same first choice; no gradient     with a target
    ============  ======================================================================  =============

    ``targets`` is ``(n,)`` int64 with ``NO_TARGET`` where there is none; ``reverse`` exchanges the two sides of ``kl``.
    Differentiable, once, for the student's states and its decoder; nothing flows to the teacher.

    ``wanted[term]`` is the weight that the term's sum is going to have in the loss, up to a factor common to all. It
    decides how fast the gradient is found, never what it is: it is computed along with the sums in these proportions,
    and in the backward pass what the true weights differ by. In float16 all of it is left to the backward pass, since
    small gradients survive only with the factor that the loss is scaled by.
    """
    if targets is None:
        targets = student.states.new_full(student.states.shape[:1], NO_TARGET, dtype=torch.long)
    task = _Task(student, dict(wanted), targets, teacher, temperature, direction, chunk_rows)
    inputs = (student.states, student.weight, student.bias)
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in inputs):
        sums = _VocabularyLosses.apply(task, *inputs)
    else:
        sums = task.run(task.wanted)
    return dict(zip(wanted, sums.unbind(), strict=True))


class _VocabularyLosses(torch.autograd.Function):
    """A task's sums ``(n_terms,)``, with the gradient computed along with them."""

    @staticmethod
    def forward(ctx: Any, task: _Task, *inputs: Tensor | None) -> Tensor:
        """The sums; in float16 without the gradient, whose scale is known only when the backward pass comes."""
        ctx.task = task
        ctx.save_for_backward(*inputs)
        ctx.gradient = None
        if task.student.product_dtype != torch.float16:
            ctx.gradient = _Gradient(task.student, ctx.needs_input_grad[1:])
        return task.run(task.wanted, ctx.gradient)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the inputs for ``(n_terms,)`` weights of the sums: those computed ahead, times one factor.

        What that factor leaves over takes another pass over the terms it is of.
        """
        _ = ctx.saved_tensors  # raises where one of them has been written to since
        task, due = ctx.task, dict(zip(ctx.task.wanted, upstream.tolist(), strict=True))
        # Handed on and not kept: autograd takes it over without a copy, and a second backward pass computes it again.
        gradient, ctx.gradient = ctx.gradient, None
        had = task.wanted if gradient is not None else dict.fromkeys(due, 0.0)
        factor, rest = _left_over(due, had, torch.finfo(upstream.dtype).eps)
        if gradient is not None and factor:
            gradient.multiply(factor)
        else:
            gradient = _Gradient(task.student, ctx.needs_input_grad[1:])
        if rest:
            task.run(rest, gradient)
        return None, *gradient.of_inputs()


def _left_over(due: Mapping[str, float], had: Mapping[str, float], eps: float) -> tuple[float, dict[str, float]]:
    """``factor`` and ``rest`` such that ``due = factor · had + rest``, without the terms whose rest is but rounding.

    The factor is that of a term over all rows if there is one, which leaves the rest to the few rows with a target. It
    is 0 where a term had so much more than its due that the difference would be rounding for the most part.
    """
    leading = sorted((name for name in had if had[name]), key=AT_TARGETS.__contains__)
    factor = due[leading[0]] / had[leading[0]] if leading else 0.0
    if any(abs(factor * had[name]) > 16 * abs(due[name]) for name in due):
        factor = 0.0
    ahead = {name: factor * had[name] for name in due}
    # Weights that went through the loss were rounded a few times on their way.
    rest = {name: due[name] - ahead[name] for name in due if not math.isclose(due[name], ahead[name], rel_tol=8 * eps)}
    return factor, rest


@dataclass(frozen=True)
class _Task:
    """What was asked for, and how it is computed."""

    student: LazyLogits
    wanted: Mapping[str, float]
    targets: Tensor
    teacher: LogitSource | None
    temperature: float
    direction: Direction
    chunk_rows: int | None

    @torch.no_grad()
    def run(self, weights: Mapping[str, float], gradient: _Gradient | None = None) -> Tensor:
        """The sum of each term in ``weights``; the gradient of their weighted sum is added to ``gradient``."""
        memory = _Memory.of(self, with_teacher=not OF_BOTH.isdisjoint(weights))
        sums = {name: memory.student.new_zeros(()) for name in weights}
        # What the products are computed in is settled; nothing else is to be cast.
        with torch.autocast(memory.student.device.type, enabled=False):
            for rows, terms in self._chunks(weights, len(memory.student)):
                self._fill(rows, terms, memory)
                for strip in self._strips(rows, memory, with_gradient=gradient is not None):
                    for name, total in strip.compute(terms).items():
                        sums[name] += total
                if gradient is not None:
                    gradient.add(rows, memory.student[: len(rows)])
        return torch.stack(list(sums.values()))

    def _chunks(self, weights: Mapping[str, float], n_most: int) -> Iterator[tuple[Tensor, Mapping[str, float]]]:
        """Row numbers ``(k,)`` and the terms that concern these rows: those with a target go apart from the others."""
        of_every_row = {name: weight for name, weight in weights.items() if name not in AT_TARGETS}
        known = self.targets != NO_TARGET
        for chosen, terms in ((known, weights), (~known, of_every_row)):
            rows = chosen.nonzero().squeeze(-1)
            if terms and len(rows):
                yield from ((part, terms) for part in rows.tensor_split(math.ceil(len(rows) / n_most)))

    def _fill(self, rows: Tensor, terms: Mapping[str, float], memory: _Memory) -> None:
        self.student.fill(rows, memory.student[: len(rows)])
        if OF_BOTH.isdisjoint(terms):
            return
        if self.teacher is None:
            raise ValueError(f"no teacher to compare with: {', '.join(sorted(OF_BOTH.intersection(terms)))}")
        self.teacher.fill(rows, memory.teacher[: len(rows)], memory.student[: len(rows)])

    def _strips(self, rows: Tensor, memory: _Memory, *, with_gradient: bool) -> Iterator[Strip]:
        n_most = memory.spare.shape[1]
        for start in range(0, len(rows), n_most):
            part = slice(start, min(start + n_most, len(rows)))
            n_rows = part.stop - part.start
            yield Strip(
                memory.student[part],
                memory.teacher[part],
                self.targets[rows[part]],
                self.temperature,
                self.direction,
                (memory.spare[0, :n_rows], memory.spare[1, :n_rows]),
                with_gradient,
            )


@dataclass(frozen=True)
class _Memory:
    """What is written to again and again: a chunk's logits, and two matrices as large as a strip's."""

    student: Tensor
    teacher: Tensor
    spare: Tensor

    @classmethod
    def of(cls, task: _Task, *, with_teacher: bool) -> _Memory:
        """Room for a chunk of the task's rows; without a teacher its side is the student's."""
        states, n_columns = task.student.states, task.student.vocabulary
        on_cpu = states.device.type == "cpu"
        n_chunk = max(1, min(len(states), task.chunk_rows or (CPU_CHUNK_ROWS if on_cpu else CHUNK_ROWS)))
        n_strip = min(n_chunk, CPU_STRIP_ROWS) if on_cpu else n_chunk
        dtype = torch.promote_types(states.dtype, torch.float32)
        chunks = states.new_empty((1 + with_teacher, n_chunk, n_columns), dtype=dtype)
        spare = states.new_empty((2, n_strip, n_columns), dtype=dtype)
        return cls(chunks[0], chunks[-1], spare)


class _Gradient:
    """What reaches the student's states, its decoder's weight and its bias, added up over chunks in float32 or more.

    ``asked`` says for which of the three it is.
    """

    def __init__(self, student: LazyLogits, asked: Sequence[bool]) -> None:
        self._student = student
        self._inputs = (student.states, student.weight, student.bias)
        self._sums = [
            torch.zeros_like(tensor, dtype=torch.promote_types(tensor.dtype, torch.float32))
            if tensor is not None and wanted
            else None
            for tensor, wanted in zip(self._inputs, asked, strict=True)
        ]

    def add(self, rows: Tensor, of_logits: Tensor) -> None:
        """Add what comes from ``rows``, whose logits have the gradient ``of_logits``, ``(k, vocabulary)``."""
        states, weight, bias = self._sums
        decoder = self._student.product_weight
        of_product = of_logits.to(self._student.product_dtype)
        if states is not None:
            states.index_add_(0, rows, (of_product if decoder is None else of_product @ decoder).to(states.dtype))
        if weight is not None:
            _add_product(of_product.t(), self._student.product_states(rows), weight)
        if bias is not None:
            bias += of_logits.sum(dim=0)

    def multiply(self, factor: float) -> None:
        """Multiply what has been added so far by ``factor``."""
        for total in self._sums:
            if total is not None and factor != 1:
                total.mul_(factor)

    def of_inputs(self) -> tuple[Tensor | None, ...]:
        """The gradients of states, weight and bias in their own types; None for what was not asked for."""
        return tuple(
            total.to(tensor.dtype) if total is not None and tensor is not None else None
            for total, tensor in zip(self._sums, self._inputs, strict=True)
        )


def _add_product(left: Tensor, right: Tensor, total: Tensor) -> None:
    if left.dtype == total.dtype:
        torch.addmm(total, left, right, out=total)  # torch counts the operations of this form, not of ``addmm_``
    else:
        total += left @ right
