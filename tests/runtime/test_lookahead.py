"""Items made ahead in a thread; oracles: the items themselves, and what was made when."""

from __future__ import annotations

import threading
import time

import pytest

from potstill.runtime.lookahead import ahead
from potstill.runtime.progress import Progress


def test_items_come_in_their_order():
    assert list(ahead(range(100))) == list(range(100))
    assert list(ahead([])) == []
    assert list(ahead([None, None])) == [None, None]


def test_no_more_are_made_than_asked_for():
    made = []

    def items():
        for number in range(10):
            made.append(number)
            yield number

    reader = ahead(items(), depth=2)
    assert next(reader) == 0
    deadline = time.monotonic() + 5
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert made == [0, 1, 2]
    reader.close()
    assert threading.active_count() < 50


def test_what_is_raised_comes_after_what_was_before_it():
    def items():
        yield 1
        raise ValueError("two")

    reader = ahead(items())
    assert next(reader) == 1
    with pytest.raises(ValueError, match="two"):
        next(reader)


def test_progress_tells_rate_and_time_left(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    told: list[str] = []
    share = [0.2]
    progress = Progress(told.append, lambda: share[0], done_before=100)
    progress.show(110)
    assert told == []
    now[0], share[0] = 10.0, 0.4
    progress.show(200)
    assert told == ["200 rows, 10 rows/s, 40%, 0:30 left"]
    now[0], share[0] = 3610.0, 0.41
    progress.show(250)
    assert told[-1].endswith("41%, 2:49:02 left")
    progress.end(300)
    assert told[-1].endswith("rows/s, done")


def test_what_an_earlier_process_did_makes_no_time_left_shorter(monkeypatch):
    now, share = [0.0], [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    told: list[str] = []
    progress = Progress(told.append, lambda: share[0], done_before=600)  # nothing is read yet
    now[0], share[0] = 2.0, 0.6
    progress.show(610)
    now[0], share[0] = 12.0, 0.7
    progress.show(700)
    assert told == ["700 rows, 8 rows/s, 70%, 0:30 left"]  # a tenth in ten seconds, three tenths are missing
