"""Teacher + text → student: recipe in, run folder out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain

from torch import nn
from transformers import PreTrainedModel

from potstill.data.corpora import Corpus, load_corpus
from potstill.data.token_files import build_blocks
from potstill.data.tokens import TextTokenizer
from potstill.data.training_batches import MaskedBlocks, Masking, hold_out
from potstill.distil.objective import DistillationObjective
from potstill.distil.teacher_arithmetic import in_int8
from potstill.distil.teacher_draws import KeptOutputs, store_draws
from potstill.errors import ModelError, RecipeError
from potstill.models.folders import count_parameters, save_model_folder
from potstill.models.origins import verify_origins
from potstill.models.student import Student, initialise_student
from potstill.models.teacher import load_masked_lm, load_tokenizer, resolve_model, text_tokenizer
from potstill.recipe.schema import DistilJob
from potstill.runs import RunFolder, fingerprint, model_fingerprint, write_jsonl
from potstill.training.arguments import check_settings, planned_passes
from potstill.training.result import FitResult
from potstill.training.settings import TrainingSettings, resolve_precision, training_device
from potstill.training.trainer import fit
from potstill.training.validation import mean_diagnostics, perplexity


@dataclass(frozen=True)
class _Lesson:
    """What the student learns from: the objective, the teacher in it, and masked blocks to train and validate on."""

    objective: DistillationObjective
    train: MaskedBlocks
    held: MaskedBlocks
    blocks_fingerprint: str
    notes: list[str]


def run(job: DistilJob) -> RunFolder:
    """Distil as ``job`` says; a finished run is returned as it is, an interrupted one goes on where it stopped.

    Whatever can be refused is refused before the folder is touched.
    """
    source = resolve_model(job.teacher.model)
    corpus = load_corpus(**job.corpus.reading(), data_dir=job.data_dir)
    work_id = fingerprint("distil", job.substance(), model_fingerprint(source), corpus.fingerprint)
    if finished := RunFolder.finished(job.out, work_id):
        return finished
    teacher = _teacher(source)
    student = _student(job, teacher)
    tokenizer = load_tokenizer(source)
    lesson = _lesson(job, teacher, student, corpus, text_tokenizer(tokenizer, teacher)) if _trains(job) else None
    begun = RunFolder.begin(job.out, stage="distil", recipe=job.model_dump(mode="json"), fingerprint=work_id)
    if begun.state == "finished":  # by another process, while this one prepared
        return begun
    with closing(begun) as folder:
        lesson = _with_stored_outputs(job, lesson) if lesson else None
        result = _train(job, folder, student.model, lesson) if lesson else None
        save_model_folder(student.model, tokenizer, folder.path, folder.work)
        write_jsonl(folder.path / "history.jsonl", result.history if result else [])
        if lesson:
            folder.write_manifest(
                corpus={"name": corpus.name, "fingerprint": corpus.fingerprint, "notes": lesson.notes}
            )
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
            throughput={"distil": result.throughput} if result else {},
        )
    return folder


def check(job: DistilJob, teacher: PreTrainedModel) -> None:
    """Raise what ``run`` would refuse of shapes and settings; ``teacher`` has the shape of the job's, any weights."""
    student = _student(job, teacher)
    if _trains(job):
        _prepare(job, teacher, student)


def _trains(job: DistilJob) -> bool:
    return bool(job.distil.epochs or job.distil.max_steps)


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


def _lesson(
    job: DistilJob, teacher: PreTrainedModel, student: Student, corpus: Corpus, texts: TextTokenizer
) -> _Lesson:
    """The corpus in blocks, some of them held out: training batches masked anew each epoch, validation batches once."""
    section, objective = job.distil, _prepare(job, teacher.to(training_device()), student)
    blocks = build_blocks(corpus, texts, job.corpus.block_length, key=corpus.fingerprint)
    masking, counts, size = Masking(**section.masking.model_dump()), blocks.token_counts, section.batch_size
    rows, held_rows = hold_out(len(blocks), job.corpus.validation_share, job.corpus.validation_blocks, seed=0)
    draws = section.teacher_outputs.mask_draws if section.teacher_outputs else None
    train = MaskedBlocks(
        blocks,
        counts,
        rows,
        texts,
        masking,
        batch_size=size,
        batch_tokens=section.batch_tokens,
        seed=job.seed,
        mask_draws=draws,
    )
    held = MaskedBlocks(blocks, counts, held_rows, texts, masking, batch_size=size, seed=0, shuffle=False)
    lesson = _Lesson(objective, train, held, blocks.fingerprint, [*corpus.notes, *blocks.notes])
    return lesson if section.teacher_precision == "auto" else _taught_in_int8(job, lesson, student.model)


