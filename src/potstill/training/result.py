"""What a finished training left: how it went, and the weights, so that it is never done twice."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_model, save_model
from torch import nn

from potstill.runs import write_json
from potstill.training.checkpoints import saving


@dataclass(frozen=True)
class FitResult:
    """How training went.

    history: records in the order of the steps. elapsed_s: wall time, that of processes killed on the way included.
    tokens: those trained on, padding not counted. best: step, epoch and value of the best validation, if it was kept.
    throughput: the fields of :class:`~potstill.training.throughput.Throughput`; None where there was no step.
    """

    history: list[dict[str, float]]
    steps: int
    epochs: float
    elapsed_s: float
    tokens: int
    best: dict[str, Any] | None = field(default=None)
    stopped_early: bool = False
    throughput: dict[str, Any] | None = None


def store_finished(work: Path, module: nn.Module, result: FitResult) -> None:
    """Keep the trained weights and the result in ``work``; the result is written last, and counts only when whole."""
    with saving(work / "finished.safetensors"):
        save_model(module, str(work / "finished.safetensors"))
    write_json(work / "finished.json", dataclasses.asdict(result))


def load_finished(work: Path, module: nn.Module) -> FitResult | None:
    """The result that ``store_finished`` kept, its weights put into ``module``; None when training has not finished."""
    record = work / "finished.json"
    if not record.exists():
        return None
    load_model(module, str(work / "finished.safetensors"), strict=True)
    return FitResult(**json.loads(record.read_text(encoding="utf-8")))
