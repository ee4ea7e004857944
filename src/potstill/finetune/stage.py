"""Encoder + task → classifier: recipe in, run folder out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from potstill.data.tasks import TaskData
from potstill.data.token_files import encode_once
from potstill.data.tokens import EncodedTexts, TextTokenizer
from potstill.data.training_batches import LabelledTexts, truncated_sentence
from potstill.distil.teacher_cache import classify_once
from potstill.errors import ModelError
from potstill.evaluate.metrics import compute_metrics, find_metric
from potstill.evaluate.stage import load_task_section, predict_split, store_predictions
from potstill.finetune.objective import ClassificationObjective, TaskDistillationObjective, hard_loss
from potstill.finetune.start import Start, Started
from potstill.models.folders import count_parameters, save_model_folder
from potstill.models.heads import split_classifier
from potstill.models.packed_attention import run_packed
from potstill.models.teacher import (
    accepted_inputs,
    check_same_vocabulary,
    classifier_config,
    load_classifier,
    load_tokenizer,
    longest_input,
    open_classifier,
    resolve_model,
    text_tokenizer,
)
from potstill.recipe import FinetuneJob
from potstill.runs import RunFolder, fingerprint, model_fingerprint, write_jsonl
from potstill.runtime.torch_predictor import TorchPredictor
from potstill.training.arguments import check_settings, planned_passes
from potstill.training.objective import Objective
from potstill.training.result import FitResult
from potstill.training.settings import TrainingSettings, training_device
from potstill.training.trainer import Validate, fit


@dataclass(frozen=True)
class _Lesson:
    """What the classifier learns from, and by which of the task's metrics its best epoch is known.

    encoded: the training rows. cut: in words, the texts that were too long; notes: what is kept on disk for it.
    """

    data: TaskData
    texts: TextTokenizer
    encoded: EncodedTexts
    batches: LabelledTexts
    objective: Objective
    settings: TrainingSettings
    metric: str
    cut: Sequence[str]
    notes: Sequence[str]


def run(job: FinetuneJob, start: Start | None = None) -> RunFolder:
    """Fine-tune as ``job`` says and store predictions; finished runs are returned, interrupted ones go on.

    ``start`` gives the model to begin with; without it that is the checkpoint ``job`` names. Whatever can be refused is
    refused before the folder is touched.
    """
    start = start or _Checkpoint(job)
    inputs = [*start.inputs(), *([model_fingerprint(resolve_model(job.teacher))] if job.teacher else [])]
    data = load_task_section(job.task, job.data_dir)
    work_id = fingerprint("finetune", job.substance(), *inputs, data.fingerprint)
    if finished := RunFolder.finished(job.out, work_id):
        return finished
    started = start.open(data)
    model, tokenizer = started.model, started.tokenizer
    _require_positions(job, model)
    tokenizer.model_max_length = job.finetune.max_length
    if job.finetune.packing:
        switch_to_packing(model)
    lesson = _lesson(job, data, text_tokenizer(tokenizer, model), _teacher(job, tokenizer))
    lesson = dataclasses.replace(lesson, notes=[*started.notes, *lesson.notes])
    begun = RunFolder.begin(job.out, stage="finetune", recipe=job.model_dump(mode="json"), fingerprint=work_id)
    if begun.state == "finished":  # by another process, while this one prepared
        return begun
    with closing(begun) as folder:
        lesson = _with_stored_outputs(job, lesson)
        result = _train(folder, model, lesson, job)
        save_model_folder(model, _for_model(tokenizer, model), folder.path, folder.work)
        write_jsonl(folder.path / "history.jsonl", result.history)
        _store_all_predictions(job, folder, model, lesson)
        facts = {"parameters": count_parameters(model), **_facts(job, lesson, result), **started.facts}
        folder.finish(**facts)
    return folder


class _Checkpoint:
    """The start that is a checkpoint: a run, a folder or a name on the hub."""

    def __init__(self, job: FinetuneJob) -> None:
        self._job, self._source = job, resolve_model(job.model)

    def inputs(self) -> list[str]:
        return [model_fingerprint(self._source)]

    def open(self, data: TaskData) -> Started:
        return Started(_classifier(self._job, self._source, data), load_tokenizer(self._source))


def check(job: FinetuneJob, teacher: PreTrainedModel, texts: TextTokenizer) -> None:
    """Raise what ``run`` would refuse, as far as task and settings tell; the model to fine-tune need not exist yet.

    ``teacher`` is of the family, length and vocabulary of every arm, whatever its weights; ``texts`` is its tokenizer.
    """
    data = load_task_section(job.task, job.data_dir)
    _settings(job, data)
    classifier_config(teacher.config, data.task.label_names, data.task.problem_type, job.finetune.dropout)
    _require_positions(job, teacher)
    texts.encode(data.splits["train"].texts[:1], job.finetune.max_length)


def _facts(job: FinetuneJob, lesson: _Lesson, result: FitResult) -> dict[str, Any]:
    """What the manifest tells of a finished run."""
    data = lesson.data
    return {
        "base_model": job.model,
        "teacher": job.teacher,
        "task": job.task.model_dump(mode="json"),
        "seed": job.seed,
        "data": {
            "fingerprint": data.fingerprint,
            "notes": [*data.notes, *lesson.cut],
            "counts": {split: dataclasses.asdict(counts) for split, counts in data.counts.items()},
        },
        "notes": list(lesson.notes),
        "label_names": list(data.task.label_names),
        "problem_type": data.task.problem_type,
        "metric": lesson.metric,
        "report_split": data.task.report_split,
        "max_length": job.finetune.max_length,
        "training_s": result.elapsed_s,
        "tokens_seen": result.tokens,
        "best": result.best,
        "stopped_early": result.stopped_early,
        "throughput": {"finetune": result.throughput},
    }


def _classifier(job: FinetuneJob, source: str, data: TaskData) -> PreTrainedModel:
    return load_classifier(
        source,
        label_names=data.task.label_names,
        problem_type=data.task.problem_type,
        seed=job.seed,
        dropout=job.finetune.dropout,
    )


def _require_positions(job: FinetuneJob, model: PreTrainedModel) -> None:
    longest = longest_input(model)
    if job.finetune.max_length > longest:
        raise ModelError(
            "finetune.max_length is more than the model takes", found=job.finetune.max_length, allowed=f"4 to {longest}"
        )


def _teacher(job: FinetuneJob, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel | None:
    """The classifier whose outputs are learnt, if there is one; it has to read the same ids as the student."""
    if job.teacher is None:
        return None
    source = resolve_model(job.teacher)
    check_same_vocabulary(load_tokenizer(source), tokenizer)
    teacher = open_classifier(source)
    if job.finetune.packing:
        switch_to_packing(teacher)
    return teacher


def switch_to_packing(model: PreTrainedModel) -> None:
    """Let a classifier take packed batches; raises ``ModelError`` for one that cannot."""
    split_classifier(model)
    run_packed(model)


def _lesson(job: FinetuneJob, data: TaskData, texts: TextTokenizer, teacher: PreTrainedModel | None) -> _Lesson:
    section, train, settings = job.finetune, data.splits["train"], _settings(job, data)
    encoded = encode_once(train.texts, texts, section.max_length, key=f"train of {data.fingerprint}")
    return _Lesson(
        data=data,
        texts=texts,
        encoded=encoded,
        batches=LabelledTexts(
            encoded, train.targets, texts.pad_id, batch_size=section.batch_size, seed=job.seed, packed=section.packing
        ),
        objective=_objective(job, data, teacher),
        settings=settings,
        metric=str(settings.metric),
        cut=truncated_sentence(int(encoded.truncated.sum()), len(encoded), section.max_length, "train"),
        notes=[f"train: {note}" for note in encoded.notes],
    )


def _settings(job: FinetuneJob, data: TaskData) -> TrainingSettings:
    """How to train, and by which metric the best epoch is known; RecipeError for what task or machine do not allow."""
    section, task = job.finetune, data.task
    metric = find_metric(section.metric or task.metric, task.problem_type, len(task.label_names))
    settings = TrainingSettings.from_values(
        section.model_dump(), seed=job.seed, metric=metric.name, greater_is_better=metric.higher_is_better
    )
    check_settings(settings)
    return settings


def _with_stored_outputs(job: FinetuneJob, lesson: _Lesson) -> _Lesson:
    """The lesson; where the teacher's logits are to be kept, its batches bring them along and the teacher is gone."""
    section, objective = job.finetune, lesson.objective
    passes = planned_passes(lesson.settings, len(lesson.batches.plan))
    wished = {"live": False, "disk": passes > 0, "auto": passes > 1}[section.teacher_outputs]
    if not wished or not isinstance(objective, TaskDistillationObjective):
        return lesson
    if objective.teacher is None or not objective.weights["soft"]:
        return lesson
    stored = classify_once(
        objective.teacher.to(training_device()),
        lesson.encoded,
        lesson.texts.pad_id,
        batch_size=section.evaluate_batch_size,
        precision=section.precision,
    )
    lesson.batches.teacher, objective.teacher = stored, None
    return dataclasses.replace(lesson, notes=[*lesson.notes, stored.sentence(passes)])


