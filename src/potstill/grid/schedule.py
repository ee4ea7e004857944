"""Which stage comes next: one that has what it needs, once somebody is free; a failure loses only its own arms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from potstill.grid.plan import GridStage

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """How a stage ended: ``error`` in a sentence, None where it is done; ``skipped`` if it never began."""

    key: str
    error: str | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    skipped: bool = False


class Crew(Protocol):
    """Those who do the work: as many stages at a time as there are ``places``."""

    places: int

    def begin(self, key: str) -> None:
        """Give a stage to somebody who is free."""
        ...

    def wait(self) -> Outcome:
        """The next stage to end, of those that were begun."""
        ...

    def close(self) -> None:
        """Let everybody go; what is unfinished can be resumed."""
        ...


def run_stages(stages: Mapping[str, GridStage], crew: Crew, tell: Tell) -> dict[str, Outcome]:
    """Every stage's outcome. A stage whose need failed is skipped, and all others are still done."""
    pending, outcomes, n_running = dict(stages), dict[str, Outcome](), 0
    while pending or n_running:
        outcomes |= _skip(pending, outcomes, tell)
        for key in _ready(pending, outcomes)[: crew.places - n_running]:
            stage = pending.pop(key)
            tell(f"[{len(stages) - len(pending)}/{len(stages)}] {stage.title}")
            crew.begin(key)
            n_running += 1
        if n_running:
            outcome = crew.wait()
            n_running -= 1
            outcomes[outcome.key] = outcome
            _report(stages[outcome.key], outcome, tell)
    return outcomes


def _ready(pending: Mapping[str, GridStage], outcomes: Mapping[str, Outcome]) -> list[str]:
    return [key for key, stage in pending.items() if all(need in outcomes for need in stage.needs)]


def _skip(pending: dict[str, GridStage], outcomes: Mapping[str, Outcome], tell: Tell) -> dict[str, Outcome]:
    """Take out of ``pending`` what rests on a failure, one after another, for one may rest on another."""
    skipped: dict[str, Outcome] = {}
    for key, stage in list(pending.items()):
        met = {**outcomes, **skipped}
        failed = [need for need in stage.needs if need in met and met[need].error is not None]
        if failed:
            skipped[key] = Outcome(key, f"{failed[0]}, which it needs, is missing", skipped=True)
            del pending[key]
            tell(f"    not done: {stage.title}, because of a failure before it")
    return skipped


def _report(stage: GridStage, outcome: Outcome, tell: Tell) -> None:
    for note in outcome.notes:
        tell(note)
    if outcome.error is not None:
        tell(f"    failed: {stage.title}: {outcome.error}")


def failures(stages: Mapping[str, GridStage], outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """Arm → why it has no result, for every arm that rests on a stage that failed; the first reason met."""
    found: dict[str, str] = {}
    failed: Sequence[Outcome] = [outcome for outcome in outcomes.values() if outcome.error and not outcome.skipped]
    for outcome in failed:
        for arm in stages[outcome.key].arms:
            found.setdefault(arm, f"{stages[outcome.key].stage.name}: {outcome.error}")
    return found
