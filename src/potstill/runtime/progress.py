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
        self._share_before = share() or 0.0
        self._started = self._told = time.monotonic()

    def show(self, n_rows: int) -> None:
        """Tell, if the last time is long enough ago."""
        now = time.monotonic()
        if now - self._told >= EVERY_S:
            self._told = now
            self._tell(f"{n_rows:,} rows, {self._rate(n_rows, now):,.0f} rows/s{self._left(now)}")

    def end(self, n_rows: int) -> None:
        """Tell the whole."""
        now = time.monotonic()
        self._tell(f"{n_rows:,} rows, {self._rate(n_rows, now):,.0f} rows/s, done")

    def _rate(self, n_rows: int, now: float) -> float:
        return (n_rows - self._before) / max(now - self._started, 1e-9)

    def _left(self, now: float) -> str:
        share = self._share()
        if share is None or share <= self._share_before:
            return ""
        seconds = (now - self._started) * (1 - share) / (share - self._share_before)
        return f", {share:.0%}, {_clock(seconds)} left"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
