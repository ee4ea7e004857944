"""The seam through which fine-tuning is handed the model it begins with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from potstill.data.tasks import TaskData


@dataclass(frozen=True)
class Started:
    """A classifier about to be trained, and its tokenizer.

    notes: what is to be told of how it was made. facts: entries of the manifest, over those that fine-tuning writes.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    notes: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


class Start(Protocol):
    """Where fine-tuning begins."""

    def inputs(self) -> list[str]:
        """Fingerprints of what the model is made from besides the task's rows; found without opening a model."""
        ...

    def open(self, data: TaskData) -> Started:
        """The classifier over the labels of ``data``, untrained on them; raises UsageError for what does not fit."""
        ...
