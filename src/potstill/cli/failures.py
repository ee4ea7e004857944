"""The verb that shows where a model fails: failures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from potstill.cli.printing import print_json, print_rows, tell
from potstill.cli.train import DataDir, Json


def register(app: typer.Typer) -> None:
    """Put the verb of this file on the command line."""
    app.command()(failures)


def failures(
    run: Annotated[Path, typer.Argument(help="A fine-tuned run.")],
    teacher: Annotated[
        Path | None, typer.Option(help="A run of the same task whose mistakes are shown beside.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split; the one the task reports on when absent.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="File of the page; failures.html in the run, and its report, when absent.")
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Write a page of a run's wrong predictions, the slices they gather in, and labels in doubt."""
    from potstill import api

    told = api.failures(run, teacher=teacher, split=split, out=out, data_dir=data_dir)
    if json:
        print_json(told)
        return
    differing = [_row(found) for found in told["slices"]["findings"] if found["differs"]]
    if differing:
        print_rows("Slices that differ from the rest", differing)
    for sentence in told["sentences"]:
        tell(sentence)
    typer.echo(told["page"])


def _row(found: dict[str, Any]) -> dict[str, Any]:
    inside, outside = found["inside"]["value"], found["outside"]["value"]
    kind = f"{found['family']}: {found['name']}"
    return {"slice": kind, "rows": found["rows"], "inside": inside, "outside": outside, "q": found["q_value"]}
