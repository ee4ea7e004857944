"""How far a long work is, how fast it goes and how long it will take: a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY_S = 5.0


class Progress:
    """Tells of rows done, at most every five seconds; ``share`` says how much of the whole is behind, in [0, 1]."""

    def __init__(self, tell: Callable[[str], None], share: Callable[[], float | None], done_before: int = 0) -> None:
        """``done_before`` rows were done by an earlier process, and say nothing of the speed of this one."""
        self._tell, self._share, self._before = tell, share, done_before
        self._started = self._told = time.monotonic()
        self._first: tuple[float, float] | None = None

    def show(self, n_rows: int) -> None:
        """Tell, if the last time is long enough ago; to be called after every part."""
        now, share = time.monotonic(), self._share()
        if self._first is None and share is not None:
            self._first = now, share
        if now - self._told >= EVERY_S:
            self._told = now
            self._tell(f"{n_rows:,} rows, {self._rate(n_rows, now):,.0f} rows/s{self._left(now, share)}")

    def end(self, n_rows: int) -> None:
        """Tell the whole."""
        now = time.monotonic()
        self._tell(f"{n_rows:,} rows, {self._rate(n_rows, now):,.0f} rows/s, done")

    def _rate(self, n_rows: int, now: float) -> float:
        return (n_rows - self._before) / max(now - self._started, 1e-9)

    def _left(self, now: float, share: float | None) -> str:
        """Reckoned from the first part on: what an earlier process did was behind by then, as was the start."""
        if share is None or self._first is None or share <= self._first[1]:
            return ""
        seconds = (now - self._first[0]) * (1 - share) / (share - self._first[1])
        return f", {share:.0%}, {_clock(seconds)} left"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
