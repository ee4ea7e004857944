"""A training small enough to repeat many times: tiny models, rows of random tokens, an objective of two terms.

Also a program, for what has to happen in a process of its own: ``python rig.py WORK [SETTING=VALUE ...]`` fits the
model in ``WORK`` and writes its weights to ``WORK/weights.safetensors``.
"""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save_model
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM, set_seed

from potstill.data.batches import BatchKey, BatchPlan
from potstill.training.parameters import ParameterPlan
from potstill.training.result import FitResult
from potstill.training.settings import TrainingSettings
from potstill.training.trainer import fit

VOCABULARY, MASK_ID, N_ROWS, BATCH_SIZE = 100, 4, 22, 4
STEPS_PER_EPOCH = 6


class Interrupted(Exception):  # noqa: N818 - no error, but what stands for a kill
    """Raised where a kill is meant, so that the process lives on."""


class Rows:
    """Rows of 5 to 12 tokens. Which are masked is drawn anew for each batch, or fixed by row where ``fixed``."""

    def __init__(self, *, seed: int = 1, batch_size: int = BATCH_SIZE, fixed: bool = False, n_rows: int = N_ROWS):
        rng = np.random.default_rng(0)
        self.rows = [rng.integers(5, VOCABULARY, rng.integers(5, 13)) for _ in range(n_rows)]
        # Fixed masks differ in number: row 0 has none, row 1 one, and so on.
        self.masks = [np.arange(len(row)) < i % 5 for i, row in enumerate(self.rows)] if fixed else None
        self.seed = seed
        self.plan = BatchPlan([len(row) for row in self.rows], batch_size, seed, shuffle=not fixed, window=2)
        self.seen: list[tuple[int, int, tuple[int, ...]]] = []

    def __getitem__(self, key: BatchKey) -> dict[str, np.ndarray]:
        self.seen.append((key.epoch, key.number, tuple(int(row) for row in key.rows)))
        width = max(len(self.rows[row]) for row in key.rows)
        ids = np.zeros((len(key.rows), width), dtype=np.int64)
        attended = np.zeros_like(ids)
        masked = np.zeros(ids.shape, dtype=bool)
        rng = key.generator(self.seed)
        for line, row in enumerate(key.rows):
            length = len(self.rows[row])
            ids[line, :length], attended[line, :length] = self.rows[row], 1
            masked[line, :length] = self.masks[row] if self.masks else rng.random(length) < 0.3
        labels = np.where(masked, ids, -100)
        return {"input_ids": np.where(masked, MASK_ID, ids), "attention_mask": attended, "labels": labels}


class InterruptedRows(Rows):
    """Rows that stop giving after ``after`` batches."""

    def __init__(self, after: int, **others: Any):
        super().__init__(**others)
        self.after = after

    def __getitem__(self, key: BatchKey) -> dict[str, np.ndarray]:
        if len(self.seen) >= self.after:
            raise Interrupted
        return super().__getitem__(key)


class TwoTerms:
    """Cross-entropy over the masked tokens and a hundredth of the mean squared logit over the attended ones."""

    def __init__(self, modules: nn.ModuleDict | None = None) -> None:
        self.weights: Mapping[str, float] = {"mlm": 1.0, "size": 0.01}
        self.modules = modules

    def counts(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        return {"mlm": float((batch["labels"] != -100).sum()), "size": float(batch["attention_mask"].sum())}

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        attended = logits[batch["attention_mask"].bool()]
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), reduction="sum")
        return {"mlm": loss, "size": attended.square().mean(dim=-1).sum()}


def tiny_distilbert(dropout: float = 0.1) -> DistilBertForMaskedLM:
    torch.manual_seed(7)
    shape: dict[str, Any] = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 16}
    rates = {"dropout": dropout, "attention_dropout": dropout}
    return DistilBertForMaskedLM(DistilBertConfig(vocab_size=VOCABULARY, **shape, **rates, initializer_range=0.2))


def tiny_bert(width: int = 16, layers: int = 3) -> BertForMaskedLM:
    torch.manual_seed(8)
    shape: dict[str, Any] = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 2}
    sizes = {"intermediate_size": 32, "max_position_embeddings": 16}
    return BertForMaskedLM(BertConfig(vocab_size=VOCABULARY, **shape, **sizes, initializer_range=0.2))


def settings(**changes: Any) -> TrainingSettings:
    """Two epochs of six steps, without TensorBoard.

    AdamW's epsilon is large: with a small one it turns the rounding of a gradient that is 0 (the bias of attention's
    keys has such a one) into steps of full size, and nothing would be equal to rounding.
    """
    plain = {"learning_rate": 1e-2, "epsilon": 1e-3, "batch_size": BATCH_SIZE, "epochs": 2.0, "seed": 3, "warmup": 0.2}
    return TrainingSettings(**{**plain, "weight_decay": 0.05, "report_to": (), "checkpoint_s": 1e9, **changes})


def train(
    work: Path,
    *,
    rows: Rows | None = None,
    model: nn.Module | None = None,
    objective: Any = None,
    validate: Callable[[nn.Module], Mapping[str, float]] | None = None,
    log_folder: Path | None = None,
    plan: Callable[[Any], ParameterPlan] | None = None,
    **changes: Any,
) -> tuple[dict[str, Tensor], FitResult]:
    """Fit a fresh tiny model, by the plan that ``plan`` makes of it, and return its weights and how it went."""
    model = tiny_distilbert() if model is None else model
    set_seed(99)  # what happened before must not matter
    result = fit(
        model, objective or TwoTerms(), rows or Rows(), settings(**changes), work=work, validate=validate,
        log_folder=log_folder, plan=plan(model) if plan else None,
    )  # fmt: skip
    return weights_of(model), result


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def differing(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that are not the same, bit by bit."""
    assert first.keys() == second.keys()
    return [name for name in first if not torch.equal(first[name], second[name])]


def farthest(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def untimed(history: list[dict[str, float]]) -> list[dict[str, float]]:
    """The history without what no two runs share."""
    return [{k: v for k, v in record.items() if k not in ("elapsed_s", "tokens_per_s")} for record in history]


@contextlib.contextmanager
def full_disk(largest_file: int = 20_000) -> Iterator[None]:
    """Let no file grow beyond ``largest_file`` bytes: weights do not fit, the small files beside them do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class SlowRows(Rows):
    """Rows that take their time, so that a kill meets training in its midst."""

    def __getitem__(self, key: BatchKey) -> dict[str, np.ndarray]:
        time.sleep(0.2)
        return super().__getitem__(key)


def main(work: Path, given: list[str]) -> None:
    changes = {name: yaml.safe_load(value) for name, _, value in (entry.partition("=") for entry in given)}
    slow, batches, dropout = (changes.pop(name, 0) for name in ("slow", "batches", "dropout"))
    n_rows, model = changes.pop("n_rows", N_ROWS), tiny_distilbert(dropout)
    rows = InterruptedRows(batches, n_rows=n_rows) if batches else (SlowRows if slow else Rows)(n_rows=n_rows)
    _, result = train(work / "work", rows=rows, model=model, **changes)
    if torch.distributed.is_initialized() and torch.distributed.get_rank() > 0:
        return
    save_model(model, str(work / "weights.safetensors"))
    (work / "history.yaml").write_text(yaml.safe_dump(result.history), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
