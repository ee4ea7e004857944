"""The verb that studies data before anything is trained: explore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from potstill.cli.printing import print_json, print_rows, tell
from potstill.cli.train import DataDir, Json, own_field, split_files


def register(app: typer.Typer) -> None:
    """Put the verb of this file on the command line."""
    app.command()(explore)


def explore(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the page and of explore.json.")],
    task: Annotated[str | None, typer.Option(help="A known task, or a name for your own --file.")] = None,
    file: Annotated[list[str] | None, typer.Option(help="Your own file, or split=file; may be repeated.")] = None,
    text_column: Annotated[list[str] | None, typer.Option(help="Column of the text; twice for pairs.")] = None,
    label_column: Annotated[
        list[str] | None, typer.Option(help="Column of the label; several for many labels.")
    ] = None,
    corpus: Annotated[
        str | None, typer.Option(help="Unlabelled text: docstrings, a known corpus, a hub name, or a file.")
    ] = None,
    tokenizer: Annotated[
        str, typer.Option(help="Tokenizer: minilm-l6, a folder with tokenizer.json, a hub name; or none.")
    ] = "minilm-l6",
    data_dir: DataDir = None,
    set_: Annotated[list[str] | None, own_field("batch_size=64")] = None,
    json: Json = False,
) -> None:
    """Study a data set: classes, lengths, the length to choose, words, duplicates, leakage, texts to look at."""
    from potstill import api

    found = api.explore(
        out,
        task=task,
        file=split_files(file),
        text_column=text_column,
        label_column=label_column,
        corpus=corpus,
        tokenizer=None if tokenizer == "none" else tokenizer,
        data_dir=data_dir,
        set=set_ or (),
        tell=tell,
    )
    if json:
        print_json(found)
        return
    _show(found)
    typer.echo(found["page"])


def _show(found: dict[str, Any]) -> None:
    title = f"{found['title']}: rows, medians per text, repeated texts"
    print_rows(title, [_part_row(found, part) for part in found["rows"]])
    for sentence in (found["verdict"], found["length_reason"], *found["warnings"]):
        if sentence:
            tell(sentence)


def _part_row(found: dict[str, Any], part: str) -> dict[str, Any]:
    """What the terminal shows of one part."""
    lengths = {unit["unit"]: unit["parts"].get(part) for unit in found["lengths"]}
    medians = {unit: of and of["median"] for unit, of in lengths.items()}
    repeated = found["duplicates"][1]
    shared = repeated["shared"][part].get(found["learnt"])
    return {
        "split": part,
        "rows": found["rows"][part],
        **medians,
        "repeated": repeated["repeated"][part],
        f"in {found['learnt']}": shared and shared["rows"],
    }
