"""What a classifier learns from, how it is validated on the way, and what it predicts in the end. Plain values only."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from potstill.data.tasks import TaskData
from potstill.data.tokens import EncodedTexts, TextTokenizer
from potstill.data.training_batches import LabelledTexts
from potstill.data.windows import Windows
from potstill.distil.teacher_cache import classify_once
from potstill.evaluate.metrics import compute_metrics
from potstill.evaluate.stage import predict_split, store_predictions
from potstill.finetune.objective import ClassificationObjective, TaskDistillationObjective
from potstill.runtime.torch_predictor import TorchPredictor
from potstill.training.arguments import planned_passes
from potstill.training.parameters import ParameterPlan
from potstill.training.settings import TrainingSettings, training_device
from potstill.training.trainer import Validate


@dataclass(frozen=True)
class Lesson:
    """What the classifier learns from, and by which of the task's metrics its best epoch is known.

    encoded: the training rows. plan: which parameters train when and how fast. class_weights: those of the loss, by
    label. max_length: in tokens; longer texts are read in ``windows``, or cut where there are none. cut: in words, the
    texts that were too long; notes: what is kept on disk for it.
    """

    data: TaskData
    texts: TextTokenizer
    encoded: EncodedTexts
    batches: LabelledTexts
    objective: ClassificationObjective
    settings: TrainingSettings
    plan: ParameterPlan
    class_weights: Mapping[str, Any] | None
    metric: str
    max_length: int
    windows: Windows | None
    evaluate_batch_size: int
    cut: Sequence[str]
    notes: Sequence[str]


def with_stored_outputs(lesson: Lesson, outputs: Literal["auto", "live", "disk"]) -> Lesson:
    """The lesson; where the teacher's logits are to be kept, its batches bring them along and the teacher is gone.

    ``auto`` keeps them where training passes over the rows more than once.
    """
    objective = lesson.objective
    passes = planned_passes(lesson.settings, len(lesson.batches.plan))
    wished = {"live": False, "disk": passes > 0, "auto": passes > 1}[outputs]
    if not wished or not isinstance(objective, TaskDistillationObjective):
        return lesson
    if objective.teacher is None or not objective.weights["soft"]:
        return lesson
    stored = classify_once(
        objective.teacher.to(training_device()),
        lesson.encoded,
        lesson.texts.pad_id,
        batch_size=lesson.evaluate_batch_size,
        precision=lesson.settings.precision,
    )
    lesson.batches.teacher, objective.teacher = stored, None
    return dataclasses.replace(lesson, notes=[*lesson.notes, stored.sentence(passes)])


def validation(lesson: Lesson) -> Validate:
    """Metrics and loss on the selection split, which is never the split that is reported on.

    The loss is that of training without a teacher; where it is not finite it comes alone, and training stops at it.
    """
    split, task, hard = lesson.data.splits["selection"], lesson.data.task, lesson.objective.hard
    targets = torch.from_numpy(split.targets)

    def validate(model: nn.Module) -> dict[str, float]:
        predictions = predict_split(_predictor(model, lesson), split)
        loss = hard.mean(torch.from_numpy(predictions.logits), targets)
        if not math.isfinite(loss):
            return {"loss": loss}
        return {**compute_metrics(predictions, list(dict.fromkeys((lesson.metric, *task.metrics)))), "loss": loss}

    return validate


def store_all_predictions(folder: Path, model: nn.Module, lesson: Lesson) -> None:
    """Predict what is chosen on and what is reported on, and keep both in a run folder with their metrics."""
    predictor, task = _predictor(model, lesson), lesson.data.task
    for name in dict.fromkeys(("selection", task.report_split)):
        predictions = predict_split(predictor, lesson.data.splits[name])
        store_predictions(folder, name, predictions, (lesson.metric, *task.metrics))


def _predictor(model: nn.Module, lesson: Lesson) -> TorchPredictor:
    task = lesson.data.task
    return TorchPredictor(
        model,
        lesson.texts,
        task.label_names,
        task.problem_type,
        lesson.max_length,
        lesson.evaluate_batch_size,
        windows=lesson.windows,
    )
