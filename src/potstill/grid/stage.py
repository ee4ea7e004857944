"""A grid from its file to its page: planned, checked, run, studied."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from potstill.errors import RecipeError, TrainingError
from potstill.grid.checks import check_plan
from potstill.grid.crew import Processes, default_jobs
from potstill.grid.plan import GridPlan, plan_grid
from potstill.grid.results import write_results
from potstill.grid.schedule import Crew, failures, run_stages
from potstill.grid.worker import GRID
from potstill.lock import take_lock
from potstill.pipeline import Tell
from potstill.recipe.grids import ResolvedGrid, load_grid, shipped_grid
from potstill.runs import WORK, is_run, read_json, require_unused, storage_errors, write_text

MOST = 100
"""A grid with more trainings to do than this is refused, unless more are allowed: a product grows fast."""


@dataclass(frozen=True)
class GridResults:
    """What came of a grid: ``results`` as in ``ablation.json``, the page, and arm → why it has no result."""

    results: Mapping[str, Any]
    page: Path
    failed: Mapping[str, str]

    def require_all(self) -> None:
        """Raise TrainingError, naming the arms, where some have no result."""
        if self.failed:
            told = "; ".join(f"{arm} ({why})" for arm, why in self.failed.items())
            n_arms = len(self.failed)
            raise TrainingError(
                f"{n_arms} {'arm' if n_arms == 1 else 'arms'} failed: {told}",
                do=f"all others are in {self.page}; the same command does only what is missing",
            )


def to_do(plan: GridPlan) -> list[str]:
    """The keys of the stages that are not finished; one whose input changed since shows only in the run."""
    return [key for key in plan.stages if not _is_finished(plan.path(key))]


def _is_finished(path: Path) -> bool:
    return is_run(path) and (read_json(path / "manifest.json") or {})["status"] == "finished"


def require_few(plan: GridPlan, most: int) -> None:
    """Raise RecipeError where more than ``most`` stages are to be done."""
    n_to_do = len(to_do(plan))
    if n_to_do > most:
        raise RecipeError(
            f"the grid {plan.grid.name} needs {n_to_do} trainings for its {len(plan.grid.arms)} arms",
            allowed=f"{most} unless more are asked for",
            do=f"see with --dry-run how long they take, and allow them with --most {n_to_do}",
        )


def open_grid(grid: str | Path, *, data_dir: Path | None = None, out: Path | None = None) -> GridPlan:
    """The plan of a grid's file, or of one that comes with potstill, by name; raises RecipeError."""
    return plan_grid(load_grid(shipped_grid(str(grid)), data_dir=data_dir, out=out))


def command_of(grid: str | Path, resolved: ResolvedGrid) -> str:
    """What to type to get a grid's results again, without the folders of this machine.

    A grid that comes with potstill goes by its name, any other by the file beside its results. Local copies of data are
    asked for where the grid was resolved with a folder of them, be it by a flag or in its recipe: what is shown of the
    recipe leaves that folder out.
    """
    shipped = shipped_grid(str(grid)) != Path(grid)
    return f"potstill ablate {grid if shipped else GRID}{' --data-dir DATA' if resolved.data_dir else ''}"


def run_grid(
    plan: GridPlan,
    *,
    jobs: int | None = None,
    most: int | None = None,
    command: str = f"potstill ablate {GRID}",
    tell: Tell = print,
    crew: Callable[[GridPlan], Crew] | None = None,
) -> GridResults:
    """Do every stage that is not done, ``jobs`` at a time, and study the arms that have a result.

    An arm that fails loses no other. ``command`` is what is shown as the way to get this again; ``crew`` does the work,
    by default processes of their own. Raises RecipeError for what can be refused before anything trains, and
    RunFolderError where the folder holds something else or another process works in it.
    """
    require_few(plan, most or MOST)
    check_plan(plan)
    places = min(jobs or default_jobs(len(plan.grid.arms)), len(plan.stages))
    with _claimed(plan):
        workers = crew(plan) if crew else Processes(plan, places)
        tell(f"{len(plan.grid.arms)} arms, {len(plan.stages)} stages, {workers.places} at a time")
        try:
            outcomes = run_stages(plan.stages, workers, tell)
        finally:
            workers.close()
        failed = failures(plan.stages, outcomes)
        _link_arms(plan, failed)
        tell("studying the arms")
        results = write_results(plan, failed, command=command)
    return GridResults(results, plan.folder / "report.html", failed)


@contextlib.contextmanager
def _claimed(plan: GridPlan) -> Iterator[None]:
    """Take the grid's folder, or the one it had before, for this process alone."""
    require_unused(plan.folder, ours=GRID)
    with storage_errors(plan.folder), take_lock(plan.folder / WORK / "lock", plan.folder):
        write_text(plan.folder / GRID, yaml.safe_dump(dict(plan.grid.content), sort_keys=False, allow_unicode=True))
        yield
        shutil.rmtree(plan.folder / WORK, ignore_errors=True)


def _link_arms(plan: GridPlan, failed: Mapping[str, str]) -> None:
    """``arms/<task>/<arm>/seed-<n>`` → the run that stands for it, so that people find it and ``compare`` takes it."""
    root = plan.folder / "arms"
    for old in [link for link in root.glob("*/*/seed-*") if link.is_symlink()]:
        old.unlink()
        with contextlib.suppress(OSError):  # somebody put something of theirs beside it
            old.parent.rmdir()
    for task, arms in plan.runs.items():
        for arm, seeds in arms.items():
            if arm not in failed:
                for seed, key in seeds.items():
                    link = root / task / arm / f"seed-{seed}"
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(Path("../../..") / key, target_is_directory=True)
