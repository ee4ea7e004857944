"""What a recipe would do, before it does it: stages, sizes, and an estimate of the time on this machine.

The time is arithmetic over a measured rate: the multiplications of each stage's matrix products, divided by what this
machine's matrix products reach and by the share of that which training reaches (``UTILISATION``, from docs/log.md).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from potstill.data.windows import UNCUT
from potstill.recipe.baseline_jobs import BilstmJob, TfidfJob
from potstill.recipe.baselines import BilstmSection
from potstill.recipe.models import StudentSection
from potstill.recipe.schema import (
    CorpusSection,
    DistilJob,
    FinetuneJob,
    Job,
    PretrainJob,
    Recipe,
    TaskSection,
    TrainingSection,
)
from potstill.records import Text
from potstill.report.tabs import Kind
from potstill.runs import is_run, read_json
from potstill.stages import Stage, classifier_job, describe_experiment, plan
from potstill.studies import is_studied, studies_asked_for

UTILISATION = 0.4
"""Share of the rate of large matrix products that a training step reaches; 0.35 to 0.6 were measured."""
LSTM_UTILISATION = 0.15
"""The same for an LSTM, whose matrices are small and wait for one another."""
SPARSE_UTILISATION, SOLVER_STEPS = 0.01, 100
"""The same for products with sparse features, and steps of a logistic regression over them."""
START_S = 5.0
"""Seconds that every stage spends on loading and writing."""
SAMPLE = 256
"""Texts whose tokens are counted to know the mean length."""


@dataclass(frozen=True)
class Shape:
    """What decides the cost of an encoder: layers, width, feed-forward width and vocabulary."""

    layers: int
    width: int
    inner: int
    vocabulary: int

    @property
    def forward_flops(self) -> float:
        """Floating-point operations per token of one forward pass through the layers."""
        return 2.0 * self.layers * (4 * self.width**2 + 2 * self.width * self.inner)

    @property
    def projection_flops(self) -> float:
        """The same for the vocabulary projection of one token."""
        return 2.0 * self.width * self.vocabulary

    @property
    def parameters(self) -> float:
        """Parameters of layers and word embeddings."""
        return self.layers * (4 * self.width**2 + 2 * self.width * self.inner) + self.width * self.vocabulary


@dataclass(frozen=True)
class LstmShape:
    """The same for a BiLSTM with attention: layers, width of the embeddings and of each direction, and vocabulary."""

    layers: int
    width: int
    hidden: int
    vocabulary: int

    @property
    def weights(self) -> float:
        """Parameters besides the embeddings: of each direction four gates, then attention."""
        widths = [self.width] + (self.layers - 1) * [2 * self.hidden]
        return sum(2 * 4 * self.hidden * (width + self.hidden) for width in widths) + (2 * self.hidden) ** 2

    @property
    def forward_flops(self) -> float:
        """Floating-point operations per token of one forward pass."""
        return 2.0 * self.weights

    @property
    def parameters(self) -> float:
        """Parameters, embeddings included."""
        return self.weights + self.width * self.vocabulary


def estimate(recipe: Recipe) -> list[dict[str, Any]]:
    """A row per stage and study: its state, rows and tokens, parameters and estimated minutes; the total is the last.

    The time of a study is not estimated, its minutes are None: it goes into counting words and comparing maps, which no
    rate of matrix products tells.
    """
    stages = plan(recipe)
    *rows, total = estimate_stages([(recipe, stage) for stage in stages])
    finished = {str(stage.job.out) for stage, row in zip(stages, rows, strict=True) if row["state"] == "finished"}
    studies = [_study_row(recipe, task, kind, finished) for task in recipe.tasks for kind in studies_asked_for(recipe)]
    if any(row["state"] != "finished" for row in studies):
        total["stage"] += ", without the studies"
    return [*rows, *studies, total]


def estimate_stages(planned: Sequence[tuple[Recipe, Stage]]) -> list[dict[str, Any]]:
    """The same for stages of several recipes, each beside its own."""
    rate, students = _matrix_rate(), {str(stage.job.out) for _, stage in planned if isinstance(stage.job, DistilJob)}
    rows = [_row(recipe, stage, rate, students) for recipe, stage in planned]
    to_do = sum(row["minutes"] for row in rows if row["state"] != "finished")
    return [
        *rows,
        {"stage": "all that is to do", "state": "", "rows": "", "tokens": "", "parameters": "", "minutes": to_do},
    ]


@dataclass(frozen=True)
class _Work:
    """What a stage does: rows met in an epoch, tokens trained on over all of them, parameters, and operations in all.

    utilisation: share of the machine's matrix rate that such work reaches.
    """

    rows: int
    tokens: float
    parameters: float
    flops: float
    utilisation: float = UTILISATION


def _row(recipe: Recipe, stage: Stage, rate: float, students: Collection[str]) -> dict[str, Any]:
    work = _work(recipe, stage.job, students)
    return {
        "stage": stage.name,
        "state": _state(stage.job),
        "rows": work.rows,
        "tokens": round(work.tokens),
        "parameters": round(work.parameters),
        "minutes": round((work.flops / (rate * work.utilisation) + START_S) / 60, 1),
    }


def _study_row(recipe: Recipe, task: TaskSection, kind: Kind, finished: Collection[str]) -> dict[str, Any]:
    """``finished`` are the folders of runs that stay; what a new run will be is unknown, so its studies are to do."""
    job = classifier_job(recipe, task, "student", (task.seeds or recipe.seeds)[0])
    assert isinstance(job, FinetuneJob)
    made = str(job.out) in finished and is_studied(recipe.folder, describe_experiment(recipe), recipe, task, kind)
    size = _task_size(recipe, job, UNCUT if kind == "data" else job.finetune.max_length)
    n_rows = size.all if kind == "data" else min(size.reported, recipe.studies.attention or 0)
    return {
        "stage": f"{task.name}: study of its {'rows' if kind == 'data' else 'attention'}",
        "state": "finished" if made else "to do; its time is not estimated",
        "rows": n_rows,
        "tokens": round(n_rows * size.length),
        "parameters": "",
        "minutes": None,
    }


def _work(recipe: Recipe, job: Job, students: Collection[str]) -> _Work:
    """``students`` are the folders of encoders of the student's shape, from which some classifiers are fine-tuned."""
    teacher = _shape_of(recipe.teacher.model)
    if isinstance(job, PretrainJob):
        rows, length = _corpus_size(recipe, job.corpus)
        trained = _trained_rows(job.pretrain, rows, length)
        trained += job.pretrain.head_steps * _rows_per_batch(job.pretrain, length)
        flops = _mlm_flops(teacher, job.pretrain.masking.share)
        return _Work(rows, trained * length, teacher.parameters, trained * length * flops)
    if isinstance(job, DistilJob):
        rows, length = _corpus_size(recipe, job.corpus)
        shape, share = _student_shape(teacher, job.student), job.distil.masking.share
        tokens = length * _trained_rows(job.distil, rows, length)
        flops = _mlm_flops(shape, share) + teacher.forward_flops + share * teacher.projection_flops
        return _Work(rows, tokens, shape.parameters, tokens * flops)
    if isinstance(job, TfidfJob):
        return _linear_work(recipe, job)
    assert isinstance(job, FinetuneJob)
    if job.model == recipe.student.model:
        return _classifier_work(recipe, job, _shape_of(job.model))
    classifier = _student_shape(teacher, recipe.student) if job.model in students else teacher
    return _classifier_work(recipe, job, classifier)


