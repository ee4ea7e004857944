"""What a student of a masked-language model learns from: a weighted sum of terms against a teacher, live or stored."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from potstill.data.masking import IGNORED
from potstill.distil.losses import Direction, cosine_distance, squared_error
from potstill.errors import ModelError, RecipeError
from potstill.models.heads import Encoded, MaskedLMParts, split_masked_lm
from potstill.models.lazy_logits import LazyLogits, LogitSource, TopKLogits
from potstill.models.logit_terms import AT_TARGETS, OF_BOTH
from potstill.models.vocabulary_losses import vocabulary_losses
from potstill.training.objective import Batch
from potstill.training.stopwatch import timed

KLPositions = Literal["attended", "masked"]

TERMS = ("kl", "mlm", "cosine", "logit_mse", "hidden_mse")
ORIGINAL_WEIGHTS: Mapping[str, float] = {"kl": 5.0, "mlm": 2.0, "cosine": 1.0}
"""α of the 2019 source on one GPU; it goes with temperature 2 and KL over all attended tokens."""
ORIGINAL_TEMPERATURE = 2.0
ORIGINAL_KL_POSITIONS: KLPositions = "attended"

_LOGIT_TERMS = frozenset({"kl", "logit_mse"})
_WATCHED = ("mlm", "mlm_accuracy", "agreement")


@dataclass(frozen=True)
class _Positions:
    """Which of a batch's tokens count; ``n`` of them are attended.

    attended: ``(batch, length)`` bool, special tokens included, padding never.
    projected: ``(n,)`` bool, the attended tokens whose logits are wanted; every masked one is among them.
    targets: ``(n_projected,)`` int64, what stood at those that are masked, and ``IGNORED`` at the others.
    """

    attended: Tensor
    projected: Tensor
    targets: Tensor

    @classmethod
    def of(cls, batch: Batch, *, project_all: bool) -> _Positions:
        """The positions of a padded batch; the logits of masked tokens alone are wanted unless ``project_all``."""
        attended = batch["attention_mask"].bool()
        labels = batch["labels"][attended]
        projected = torch.ones_like(labels, dtype=torch.bool) if project_all else labels != IGNORED
        return cls(attended, projected, labels[projected])


@dataclass(frozen=True)
class _Outputs:
    """One model's outputs at those tokens; what comes before its logits is computed when a term first asks for it."""

    encoded: Encoded
    parts: MaskedLMParts
    positions: _Positions

    @cached_property
    def last(self) -> Tensor:
        """``(n, width)``: the last layer's states of the attended tokens."""
        return self.encoded.last[self.positions.attended]

    @cached_property
    def logits(self) -> LazyLogits:
        """``(n_projected, vocabulary)``."""
        return LazyLogits(self.parts.transform(self.last[self.positions.projected]), self.parts.decoder)

    def layer(self, index: int) -> Tensor:
        """``(n, width)``: the attended tokens' states after layer ``index``; 0 is the embeddings' output."""
        states = self.encoded.hidden or ()
        if index >= len(states):
            raise ModelError(
                "a layer pair names a layer that is not there",
                found=index,
                allowed=f"0 (the embeddings) to {len(states) - 1}",
            )
        return states[index][self.positions.attended]


@dataclass(frozen=True)
class _StoredOutputs:
    """What a batch brings along of a teacher that ran before: see ``distil.teacher_draws.StoredDraws.of``."""

    batch: Batch
    vocabulary: int
    temperature: float

    @property
    def last(self) -> Tensor:
        """``(n, width)``: the last layer's states of the attended tokens."""
        if "teacher_hidden" not in self.batch:
            raise ModelError("the teacher's hidden states were not stored, and a term asks for them")
        return self.batch["teacher_hidden"].float()

    @property
    def logits(self) -> LogitSource:
        """``(n_projected, vocabulary)``: the likeliest classes, and the mass of the others."""
        known = ("teacher_indices", "teacher_log_probabilities", "teacher_log_tail")
        return TopKLogits(
            *(self.batch[name] for name in known), temperature=self.temperature, vocabulary=self.vocabulary
        )

    def layer(self, index: int) -> Tensor:
        """None of the layers but the last is stored."""
        raise ModelError("the states of a teacher's layers are not stored", found=index, do="let the teacher run live")


