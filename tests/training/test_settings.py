"""What the trainer is told, and the arithmetic it chooses on each kind of machine."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from potstill.errors import RecipeError
from potstill.training import settings
from potstill.training.settings import TrainingSettings, resolve_precision, training_device


def machine(
    monkeypatch: pytest.MonkeyPatch, *, gpu: bool = False, gpu_bf16: bool = False, cpu_gains: bool = False
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: gpu_bf16 or including_emulation
    )
    monkeypatch.setattr(settings, "cpu_gains_from_bf16", lambda: cpu_gains)


@pytest.mark.parametrize(
    ("parts", "chosen"),
    [
        ({}, "fp32"),
        ({"cpu_gains": True}, "bf16"),
        ({"gpu": True, "gpu_bf16": True}, "bf16"),
        ({"gpu": True}, "fp16"),
        ({"gpu": True, "cpu_gains": True}, "fp16"),
    ],
)
def test_auto_is_bf16_where_it_gains(monkeypatch: pytest.MonkeyPatch, parts: dict[str, bool], chosen: str):
    machine(monkeypatch, **parts)
    assert resolve_precision("auto") == chosen


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_precision_that_is_named_is_taken(monkeypatch: pytest.MonkeyPatch, precision: Any):
    machine(monkeypatch, gpu=True)
    assert resolve_precision(precision) == precision


def test_fp16_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch):
    machine(monkeypatch)
    with pytest.raises(RecipeError, match="fp16 needs a GPU; found 'fp16'; allowed: auto, fp32, bf16"):
        resolve_precision("fp16")


def test_each_process_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch):
    machine(monkeypatch)
    assert training_device() == torch.device("cpu")
    machine(monkeypatch, gpu=True)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert training_device() == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert training_device() == torch.device("cuda", 3)


def test_settings_take_what_bears_their_names_and_prefer_what_is_said_besides():
    values = {"learning_rate": 1e-3, "batch_size": 8, "epochs": 2.0, "alpha_ce": 5.0, "keep": "best"}
    settings = TrainingSettings.from_values(values, seed=4, keep="last")
    assert settings == TrainingSettings(learning_rate=1e-3, batch_size=8, epochs=2.0, seed=4, keep="last")