def _train(folder: RunFolder, model: PreTrainedModel, lesson: _Lesson, job: FinetuneJob) -> FitResult:
    return fit(
        model.to(training_device()),
        lesson.objective,
        lesson.batches,
        lesson.settings,
        work=folder.work / "finetune",
        validate=_validation(job, lesson),
        log_folder=folder.path / "logs",
        title=f"finetune {lesson.data.task.name}",
    )


def _objective(job: FinetuneJob, data: TaskData, teacher: PreTrainedModel | None) -> Objective:
    if teacher is None:
        return ClassificationObjective(data.task.problem_type)
    return TaskDistillationObjective(
        teacher,
        data.task.problem_type,
        alpha=job.finetune.teacher_weight,
        temperature=job.finetune.temperature,
        label_names=data.task.label_names,
    )


def _validation(job: FinetuneJob, lesson: _Lesson) -> Validate:
    """Metrics and loss on the selection split, which is never the split that is reported on."""
    split, task = lesson.data.splits["selection"], lesson.data.task

    def validate(model: nn.Module) -> dict[str, float]:
        predictions = predict_split(_predictor(job, model, lesson), split)
        loss = _mean_loss(predictions)
        if not math.isfinite(loss):
            return {"loss": loss}  # training stops at it; no metric could be computed
        return {**compute_metrics(predictions, list(dict.fromkeys((lesson.metric, *task.metrics)))), "loss": loss}

    return validate


