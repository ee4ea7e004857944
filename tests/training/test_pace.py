"""When training is asked to validate and to save."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from transformers import TrainerControl

from potstill.training.pace import Pace


def after_step(pace: Pace, step: int, *, first: bool = True, evaluates: bool = True) -> TrainerControl:
    state = SimpleNamespace(global_step=step, max_steps=9, is_world_process_zero=first)
    control = TrainerControl()
    pace.on_step_end(SimpleNamespace(eval_strategy="steps" if evaluates else "no"), state, control)  # type: ignore[arg-type]
    return control


def test_a_checkpoint_is_due_whenever_the_interval_has_passed(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pace, saved = Pace(10.0, list), []
    for step in range(1, 8):
        now[0] = 4.0 * step
        if after_step(pace, step).should_save:
            saved.append(step)
            pace.on_save(None, None, None)  # type: ignore[arg-type]
    assert saved == [3, 6]  # at 12 s and at 24 s


@pytest.mark.parametrize("others", [0.0, 1.0])
def test_the_clock_of_the_first_process_decides(others: float):
    asked: list[Sequence[float]] = []

    def over_processes(values: Sequence[float]) -> list[float]:
        asked.append(values)
        return [values[0] + others]

    assert after_step(Pace(0.0, over_processes), 1, first=False).should_save == bool(others)
    assert asked == [[0.0]], "a later process has no say"


def test_the_last_step_is_recorded_and_validated():
    last, before = after_step(Pace(1e9, list), 9), after_step(Pace(1e9, list), 8)
    assert (last.should_log, last.should_evaluate, last.should_save) == (True, True, False)
    assert (before.should_log, before.should_evaluate, before.should_save) == (False, False, False)
    assert not after_step(Pace(1e9, list), 9, evaluates=False).should_evaluate
