"""What training counts: the loss's terms, tokens, padding, operations and seconds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from potstill.training.stopwatch import Stopwatch

SumOverProcesses = Callable[[Sequence[float]], list[float]]

_KEPT = (
    "tokens", "recorded_tokens", "positions", "positions_unsorted", "flops_per_position", "flops", "terms",
    "steps", "recorded_s", "seconds",
)  # fmt: skip


class Meter(TrainerCallback, ExportableState):
    """Running sums of each term of the loss, of tokens and of wall time by part.

    A checkpoint carries them, so the history of a resumed training reads like that of an uninterrupted one, and its
    time includes that of the processes killed on the way, up to the checkpoint it went on from.

    tokens: trained on so far, padding not counted; positions: on this process, padding counted, and those that
    padding every row to the longest of all would have taken. terms: sums of the terms' means since the last record, on
    this process. steps: optimiser steps since then. flops: multiplications and additions of the matrix products so far;
    flops_per_position: those of a training step, counted once while the same parameters train; 0 before that.
    """

    def __init__(self) -> None:
        self.stopwatch = Stopwatch()
        self.tokens = self.recorded_tokens = 0
        self.positions = self.positions_unsorted = 0
        self.flops_per_position = self.flops = 0.0
        self.terms: dict[str, float] = {}
        self.steps = 0
        self.earlier_s = self.recorded_s = 0.0
        self._started_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Wall time of training, validation and checkpoints included."""
        return self.earlier_s + time.monotonic() - self._started_s

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of this."""
        kept = {name: getattr(self, name) for name in _KEPT}
        return {"args": {}, "attributes": {**kept, "earlier_s": self.elapsed_s}}

    @property
    def seconds(self) -> dict[str, float]:
        """Wall time by part; what no part was named for is the optimiser's, clipping and bookkeeping included."""
        named = dict(self.stopwatch.seconds)
        return {**named, "optimiser": max(0.0, self.elapsed_s - sum(named.values()))}

    @seconds.setter
    def seconds(self, seconds: Mapping[str, float]) -> None:
        """Go on from what a checkpoint kept."""
        self.stopwatch.seconds = {name: value for name, value in seconds.items() if name != "optimiser"}

    def count_operations_anew(self) -> None:
        """Let the operations of the next step be counted: from now on other parameters train."""
        self.flops_per_position = 0.0

    def add(self, means: Mapping[str, float]) -> None:
        """Add a batch's share of each term's mean."""
        for name, mean in means.items():
            self.terms[name] = self.terms.get(name, 0.0) + mean

    @contextlib.contextmanager
    def aside(self, what: str) -> Iterator[None]:
        """Do something besides training, such as validation, whose time does not slow the rate of tokens."""
        before = time.monotonic()
        with self.stopwatch.part(what, whole=True):
            yield
        self.recorded_s += time.monotonic() - before

    def record(self, weights: Mapping[str, float], over_processes: SumOverProcesses) -> dict[str, float]:
        """The figures since the last record: ``loss``, ``loss_<term>`` and ``tokens_per_s``; begins a new one."""
        names = sorted(self.terms)
        sums = over_processes([self.terms[name] for name in names])
        means = {name: total / self.steps for name, total in zip(names, sums, strict=True)}
        span_s, tokens = self.elapsed_s - self.recorded_s, self.tokens - self.recorded_tokens
        self.terms, self.steps = {}, 0
        self.recorded_s, self.recorded_tokens = self.elapsed_s, self.tokens
        return {
            "loss": sum(weights[name] * mean for name, mean in means.items()),
            **{f"loss_{name}": mean for name, mean in means.items()},
            "tokens_per_s": tokens / max(span_s, 1e-9),
        }

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self._started_s = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Count the step."""
        self.steps += 1
