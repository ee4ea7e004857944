"""The verb of many recipes at once: ablate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from potstill.cli.experiment import DryRun
from potstill.cli.printing import print_json, print_rows, tell
from potstill.cli.train import DataDir, Json


def register(app: typer.Typer) -> None:
    """Put the verb of this file on the command line."""
    app.command()(ablate)


def ablate(
    grid: Annotated[str, typer.Argument(help="A grid file, or the name of one that comes with potstill.")],
    data_dir: DataDir = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the grid.")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Trainings at a time; as many as cores and memory allow when absent.")
    ] = None,
    most: Annotated[
        int | None, typer.Option(min=1, help="Refuse a grid with more trainings to do than this; 100 when absent.")
    ] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Run every arm of a grid with the same data and seeds, and study what each field is worth.

    Stages that arms share are done once, and finished ones are skipped. An arm that fails loses no other.
    """
    from potstill.grid.stage import command_of, open_grid, run_grid

    plan = open_grid(grid, data_dir=data_dir, out=out)
    if dry_run:
        from potstill.estimate import estimate_stages

        rows = estimate_stages([(stage.recipe, stage.stage) for stage in plan.stages.values()])
        titles = [*(stage.title for stage in plan.stages.values()), rows[-1]["stage"]]
        rows = [{**row, "stage": title} for row, title in zip(rows, titles, strict=True)]
        _show_plan(len(plan.grid.arms), rows, as_json=json)
        return
    done = run_grid(plan, jobs=jobs, most=most, command=command_of(grid, plan.grid), tell=tell)
    if json:
        print_json({**done.results, "page": str(done.page)})
    else:
        for study in done.results["tasks"].values():
            print_rows(f"{study['task']}: {study['metric']}", _arm_rows(study))
            for insight in study["insights"]:
                tell(insight["sentence"])
            tell(study["budget"]["sentence"])
        typer.echo(done.page)
    done.require_all()


def _show_plan(n_arms: int, rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json({"arms": n_arms, "stages": rows})
        return
    print_rows(f"What would happen: {n_arms} arms in {len(rows) - 1} trainings; minutes are of the whole machine", rows)


def _arm_rows(study: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per arm, best first."""
    return [
        {
            "arm": arm["name"],
            "rank": arm["rank"],
            "of resamples": f"{arm['rank_interval'][0]} to {arm['rank_interval'][1]}",
            study["metric"]: arm["mean"]["value"],
            "against the baseline": arm["change"]["difference"]["value"] if arm["change"] else None,
            "p": arm["p_adjusted"],
            "parameters": f"{arm['n_parameters']:,}",
            "one text, ms": arm["latency_ms"],
        }
        for arm in sorted(study["arms"], key=lambda arm: arm["rank"])
    ]
