"""Encoder + task → classifier: recipe in, run folder out."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from potstill.data.tasks import TaskData
from potstill.data.tokens import TextTokenizer
from potstill.data.training_batches import LabelledTexts
from potstill.data.training_rows import training_rows
from potstill.data.windows import Windows, cut_windows, single_texts
from potstill.errors import ModelError
from potstill.evaluate.metrics import find_metric
from potstill.evaluate.stage import load_task_section
from potstill.finetune.class_weights import label_weights, weights_by_name
from potstill.finetune.epochs import choice, epoch_rows, write_epochs
from potstill.finetune.hard_loss import HardLoss
from potstill.finetune.lesson import Lesson, store_all_predictions, validation, with_stored_outputs
from potstill.finetune.objective import ClassificationObjective, TaskDistillationObjective
from potstill.finetune.start import Checkpoint, Start, Started
from potstill.models.folders import count_parameters, opens_with, save_model_folder
from potstill.models.heads import split_classifier
from potstill.models.long_texts import keep_windows
from potstill.models.own_head import with_own_head
from potstill.models.packed_attention import run_packed
from potstill.models.pooled_classifier import HeadShape
from potstill.models.teacher import (
    accepted_inputs,
    check_same_vocabulary,
    classifier_config,
    load_tokenizer,
    longest_input,
    open_classifier,
    resolve_model,
    text_tokenizer,
)
from potstill.recipe.schema import FinetuneJob
from potstill.runs import RunFolder, fingerprint, model_fingerprint, write_jsonl
from potstill.training.arguments import check_settings, planned_steps
from potstill.training.parameters import Rates, Unfreezing, plan_parameters
from potstill.training.result import FitResult
from potstill.training.settings import TrainingSettings, training_device
from potstill.training.trainer import fit


def run(job: FinetuneJob, start: Start | None = None) -> RunFolder:
    """Fine-tune as ``job`` says and store predictions; finished runs are returned, interrupted ones go on.

    ``start`` gives the model to begin with; without it that is the checkpoint ``job`` names. Whatever can be refused is
    refused before the folder is touched.
    """
    start = start or Checkpoint(job.model, job.seed, job.finetune.dropout, _head(job))
    inputs = [*start.inputs(), *([model_fingerprint(resolve_model(job.teacher))] if job.teacher else [])]
    data = load_task_section(job.task, job.data_dir)
    work_id = fingerprint("finetune", job.substance(), *inputs, data.fingerprint)
    if finished := RunFolder.finished(job.out, work_id):
        return finished
    started = start.open(data)
    model, tokenizer = started.model, started.tokenizer
    keep_windows(model, _windows(job))
    _require_positions(job, model)
    tokenizer.model_max_length = job.finetune.max_length
    if job.finetune.packing:
        switch_to_packing(model)
    lesson = _lesson(job, data, started, _teacher(job, tokenizer))
    begun = RunFolder.begin(job.out, stage="finetune", recipe=job.model_dump(mode="json"), fingerprint=work_id)
    if begun.state == "finished":  # by another process, while this one prepared
        return begun
    with closing(begun) as folder:
        lesson = with_stored_outputs(lesson, job.finetune.teacher_outputs)
        result = _train(folder, model, lesson)
        stored = _store_models(folder, model, _for_model(tokenizer, model))
        write_jsonl(folder.path / "history.jsonl", result.history)
        store_all_predictions(folder.path, model, lesson)
        folder.finish(**stored, **_facts(job, started, lesson, result), **_epochs(job, lesson, result))
    return folder


def check(job: FinetuneJob, teacher: PreTrainedModel, texts: TextTokenizer) -> None:
    """Raise what ``run`` would refuse, as far as task and settings tell; the model to fine-tune need not exist yet.

    ``teacher`` is of the family, length and vocabulary of every arm, whatever its weights; ``texts`` is its tokenizer.
    """
    data = check_task(job, texts)
    _unfreezing(job).starts(teacher.config.num_hidden_layers, n_steps=1)
    dropout = job.finetune.dropout if _head(job) is None else None
    classifier_config(teacher.config, data.task.label_names, data.task.problem_type, dropout)
    _require_positions(job, teacher)


def check_task(job: FinetuneJob, texts: TextTokenizer) -> TaskData:
    """Raise what task and settings tell of any model; ``texts`` puts as much around a text as the model's tokenizer."""
    data = load_task_section(job.task, job.data_dir)
    _settings(job, data)
    _hard_loss(job, data)
    _read_one_text(job, data, texts)
    return data


def _read_one_text(job: FinetuneJob, data: TaskData, texts: TextTokenizer) -> None:
    """Raise what reading all of them would: no room for text, or none for windows of them, or pairs."""
    first, windows = data.splits["train"].texts[:1], _windows(job)
    encoded = texts.encode(first if windows is None else single_texts(first), job.finetune.max_length)
    if windows is not None:
        cut_windows(encoded, texts, job.finetune.max_length, windows.overlap)


