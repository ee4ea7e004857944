"""Seconds by part, on a clock that is moved by hand."""

from __future__ import annotations

import time

import pytest

from potstill.training.stopwatch import Stopwatch, timed


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock whose only entry is the time."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_a_part_inside_another_stops_the_outer_one(clock: list[float]):
    # oracle: by hand
    stopwatch = Stopwatch()
    with stopwatch.part("forward"):
        clock[0] += 1
        with timed("teacher"):
            clock[0] += 10
            with timed("projection"):
                clock[0] += 100
            clock[0] += 20
        clock[0] += 2
    clock[0] += 1000
    with stopwatch.part("forward"):
        clock[0] += 4
    assert stopwatch.seconds == {"forward": 7, "teacher": 30, "projection": 100}


def test_nothing_is_timed_without_a_stopwatch_that_runs(clock: list[float]):
    stopwatch = Stopwatch()
    with timed("teacher"):
        clock[0] += 1
    with stopwatch.part("data"):
        pass
    with timed("teacher"):
        clock[0] += 1
    assert stopwatch.seconds == {"data": 0}


def test_what_is_to_stay_whole_has_no_parts(clock: list[float]):
    stopwatch = Stopwatch()
    with stopwatch.part("validation", whole=True), timed("teacher"):
        clock[0] += 3
    assert stopwatch.seconds == {"validation": 3}


def test_an_error_ends_the_part(clock: list[float]):
    stopwatch = Stopwatch()

    def fail() -> None:
        with stopwatch.part("forward"), timed("teacher"):
            clock[0] += 1
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        fail()
    clock[0] += 50
    with stopwatch.part("data"):
        clock[0] += 2
    assert stopwatch.seconds == {"forward": 0, "teacher": 1, "data": 2}
