"""The order of the stages, with a crew that only pretends to work."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from potstill.grid.plan import GridStage
from potstill.grid.schedule import Outcome, failures, run_stages
from potstill.recipe.schema import PretrainJob, Recipe
from potstill.stages import Stage

RECIPE = Recipe.model_validate({"name": "x", "tasks": [{"name": "cola"}]})


def stages(**needs: str) -> dict[str, GridStage]:
    """Stages by name, each with the names of what it needs; one named ``b2`` is of the arm ``b``."""
    return {
        key: GridStage(key, Stage(f"do {key}", PretrainJob(out=Path(key))), RECIPE, tuple(of.split()), (key[0],))
        for key, of in needs.items()
    }


@dataclass
class FakeCrew:
    """Ends its stages in any order, and notes who was begun when and how many were at work at once."""

    places: int
    fails: frozenset[str] = frozenset()
    working: list[str] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    most: int = 0
    draw: random.Random = field(default_factory=lambda: random.Random(1))

    def begin(self, key: str) -> None:
        self.working.append(key)
        self.begun.append(key)
        self.most = max(self.most, len(self.working))

    def wait(self) -> Outcome:
        key = self.working.pop(self.draw.randrange(len(self.working)))
        return Outcome(key, "it broke" if key in self.fails else None, 1.0)

    def close(self) -> None: ...


def quiet(message: str) -> None: ...


@pytest.mark.parametrize("places", [1, 2, 3, 9])
def test_every_stage_is_done_once_after_what_it_needs(places):
    planned = stages(a1="", a2="a1", a3="a1 a2", b1="", b2="b1 a1", c1="")
    crew = FakeCrew(places)
    ended: list[str] = []

    class Watched(FakeCrew):
        def begin(self, key: str) -> None:
            assert set(planned[key].needs) <= set(ended)
            crew.begin(key)

        def wait(self) -> Outcome:
            outcome = crew.wait()
            ended.append(outcome.key)
            return outcome

    outcomes = run_stages(planned, Watched(places), quiet)
    assert sorted(crew.begun) == sorted(planned) == sorted(outcomes)
    assert crew.most <= places
    assert all(outcome.error is None for outcome in outcomes.values())


def test_as_many_are_at_work_as_there_are_places():
    crew = FakeCrew(3)
    run_stages(stages(a="", b="", c="", d="", e=""), crew, quiet)
    assert crew.most == 3


def test_a_failure_skips_what_rests_on_it_and_nothing_else():
    planned = stages(a1="", a2="a1", a3="a2", b1="", b2="b1")
    crew = FakeCrew(2, frozenset({"a1"}))
    outcomes = run_stages(planned, crew, quiet)
    assert set(crew.begun) == {"a1", "b1", "b2"}
    assert {key for key, outcome in outcomes.items() if outcome.skipped} == {"a2", "a3"}
    assert failures(planned, outcomes) == {"a": "do a1: it broke"}


def test_an_arm_fails_with_any_stage_of_it_and_says_why():
    planned = stages(a1="", b1="", b2="b1", c1="")
    told: list[str] = []
    outcomes = run_stages(planned, FakeCrew(1, frozenset({"b2", "c1"})), told.append)
    assert failures(planned, outcomes) == {"b": "do b2: it broke", "c": "do c1: it broke"}
    assert "    failed: do b2 [b]: it broke" in told


def test_what_a_stage_has_to_tell_is_told():
    class Talking(FakeCrew):
        def wait(self) -> Outcome:
            return Outcome(self.working.pop(), None, 1.0, ("its input changed",))

    told: list[Any] = []
    run_stages(stages(a=""), Talking(1), told.append)
    assert told == ["[1/1] do a [a]", "its input changed"]
