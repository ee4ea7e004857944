"""The epochs of a fine-tuning side by side, the one that was kept and why, and each as a model of its own."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import load_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from potstill.evaluate.significance import number_or_none
from potstill.models.folders import save_model_folder
from potstill.models.own_head import with_own_head
from potstill.training.checkpoints import kept_epochs

History = Sequence[Mapping[str, float]]


def epoch_rows(history: History, kept_step: int) -> list[dict[str, Any]]:
    """A row for each validation of a training that was validated after every epoch, as plain values.

    epoch counts from 1; training_loss is the mean over the records since the row before; the others, ``loss`` among
    them, are validation's on the selection split. kept says whether the run holds the weights of that step. None stands
    for what is not defined.
    """
    rows: list[dict[str, Any]] = []
    for record in history:
        figures = {
            name.removeprefix("eval_"): number_or_none(value)
            for name, value in record.items()
            if name.startswith("eval_")
        }
        if figures:
            before, step = (rows[-1]["step"] if rows else 0), int(record["step"])
            trained = {"training_loss": _mean_loss(history, before, step)}
            rows.append({"epoch": len(rows) + 1, "step": step, **trained, **figures, "kept": step == kept_step})
    return rows


def _mean_loss(history: History, after: int, until: int) -> float | None:
    """The mean over the steps of the records that end between two steps."""
    total, steps, previous = 0.0, 0, 0
    for record in history:
        if "loss" not in record:
            continue
        span, previous = int(record["step"]) - previous, int(record["step"])
        if after < previous <= until:
            total, steps = total + span * record["loss"], steps + span
    return total / steps if steps else None


def choice(
    rows: Sequence[Mapping[str, Any]], metric: str, *, greater_is_better: bool, keep: Literal["best", "last"]
) -> str:
    """Which epoch was kept, and what speaks for or against it, in words; nothing where no epoch was validated."""
    kept = next((row for row in rows if row["kept"]), None)
    if kept is None:
        return ""
    said = _of_best(rows, kept, metric) if keep == "best" else _of_last(rows, kept, metric, greater_is_better)
    lowest = _best(rows, "loss", greater_is_better=False)
    if lowest["epoch"] != kept["epoch"]:
        said += f" The loss on the selection split is lowest after epoch {lowest['epoch']}."
    return said


def _of_best(rows: Sequence[Mapping[str, Any]], kept: Mapping[str, Any], metric: str) -> str:
    last = rows[-1]
    beside = "and it is the last" if kept is last else f"the last one has {_figure(last[metric])}"
    best = f"its {metric} on the selection split is the best, {_figure(kept[metric])}"
    return f"Epoch {kept['epoch']} of {len(rows)} is kept: {best}; {beside}."


def _of_last(rows: Sequence[Mapping[str, Any]], kept: Mapping[str, Any], metric: str, greater_is_better: bool) -> str:
    best, where = _best(rows, metric, greater_is_better), f"{metric} on the selection split"
    if kept[metric] == best[metric]:
        return (
            f"The last of {len(rows)} epochs is kept; no other has a better {where} than its {_figure(kept[metric])}."
        )
    return (
        f"The last of {len(rows)} epochs is kept, because keep is last; by {where} epoch {best['epoch']} is better, "
        f"{_figure(best[metric])} against {_figure(kept[metric])}."
    )


def _best(rows: Sequence[Mapping[str, Any]], name: str, greater_is_better: bool) -> Mapping[str, Any]:
    """The row with the best value, the earlier of equals; what is not defined is never better."""

    def order(row: Mapping[str, Any]) -> float:
        value = row[name]
        return -math.inf if value is None else value if greater_is_better else -value

    return max(rows, key=order)


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def write_epochs(
    training: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, work: Path
) -> list[str]:
    """Write the weights that ``training`` kept of every epoch as ``folder``/epochs/epoch-<n>, each opened like a run.

    Returns their paths in ``folder``, in order. ``model`` is left as it is; files are written to ``work`` first.
    """
    files, written = kept_epochs(training), []
    room = copy.deepcopy(model) if files else model
    for number, file in enumerate(files.values(), start=1):
        load_model(room, str(file), strict=True)
        place = f"epochs/epoch-{number}"
        (folder / place).mkdir(parents=True, exist_ok=True)
        save_model_folder(with_own_head(room), tokenizer, folder / place, work)
        written.append(place)
    return written
