"""A finished training is found again as it was left, and only when it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from potstill.errors import StorageError
from potstill.training.result import FitResult, load_finished, store_finished

RESULT = FitResult(
    history=[{"step": 1.0, "loss": 0.1 + 0.2}], steps=1, epochs=0.5, elapsed_s=1 / 3, tokens=7,
    best={"step": 1, "epoch": 0.5, "value": 2 / 3}, stopped_early=True,
)  # fmt: skip


def test_what_is_stored_is_loaded_bit_by_bit(tmp_path: Path):
    trained, fresh = nn.Linear(3, 2), nn.Linear(3, 2)
    store_finished(tmp_path, trained, RESULT)
    assert load_finished(tmp_path, fresh) == RESULT
    assert torch.equal(fresh.weight, trained.weight)
    assert torch.equal(fresh.bias, trained.bias)


def test_weights_without_their_record_do_not_count(tmp_path: Path):
    store_finished(tmp_path, nn.Linear(3, 2), RESULT)
    (tmp_path / "finished.json").unlink()
    fresh = nn.Linear(3, 2)
    before = fresh.weight.detach().clone()
    assert load_finished(tmp_path, fresh) is None
    assert torch.equal(fresh.weight, before)


def test_a_full_disk_leaves_no_half_of_a_result(rig: Any, tmp_path: Path):
    with rig.full_disk(), pytest.raises(StorageError):
        store_finished(tmp_path, rig.tiny_distilbert(), RESULT)
    assert list(tmp_path.iterdir()) == []
