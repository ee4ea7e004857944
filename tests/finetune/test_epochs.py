"""The table of epochs and the choice among them: rows and sentences worked by hand."""

from __future__ import annotations

from typing import Any

import pytest

from potstill.finetune.epochs import choice, epoch_rows

HISTORY: list[dict[str, Any]] = [
    {"step": 2, "epoch": 0.5, "loss": 4.0},
    {"step": 4, "epoch": 1.0, "loss": 2.0},
    {"step": 4, "epoch": 1.0, "eval_loss": 0.9, "eval_f1": 0.5, "elapsed_s": 1.0, "tokens": 9.0},
    {"step": 5, "epoch": 1.25, "loss": 1.0},
    {"step": 8, "epoch": 2.0, "loss": 3.0},
    {"step": 8, "epoch": 2.0, "eval_loss": 0.7, "eval_f1": 0.8},
    {"step": 12, "epoch": 3.0, "eval_loss": 0.8, "eval_f1": float("nan")},
]
ROWS = epoch_rows(HISTORY, kept_step=8)


def test_a_row_holds_what_validation_said_and_the_mean_loss_of_its_steps():
    # oracle: by hand, (2·4 + 2·2)/4 and (1·1 + 3·3)/4; the third epoch has no record of its own
    assert ROWS == [
        {"epoch": 1, "step": 4, "training_loss": 3.0, "loss": 0.9, "f1": 0.5, "kept": False},
        {"epoch": 2, "step": 8, "training_loss": 2.5, "loss": 0.7, "f1": 0.8, "kept": True},
        {"epoch": 3, "step": 12, "training_loss": None, "loss": 0.8, "f1": None, "kept": False},
    ]


def rows_of(f1s: list[float], losses: list[float], kept: int) -> list[dict[str, Any]]:
    figures = enumerate(zip(f1s, losses, strict=True), start=1)
    return [{"epoch": n, "f1": f1, "loss": loss, "kept": n == kept} for n, (f1, loss) in figures]


@pytest.mark.parametrize(
    ("rows", "keep", "greater", "said"),
    [
        (
            rows_of([0.5, 0.8, 0.7], [0.9, 0.7, 0.8], kept=2), "best", True,
            "Epoch 2 of 3 is kept: its f1 on the selection split is the best, 0.8000; the last one has 0.7000.",
        ),
        (
            rows_of([0.5, 0.8], [0.4, 0.7], kept=2), "best", True,
            "Epoch 2 of 2 is kept: its f1 on the selection split is the best, 0.8000; and it is the last. "
            "The loss on the selection split is lowest after epoch 1.",
        ),
        (
            rows_of([0.5, 0.8, 0.7], [0.9, 0.8, 0.7], kept=3), "last", True,
            "The last of 3 epochs is kept, because keep is last; by f1 on the selection split epoch 2 is better, "
            "0.8000 against 0.7000.",
        ),
        (
            rows_of([0.5, 0.8, 0.7], [0.9, 0.8, 0.7], kept=3), "last", False,
            "The last of 3 epochs is kept, because keep is last; by f1 on the selection split epoch 1 is better, "
            "0.5000 against 0.7000.",
        ),
        (
            rows_of([0.5, 0.8], [0.9, 0.7], kept=2), "last", True,
            "The last of 2 epochs is kept; no other has a better f1 on the selection split than its 0.8000.",
        ),
        (
            ROWS, "best", True,
            "Epoch 2 of 3 is kept: its f1 on the selection split is the best, 0.8000; the last one has undefined.",
        ),
        ([], "best", True, ""),
    ],
    ids=["best", "best and last", "last, not best", "a loss", "last and best", "undefined", "no epoch"],
)  # fmt: skip
def test_the_choice_is_told_with_its_figures(rows: Any, keep: Any, greater: bool, said: str):
    assert choice(rows, "f1", greater_is_better=greater, keep=keep) == said