def _classifier_work(recipe: Recipe, job: FinetuneJob, shape: Shape) -> _Work:
    size = _task_size(recipe, job, job.finetune.max_length)
    measured = size.selection * (job.finetune.epochs + 1) + size.reported
    # a forward pass is a third of a training step
    tokens = size.length * (_trained_rows(job.finetune, size.train, size.length) + measured / 3)
    if isinstance(job, BilstmJob):
        lstm = _lstm_shape(shape, job.bilstm)
        return _Work(size.train, tokens, lstm.parameters, tokens * 3 * lstm.forward_flops, LSTM_UTILISATION)
    return _Work(size.train, tokens, shape.parameters, tokens * 3 * shape.forward_flops)


def _linear_work(recipe: Recipe, job: TfidfJob) -> _Work:
    """A fit for each penalty, each of some steps over all features of all rows; the features bound the parameters."""
    size = _task_size(recipe, job, UNCUT)
    fewest, most = job.tfidf.ngrams
    tokens = size.train * size.length
    flops = 4 * size.outputs * SOLVER_STEPS * len(job.tfidf.penalties) * (most - fewest + 1) * tokens
    return _Work(size.train, tokens, size.outputs * job.tfidf.max_features, flops, SPARSE_UTILISATION)


def _state(job: Job) -> str:
    """What is there: finished, interrupted, or made by another recipe; a changed input shows only in the run."""
    if not is_run(job.out):
        return "to do"
    before = type(job).model_validate(yaml.safe_load((job.out / "recipe.yaml").read_text(encoding="utf-8")))
    if before.substance() != job.substance():
        return "changed: runs again"
    return "finished" if (read_json(job.out / "manifest.json") or {})["status"] == "finished" else "interrupted"