@dataclass(frozen=True)
class _Observation:
    """Student and teacher on one batch; a teacher that no term asks for is not run."""

    student: _Outputs
    observe_teacher: Callable[[], _Outputs | _StoredOutputs]
    positions: _Positions

    @cached_property
    def teacher(self) -> _Outputs | _StoredOutputs:
        return self.observe_teacher()

    @property
    def teacher_logits(self) -> LogitSource:
        """The teacher's side of the terms that compare logits."""
        return self.teacher.logits


class DistillationObjective:
    """``Σ α · term`` over the terms whose weight is positive, each a mean over its own tokens.

    ============  ==========================================================================  =================
    term          what is summed                                                              over the tokens
    ============  ==========================================================================  =================
    kl            ``T² · KL(teacher ‖ student)`` between the softened vocabularies            ``kl_positions``
    mlm           cross-entropy of the student with the true token                            masked
    cosine        1 − cosine of the two last hidden states                                    attended
    logit_mse     squared difference of the logits, mean over the vocabulary                  ``kl_positions``
    hidden_mse    squared difference of hidden states, mean over width, sum over the pairs    attended
    ============  ==========================================================================  =================

    Attended tokens include the special ones and exclude padding. The vocabulary is projected only at the tokens that a
    term needs. With the ``ORIGINAL_…`` constants this is the triple loss of Sanh et al. 2019 as its source computes it.

    A batch that brings along what the teacher said of it (``teacher_indices`` and its like) is learnt from without
    running the teacher: KL is then over the stored classes and the mass of all others, a lower bound of the full one.
    Otherwise the teacher runs live: frozen, in evaluation mode, on the batch's device, with its own full inputs, token
    types too, whether or not the student takes them. ``layer_pairs`` are (student layer, teacher layer), where 0 is
    the embeddings' output and i the output of layer i; where ``student_width`` is not the teacher's, each pair has a
    learned projection without bias, drawn with ``seed`` and found in ``modules``.

    Raises ``RecipeError`` for weights, temperature, positions or pairs that cannot be meant, and ``ModelError`` where
    the shapes of student and teacher do not allow a term.
    """

    def __init__(
        self,
        teacher: PreTrainedModel,
        weights: Mapping[str, float],
        *,
        temperature: float = ORIGINAL_TEMPERATURE,
        kl_positions: KLPositions = ORIGINAL_KL_POSITIONS,
        kl_direction: Direction = "forward",
        layer_pairs: Sequence[tuple[int, int]] = (),
        student_width: int | None = None,
        seed: int = 0,
    ) -> None:
        _check_choices(weights, temperature, kl_positions, kl_direction)
        self.weights: Mapping[str, float] = dict(weights)
        self.temperature, self.kl_positions, self.kl_direction = temperature, kl_positions, kl_direction
        self.teacher = teacher.requires_grad_(False).eval()
        self.layer_pairs = tuple((student, teacher_layer) for student, teacher_layer in layer_pairs)
        self._active = tuple(name for name in TERMS if weights.get(name, 0.0) > 0)
        widths = (student_width or teacher.config.hidden_size, teacher.config.hidden_size)
        _check_shapes(self._active, self.layer_pairs, widths, teacher.config.num_hidden_layers)
        projected = "hidden_mse" in self._active and widths[0] != widths[1]
        self.modules: nn.ModuleDict | None = _draw_projections(self.layer_pairs, widths, seed) if projected else None
        self._teacher_parts = split_masked_lm(teacher)
        self._student_parts: MaskedLMParts | None = None
        self._of_states: dict[str, Callable[[_Observation], Tensor]] = {
            "cosine": _cosine,
            "hidden_mse": self._hidden_mse,
        }

    def counts(self, batch: Batch) -> dict[str, float]:
        """Tokens that each term is summed over: attended or masked ones, never padding."""
        return self._count(batch, self._active)

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The sum of each weighted term over its tokens: scalar float32 tensors, differentiable for the student."""
        return self._sum(model, batch, self._active)

    @torch.no_grad()
    def diagnostics(self, model: nn.Module, batch: Batch) -> dict[str, tuple[float, float]]:
        """(sum, tokens) of what validation watches; add both over all batches, then divide.

        Every weighted term, and whatever the weights: ``mlm`` (its mean's exponential is the perplexity),
        ``mlm_accuracy`` (the true token is the student's first choice) and ``agreement`` (student and teacher have the
        same first choice), all three at the masked positions. The caller sets the student's mode.
        """
        names = tuple(dict.fromkeys((*self._active, *_WATCHED)))
        counts = self._count(batch, names)
        return {name: (float(total), counts[name]) for name, total in self._sum(model, batch, names).items()}

    def _count(self, batch: Batch, names: Sequence[str]) -> dict[str, float]:
        attended = batch["attention_mask"].bool()
        n_attended = float(attended.sum())
        n_masked = float((attended & (batch["labels"] != IGNORED)).sum())
        at_masked = AT_TARGETS | (_LOGIT_TERMS if self.kl_positions == "masked" else frozenset())
        return {name: n_masked if name in at_masked else n_attended for name in names}

    def _sum(self, model: nn.Module, batch: Batch, names: Sequence[str]) -> dict[str, Tensor]:
        project_all = self.kl_positions == "attended" and not _LOGIT_TERMS.isdisjoint(names)
        positions = _Positions.of(batch, project_all=project_all)
        with_layers = "hidden_mse" in names

        def observe_teacher() -> _Outputs | _StoredOutputs:
            if "teacher_indices" in batch:
                return _StoredOutputs(batch, self.teacher.config.vocab_size, self.temperature)
            return self._observe_teacher(batch, positions, with_layers)

        parts = self._split_student(model)
        student = _Outputs(parts.encode(batch, hidden_states=with_layers), parts, positions)
        seen = _Observation(student, observe_teacher, positions)
        sums = self._of_logits(seen, [name for name in names if name not in self._of_states])
        sums |= {name: compute(seen) for name, compute in self._of_states.items() if name in names}
        return {name: sums[name] for name in names}

    def _of_logits(self, seen: _Observation, names: Sequence[str]) -> dict[str, Tensor]:
        """The terms of logits, all in one pass over the rows, each expected to get its share of this batch's loss."""
        if not names:
            return {}
        n_masked, n_projected = int((seen.positions.targets != IGNORED).sum()), len(seen.positions.targets)
        units = {name: max(n_masked if name in AT_TARGETS else n_projected, 1) for name in names}
        return vocabulary_losses(
            seen.student.logits,
            {name: self.weights.get(name, 0.0) / units[name] for name in names},
            targets=seen.positions.targets,
            teacher=_teacher_logits(seen, names),
            temperature=self.temperature,
            direction=self.kl_direction,
        )

    @torch.no_grad()
    def _observe_teacher(self, batch: Batch, positions: _Positions, with_layers: bool) -> _Outputs:
        device = batch["input_ids"].device
        if self.teacher.device != device:
            self.teacher.to(device)
        self.teacher.eval()
        with timed("teacher"):
            encoded = self._teacher_parts.encode(batch, hidden_states=with_layers)
        return _Outputs(encoded, self._teacher_parts, positions)

    def _split_student(self, model: nn.Module) -> MaskedLMParts:
        if self._student_parts is None or self._student_parts.model is not model:
            self._student_parts = split_masked_lm(model)
        return self._student_parts

    def _hidden_mse(self, seen: _Observation) -> Tensor:
        return torch.stack([self._pair_mse(seen, *pair) for pair in self.layer_pairs]).sum()

    def _pair_mse(self, seen: _Observation, student_layer: int, teacher_layer: int) -> Tensor:
        student = seen.student.layer(student_layer)
        if self.modules is not None:
            student = self.modules[_projection_name(student_layer, teacher_layer)](student)
        taught = seen.teacher.layer(teacher_layer)
        _require_alike("hidden_mse", student.shape[-1], taught.shape[-1])
        return squared_error(student, taught)


def _cosine(seen: _Observation) -> Tensor:
    student, teacher = seen.student.last, seen.teacher.last
    _require_alike("cosine", student.shape[-1], teacher.shape[-1])
    return cosine_distance(student, teacher)


def _teacher_logits(seen: _Observation, names: Sequence[str]) -> LogitSource | None:
    comparing = [name for name in names if name in OF_BOTH]
    if not comparing:
        return None
    _require_alike(comparing[0], seen.student.logits.vocabulary, seen.teacher_logits.vocabulary)
    return seen.teacher_logits


def _require_alike(term: str, n_student: int, n_teacher: int) -> None:
    if n_student != n_teacher:
        raise ModelError(
            f"the term {term} compares student and teacher column by column",
            found=f"{n_student} columns in the student",
            allowed=f"{n_teacher}, as in the teacher",
            do="share the vocabulary, and match hidden states of another width with hidden_mse",
        )


def _projection_name(student_layer: int, teacher_layer: int) -> str:
    return f"student_{student_layer}_teacher_{teacher_layer}"


def _draw_projections(pairs: Sequence[tuple[int, int]], widths: tuple[int, int], seed: int) -> nn.ModuleDict:
    """One linear map per pair, drawn so that a projected state keeps its mean square per column."""
    generator = torch.Generator().manual_seed(seed)
    projections = nn.ModuleDict()
    for pair in pairs:
        # Without skip_init, making the layer would draw from the global generator and shift the run's other numbers.
        linear = nn.utils.skip_init(nn.Linear, *widths, bias=False)
        nn.init.normal_(linear.weight, std=widths[0] ** -0.5, generator=generator)
        projections[_projection_name(*pair)] = linear
    return projections


def _check_choices(weights: Mapping[str, float], temperature: float, positions: str, direction: str) -> None:
    unknown = sorted(set(weights) - set(TERMS))
    if unknown:
        raise RecipeError("there is no such distillation term", found=", ".join(unknown), allowed=TERMS)
    if any(not math.isfinite(weight) or weight < 0 for weight in weights.values()):
        raise RecipeError("a weight of the distillation loss is not usable", found=dict(weights), allowed="0 or more")
    if not any(weights.values()):
        raise RecipeError("every weight of the distillation loss is 0", do=f"give one of {', '.join(TERMS)} a weight")
    if not (math.isfinite(temperature) and temperature > 0):
        raise RecipeError("the temperature is not usable", found=temperature, allowed="a number above 0")
    if positions not in get_args(KLPositions):
        raise RecipeError("kl_positions is unknown", found=positions, allowed=get_args(KLPositions))
    if direction not in get_args(Direction):
        raise RecipeError("kl_direction is unknown", found=direction, allowed=get_args(Direction))


def _check_shapes(
    active: Sequence[str], pairs: Sequence[tuple[int, int]], widths: tuple[int, int], n_teacher_layers: int
) -> None:
    if "cosine" in active and widths[0] != widths[1]:
        raise ModelError(
            "the cosine term needs a student as wide as its teacher",
            found=widths[0],
            allowed=widths[1],
            do="set its weight to 0, and match hidden states with hidden_mse through a projection",
        )
    if "hidden_mse" not in active:
        return
    if not pairs:
        raise RecipeError("hidden_mse has a weight but no layer pairs", do="name pairs of (student, teacher) layers")
    if len(set(pairs)) != len(pairs):
        raise RecipeError("a layer pair is named twice", found=list(pairs))
    wrong = [pair for pair in pairs if min(pair) < 0 or pair[1] > n_teacher_layers]
    if wrong:
        raise RecipeError(
            "a layer pair names a layer that is not there",
            found=wrong,
            allowed=f"teacher layers 0 (the embeddings) to {n_teacher_layers}",
        )
