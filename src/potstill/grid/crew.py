"""Who does the stages of a grid: processes that share the processor's cores, or this process itself."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from potstill.errors import PotstillError
from potstill.grid.plan import GridPlan
from potstill.grid.schedule import Outcome
from potstill.pipeline import run_stage

MEMORY_PER_JOB = 4 * 1024**3
"""Bytes that a training of the sizes at home here takes at most; fewer jobs are begun where there is less of it."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
LOGS = "logs"


def default_jobs(n_arms: int) -> int:
    """How many stages at a time: one a core, because nobody then waits for another's thread, as far as memory goes.

    One on a machine with a GPU, which several would have to share.
    """
    import torch

    if torch.cuda.is_available():
        return 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(n_arms, cores(), memory // MEMORY_PER_JOB))


def cores() -> int:
    """Cores that this process may use: those it was given, and no more threads than OMP_NUM_THREADS allows."""
    given = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(given, int(asked)) if asked.isdigit() and int(asked) else given


def do_stage(plan: GridPlan, key: str) -> tuple[str | None, list[str]]:
    """Do a stage and write its model card; what went wrong in a sentence, or None, and what there is to tell."""
    from potstill.report.stage import write_card

    notes: list[str] = []
    try:
        run = run_stage(plan.stages[key].stage, notes.append)
        write_card(run.path)
    except PotstillError as failure:
        return str(failure), notes
    return None, notes


class InProcess:
    """A crew of one: this process. A failure that potstill does not expect ends it."""

    places = 1

    def __init__(self, plan: GridPlan) -> None:
        self._plan, self._begun = plan, ""

    def begin(self, key: str) -> None:
        """Remember the stage."""
        self._begun = key

    def wait(self) -> Outcome:
        """Do the stage."""
        started = time.monotonic()
        error, notes = do_stage(self._plan, self._begun)
        return Outcome(self._begun, error, time.monotonic() - started, tuple(notes))

    def close(self) -> None:
        """Nobody has to be let go."""


@dataclass
class _Worker:
    process: subprocess.Popen[str]
    log: Path | None
    key: str | None = None


class Processes:
    """A crew of ``places`` processes with an equal share of the cores; one that dies is replaced.

    Several write what they say to ``logs/worker-<n>.log`` in the grid's folder; one alone says it on stderr.
    """

    def __init__(self, plan: GridPlan, places: int) -> None:
        self.places = places
        self._folder = plan.folder
        self._threads = max(1, cores() // places)
        self._free: list[_Worker] = []
        self._busy: list[_Worker] = []
        self._logs = ExitStack()
        self._numbers = iter(range(1, 1 << 30))

    def begin(self, key: str) -> None:
        """Give the stage to a process that is free, or to a new one."""
        worker = self._free.pop() if self._free else self._hire()
        worker.key = key
        self._busy.append(worker)
        with contextlib.suppress(BrokenPipeError):  # it died meanwhile: ``wait`` finds it dead
            _stream(worker.process.stdin).write(f"{key}\n")
            _stream(worker.process.stdin).flush()

    def wait(self) -> Outcome:
        """The outcome of the process that answers or dies next."""
        with selectors.DefaultSelector() as waiting:
            for worker in self._busy:
                waiting.register(_stream(worker.process.stdout), selectors.EVENT_READ, worker)
            first: _Worker = waiting.select()[0][0].data
        self._busy.remove(first)
        line = _stream(first.process.stdout).readline()
        if not line.endswith("\n"):
            return Outcome(str(first.key), _epitaph(first))
        self._free.append(first)
        answer = json.loads(line)
        return Outcome(str(first.key), answer["error"], answer["seconds"], tuple(answer["notes"]))

    def close(self) -> None:
        """End every process; stages that are under way stop where they are."""
        for worker in (*self._free, *self._busy):
            worker.process.kill()
            worker.process.communicate()
        self._free, self._busy = [], []
        self._logs.close()

    def _hire(self) -> _Worker:
        log = self._folder / LOGS / f"worker-{next(self._numbers)}.log" if self.places > 1 else None
        stderr: Any = None
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            stderr = self._logs.enter_context(log.open("a", encoding="utf-8"))
        process = subprocess.Popen(
            # -P: what lies in the folder one happens to stand in is no library
            [sys.executable, "-P", "-m", "potstill.grid.worker", str(self._folder)],
            env={**os.environ, **dict.fromkeys(_THREADS, str(self._threads))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        return _Worker(process, log)


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None, "it was opened as a pipe"
    return stream


def _epitaph(worker: _Worker) -> str:
    """How a process died, with the last line that it left."""
    worker.process.communicate()
    code = worker.process.returncode
    how = f"its process was killed by signal {-code}" if code < 0 else f"its process ended with code {code}"
    if worker.log is None:
        return f"{how}; what it said is above"
    lines = worker.log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
    return f"{how}; its last line in {LOGS}/{worker.log.name}: {last[:200]}"