def _taught_in_int8(job: DistilJob, lesson: _Lesson, student: PreTrainedModel) -> _Lesson:
    """The lesson with its teacher in int8, if that agrees with the teacher as it is; told in the notes."""
    batches = chain(lesson.held, lesson.train)  # few blocks may be held out
    teacher, found = in_int8(lesson.objective.teacher, batches, job.distil.kl_positions)
    return replace(lesson, objective=_objective(job, teacher, student), notes=[*lesson.notes, found.sentence()])


def _with_stored_outputs(job: DistilJob, lesson: _Lesson) -> _Lesson:
    """The lesson; where the teacher's outputs are to be kept, its batches bring them along."""
    section = job.distil
    if section.teacher_outputs is None or not (section.alpha_ce or section.alpha_cos):
        return lesson
    kept = KeptOutputs(
        section.temperature,
        section.teacher_outputs.top_k,
        section.kl_positions,
        hidden=bool(section.alpha_cos),
        precision=section.precision,
    )
    teacher = lesson.objective.teacher
    passes = planned_passes(_settings(job), len(lesson.train.plan))
    stored = store_draws(teacher, lesson.train, kept, blocks_fingerprint=lesson.blocks_fingerprint, passes=passes)
    lesson.train.teacher = stored
    return replace(lesson, notes=[*lesson.notes, stored.sentence(passes)])


def _prepare(job: DistilJob, teacher: PreTrainedModel, student: Student) -> DistillationObjective:
    """The objective, once nothing can be said against the settings."""
    check_settings(_settings(job))
    _require_float32_for_int8(job)
    _require_layers(job.distil.hidden_pairs, student.model.config.num_hidden_layers)
    return _objective(job, teacher, student.model)


def _require_float32_for_int8(job: DistilJob) -> None:
    if job.distil.teacher_precision == "auto":
        return
    device, precision = training_device(), resolve_precision(job.distil.precision)
    if device.type != "cpu" or precision != "fp32":
        raise RecipeError(
            "distil.teacher_precision int8 is for training on a CPU in float32",
            found=f"{precision} on {device.type}",
            do="leave it out: the teacher then runs in the arithmetic of training",
        )


def _require_layers(hidden_pairs: Sequence[tuple[int, int]], n_layers: int) -> None:
    missing = [layer for layer, _ in hidden_pairs if not 0 <= layer <= n_layers]
    if missing:
        raise RecipeError(
            "distil.hidden_pairs names layers that the student lacks", found=missing, allowed=f"0 to {n_layers}"
        )


def _train(job: DistilJob, folder: RunFolder, student: PreTrainedModel, lesson: _Lesson) -> FitResult:
    section, objective, device = job.distil, lesson.objective, training_device()

    def validate(model: nn.Module) -> dict[str, float]:
        means = mean_diagnostics(objective.diagnostics, model, lesson.held, device=device, precision=section.precision)
        loss = sum(weight * means[name] for name, weight in objective.weights.items() if weight)
        return {"loss": loss, "perplexity": perplexity(means["mlm"]), **means}

    return fit(
        student.to(device),
        objective,
        lesson.train,
        _settings(job),
        work=folder.work / "distil",
        validate=validate,
        log_folder=folder.path / "logs",
        title="distil",
    )


def _settings(job: DistilJob) -> TrainingSettings:
    return TrainingSettings.from_values(job.distil.model_dump(), seed=job.seed, metric="loss", greater_is_better=False)


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
