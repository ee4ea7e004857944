"""The verb for models that are no transformers: baseline."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from potstill.cli.train import DataDir, Json, Out, Seed, own_field, show, split_files


class Kind(StrEnum):
    """Which of them."""

    BILSTM = "bilstm"
    TFIDF = "tfidf"


def register(app: typer.Typer) -> None:
    """Put the verb of this file on the command line."""
    app.command()(baseline)


def baseline(
    kind: Annotated[Kind, typer.Argument(help="A BiLSTM with attention, or TF-IDF under a linear model.")],
    task: Annotated[str, typer.Option(help="A known task, or a name of your own together with --file.")],
    out: Out,
    model: Annotated[
        str | None, typer.Option(help="Model whose tokens or embeddings a BiLSTM takes, where bilstm.… says teacher.")
    ] = None,
    file: Annotated[list[str] | None, typer.Option(help="Your own file, or split=file; may be repeated.")] = None,
    text_column: Annotated[list[str] | None, typer.Option(help="Column of the text; twice for pairs.")] = None,
    label_column: Annotated[
        list[str] | None, typer.Option(help="Column of the label; several for many labels.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="A run on the same task whose outputs a BiLSTM learns as well.")
    ] = None,
    seed: Seed = 1,
    data_dir: DataDir = None,
    set_: Annotated[list[str] | None, own_field("bilstm.layers=2 or tfidf.min_count=1")] = None,
    json: Json = False,
) -> None:
    """Train a model that is no transformer on a task alone, store its predictions and measure it."""
    from potstill import api

    run = api.baseline(
        kind.value,
        task,
        out,
        model=model,
        file=split_files(file),
        text_column=text_column,
        label_column=label_column,
        teacher=teacher,
        seed=seed,
        data_dir=data_dir,
        set=set_ or (),
    )
    show(run, as_json=json)
