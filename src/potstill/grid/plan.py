"""The stages behind the arms of a grid: what several arms need is planned once, and found again by what decides it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from potstill.errors import RecipeError
from potstill.recipe.grids import Arm, ResolvedGrid
from potstill.recipe.schema import Job, PretrainJob, Recipe
from potstill.runs import fingerprint
from potstill.stages import Stage, plan, run_path

_KEY_DIGITS = 10


@dataclass(frozen=True)
class GridStage:
    """One stage of a grid. ``key`` is its folder below the grid's; ``needs`` the keys of the stages it starts from.

    arms: the names of the arms that rest on it. recipe: that of the first of them.
    """

    key: str
    stage: Stage
    recipe: Recipe
    needs: tuple[str, ...]
    arms: tuple[str, ...]

    @property
    def title(self) -> str:
        """What is done, and for which arm, or for how many."""
        return f"{self.stage.name} [{self.arms[0] if len(self.arms) == 1 else f'{len(self.arms)} arms'}]"


@dataclass(frozen=True)
class GridPlan:
    """Every stage once, in an order in which each finds what it needs; ``runs``: task → arm → seed → key."""

    grid: ResolvedGrid
    stages: Mapping[str, GridStage]
    runs: Mapping[str, Mapping[str, Mapping[int, str]]]

    @property
    def folder(self) -> Path:
        """The grid's folder."""
        return self.grid.folder

    def path(self, key: str) -> Path:
        """Where the run of a stage lies."""
        return self.folder / key

    def encoder_of(self, task: str, arm: str) -> GridStage | None:
        """The stage that made the encoder which the first seed of an arm was fine-tuned from; None for a given one."""
        first = self.stages[next(iter(self.runs[task][arm].values()))]
        model = getattr(first.stage.job, "model", None)
        return next((self.stages[key] for key in first.needs if str(self.path(key)) == str(model)), None)


def plan_grid(grid: ResolvedGrid) -> GridPlan:
    """The stages of all arms. Raises RecipeError where two arms are the same work under different settings.

    A stage lies where an experiment has it, with what decides it behind its name: ``encoders/student-0a1b2c3d4e``. So
    arms that agree in it share it, and a grid to which arms are added finds what it did before.
    """
    stages: dict[str, GridStage] = {}
    runs: dict[str, dict[str, dict[int, str]]] = {}
    for arm in grid.arms:
        for task, seed, key in _plan_arm(grid, arm, stages):
            runs.setdefault(task, {}).setdefault(arm.name, {})[seed] = key
    _require_different_work(grid, runs)
    return GridPlan(grid, stages, runs)


def _plan_arm(grid: ResolvedGrid, arm: Arm, stages: dict[str, GridStage]) -> Iterator[tuple[str, int, str]]:
    """Add the arm's stages to ``stages``; task, seed and key of each classifier that stands for the arm."""
    for recipe in _recipes(grid, arm):
        planned = {str(stage.job.out): stage for stage in plan(recipe)}
        wanted = {
            str(run_path(recipe.folder, task.name, arm.measured, seed)): (task.name, seed)
            for task in recipe.tasks
            for seed in task.seeds or recipe.seeds
        }
        keys: dict[str, str] = {}
        for out in _needed(planned, wanted):
            found = _re_homed(grid, recipe, planned[out], keys)
            keys[out] = found.key
            known = stages.get(found.key, found)
            stages[found.key] = replace(known, arms=tuple(dict.fromkeys((*known.arms, arm.name))))
        yield from ((task, seed, keys[out]) for out, (task, seed) in wanted.items())


def _recipes(grid: ResolvedGrid, arm: Arm) -> list[Recipe]:
    """The arm's recipe, whose encoders have the first seed; or one recipe for every seed."""
    recipe = arm.recipe.model_copy(update={"out": grid.folder})
    if grid.encoders == "once":
        return [recipe]
    seeds = dict.fromkeys(seed for task in recipe.tasks for seed in task.seeds or recipe.seeds)
    return [_of_one_seed(recipe, seed) for seed in seeds]


