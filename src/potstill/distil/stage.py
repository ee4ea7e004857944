"""Teacher + text → student: recipe in, run folder out."""

from __future__ import annotations

import math

from torch import nn
from transformers import PreTrainedModel

from potstill.data.corpora import Corpus, load_corpus
from potstill.data.tokens import Blocks, TextTokenizer, build_blocks
from potstill.data.training_batches import MaskedBlocks, Masking, hold_out
from potstill.distil.objective import DistillationObjective
from potstill.errors import ModelError
from potstill.models.folders import count_parameters, save_model_folder
from potstill.models.origins import verify_origins
from potstill.models.student import Student, initialise_student
from potstill.models.teacher import check_vocabulary_fits, load_masked_lm, load_tokenizer, resolve_model
from potstill.recipe import DistilJob
from potstill.runs import RunFolder, fingerprint, model_fingerprint, write_jsonl
from potstill.training.result import FitResult
from potstill.training.settings import TrainingSettings, training_device
from potstill.training.trainer import fit
from potstill.training.validation import mean_diagnostics


def run(job: DistilJob) -> RunFolder:
    """Distil as ``job`` says; a finished run is returned as it is, an interrupted one goes on where it stopped."""
    source = resolve_model(job.teacher.model)
    corpus = load_corpus(
        job.corpus.source,
        text_column=job.corpus.text_column,
        data_dir=job.data_dir,
        max_characters=job.corpus.max_characters,
    )
    work_id = fingerprint("distil", job.substance(), model_fingerprint(source), corpus.fingerprint)
    if finished := RunFolder.finished(job.out, work_id):
        return finished
    teacher = _teacher(source)
    student = _student(job, teacher)
    folder = RunFolder.begin(job.out, stage="distil", recipe=job.model_dump(mode="json"), fingerprint=work_id)
    tokenizer = load_tokenizer(source)
    result = _train(job, folder, teacher, student, corpus) if job.distil.epochs or job.distil.max_steps else None
    save_model_folder(student.model, tokenizer, folder.path, folder.work)
    write_jsonl(folder.path / "history.jsonl", result.history if result else [])
    folder.finish(
        seed=job.seed,
        teacher=job.teacher.model,
        teacher_parameters=count_parameters(teacher),
        parameters=count_parameters(student.model),
        layers=student.layers,
        notes=student.notes,
        origins=student.origins,
        training_s=result.elapsed_s if result else 0.0,
        tokens_seen=result.tokens if result else 0,
        best=result.best if result else None,
        stopped_early=result.stopped_early if result else False,
    )
    return folder


def _teacher(source: str) -> PreTrainedModel:
    loaded = load_masked_lm(source)
    if loaded.head_is_new:
        raise ModelError(
            f"the teacher {source} has no masked-language-model head, so it has no logits to learn from",
            do="give it one first: potstill pretrain --model … --out …",
        )
    return loaded.model


def _student(job: DistilJob, teacher: PreTrainedModel) -> Student:
    """The student before training, every tensor's origin verified against the teacher bit by bit."""
    shape = job.student
    student = initialise_student(
        teacher,
        n_layers=shape.layers,
        layer_choice=shape.layer_choice,
        hidden_size=shape.hidden_size,
        n_heads=shape.heads,
        intermediate_size=shape.intermediate_size,
        initialise=shape.initialise,
        copy_mlm_transform=shape.copy_mlm_transform,
        seed=job.seed,
    )
    verify_origins(student.model, teacher, student.origins)
    return student


def _train(job: DistilJob, folder: RunFolder, teacher: PreTrainedModel, student: Student, corpus: Corpus) -> FitResult:
    section = job.distil
    texts = _text_tokenizer(job, folder, teacher)
    blocks = build_blocks(corpus, texts, job.corpus.block_length, key=corpus.fingerprint)
    folder.write_manifest(
        corpus={"name": corpus.name, "fingerprint": corpus.fingerprint, "notes": [*corpus.notes, *blocks.notes]}
    )
    device = training_device()
    objective = _objective(job, teacher.to(device), student.model)
    train, held = _batches(job, blocks, texts)

    def validate(model: nn.Module) -> dict[str, float]:
        means = mean_diagnostics(objective.diagnostics, model, held, device=device, precision=section.precision)
        loss = sum(weight * means[name] for name, weight in objective.weights.items() if weight)
        return {"loss": loss, "perplexity": math.exp(means["mlm"]), **means}

    settings = TrainingSettings.from_values(section.model_dump(), seed=job.seed, metric="loss", greater_is_better=False)
    return fit(
        student.model.to(device),
        objective,
        train,
        settings,
        work=folder.work / "distil",
        validate=validate,
        log_folder=folder.path / "logs",
        title="distil",
    )


def _text_tokenizer(job: DistilJob, folder: RunFolder, teacher: PreTrainedModel) -> TextTokenizer:
    """The teacher's tokenizer, which is the student's too: both read the same ids."""
    load_tokenizer(resolve_model(job.teacher.model)).save_pretrained(folder.work / "tokenizer")
    texts = TextTokenizer.open(folder.work / "tokenizer")
    check_vocabulary_fits(teacher, texts)
    return texts


def _objective(job: DistilJob, teacher: PreTrainedModel, student: PreTrainedModel) -> DistillationObjective:
    section = job.distil
    weights = {
        "kl": section.alpha_ce,
        "mlm": section.alpha_mlm,
        "cosine": section.alpha_cos,
        "logit_mse": section.alpha_logit_mse,
        "hidden_mse": section.alpha_hidden_mse,
    }
    return DistillationObjective(
        teacher,
        {name: weight for name, weight in weights.items() if weight},
        temperature=section.temperature,
        kl_positions=section.kl_positions,
        layer_pairs=section.hidden_pairs,
        student_width=student.config.hidden_size,
        seed=job.seed,
    )


def _batches(job: DistilJob, blocks: Blocks, texts: TextTokenizer) -> tuple[MaskedBlocks, MaskedBlocks]:
    """Training batches, masked anew each epoch, and validation batches, masked once and for all."""
    section, corpus = job.distil, job.corpus
    masking = Masking(**section.masking.model_dump())
    train_rows, held_rows = hold_out(len(blocks), corpus.validation_share, corpus.validation_blocks, seed=0)
    train = MaskedBlocks(
        blocks, blocks.token_counts, train_rows, texts, masking, batch_size=section.batch_size, seed=job.seed
    )
    held = MaskedBlocks(
        blocks, blocks.token_counts, held_rows, texts, masking, batch_size=section.batch_size, seed=0, shuffle=False
    )
    return train, held
