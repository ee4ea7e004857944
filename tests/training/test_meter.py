"""Sums between two records, and what a checkpoint keeps of them."""

from __future__ import annotations

import json
import time

import pytest

from potstill.training.meter import Meter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock whose only entry is the time."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def train_two_steps(meter: Meter, clock: list[float]) -> None:
    for mlm in (3.0, 5.0):
        for share in (0.25, 0.75):  # two batches a step, each with its share of the step's mean
            meter.add({"mlm": mlm * share, "size": share})
        meter.tokens += 40
        clock[0] += 10.0
        meter.on_step_end(None, None, None)


def alone(values):
    return list(values)


def test_a_record_holds_means_over_steps_and_the_rate_of_tokens(clock: list[float]):
    # oracle: by hand, (3 + 5) / 2 and (1 + 1) / 2, weighted 2 and 0.5; 80 tokens in 20 s
    meter = Meter()
    train_two_steps(meter, clock)
    assert meter.record({"mlm": 2.0, "size": 0.5}, alone) == {
        "loss": 8.5, "loss_mlm": 4.0, "loss_size": 1.0, "tokens_per_s": 4.0,
    }  # fmt: skip
    train_two_steps(meter, clock)
    assert meter.record({"mlm": 1.0, "size": 0.0}, alone)["loss"] == 4.0


def test_processes_add_up_their_shares(clock: list[float]):
    meter = Meter()
    train_two_steps(meter, clock)
    assert meter.record({"mlm": 1.0, "size": 1.0}, lambda values: [3 * value for value in values])["loss"] == 15.0


def test_what_is_done_aside_counts_as_time_but_not_against_the_rate(clock: list[float]):
    meter = Meter()
    train_two_steps(meter, clock)
    with meter.aside("validation"):
        clock[0] += 1000.0
    assert meter.record({"mlm": 1.0, "size": 1.0}, alone)["tokens_per_s"] == 4.0
    assert meter.elapsed_s == 1020.0


def test_a_checkpoint_carries_the_sums_and_the_time(clock: list[float]):
    # oracle: the meter that was never put away
    kept, resumed = Meter(), Meter()
    train_two_steps(kept, clock)
    state = json.loads(json.dumps(kept.state()))
    clock[0] += 500.0  # the process is dead for that long
    resumed = Meter()
    for name, value in state["attributes"].items():
        setattr(resumed, name, value)
    resumed.on_train_begin(None, None, None)
    assert resumed.elapsed_s == 20.0
    train_two_steps(resumed, clock)
    assert (resumed.elapsed_s, resumed.tokens) == (40.0, 160)
    assert resumed.record({"mlm": 1.0, "size": 0.0}, alone) == {
        "loss": 4.0, "loss_mlm": 4.0, "loss_size": 1.0, "tokens_per_s": 4.0,
    }  # fmt: skip