def _mean_loss(predictions: Any) -> float:
    """The loss of training, without a teacher, on stored predictions."""
    logits, targets = torch.from_numpy(predictions.logits), torch.from_numpy(predictions.targets)
    return float(hard_loss(logits, targets, predictions.problem_type)) / len(predictions)


def _predictor(job: FinetuneJob, model: nn.Module, lesson: _Lesson) -> TorchPredictor:
    task, section = lesson.data.task, job.finetune
    return TorchPredictor(
        model, lesson.texts, task.label_names, task.problem_type, section.max_length, section.evaluate_batch_size
    )


def _store_all_predictions(job: FinetuneJob, folder: RunFolder, model: PreTrainedModel, lesson: _Lesson) -> None:
    predictor = _predictor(job, model, lesson)
    for name in dict.fromkeys(("selection", lesson.data.task.report_split)):
        predictions = predict_split(predictor, lesson.data.splits[name])
        store_predictions(folder.path, name, predictions, (lesson.metric, *lesson.data.task.metrics))


def _for_model(tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel) -> PreTrainedTokenizerFast:
    """The tokenizer as it is stored beside ``model``: it gives what the model takes, and cuts where training did."""
    names = [name for name in ("input_ids", "token_type_ids", "attention_mask") if name in accepted_inputs(model)]
    tokenizer.model_input_names = names
    tokenizer.init_kwargs["model_input_names"] = names
    return tokenizer
