"""Progress on stderr: of training its step, loss, tokens per second and time left; of other work what is done."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn, track
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

QUIET_INTERVAL_S = 30.0
"""Seconds between two lines where stderr is not a terminal."""

T = TypeVar("T")


def counted(items: Iterable[T], total: int, title: str, unit: str = "batches") -> Iterator[T]:
    """The ``items``, of which there are ``total``: a bar on a terminal, elsewhere a line now and then."""
    if sys.stderr.isatty():
        yield from track(items, description=title, total=total, console=_stderr())
        return
    last_line = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last_line >= QUIET_INTERVAL_S:
            last_line = time.monotonic()
            print(f"{title}: {number:,}/{total:,} {unit}", file=sys.stderr, flush=True)


class ProgressReport(TrainerCallback):
    """A bar on a terminal; elsewhere a line now and then, so that logs stay readable."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._last_line = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar at the step where training starts or goes on."""
        if not state.is_world_process_zero or not sys.stderr.isatty():
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
        self._bar = Progress(*columns, TextColumn("{task.fields[figures]}"), TimeRemainingColumn(), console=_stderr())
        self._task = self._bar.add_task(self._title, total=state.max_steps, completed=state.global_step, figures="")
        self._bar.start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move the bar."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the newest figures."""
        figures = _figures(logs or {})
        if not figures or not state.is_world_process_zero:
            return
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, figures=figures)
        elif time.monotonic() - self._last_line >= QUIET_INTERVAL_S or state.global_step >= state.max_steps:
            self._last_line = time.monotonic()
            print(f"{self._title}: step {state.global_step}/{state.max_steps}  {figures}", file=sys.stderr, flush=True)

    def tell(self, sentence: str) -> None:
        """One line about the training as a whole, below the bar."""
        print(f"{self._title}: {sentence}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the bar on the screen as it stands, and give the cursor back; also after an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _figures(logs: dict[str, float]) -> str:
    shown = [f"{name.removeprefix('eval_')} {value:.4g}" for name, value in logs.items() if _is_shown(name)]
    if "tokens_per_s" in logs:
        shown.append(f"{logs['tokens_per_s']:,.0f} tokens/s")
    return "  ".join(shown)


def _is_shown(name: str) -> bool:
    return name == "loss" or name.startswith(("loss_", "eval_"))


def _stderr() -> Console:
    return Console(stderr=True)
