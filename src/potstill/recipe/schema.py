"""What a recipe may say: pydantic models that refuse what they do not know.

The descriptions of the fields are the documentation: ``potstill init`` writes them as comments and errors quote them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from potstill.recipe.baselines import BilstmArmSection, TfidfSection
from potstill.recipe.classifier import ClassifierSection
from potstill.recipe.decisions import DecisionsSection
from potstill.recipe.models import GivenStudentSection, StudentSection, TeacherSection
from potstill.recipe.sections import Section, build
from potstill.recipe.studies import StudiesSection

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Weight = Annotated[float, Field(ge=0.0)]
Decay = Annotated[float, Field(ge=0.0, lt=1.0)]
Seed = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
"""What can be the name of a folder, and never leads out of the one it lies in."""


class TrainingSection(Section):
    """How parameters move; shared by every stage that trains."""

    learning_rate: float = Field(5e-5, gt=0, description="Peak learning rate of AdamW.")
    batch_size: Positive = Field(32, description="Rows per batch on each process.")
    batch_tokens: Positive | None = Field(
        None, description="Tokens per batch, padding included, instead of batch_size: as many like rows as fit."
    )
    accumulation: Positive = Field(1, description="Batches per optimiser step; the result is that of one large batch.")
    epochs: float = Field(3.0, ge=0, description="Passes over the training rows; parts of one are allowed.")
    max_steps: Positive | None = Field(None, description="Optimiser steps, exactly; overrides epochs.")
    warmup: Share = Field(0.1, description="Share of the steps over which the learning rate rises from 0.")
    schedule: Literal["linear", "cosine", "constant"] = Field("linear", description="How the rate falls after warm-up.")
    weight_decay: Weight = Field(0.01, description="AdamW's decoupled decay; never on norms and biases.")
    betas: tuple[Decay, Decay] = Field((0.9, 0.999), description="AdamW's moment decay rates.")
    epsilon: float = Field(1e-8, gt=0, description="AdamW's epsilon.")
    clip_norm: float = Field(1.0, gt=0, description="Largest norm of the gradient.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="Arithmetic of training; auto is bf16 on GPUs that have it, fp16 on others, and on processors bf16 "
        "where it was measured to gain, else fp32.",
    )
    kernels: Literal["auto", "torch"] = Field(
        "auto",
        description="Dropout and attention when training on a CPU: auto takes potstill's, which draw masks in bulk; "
        "torch takes torch's, which draw other numbers from the same distribution. Packed batches take potstill's.",
    )
    evaluate_steps: Positive | None = Field(None, description="Steps between validations; every epoch when absent.")
    patience: Positive | None = Field(None, description="Validations without improvement before training stops.")
    keep: Literal["best", "last"] = Field("last", description="Which weights are kept: best validation, or last step.")
    checkpoint_steps: Positive | None = Field(None, description="Steps between checkpoints, besides the timed ones.")
    checkpoint_s: float = Field(120.0, gt=0, description="Seconds between checkpoints: what a kill can cost.")
    report_to: tuple[str, ...] = Field(("tensorboard",), description="Trackers, under transformers' names.")

    @model_validator(mode="after")
    def _patience_keeps_the_best(self) -> Self:
        if self.patience is not None and self.keep == "last":
            raise ValueError("patience stops after the best validation, so it needs keep: best")
        return self

    def require_room(self, length: int, what: str) -> None:
        """Raise ValueError where a batch of ``batch_tokens`` cannot hold a row of ``length`` tokens."""
        if self.batch_tokens is not None and self.batch_tokens < length:
            raise ValueError(
                f"batch_tokens {self.batch_tokens} cannot hold a row of {what} {length}; give {length} or more"
            )


class CorpusSection(Section):
    """Unlabelled text."""

    source: str = Field(
        "docstrings",
        description="docstrings (built in), a known corpus, a hub name, or a txt, csv, jsonl or parquet file.",
    )
    text_column: str = Field("text", description="Column that holds the text.")
    block_length: int = Field(128, ge=8, description="Tokens per training row, [CLS] and [SEP] included.")
    max_characters: Positive | None = Field(None, description="Stop reading after this many characters.")
    streaming: bool = Field(
        False,
        description="Read rows straight from the source, in bounded memory and not counted ahead; a changed source is "
        "then known by the size and time of its files or its commit on the hub, not by its texts.",
    )
    validation_share: float = Field(0.02, gt=0, lt=0.5, description="Share of the blocks held out for validation.")
    validation_blocks: Positive = Field(512, description="Blocks held out at most.")

    def reading(self) -> dict[str, Any]:
        """Which texts are read, and how: arguments of ``data.corpora.load_corpus``."""
        return self.model_dump(include={"source", "text_column", "max_characters", "streaming"})


class MaskingSection(Section):
    """Which tokens the masked language model has to guess (Devlin et al. 2019; smoothing as in DistilBERT's source)."""

    share: float = Field(0.15, gt=0, lt=1, description="Share of the batch's maskable tokens, drawn at once, exactly.")
    smoothing: Weight = Field(0.7, description="Tokens are drawn with weight count**-smoothing; 0 draws uniformly.")
    whole_word: bool = Field(False, description="Mask all the pieces of a word together.")


class PretrainSection(TrainingSection):
    """Masked-language-model training of a head, or of a whole encoder."""

    learning_rate: float = Field(3e-4, gt=0, description="Peak learning rate once everything trains.")
    epochs: float = Field(1.0, ge=0, description="Passes over the corpus with every parameter training.")
    head_steps: int = Field(200, ge=0, description="Steps before that in which a new head trains alone.")
    head_learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate of those steps.")
    from_scratch: bool = Field(False, description="Forget the weights of the model and train its shape from scratch.")
    masking: MaskingSection = MaskingSection()


class TeacherOutputsSection(Section):
    """A teacher that runs once and is read from disk afterwards; for training of several passes over the corpus."""

    mask_draws: Positive = Field(
        4, description="Draws of the masks, each kept on disk; epoch e repeats draw e mod this."
    )
    top_k: Positive = Field(64, description="Likeliest tokens kept of each distribution; the others as one mass.")


class DistilSection(TrainingSection):
    """The triple loss (Sanh et al. 2019) and its schedule: α_ce·T²·KL + α_mlm·MLM + α_cos·(1 − cos)."""

    learning_rate: float = Field(5e-4, gt=0, description="Peak learning rate of AdamW.")
    epochs: float = Field(1.0, ge=0, description="Passes over the corpus; 0 leaves the student as initialised.")
    warmup: Share = Field(0.05, description="Share of the steps over which the learning rate rises from 0.")
    betas: tuple[Decay, Decay] = Field((0.9, 0.98), description="AdamW's moment decay rates.")
    epsilon: float = Field(1e-6, gt=0, description="AdamW's epsilon.")
    alpha_ce: Weight = Field(5.0, description="Weight of T²·KL(teacher ‖ student) on the vocabulary.")
    alpha_mlm: Weight = Field(2.0, description="Weight of the masked language model's cross-entropy.")
    alpha_cos: Weight = Field(1.0, description="Weight of 1 − cos of the last hidden states, over attended tokens.")
    alpha_logit_mse: Weight = Field(0.0, description="Weight of the squared difference of the logits.")
    alpha_hidden_mse: Weight = Field(0.0, description="Weight of the squared difference of chosen hidden states.")
    hidden_pairs: tuple[tuple[int, int], ...] = Field(
        (), description="Pairs (student, teacher) of hidden states for that; 0 is the embedding output."
    )
    temperature: float = Field(2.0, gt=0, description="T of the softened distributions.")
    kl_positions: Literal["attended", "masked"] = Field(
        "masked", description="Tokens over which KL is taken: all but padding (the 2019 source), or the masked ones."
    )
    teacher_outputs: TeacherOutputsSection | None = Field(
        None, description="Run the teacher once for so many draws of the masks and learn from disk; live when absent."
    )
    teacher_precision: Literal["auto", "int8"] = Field(
        "auto",
        description="Arithmetic of the teacher: that of training, or on a CPU int8 in its layers, taken only if its "
        "measured agreement with float32 allows.",
    )
    masking: MaskingSection = MaskingSection()

    @model_validator(mode="after")
    def _terms_can_be_stored(self) -> Self:
        unstored = [name for name in ("alpha_logit_mse", "alpha_hidden_mse") if getattr(self, name)]
        if self.teacher_outputs is not None and unstored:
            raise ValueError(f"teacher_outputs keeps nothing that {' and '.join(unstored)} could be computed from")
        if self.teacher_precision == "int8" and unstored:
            raise ValueError(f"teacher_precision: int8 is not checked on what {' and '.join(unstored)} learn from")
        return self


class FinetuneSection(ClassifierSection, TrainingSection):
    """Encoder → classifier."""

    max_length: int = Field(
        128, ge=4, description="Tokens per text, special tokens included; the rest is cut, and told."
    )
    dropout: Share | None = Field(None, description="Dropout before the classifier; the model's own when absent.")
    packing: bool = Field(
        False,
        description="Texts end to end in training batches; what padded rows of like length waste, some 5%, this saves.",
    )
    evaluate_batch_size: Positive = Field(64, description="Rows per batch in evaluation.")
    teacher_weight: Share = Field(
        0.5, description="Share of the teacher's outputs in the loss when there is a teacher."
    )
    temperature: float = Field(2.0, gt=0, description="T of the teacher's and the student's distributions there.")
    teacher_outputs: Literal["auto", "live", "disk"] = Field(
        "auto",
        description="Run the teacher on every batch, or once on every row and keep its logits on disk; auto keeps them "
        "where training passes over the rows more than once.",
    )
    metric: str | None = Field(None, description="Primary metric, by which keep: best chooses; else the task's.")

    @model_validator(mode="after")
    def _batches_hold_a_text(self) -> Self:
        self.require_room(self.max_length, "max_length")
        return self

    @model_validator(mode="after")
    def _epochs_are_validated(self) -> Self:
        if self.keep_epochs and self.evaluate_steps is not None:
            raise ValueError("keep_epochs keeps what each epoch's validation saw, so it needs evaluate_steps absent")
        return self


class TaskSection(Section):
    """A task to fine-tune and measure on: a known name, or one's own files."""

    name: Name = Field(description="A task of the catalogue, or a name of your own together with files.")
    files: str | dict[str, str] | None = Field(None, description="Your own file, or files by split.")
    text_columns: tuple[str, ...] | None = Field(
        None, description="Column of the text, or of the two texts of a pair; text if absent."
    )
    join: Literal["pair", "sep"] = Field("pair", description="Two columns as a pair, or as one text joined by [SEP].")
    label_columns: tuple[str, ...] | None = Field(
        None, description="Column of the label, or of many labels; label if absent."
    )
    problem_type: Literal["single_label_classification", "multi_label_classification", "regression"] | None = Field(
        None, description="What the label is: one of several, any of several, or a number; from the task if absent."
    )
    label_names: tuple[str, ...] | None = Field(
        None, description="Names of the labels in order; from the data if absent."
    )
    cleaning: tuple[str, ...] | None = Field(None, description="Cleaning steps by name; the task's own when absent.")
    limits: dict[str, Positive] = Field(
        default_factory=dict, description="Rows per split at most, a stratified sample."
    )
    seeds: tuple[Seed, ...] | None = Field(None, description="Seeds of this task; the recipe's when absent.")
    finetune: dict[str, Any] = Field(default_factory=dict, description="Fields of finetune that differ for this task.")

    @model_validator(mode="after")
    def _columns_need_files(self) -> TaskSection:
        described = ("text_columns", "label_columns", "problem_type", "label_names")
        given = [name for name in described if getattr(self, name) is not None]
        if self.files is None and given:
            raise ValueError(f"{', '.join(given)} describe your own files, and there are no files")
        return self


class EvaluateSection(Section):
    """How sure, and how fast."""

    resamples: Positive = Field(1000, description="Bootstrap resamples behind every interval.")
    speed_texts: Positive = Field(128, description="Texts in the measurement of bulk throughput.")
    speed_repeats: Positive = Field(5, description="Repeats of every speed measurement; medians are shown.")


class Job(Section):
    """What one stage is asked to do."""

    out: Path = Field(description="Folder of the run.")
    seed: Seed = Field(1, description="Decides every draw of this run.")
    data_dir: Path | None = Field(
        None, description="Folder with local copies of known data sets, such as glue/cola/train.parquet."
    )

    def substance(self) -> dict[str, Any]:
        """What decides the result besides its inputs, which are told apart by their content; as plain values."""
        values = self.model_dump(mode="json", exclude={"out", "data_dir", "model", "teacher"})
        for section in values.values():
            if isinstance(section, dict):
                for name in ("report_to", "checkpoint_s", "checkpoint_steps", "streaming"):
                    section.pop(name, None)
        return values


class PretrainJob(Job):
    """Text → encoder with a masked-language-model head."""

    model: str = Field("minilm-l6", description="Model to start from: an alias, a folder or a hub name.")
    corpus: CorpusSection = CorpusSection()
    pretrain: PretrainSection = PretrainSection()

    @model_validator(mode="after")
    def _batches_hold_a_block(self) -> Self:
        self.pretrain.require_room(self.corpus.block_length, "corpus.block_length")
        return self


class DistilJob(Job):
    """Teacher + text → student."""

    teacher: TeacherSection = TeacherSection()
    corpus: CorpusSection = CorpusSection()
    student: StudentSection = StudentSection()
    distil: DistilSection = DistilSection()

    @model_validator(mode="after")
    def _batches_hold_a_block(self) -> Self:
        self.distil.require_room(self.corpus.block_length, "corpus.block_length")
        return self


class FinetuneJob(Job):
    """Encoder + task → classifier; with a teacher that knows the task, from its outputs too."""

    model: str = Field(description="Encoder to fine-tune: a run, a folder or a hub name.")
    task: TaskSection
    teacher: str | None = Field(
        None, description="A run fine-tuned on the same task, whose outputs are learnt as well."
    )
    finetune: FinetuneSection = FinetuneSection()

    def substance(self) -> dict[str, Any]:
        """As for any job; without a teacher, what says how to learn from one decides nothing."""
        values = super().substance()
        if self.teacher is None:
            for name in ("teacher_weight", "temperature", "teacher_outputs"):
                del values["finetune"][name]
        return values


ENCODER_BASELINES = ("copied", "random", "mlm_only")
"""Baselines that are encoders of the student's shape; the others are trained on each task alone."""
Baseline = Literal["copied", "random", "mlm_only", "bilstm", "tfidf"]


class Recipe(Section):
    """A whole experiment: teacher → student → classifiers → evidence."""

    name: Name = Field(description="Name of the experiment; its folder is runs/<name>.")
    out: Path | None = Field(None, description="Folder of the experiment.")
    data_dir: Path | None = Field(
        None, description="Folder with local copies of known data sets, such as glue/cola/train.parquet."
    )
    seeds: tuple[Seed, ...] = Field((1,), min_length=1, description="Every classifier is trained once per seed.")
    teacher: TeacherSection = TeacherSection()
    pretrain: PretrainSection | None = Field(None, description="Train a head for a teacher that has none; on corpus.")
    corpus: CorpusSection = CorpusSection()
    student: GivenStudentSection = GivenStudentSection()
    distil: DistilSection = DistilSection()
    finetune: FinetuneSection = FinetuneSection()
    second_distillation: bool = Field(False, description="Add an arm that also learns from the fine-tuned teacher.")
    baselines: tuple[Baseline, ...] = Field(
        ("copied", "random"),
        description="Arms of the student's shape: the teacher's layers undistilled, random weights, MLM alone. Arms "
        "that are no transformers: a BiLSTM, and TF-IDF under a linear model.",
    )
    bilstm: BilstmArmSection = BilstmArmSection()
    tfidf: TfidfSection = TfidfSection()
    tasks: tuple[TaskSection, ...] = Field(min_length=1, description="Tasks to fine-tune and measure on.")
    decisions: DecisionsSection | None = Field(
        None, description="Temperature and thresholds of classifiers, each fitted on its selection split; or none."
    )
    evaluate: EvaluateSection = EvaluateSection()
    studies: StudiesSection = StudiesSection()

    @model_validator(mode="after")
    def _can_be_planned(self) -> Recipe:
        names = [task.name for task in self.tasks]
        if len(set(names)) < len(names):
            raise ValueError("two tasks have the same name")
        for task in self.tasks:
            seeds = task.seeds or self.seeds
            if len(set(seeds)) < len(seeds):
                raise ValueError("the same seed is named twice")
            section = self.finetune_for(task)
            if self.student.model is None and section.freeze_layers > self.student.layers:
                raise ValueError(f"freeze_layers is {section.freeze_layers}, and the student has {self.student.layers}")
        copies = [name for name in self.baselines if name in ("copied", "mlm_only")]
        if self.student.initialise == "random" and copies:
            raise ValueError(f"a student with random weights has no baselines of copied layers ({', '.join(copies)})")
        return self

    @property
    def folder(self) -> Path:
        """Where the experiment's runs lie."""
        return self.out or Path("runs") / self.name

    def finetune_for(self, task: TaskSection) -> FinetuneSection:
        """The fine-tuning of ``task``: the recipe's, with the task's own fields over it."""
        return build(
            FinetuneSection, {**self.finetune.model_dump(), **task.finetune}, where=f"tasks.{task.name}.finetune"
        )
