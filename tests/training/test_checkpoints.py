"""Which checkpoint is taken up, what a failed write leaves, and which weights count as the best."""

from __future__ import annotations

import errno
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from potstill.errors import StorageError
from potstill.training.checkpoints import STATE, BestWeights, latest_checkpoint, saving


def checkpoint(folder: Path, step: int, state: str = "{}") -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    (path / STATE).write_text(state)
    return path


def test_the_newest_checkpoint_is_that_of_the_largest_step(tmp_path: Path):
    # as words, 9 would come after 10; the clock does not count either
    newest = checkpoint(tmp_path, 10)
    os.utime(checkpoint(tmp_path, 9), (2e9, 2e9))
    assert latest_checkpoint(tmp_path) == newest


@pytest.mark.parametrize("state", ["", '{"global_step": 2', None], ids=["empty", "torn", "absent"])
def test_a_checkpoint_without_a_whole_state_is_passed_over(tmp_path: Path, state: str | None):
    whole, torn = checkpoint(tmp_path, 1), checkpoint(tmp_path, 2, state or "")
    if state is None:
        (torn / STATE).unlink()
    assert latest_checkpoint(tmp_path) == whole


def test_there_is_no_checkpoint_where_nothing_was_saved(tmp_path: Path):
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "absent") is None


def fill(target: Path) -> None:
    """Write more than a full disk takes: text into a folder's file, or a tensor."""
    if target.suffix:
        torch.save(torch.zeros(100_000), target)
    else:
        target.mkdir()
        (target / "weights").write_text("x" * 100_000)


@pytest.mark.parametrize("name", ["folder", "file.pt"])
def test_a_failed_write_becomes_a_storage_error_and_leaves_nothing(rig: Any, tmp_path: Path, name: str):
    (tmp_path / "earlier").write_text("kept")
    with (
        rig.full_disk(),
        pytest.raises(StorageError, match=f"{name} could not be written") as told,
        saving(tmp_path / name),
    ):
        fill(tmp_path / name)
    assert told.value.exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["earlier"]


def test_an_error_that_is_not_of_the_disk_stays_what_it_is(tmp_path: Path):
    (tmp_path / "half").mkdir()
    with pytest.raises(RuntimeError, match="shapes differ"), saving(tmp_path / "half"):
        raise RuntimeError("shapes differ")
    assert not (tmp_path / "half").exists()


def test_no_permission_to_write_is_a_storage_error(tmp_path: Path):
    with pytest.raises(StorageError, match="Permission denied"), saving(tmp_path / "file"):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def model_of(value: float) -> nn.Module:
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, value)
    return model


SCORES = st.one_of(st.integers(-3, 3).map(float), st.just(math.nan))


@settings(max_examples=40, deadline=None)
@given(scores=st.lists(SCORES, min_size=1, max_size=8), greater=st.booleans())
def test_the_best_weights_are_those_of_the_first_best_score(
    tmp_path_factory: pytest.TempPathFactory, scores: list[float], greater: bool
):
    # oracle: Python's max and min, which keep the first of equals; what is not a number is worst
    folder = tmp_path_factory.mktemp("best")
    for step, score in enumerate(scores):
        # a fresh object each time, as after a kill
        BestWeights(folder, greater_is_better=greater).offer(model_of(step), step=step, epoch=0.0, value=score)
    numbers = [score for score in scores if not math.isnan(score)]
    expected = scores.index(max(numbers) if greater else min(numbers)) if numbers else 0
    best, restored = BestWeights(folder, greater_is_better=greater), model_of(-1.0)
    best.restore(restored)
    assert best.facts is not None
    assert best.facts["step"] == restored.weight.item() == expected


def test_there_is_no_best_before_the_first_evaluation(tmp_path: Path):
    assert BestWeights(tmp_path, greater_is_better=True).facts is None


def test_a_full_disk_keeps_the_best_weights_there_were(rig: Any, tmp_path: Path):
    best = BestWeights(tmp_path, greater_is_better=True)
    best.offer(rig.tiny_distilbert(), step=1, epoch=0.5, value=1.0)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with rig.full_disk(), pytest.raises(StorageError):
        best.offer(rig.tiny_distilbert(), step=2, epoch=1.0, value=2.0)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_weights_of_another_shape_are_not_restored(tmp_path: Path):
    best = BestWeights(tmp_path, greater_is_better=True)
    best.offer(nn.Linear(2, 2), step=1, epoch=1.0, value=1.0)
    with pytest.raises(RuntimeError, match="bias"):
        best.restore(nn.Linear(2, 2, bias=False))