def _of_one_seed(recipe: Recipe, seed: int) -> Recipe:
    tasks = [task for task in recipe.tasks if seed in (task.seeds or recipe.seeds)]
    alone = tuple(task.model_copy(update={"seeds": None}) for task in tasks)
    return recipe.model_copy(update={"seeds": (seed,), "tasks": alone})


def _needed(planned: Mapping[str, Stage], wanted: Mapping[str, Any]) -> list[str]:
    """The folders of the stages behind ``wanted``, in the order of the plan."""
    needed, pending = set(wanted), list(wanted)
    while pending:
        found = [name for name in _inputs(planned[pending.pop()].job) if name in planned and name not in needed]
        needed.update(found)
        pending += found
    return [out for out in planned if out in needed]


def _inputs(job: Job) -> list[str]:
    """The models that a job starts from, as it names them."""
    values = job.model_dump(mode="json", include={"model", "teacher"})
    named = [value["model"] if isinstance(value, dict) else value for value in values.values()]
    return [name for name in named if name is not None]


def _re_homed(grid: ResolvedGrid, recipe: Recipe, stage: Stage, keys: Mapping[str, str]) -> GridStage:
    """The stage in the grid's folder, under a name that holds what decides it; ``keys``: those of what it needs."""
    job = stage.job
    if isinstance(job, PretrainJob):  # one teacher, however often it is distilled
        job = job.model_copy(update={"seed": grid.arms[0].recipe.seeds[0]})
    parts = list(job.out.relative_to(recipe.folder).parts)
    of_seeds = parts[-1] == f"seed-{job.seed}"
    substance = job.substance()
    if of_seeds:
        del substance["seed"]
    inputs = _inputs(job)
    decided = fingerprint(type(job).__name__, substance, [keys.get(name, name) for name in inputs])
    parts[-2 if of_seeds else -1] += f"-{decided[:_KEY_DIGITS]}"
    key = "/".join(parts)
    moved = {name: str(grid.folder / keys[name]) for name in inputs if name in keys}
    values = _replaced(job.model_dump(), moved)
    return GridStage(
        key,
        Stage(stage.name, type(job).model_validate({**values, "out": grid.folder / key})),
        recipe,
        tuple(keys[name] for name in inputs if name in keys),
        (),
    )


def _replaced(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A job's values with its models under their new names."""
    result = dict(values)
    for field in ("model", "teacher"):
        value = result.get(field)
        if isinstance(value, str):
            result[field] = names.get(value, value)
        elif isinstance(value, dict):
            result[field] = {**value, "model": names.get(value["model"], value["model"])}
    return result


def _require_different_work(grid: ResolvedGrid, runs: Mapping[str, Mapping[str, Mapping[int, str]]]) -> None:
    first_of: dict[tuple[str, ...], str] = {}
    for arm in grid.arms:
        work = tuple(key for of_arm in runs.values() for key in of_arm.get(arm.name, {}).values())
        same = first_of.setdefault(work, arm.name)
        if same != arm.name:
            idle = _listed(_differing(grid, same, arm.name))
            raise RecipeError(
                f"the arms {same} and {arm.name} are the same work: {idle} decides nothing where the {arm.measured} is "
                "measured",
                do="leave it out of the grid, or set measured",
            )


def _differing(grid: ResolvedGrid, one: str, other: str) -> Sequence[str]:
    ours, theirs = grid.arm(one).settings, grid.arm(other).settings
    return [field for field in grid.fields if ours[field] != theirs[field]]


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names)


def arms_resting_on(plan: GridPlan, keys: Sequence[str]) -> list[str]:
    """The arms that need one of the stages ``keys``, in the grid's order."""
    found = {arm for key in keys for arm in plan.stages[key].arms}
    return [arm.name for arm in plan.grid.arms if arm.name in found]
