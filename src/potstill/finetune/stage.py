"""Encoder + task → classifier: recipe in, run folder out."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from potstill.data.tasks import TaskData
from potstill.data.tokens import TextTokenizer
from potstill.data.training_batches import LabelledTexts, truncated_sentence
from potstill.errors import ModelError
from potstill.evaluate.metrics import compute_metrics, higher_is_better
from potstill.evaluate.stage import load_task_section, predict_split, store_predictions
from potstill.finetune.objective import ClassificationObjective, TaskDistillationObjective, hard_loss
from potstill.models.folders import count_parameters, save_model_folder
from potstill.models.teacher import (
    accepted_inputs,
    check_same_vocabulary,
    load_classifier,
    load_tokenizer,
    longest_input,
    open_classifier,
    resolve_model,
)
from potstill.recipe import FinetuneJob
from potstill.runs import RunFolder, fingerprint, model_fingerprint, write_jsonl
from potstill.runtime.torch_predictor import TorchPredictor
from potstill.training.objective import Objective
from potstill.training.result import FitResult
from potstill.training.settings import TrainingSettings, training_device
from potstill.training.trainer import fit


def run(job: FinetuneJob) -> RunFolder:
    """Fine-tune as ``job`` says and store predictions; finished runs are returned, interrupted ones go on."""
    source = resolve_model(job.model)
    data = load_task_section(job.task, job.data_dir)
    inputs = [model_fingerprint(resolve_model(name)) for name in (job.model, job.teacher) if name]
    work_id = fingerprint("finetune", job.substance(), *inputs, data.fingerprint)
    if finished := RunFolder.finished(job.out, work_id):
        return finished
    model = load_classifier(
        source,
        label_names=data.task.label_names,
        problem_type=data.task.problem_type,
        seed=job.seed,
        dropout=job.finetune.dropout,
    )
    _require_length(job.finetune.max_length, model)
    tokenizer = load_tokenizer(source)
    teacher = _teacher(job, tokenizer)
    folder = RunFolder.begin(job.out, stage="finetune", recipe=job.model_dump(mode="json"), fingerprint=work_id)
    tokenizer.model_max_length = job.finetune.max_length
    texts = _text_tokenizer(tokenizer, folder)
    notes, result = _train(job, folder, model, teacher, data, texts)
    save_model_folder(model, _for_model(tokenizer, model), folder.path, folder.work)
    write_jsonl(folder.path / "history.jsonl", result.history)
    _store_all_predictions(job, folder, model, data, texts)
    folder.finish(
        base_model=job.model,
        teacher=job.teacher,
        task=job.task.model_dump(mode="json"),
        seed=job.seed,
        data={
            "fingerprint": data.fingerprint,
            "notes": [*data.notes, *notes],
            "counts": {split: dataclasses.asdict(counts) for split, counts in data.counts.items()},
        },
        label_names=list(data.task.label_names),
        problem_type=data.task.problem_type,
        metric=job.finetune.metric or data.task.metric,
        report_split=data.task.report_split,
        max_length=job.finetune.max_length,
        parameters=count_parameters(model),
        training_s=result.elapsed_s,
        tokens_seen=result.tokens,
        best=result.best,
        stopped_early=result.stopped_early,
    )
    return folder


def _teacher(job: FinetuneJob, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel | None:
    """The classifier whose outputs are learnt, if there is one; it has to read the same ids as the student."""
    if job.teacher is None:
        return None
    source = resolve_model(job.teacher)
    check_same_vocabulary(load_tokenizer(source), tokenizer)
    return open_classifier(source)


def _require_length(max_length: int, model: PreTrainedModel) -> None:
    longest = longest_input(model)
    if max_length > longest:
        raise ModelError(
            "finetune.max_length is more than the model takes", found=max_length, allowed=f"4 to {longest}"
        )


def _text_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: RunFolder) -> TextTokenizer:
    tokenizer.save_pretrained(folder.work / "tokenizer")
    return TextTokenizer.open(folder.work / "tokenizer")


def _train(
    job: FinetuneJob,
    folder: RunFolder,
    model: PreTrainedModel,
    teacher: PreTrainedModel | None,
    data: TaskData,
    texts: TextTokenizer,
) -> tuple[list[str], FitResult]:
    section, device = job.finetune, training_device()
    train = data.splits["train"]
    encoded = texts.encode(train.texts, section.max_length)
    batches = LabelledTexts(encoded, train.targets, texts.pad_id, batch_size=section.batch_size, seed=job.seed)
    metric = section.metric or data.task.metric
    settings = TrainingSettings.from_values(
        section.model_dump(), seed=job.seed, metric=metric, greater_is_better=higher_is_better(metric)
    )
    result = fit(
        model.to(device),
        _objective(job, data, teacher.to(device) if teacher else None),
        batches,
        settings,
        work=folder.work / "finetune",
        validate=_validation(job, data, texts, metric),
        log_folder=folder.path / "logs",
        title=f"finetune {data.task.name}",
    )
    return list(truncated_sentence(int(encoded.truncated.sum()), len(encoded), section.max_length, "train")), result


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


def _validation(job: FinetuneJob, data: TaskData, texts: TextTokenizer, metric: str) -> Any:
    """Metrics and loss on the selection split, which is never the split that is reported on."""
    split = data.splits["selection"]

    def validate(model: nn.Module) -> dict[str, float]:
        predictions = predict_split(_predictor(job, model, data, texts), split)
        names = list(dict.fromkeys((metric, *data.task.metrics)))
        return {**compute_metrics(predictions, names), "loss": _mean_loss(predictions)}

    return validate


def _mean_loss(predictions: Any) -> float:
    """The loss of training, without a teacher, on stored predictions."""
    logits, targets = torch.from_numpy(predictions.logits), torch.from_numpy(predictions.targets)
    return float(hard_loss(logits, targets, predictions.problem_type)) / len(predictions)


def _predictor(job: FinetuneJob, model: nn.Module, data: TaskData, texts: TextTokenizer) -> TorchPredictor:
    return TorchPredictor(
        model,
        texts,
        data.task.label_names,
        data.task.problem_type,
        job.finetune.max_length,
        job.finetune.evaluate_batch_size,
    )


def _store_all_predictions(
    job: FinetuneJob, folder: RunFolder, model: PreTrainedModel, data: TaskData, texts: TextTokenizer
) -> None:
    predictor = _predictor(job, model, data, texts)
    for name in dict.fromkeys(("selection", data.task.report_split)):
        store_predictions(folder.path, name, predict_split(predictor, data.splits[name]))


def _for_model(tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel) -> PreTrainedTokenizerFast:
    """The tokenizer as it is stored beside ``model``: it gives what the model takes, and cuts where training did."""
    names = [name for name in ("input_ids", "token_type_ids", "attention_mask") if name in accepted_inputs(model)]
    tokenizer.model_input_names = names
    tokenizer.init_kwargs["model_input_names"] = names
    return tokenizer