def _store_models(folder: RunFolder, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Write the model, and that of each epoch that was kept; what the manifest tells of them."""
    stored = with_own_head(model)
    save_model_folder(stored, tokenizer, folder.path, folder.work)
    return {
        "parameters": count_parameters(stored),
        "opens_with": opens_with(stored),
        "kept_epochs": write_epochs(folder.work / "finetune", model, tokenizer, folder.path, folder.work),
    }


def _facts(job: FinetuneJob, started: Started, lesson: Lesson, result: FitResult) -> dict[str, Any]:
    """What the manifest tells of a finished run."""
    data = lesson.data
    return {
        "base_model": started.base_model,
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
        "head": job.finetune.head.model_dump(mode="json"),
        "class_weights": lesson.class_weights,
        "rates": lesson.plan.rows(),
        "report_split": data.task.report_split,
        "max_length": job.finetune.max_length,
        "training_s": result.elapsed_s,
        "tokens_seen": result.tokens,
        "best": result.best,
        "stopped_early": result.stopped_early,
        "throughput": {"finetune": result.throughput},
    }


def _epochs(job: FinetuneJob, lesson: Lesson, result: FitResult) -> dict[str, Any]:
    """The table of epochs and the choice among them, where validations were those of epochs."""
    if job.finetune.evaluate_steps is not None:
        return {"epochs": [], "choice": ""}
    rows = epoch_rows(result.history, result.best["step"] if result.best else result.steps)
    better = lesson.settings.greater_is_better
    return {
        "epochs": rows,
        "choice": choice(rows, lesson.metric, greater_is_better=better, keep=job.finetune.keep),
    }


def _head(job: FinetuneJob) -> HeadShape | None:
    """The head of ours that was asked for, None for the model's own."""
    section = job.finetune.head
    if section.kind == "own":
        return None
    return HeadShape(section.kind, section.pooling, section.size, section.activation)


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


def _lesson(job: FinetuneJob, data: TaskData, started: Started, teacher: PreTrainedModel | None) -> Lesson:
    section, settings, windows = job.finetune, _settings(job, data), _windows(job)
    model, texts = started.model, text_tokenizer(started.tokenizer, started.model)
    objective = _objective(job, data, teacher)
    key = f"train of {data.fingerprint}"
    rows = training_rows(data.splits["train"], texts, section.max_length, windows, key=key)
    batches = LabelledTexts(
        rows.encoded,
        rows.targets,
        texts.pad_id,
        batch_size=section.batch_size,
        batch_tokens=section.batch_tokens,
        seed=job.seed,
        packed=section.packing,
    )
    rates = Rates(section.learning_rate, **section.rates.model_dump())
    return Lesson(
        data=data,
        texts=texts,
        encoded=rows.encoded,
        batches=batches,
        objective=objective,
        settings=settings,
        plan=plan_parameters(model, rates, _unfreezing(job), planned_steps(settings, len(batches.plan))),
        class_weights=weights_by_name(objective.hard.label_weights, data.task.label_names),
        metric=str(settings.metric),
        max_length=section.max_length,
        windows=windows,
        evaluate_batch_size=section.evaluate_batch_size,
        cut=rows.told,
        notes=[*started.notes, *(f"train: {note}" for note in rows.kept)],
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


def _unfreezing(job: FinetuneJob) -> Unfreezing:
    section = job.finetune
    return Unfreezing(
        section.strategy,
        head_share=section.head_share,
        unfreeze_share=section.unfreeze_share,
        freeze_layers=section.freeze_layers,
        freeze_embeddings=section.freeze_embeddings,
    )


def _train(folder: RunFolder, model: PreTrainedModel, lesson: Lesson) -> FitResult:
    return fit(
        model.to(training_device()),
        lesson.objective,
        lesson.batches,
        lesson.settings,
        work=folder.work / "finetune",
        validate=validation(lesson),
        log_folder=folder.path / "logs",
        title=f"finetune {lesson.data.task.name}",
        plan=lesson.plan,
    )


def _objective(job: FinetuneJob, data: TaskData, teacher: PreTrainedModel | None) -> ClassificationObjective:
    hard = _hard_loss(job, data)
    if teacher is None:
        return ClassificationObjective(data.task.problem_type, hard=hard)
    return TaskDistillationObjective(
        teacher,
        data.task.problem_type,
        alpha=job.finetune.teacher_weight,
        temperature=job.finetune.temperature,
        label_names=data.task.label_names,
        hard=hard,
    )


def _hard_loss(job: FinetuneJob, data: TaskData) -> HardLoss:
    section, task = job.finetune, data.task
    weights = label_weights(section.class_weights, data.splits["train"].targets, task.label_names, task.problem_type)
    return HardLoss(task.problem_type, None if weights is None else torch.from_numpy(weights), section.focal_gamma)


def _windows(job: FinetuneJob) -> Windows | None:
    """How texts longer than the maximum are read; None where they are cut."""
    section = job.finetune
    return None if section.long_texts == "cut" else Windows(section.window_overlap, section.long_texts)


def _for_model(tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel) -> PreTrainedTokenizerFast:
    """The tokenizer as it is stored beside ``model``: it gives what the model takes, and cuts where training did."""
    names = [name for name in ("input_ids", "token_type_ids", "attention_mask") if name in accepted_inputs(model)]
    tokenizer.model_input_names = names
    tokenizer.init_kwargs["model_input_names"] = names
    return tokenizer
