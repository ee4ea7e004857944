"""What a classifier learns from: the labels, and if wished a teacher that already knows the task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from potstill.data.batches import is_packed
from potstill.distil.losses import binary_kl_divergence, kl_divergence, squared_error
from potstill.errors import ModelError, RecipeError
from potstill.finetune.hard_loss import HardLoss
from potstill.models.heads import ClassifierParts, split_classifier
from potstill.models.teacher import select_inputs
from potstill.records import ProblemType
from potstill.training.objective import Batch, count_examples
from potstill.training.stopwatch import timed


def soft_loss(student_logits: Tensor, teacher_logits: Tensor, problem_type: ProblemType, temperature: float) -> Tensor:
    """The loss against the teacher's ``(n, k)`` logits, summed over the examples, on the same scale as ``hard_loss``.

    One label: ``T² · KL(teacher ‖ student)``. Many labels: its binary form, mean over the labels, as the hard loss is,
    so that a share of α means the same for two labels and for two hundred. Regression: squared error, no temperature.
    """
    if problem_type == "single_label_classification":
        return kl_divergence(student_logits, teacher_logits, temperature)
    if problem_type == "multi_label_classification":
        return binary_kl_divergence(student_logits, teacher_logits, temperature) / student_logits.shape[-1]
    return squared_error(student_logits, teacher_logits)


class ClassificationObjective:
    """The hard loss alone, a mean over its units, padded or packed; ``hard`` is without weights and focus when absent.

    ``RecipeError`` for an unknown problem type.
    """

    modules: nn.ModuleDict | None = None

    def __init__(self, problem_type: ProblemType, *, hard: HardLoss | None = None) -> None:
        self.problem_type = problem_type
        self.hard = hard or HardLoss(problem_type)
        self.weights: Mapping[str, float] = {"hard": 1.0}
        self._parts: dict[nn.Module, ClassifierParts] = {}

    def counts(self, batch: Batch) -> dict[str, float]:
        """Units of each weighted term: of the hard loss as ``HardLoss.count`` has them, of the other the examples."""
        return {name: self._units(name, batch) for name, weight in self.weights.items() if weight > 0}

    def _units(self, term: str, batch: Batch) -> float:
        return self.hard.count(batch["labels"]) if term == "hard" else float(count_examples(batch))

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The sum of each weighted term over the examples: scalar float32 tensors."""
        return {"hard": self.hard(self._logits(model, batch), batch["labels"])}

    @torch.no_grad()
    def diagnostics(self, model: nn.Module, batch: Batch) -> dict[str, tuple[float, float]]:
        """(sum, units) of each weighted term, for a validation loss; the caller sets the model's mode."""
        counts = self.counts(batch)
        return {name: (float(total), counts[name]) for name, total in self(model, batch).items()}

    def _logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """``(n, k)``. The whole model runs padded texts; of packed ones the head is given the states that it pools."""
        if not is_packed(batch):
            logits: Tensor = model(**select_inputs(model, batch)).logits
            return logits
        if model not in self._parts:
            self._parts[model] = split_classifier(model)
        parts = self._parts[model]
        return parts.classify(parts.encode(batch))


class TaskDistillationObjective(ClassificationObjective):
    """``(1 − α) · hard + α · soft``: learning a task from its labels and from a teacher fine-tuned on it.

    The teacher runs live on each batch, frozen, in evaluation mode, on the batch's device and with its own full inputs.
    Once ``teacher`` is set to None, each batch has to bring its logits along, ``teacher_logits`` ``(n, k)``.
    This is the second distillation of Sanh et al. 2019, §3; the defaults are what its source uses on SQuAD.

    Raises ``RecipeError`` for α outside [0, 1] or a temperature not above 0, and ``ModelError`` for a teacher of
    another problem type or whose labels are not ``label_names`` in that order.
    """

    def __init__(
        self,
        teacher: PreTrainedModel,
        problem_type: ProblemType,
        *,
        alpha: float = 0.5,
        temperature: float = 2.0,
        label_names: Sequence[str] | None = None,
        hard: HardLoss | None = None,
    ) -> None:
        super().__init__(problem_type, hard=hard)
        if not 0 <= alpha <= 1:
            raise RecipeError("the teacher's share alpha is not usable", found=alpha, allowed="a number from 0 to 1")
        if not (math.isfinite(temperature) and temperature > 0):
            raise RecipeError("the temperature is not usable", found=temperature, allowed="a number above 0")
        _check_same_task(teacher, problem_type, label_names)
        self.temperature = temperature
        self.weights = {"hard": 1.0 - alpha, "soft": alpha}
        self.teacher: PreTrainedModel | None = teacher.requires_grad_(False).eval()

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The sum of each weighted term over the examples: scalar float32 tensors, differentiable for the student."""
        logits = self._logits(model, batch)
        terms = {}
        if self.weights["hard"] > 0:
            terms["hard"] = self.hard(logits, batch["labels"])
        if self.weights["soft"] > 0:
            teacher_logits = self._teacher_logits(batch)
            _check_same_width(logits, teacher_logits)
            terms["soft"] = soft_loss(logits, teacher_logits, self.problem_type, self.temperature)
        return terms

    @torch.no_grad()
    def _teacher_logits(self, batch: Batch) -> Tensor:
        if self.teacher is None:
            return batch["teacher_logits"]
        device = batch["input_ids"].device
        if self.teacher.device != device:
            self.teacher.to(device)
        with timed("teacher"):
            return self._logits(self.teacher.eval(), batch)


def _check_same_task(teacher: PreTrainedModel, problem_type: ProblemType, label_names: Sequence[str] | None) -> None:
    if teacher.config.problem_type not in (None, problem_type):
        raise ModelError("the teacher solves another problem", found=teacher.config.problem_type, allowed=problem_type)
    taught = [teacher.config.id2label[index] for index in range(teacher.config.num_labels)]
    if label_names is not None and taught != list(label_names):
        raise ModelError(
            "the teacher's labels are not the task's, in the task's order",
            found=taught,
            allowed=", ".join(label_names),
            do="fine-tune the teacher on the same task",
        )


def _check_same_width(student_logits: Tensor, teacher_logits: Tensor) -> None:
    if student_logits.shape != teacher_logits.shape:
        raise ModelError(
            "teacher and student have different numbers of outputs",
            found=student_logits.shape[-1],
            allowed=teacher_logits.shape[-1],
            do="fine-tune the teacher on the same task",
        )
