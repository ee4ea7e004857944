"""When to validate and when to save, besides every so many steps."""

from __future__ import annotations

import time
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from potstill.training.meter import SumOverProcesses


class Pace(TrainerCallback):
    """Asks for a record and a validation after the last step, and for a checkpoint whenever ``interval_s`` passed.

    The first process's clock decides for all of them, because they save together or not at all.
    """

    def __init__(self, interval_s: float, over_processes: SumOverProcesses) -> None:
        self._interval_s, self._over_processes = interval_s, over_processes
        self._saved_s = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask when it is time."""
        if state.global_step >= state.max_steps:
            control.should_log = True
            control.should_evaluate = args.eval_strategy != "no"
        due = state.is_world_process_zero and time.monotonic() - self._saved_s >= self._interval_s
        control.should_save |= any(self._over_processes([float(due)]))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Start counting anew."""
        self._saved_s = time.monotonic()


class Patience(EarlyStoppingCallback):
    """Stops after so many validations without improvement; those up to ``from_step`` are not counted.

    Before that not everything trains yet, and what comes next may well improve.
    """

    def __init__(self, validations: int, from_step: int = 0) -> None:
        super().__init__(validations)
        self._from_step = from_step

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **kwargs: Any,
    ) -> None:
        """Count, and ask to stop."""
        if state.global_step > self._from_step:
            super().on_evaluate(args, state, control, metrics, **kwargs)
