"""What is shown while training goes on: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerControl

from potstill.training import progress
from potstill.training.progress import ProgressReport, counted

LOGS = {"loss": 1.23456, "loss_mlm": 1.0, "grad_norm": 9.0, "tokens_per_s": 12345.6, "elapsed_s": 3.0}


def state(step: int, *, first: bool = True) -> Any:
    return SimpleNamespace(global_step=step, max_steps=10, is_world_process_zero=first)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def log(report: ProgressReport, step: int, logs: dict[str, float] = LOGS, *, first: bool = True) -> None:
    report.on_log(None, state(step, first=first), TrainerControl(), logs=logs)  # type: ignore[arg-type]


def test_off_a_terminal_a_line_comes_now_and_then_and_at_the_end(
    clock: list[float], capsys: pytest.CaptureFixture[str]
):
    report = ProgressReport("distil")
    report.on_train_begin(None, state(0), TrainerControl())  # type: ignore[arg-type]
    for step in range(1, 11):
        clock[0] += 11.0
        log(report, step)
    shown = capsys.readouterr()
    assert shown.out == ""
    steps = [line.split()[2] for line in shown.err.splitlines()]
    assert steps == ["1/10", "4/10", "7/10", "10/10"]


def test_a_line_tells_losses_and_tokens_per_second(clock: list[float], capsys: pytest.CaptureFixture[str]):
    log(ProgressReport("distil"), 3)
    assert capsys.readouterr().err == "distil: step 3/10  loss 1.235  loss_mlm 1  12,346 tokens/s\n"


def test_validation_is_told_too_and_what_holds_no_figure_is_not(clock: list[float], capsys: pytest.CaptureFixture[str]):
    log(ProgressReport("finetune"), 10, {"eval_accuracy": 0.5, "elapsed_s": 1.0})
    log(ProgressReport("finetune"), 10, {"train_runtime": 1.0})
    assert capsys.readouterr().err == "finetune: step 10/10  accuracy 0.5\n"


def test_only_the_first_process_tells(clock: list[float], capsys: pytest.CaptureFixture[str]):
    log(ProgressReport("distil"), 10, first=False)
    assert capsys.readouterr().err == ""


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stderr is a terminal; what is written to it is collected."""
    from io import StringIO

    from rich.console import Console

    screen = StringIO()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress, "_stderr", lambda: Console(file=screen, force_terminal=True, width=120))
    return screen  # type: ignore[return-value]


HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


def test_a_bar_starts_where_training_goes_on_and_shows_the_figures(terminal: Any):
    report = ProgressReport("distil")
    report.on_train_begin(None, state(4), TrainerControl())  # type: ignore[arg-type]
    log(report, 5)
    report.on_step_end(None, state(6), TrainerControl())  # type: ignore[arg-type]
    report.close()
    shown = terminal.getvalue()
    assert "4/10" in shown
    assert "6/10" in shown
    assert "loss 1.235" in shown
    assert "0/10" not in shown


def test_an_error_gives_the_cursor_back(rig: Any, tmp_path: Any, terminal: Any):
    with pytest.raises(rig.Interrupted):
        rig.train(tmp_path, rows=rig.InterruptedRows(3))
    shown = terminal.getvalue()
    assert HIDE in shown
    assert shown.rindex(SHOW) > shown.rindex(HIDE)


def test_other_work_tells_its_batches_now_and_then(clock: list[float], capsys: pytest.CaptureFixture[str]):
    given = []
    for item in counted("abcdefgh", 8, "teacher"):
        given.append(item)
        clock[0] += 11.0
    assert "".join(given) == "abcdefgh"
    assert capsys.readouterr().err.splitlines() == ["teacher: 3/8 batches", "teacher: 6/8 batches"]


def test_other_work_has_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(counted(range(3), 3, "teacher")) == [0, 1, 2]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "teacher" in shown.err
