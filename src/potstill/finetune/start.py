"""Where fine-tuning begins: at a checkpoint, or at a model that is handed in through the same seam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from potstill.data.tasks import TaskData
from potstill.models.pooled_classifier import HeadShape
from potstill.models.teacher import load_classifier, load_tokenizer, resolve_model
from potstill.runs import model_fingerprint


@dataclass(frozen=True)
class Started:
    """A classifier about to be trained, and its tokenizer.

    base_model: the name of the model it was made from, None for one that begins from scratch. notes: what is to be told
    of how it was made.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    base_model: str | None
    notes: Sequence[str] = ()


class Start(Protocol):
    """Where fine-tuning begins."""

    def inputs(self) -> list[str]:
        """Fingerprints of what the model is made from besides the task's rows; found without opening a model."""
        ...

    def open(self, data: TaskData) -> Started:
        """The classifier over the labels of ``data``, untrained on them; raises UsageError for what does not fit."""
        ...


@dataclass(frozen=True)
class Checkpoint:
    """The start that is a checkpoint: a run, a folder or a name on the hub.

    A head that the checkpoint lacks is drawn with ``seed``; ``dropout`` and ``head`` are as ``load_classifier`` has
    them.
    """

    name: str
    seed: int
    dropout: float | None = None
    head: HeadShape | None = None

    def inputs(self) -> list[str]:
        """The fingerprint of the checkpoint; ModelError where there is none."""
        return [model_fingerprint(resolve_model(self.name))]

    def open(self, data: TaskData) -> Started:
        """The checkpoint's encoder under a head for the labels of ``data``, and the checkpoint's tokenizer."""
        source = resolve_model(self.name)
        model = load_classifier(
            source,
            label_names=data.task.label_names,
            problem_type=data.task.problem_type,
            seed=self.seed,
            dropout=self.dropout,
            head=self.head,
        )
        return Started(model, load_tokenizer(source), self.name)
