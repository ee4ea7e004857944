"""What the stages of the baselines are asked to do."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from potstill.recipe.baselines import BilstmSection, TfidfSection
from potstill.recipe.classifier import ClassWeights
from potstill.recipe.schema import FinetuneJob, FinetuneSection, Job, Recipe, TaskSection
from potstill.recipe.sections import build

SHARED_WITH_TRANSFORMERS = frozenset(
    {
        "max_length", "long_texts", "window_overlap", "batch_size", "batch_tokens", "accumulation",
        "class_weights", "focal_gamma", "metric", "evaluate_batch_size",
        "precision", "kernels", "report_to", "checkpoint_s", "checkpoint_steps",
    }
)  # fmt: skip
"""Fields of a recipe's finetune that hold for a BiLSTM too: texts, batches, loss, metric and machine. How transformers
are trained does not suit a model that begins from scratch."""


class BilstmFinetuneSection(FinetuneSection):
    """Training of a BiLSTM."""

    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate of AdamW.")
    epochs: float = Field(10.0, ge=0, description="Passes over the training rows; parts of one are allowed.")
    keep: Literal["best", "last"] = Field("best", description="Which weights are kept: best validation, or last step.")

    @model_validator(mode="after")
    def _begins_from_scratch(self) -> Self:
        if self.strategy != "full" or self.freeze_layers:
            raise ValueError(
                "a BiLSTM begins from scratch, so all its layers train (strategy: full, freeze_layers: 0); "
                "freeze_embeddings keeps its embeddings as they are"
            )
        if self.head.kind != "own":
            raise ValueError("a BiLSTM has a head of its own, on what its attention gathers (head.kind: own)")
        if self.packing:
            raise ValueError("a BiLSTM reads each text to its own end and back, so its batches are padded, not packed")
        return self


class BilstmJob(FinetuneJob):
    """Training texts → BiLSTM → classifier; with a teacher that knows the task, from its outputs too."""

    model: str = Field("minilm-l6", description="Model whose tokens or embeddings are taken, where bilstm says so.")
    bilstm: BilstmSection = BilstmSection()
    finetune: BilstmFinetuneSection = BilstmFinetuneSection()

    def substance(self) -> dict[str, Any]:
        """As for fine-tuning; a file of vectors is told by its content, and what is not used does not count."""
        values = super().substance()
        section = values["bilstm"]
        section["embeddings"] = "file" if self.bilstm.vectors_file else self.bilstm.embeddings
        unused = {"embedding_size"} if self.bilstm.embeddings != "scratch" else set()
        unused |= {"min_count", "max_words"} if self.bilstm.tokens == "teacher" else set()
        return {**values, "bilstm": {name: value for name, value in section.items() if name not in unused}}


class TfidfJob(Job):
    """Training texts → weighted counts of words → linear model."""

    task: TaskSection
    metric: str | None = Field(None, description="Metric by which the penalty is chosen; the task's when absent.")
    class_weights: ClassWeights = Field("none", description="Weight of each label, as in finetune.")
    tfidf: TfidfSection = TfidfSection()


def bilstm_parts(recipe: Recipe, task: TaskSection) -> dict[str, Any]:
    """The sections of a recipe's BiLSTM on ``task``; RecipeError for a field of its training that it does not have."""
    shared = recipe.finetune_for(task).model_dump(include=set(SHARED_WITH_TRANSFORMERS))
    own = recipe.bilstm.finetune
    return {
        "bilstm": BilstmSection.model_validate(recipe.bilstm.model_dump(exclude={"finetune"})),
        "finetune": build(BilstmFinetuneSection, {**shared, **own}, where="bilstm.finetune"),
    }


def tfidf_parts(recipe: Recipe, task: TaskSection) -> dict[str, Any]:
    """What a recipe says of its linear model on ``task``, with the metric and the class weights of all arms."""
    shared = recipe.finetune_for(task)
    return {"tfidf": recipe.tfidf, "metric": shared.metric, "class_weights": shared.class_weights}
