"""The verb that looks into a classifier: attend."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from potstill.cli.printing import print_json, print_rows, tell
from potstill.cli.train import DataDir, Json


def register(app: typer.Typer) -> None:
    """Put the verb of this file on the command line."""
    app.command()(attend)


def attend(
    run: Annotated[Path, typer.Argument(help="A fine-tuned run, or another classifier's folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for attention.html and attention.json.")],
    text: Annotated[list[str] | None, typer.Option(help="A text to look at; may be repeated.")] = None,
    second: Annotated[list[str] | None, typer.Option(help="Second text of a pair, one for each --text.")] = None,
    before: Annotated[
        str | None, typer.Option(help="Encoder beside the run; the one it was fine-tuned from when absent.")
    ] = None,
    alone: Annotated[bool, typer.Option("--alone", help="Look at the run alone.")] = False,
    task: Annotated[
        str | None, typer.Option(help="A known task to draw texts from; the run's own when absent.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split; the one the task reports on when absent.")] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Texts to measure; 500 when absent, with --text the texts given.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides which texts are drawn.")] = 1,
    reach: Annotated[int, typer.Option(min=0, help="A token is local to those at most so many tokens away.")] = 2,
    show: Annotated[int, typer.Option(min=1, help="Texts of the sample to show.")] = 5,
    tokens: Annotated[int, typer.Option(min=16, help="Tokens to show of each text; the middle is put together.")] = 64,
    layer: Annotated[int | None, typer.Option(min=0, help="Layer that the page opens with.")] = None,
    head: Annotated[int | None, typer.Option(min=0, help="Head that the page opens with.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Show what a classifier attends to, and how far that moved from the encoder it was fine-tuned from."""
    from potstill import api

    numbers = api.attend(
        run,
        out,
        text=text or (),
        second=second or (),
        before=before,
        alone=alone,
        task=task,
        split=split,
        sample=sample,
        seed=seed,
        reach=reach,
        show=show,
        tokens=tokens,
        layer=layer,
        head=head,
        data_dir=data_dir,
    )
    if json:
        print_json(numbers)
        return
    print_rows(f"Attention over {numbers['n_texts']:,} texts: {numbers['sample']}", _rows(numbers))
    tell(numbers["verdict"])
    for note in numbers["notes"]:
        tell(f"note: {note}")
    typer.echo(numbers["page"])


def _rows(numbers: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per measure: its mean for each model, the change and the interval of that."""
    rows = []
    for name in next(iter(numbers["means"].values())):
        row = {"measure": name} | {model: means[name]["overall"]["value"] for model, means in numbers["means"].items()}
        if numbers["changes"] is not None:
            row |= _changed(numbers["changes"][name]["overall"])
        rows.append(row)
    if numbers["distance"] is not None:
        rows.append({"measure": "distance", "before": None, "after": None, **_changed(numbers["distance"]["overall"])})
    return rows


def _changed(interval: dict[str, Any]) -> dict[str, Any]:
    low, high = interval["low"], interval["high"]
    return {"change": interval["value"], "95% interval": "–" if low is None else f"{low:.4f} – {high:.4f}"}
