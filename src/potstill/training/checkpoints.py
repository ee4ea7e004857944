"""Checkpoints of unfinished training: which one to resume from, and the weights of the best or of every evaluation."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from potstill.errors import StorageError
from potstill.runs import write_json

STATE, EPOCHS = "trainer_state.json", "epochs"
_TORCH_WRITES = ("iostream error", "inline_container", "PytorchStreamWriter")
"""What torch's writer of files says of itself in the errors it raises."""


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint in ``folder``.

    A checkpoint's state file is written last, so a process killed while saving leaves one without it; such a folder is
    passed over and the one before it is taken.
    """
    by_step = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    return next((path for path in by_step if _is_whole(path)), None)


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


@contextlib.contextmanager
def saving(target: Path) -> Iterator[None]:
    """Turn a failed write into a StorageError and take away the half-written ``target``, a file or a folder.

    torch reports a full disk as a RuntimeError and safetensors as an error of its own, hence the three.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as failure:
        _remove(target)
        if isinstance(failure, RuntimeError) and not any(word in str(failure) for word in _TORCH_WRITES):
            raise
        raise StorageError(
            f"{target} could not be written ({failure})",
            do="what was saved before it is kept; free some space and start again: training resumes there",
        ) from failure


def _remove(target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target, ignore_errors=True)
    else:
        target.unlink(missing_ok=True)


class BestWeights:
    """The weights of the best evaluation so far, kept in ``folder`` beside the figures that made them best."""

    def __init__(self, folder: Path, *, greater_is_better: bool) -> None:
        self._weights = folder / "best.safetensors"
        self._facts = folder / "best.json"
        self._greater_is_better = greater_is_better

    @property
    def facts(self) -> dict[str, Any] | None:
        """``step``, ``epoch`` and ``value`` of the best evaluation, or None before the first."""
        return json.loads(self._facts.read_text(encoding="utf-8")) if self._facts.exists() else None

    def offer(self, module: nn.Module, *, step: int, epoch: float, value: float) -> bool:
        """Keep ``module`` if ``value`` is better than what is kept; ties go to the earlier step, NaN to anything."""
        best = self.facts
        if best is not None and not self._better(value, best["value"]):
            return False
        partial = self._weights.with_suffix(".partial")
        with saving(partial):
            save_model(module, str(partial))
            partial.replace(self._weights)
        write_json(self._facts, {"step": step, "epoch": epoch, "value": value})
        return True

    def restore(self, module: nn.Module) -> None:
        """Put the kept weights into ``module``; every tensor has to match."""
        load_model(module, str(self._weights), strict=True)

    def _better(self, value: float, than: float) -> bool:
        if math.isnan(than):
            return not math.isnan(value)
        return value > than if self._greater_is_better else value < than


def keep_epoch(folder: Path, model: nn.Module, step: int) -> None:
    """Keep the weights that ``model`` has after ``step``, beside those kept before; the same step replaces them."""
    target = folder / EPOCHS / f"{step}.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    with saving(partial):
        save_model(model, str(partial))
        partial.replace(target)


def kept_epochs(folder: Path) -> dict[int, Path]:
    """The files that ``keep_epoch`` wrote, by step, in their order."""
    files = {int(file.stem): file for file in (folder / EPOCHS).glob("*.safetensors")}
    return dict(sorted(files.items()))