def _trained_rows(section: TrainingSection, rows: int, length: float) -> float:
    """Rows of ``length`` tokens on average that go through training, over all epochs."""
    if section.max_steps is not None:
        return section.max_steps * section.accumulation * _rows_per_batch(section, length)
    return section.epochs * rows


def _rows_per_batch(section: TrainingSection, length: float) -> float:
    return section.batch_size if section.batch_tokens is None else section.batch_tokens / length


def _mlm_flops(shape: Shape, masked_share: float) -> float:
    """Operations per token of a training step of a masked language model that projects the masked tokens alone."""
    return 3 * (shape.forward_flops + masked_share * shape.projection_flops)


@lru_cache(maxsize=4)
def _config(model: str) -> Any:
    from potstill.models.teacher import open_config, resolve_model

    return open_config(resolve_model(model))


def _shape_of(model: str) -> Shape:
    config = _config(model)
    inner = config.hidden_dim if config.model_type == "distilbert" else config.intermediate_size
    return Shape(config.num_hidden_layers, config.hidden_size, inner, config.vocab_size)


def _student_shape(teacher: Shape, student: StudentSection) -> Shape:
    width, inner = student.hidden_size or teacher.width, student.intermediate_size or teacher.inner
    return Shape(student.layers, width, inner, teacher.vocabulary)


def _corpus_size(recipe: Recipe, section: CorpusSection) -> tuple[int, float]:
    """Blocks of the corpus, from its characters and the tokens of a sample, and their length."""
    return _blocks(recipe.teacher.model, section.model_dump_json(), recipe.data_dir), section.block_length


@lru_cache(maxsize=4)
def _blocks(model: str, section_json: str, data_dir: Path | None) -> int:
    from itertools import islice

    from potstill.data.corpora import load_corpus

    section = CorpusSection.model_validate_json(section_json)
    corpus = load_corpus(**section.reading(), data_dir=data_dir)
    sample = list(islice(corpus, SAMPLE))
    tokens_per_character = sum(_lengths(model, sample, UNCUT)) / sum(map(len, sample))
    # A streamed corpus is read to its end once more for this: only its characters tell how many blocks it fills.
    n_characters = sum(map(len, corpus)) if corpus.n_characters is None else corpus.n_characters
    return round(n_characters * tokens_per_character / section.block_length)


def _lstm_shape(teacher: Shape, section: BilstmSection) -> LstmShape:
    """The vocabulary of words is bounded by their most; a file of vectors says its width."""
    from potstill.data.word_vectors import vector_size

    width = section.embedding_size if section.embeddings == "scratch" else teacher.width
    if section.vectors_file is not None:
        width = vector_size(Path(section.vectors_file).expanduser())
    vocabulary = teacher.vocabulary if section.tokens == "teacher" else section.max_words
    return LstmShape(section.layers, width, section.hidden_size, vocabulary)


@dataclass(frozen=True)
class _TaskSize:
    """Rows of a task by their use and in all, mean tokens per training row after cutting, and outputs of a model."""

    train: int
    selection: int
    reported: int
    all: int
    length: float
    outputs: int


def _task_size(recipe: Recipe, job: FinetuneJob | TfidfJob, max_length: int) -> _TaskSize:
    from potstill.evaluate.stage import load_task_section

    data = load_task_section(job.task, job.data_dir)
    train, selection, reported = (data.split(name) for name in ("train", "selection", data.task.report_split))
    step = max(1, len(train) // SAMPLE)
    sample = [train.texts[row] for row in range(0, len(train), step)]
    lengths = _lengths(recipe.teacher.model, sample, max_length)
    mean = sum(lengths) / len(lengths)
    n_rows = sum(map(len, data.splits.values()))
    return _TaskSize(len(train), len(selection), len(reported), n_rows, mean, len(data.task.label_names))


def _lengths(model: str, texts: Sequence[Text], max_length: int) -> list[int]:
    from potstill.models.teacher import load_tokenizer, resolve_model

    tokenizer = load_tokenizer(resolve_model(model)).backend_tokenizer
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return [min(len(encoding.ids), max_length) for encoding in tokenizer.encode_batch(list(texts))]


def _matrix_rate() -> float:
    """FLOP/s of this machine's matrix products, in float32 and on the CPU where there is no GPU."""
    import torch

    from potstill.training.arithmetic import matrix_rate
    from potstill.training.settings import training_device

    return matrix_rate(torch.float32, training_device())
