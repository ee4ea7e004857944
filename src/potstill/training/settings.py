"""How parameters move, as plain values."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from potstill.errors import RecipeError
from potstill.training.arithmetic import cpu_gains_from_bf16

Precision = Literal["auto", "fp32", "bf16", "fp16"]
_HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class TrainingSettings:
    """What the trainer is told. Rates are per optimiser step; shares are of all optimiser steps.

    A step is one update of the parameters: ``accumulation`` batches of ``batch_size`` rows on each process.
    ``evaluate_steps`` None evaluates at the end of every epoch. ``patience`` counts evaluations without improvement.
    ``keep`` "best" restores the weights of the best evaluation, which then needs ``metric`` (a key that ``validate``
    returns); "last" keeps those of the last step. ``keep_epochs`` keeps those of every evaluation besides. ``kernels``
    "auto" replaces torch's dropout on a CPU (``models/cpu_dropout.py``).
    """

    learning_rate: float
    batch_size: int
    epochs: float
    seed: int
    accumulation: int = 1
    max_steps: int | None = None
    warmup: float = 0.0
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    clip_norm: float = 1.0
    precision: Precision = "auto"
    kernels: Literal["auto", "torch"] = "auto"
    evaluate_steps: int | None = None
    patience: int | None = None
    keep: Literal["best", "last"] = "last"
    keep_epochs: bool = False
    metric: str | None = None
    greater_is_better: bool = True
    checkpoint_steps: int | None = None
    checkpoint_s: float = 120.0
    report_to: Sequence[str] = ("tensorboard",)

    @classmethod
    def from_values(cls, values: Mapping[str, Any], **others: Any) -> TrainingSettings:
        """Settings from those of ``values`` that bear a setting's name, with ``others`` over them."""
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names} | others)

    @property
    def resolved_precision(self) -> Literal["fp32", "bf16", "fp16"]:
        """The arithmetic of training on this machine."""
        return resolve_precision(self.precision)


def training_device() -> torch.device:
    """Where this process trains: its own GPU if there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def resolve_precision(precision: Precision) -> Literal["fp32", "bf16", "fp16"]:
    """The arithmetic behind ``auto``: on a GPU bf16, or fp16 where it has none; on a CPU bf16 where matrices were
    measured to be multiplied faster in it, else float32.

    Raises RecipeError for fp16 without a GPU.
    """
    if precision == "fp16" and not torch.cuda.is_available():
        raise RecipeError("fp16 needs a GPU", found=precision, allowed="auto, fp32, bf16")
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if cpu_gains_from_bf16() else "fp32"


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The arithmetic of training, for what runs beside it; raises as ``resolve_precision`` does."""
    dtype = _HALVES.get(resolve_precision(precision))
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)
