"""Where the time of training goes, part by part."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar

_running: ContextVar[Stopwatch | None] = ContextVar("potstill_stopwatch", default=None)


class Stopwatch:
    """Seconds by part. A part inside another stops the outer one meanwhile, so the parts add up to what was timed.

    On a GPU work goes on after the call that asked for it returned: a part there is what its calls took, and the
    part that waits for the results gets the rest.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0

    @contextlib.contextmanager
    def part(self, name: str, *, whole: bool = False) -> Iterator[None]:
        """Time what is done inside as ``name``.

        :func:`timed` inside it takes a part of its own out of it; not where it is to stay ``whole``.
        """
        self._turn()
        self._open.append(name)
        token = _running.set(None if whole else self)
        try:
            yield
        finally:
            _running.reset(token)
            self._turn()
            self._open.pop()

    def _turn(self) -> None:
        """Book the time since the last turn to the part that is open."""
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] = self.seconds.get(self._open[-1], 0.0) + now - self._since
        self._since = now


@contextlib.contextmanager
def timed(name: str) -> Iterator[None]:
    """Time what is done inside as ``name`` on the stopwatch that is running; otherwise this does nothing."""
    stopwatch = _running.get()
    with stopwatch.part(name) if stopwatch is not None else contextlib.nullcontext():
        yield
