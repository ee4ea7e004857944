"""Text → encoder with a masked-language-model head: recipe in, run folder out."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import AutoModelForMaskedLM, PreTrainedModel, set_seed

from potstill.data.corpora import Corpus, load_corpus
from potstill.data.token_files import build_blocks
from potstill.data.tokens import TextTokenizer
from potstill.data.training_batches import MaskedBlocks, Masking, hold_out
from potstill.models.folders import count_parameters, save_model_folder
from potstill.models.teacher import load_masked_lm, load_tokenizer, resolve_model, text_tokenizer
from potstill.pretrain.objective import MaskedLMObjective
from potstill.recipe.schema import PretrainJob
from potstill.runs import RunFolder, fingerprint, model_fingerprint, write_jsonl
from potstill.training.arguments import check_settings
from potstill.training.result import FitResult
from potstill.training.settings import TrainingSettings, training_device
from potstill.training.trainer import fit
from potstill.training.validation import mean_diagnostics, perplexity


@dataclass(frozen=True)
class _Text:
    """The corpus in masked blocks: those to train on, masked anew each epoch, and those to validate on."""

    train: MaskedBlocks
    held: MaskedBlocks
    notes: list[str]


def run(job: PretrainJob) -> RunFolder:
    """Train a masked-language model as ``job`` says; finished runs are returned, interrupted ones go on.

    Whatever can be refused is refused before the folder is touched.
    """
    source = resolve_model(job.model)
    corpus = load_corpus(**job.corpus.reading(), data_dir=job.data_dir)
    work_id = fingerprint("pretrain", job.substance(), model_fingerprint(source), corpus.fingerprint)
    if finished := RunFolder.finished(job.out, work_id):
        return finished
    model, head_is_new = _model(job, source)
    tokenizer = load_tokenizer(source)
    text = _text(job, corpus, text_tokenizer(tokenizer, model))
    begun = RunFolder.begin(job.out, stage="pretrain", recipe=job.model_dump(mode="json"), fingerprint=work_id)
    if begun.state == "finished":  # by another process, while this one prepared
        return begun
    with closing(begun) as folder:
        phases = _fit_phases(job, folder, model, head_is_new, text)
        last = next(reversed(phases.values()), None)
        save_model_folder(model, tokenizer, folder.path, folder.work)
        write_jsonl(folder.path / "history.jsonl", _joined(phases.values()))
        folder.finish(
            seed=job.seed,
            teacher=job.model,
            head_was_new=head_is_new,
            corpus={"name": corpus.name, "fingerprint": corpus.fingerprint, "notes": text.notes},
            parameters=count_parameters(model),
            training_s=sum(phase.elapsed_s for phase in phases.values()),
            tokens_seen=sum(phase.tokens for phase in phases.values()),
            best=last.best if last else None,
            stopped_early=last.stopped_early if last else False,
            throughput={name: phase.throughput for name, phase in phases.items()},
        )
    return folder


def check(job: PretrainJob) -> None:
    """Raise RecipeError for settings that ``run`` would refuse on this machine."""
    check_settings(_settings(job))


def _model(job: PretrainJob, source: str) -> tuple[PreTrainedModel, bool]:
    loaded = load_masked_lm(source, seed=job.seed)
    if not job.pretrain.from_scratch:
        return loaded.model, loaded.head_is_new
    set_seed(job.seed)
    return AutoModelForMaskedLM.from_config(loaded.model.config), False


def _text(job: PretrainJob, corpus: Corpus, texts: TextTokenizer) -> _Text:
    check(job)
    blocks = build_blocks(corpus, texts, job.corpus.block_length, key=corpus.fingerprint)
    masking, counts, size = Masking(**job.pretrain.masking.model_dump()), blocks.token_counts, job.pretrain.batch_size
    rows, held_rows = hold_out(len(blocks), job.corpus.validation_share, job.corpus.validation_blocks, seed=0)
    train = MaskedBlocks(
        blocks,
        counts,
        rows,
        texts,
        masking,
        batch_size=size,
        batch_tokens=job.pretrain.batch_tokens,
        seed=job.seed,
    )
    held = MaskedBlocks(blocks, counts, held_rows, texts, masking, batch_size=size, seed=0, shuffle=False)
    return _Text(train, held, [*corpus.notes, *blocks.notes])


def _fit_phases(
    job: PretrainJob, folder: RunFolder, model: PreTrainedModel, head_is_new: bool, text: _Text
) -> dict[str, FitResult]:
    """First a new head alone, so that its random gradients do not spoil the encoder; then every parameter."""
    phases = {}
    section = job.pretrain
    if head_is_new and section.head_steps:
        train_only_head(model)
        head_section = {"learning_rate": section.head_learning_rate, "max_steps": section.head_steps, "keep": "last"}
        phases["head"] = _fit(job, folder, model, text, "head", head_section)
        model.requires_grad_(True)
    if section.epochs or section.max_steps:
        phases["all"] = _fit(job, folder, model, text, "all", {})
    return phases


def train_only_head(model: PreTrainedModel) -> None:
    """Freeze the encoder, the vocabulary's embeddings tied to the head included; the head's own parameters train."""
    model.requires_grad_(True)
    model.base_model.requires_grad_(False)


def _fit(
    job: PretrainJob, folder: RunFolder, model: PreTrainedModel, text: _Text, phase: str, others: dict[str, Any]
) -> FitResult:
    section, objective, device = job.pretrain, MaskedLMObjective(), training_device()

    def validate(student: nn.Module) -> dict[str, float]:
        means = mean_diagnostics(objective.diagnostics, student, text.held, device=device, precision=section.precision)
        return {"loss": means["mlm"], "perplexity": perplexity(means["mlm"]), **means}

    return fit(
        model.to(device),
        objective,
        text.train,
        _settings(job, **others),
        work=folder.work / phase,
        validate=validate,
        log_folder=folder.path / "logs" / phase,
        title=f"pretrain ({phase})",
    )


def _settings(job: PretrainJob, **others: Any) -> TrainingSettings:
    values = {**job.pretrain.model_dump(), "metric": "loss", "greater_is_better": False, **others}
    return TrainingSettings.from_values(values, seed=job.seed)


def _joined(phases: Iterable[FitResult]) -> list[dict[str, float]]:
    """The histories one after the other, steps and epochs counted on."""
    records: list[dict[str, float]] = []
    steps = epochs = 0.0
    for phase in phases:
        for record in phase.history:
            records.append({**record, "step": record["step"] + steps, "epoch": record["epoch"] + epochs})
        steps, epochs = steps + phase.steps, epochs + phase.epochs
    return records
