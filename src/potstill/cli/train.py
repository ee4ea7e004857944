"""The verbs that make models: pretrain, distil, finetune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from potstill.cli.printing import print_json, print_rows, tell
from potstill.errors import RecipeError

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of the run; the same command resumes or finds it done.")]
Seed = Annotated[int, typer.Option(min=0, help="Decides every draw of this run.")]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder with local copies of known data sets, such as glue/cola/train.parquet.")
]
Set = Annotated[list[str] | None, typer.Option("--set", help="Any other field of the recipe, e.g. distil.epochs=2.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Epochs = Annotated[float | None, typer.Option(min=0, help="Passes over the training rows.")]
Corpus = Annotated[str, typer.Option(help="docstrings (built in), a known corpus, a hub name, or a file.")]


def own_field(example: str) -> Any:
    """The flag ``--set`` of a verb that takes some sections of a recipe, with one of their fields as the example."""
    return typer.Option("--set", help=f"Any other field of the verb's own sections, e.g. {example}.")


def register(app: typer.Typer) -> None:
    """Put the verbs of this file on the command line."""
    app.command()(pretrain)
    app.command()(distil)
    app.command()(finetune)


def pretrain(
    model: Annotated[str, typer.Option(help="Model to start from: minilm-l6, a folder, or a hub name.")],
    out: Out,
    corpus: Corpus = "docstrings",
    epochs: Epochs = None,
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="Forget the weights, keep the shape.")] = False,
    seed: Seed = 1,
    data_dir: DataDir = None,
    set_: Annotated[list[str] | None, own_field("pretrain.head_steps=100")] = None,
    json: Json = False,
) -> None:
    """Train a masked-language model: a head for an encoder that has none, and then everything."""
    from potstill import api

    run = api.pretrain(
        model,
        out,
        corpus=corpus,
        epochs=epochs,
        from_scratch=from_scratch,
        seed=seed,
        data_dir=data_dir,
        set=set_ or (),
    )
    show(run, as_json=json)


def distil(
    teacher: Annotated[str, typer.Option(help="Teacher with a masked-language-model head: a run, folder or hub name.")],
    out: Out,
    corpus: Corpus = "docstrings",
    layers: Annotated[int | None, typer.Option(min=1, help="Layers of the student.")] = None,
    layer_choice: Annotated[
        str | None, typer.Option(help="paper, even, odd, first, last, spread, or a list such as [0,2,5].")
    ] = None,
    epochs: Epochs = None,
    preset: Annotated[str, typer.Option(help="default, or original (the 2019 settings).")] = "default",
    seed: Seed = 1,
    data_dir: DataDir = None,
    set_: Annotated[list[str] | None, own_field("distil.temperature=4")] = None,
    json: Json = False,
) -> None:
    """Distil a teacher into a smaller student on unlabelled text, by the triple loss."""
    from potstill import api

    run = api.distil(
        teacher,
        out,
        corpus=corpus,
        layers=layers,
        epochs=epochs,
        preset=preset,
        seed=seed,
        data_dir=data_dir,
        set=[*([f"student.layer_choice={layer_choice}"] if layer_choice else []), *(set_ or [])],
    )
    show(run, as_json=json)


def finetune(
    model: Annotated[str, typer.Option(help="Encoder to fine-tune: a run, a folder or a hub name.")],
    task: Annotated[str, typer.Option(help="A known task, or a name of your own together with --file.")],
    out: Out,
    file: Annotated[list[str] | None, typer.Option(help="Your own file, or split=file; may be repeated.")] = None,
    text_column: Annotated[list[str] | None, typer.Option(help="Column of the text; twice for pairs.")] = None,
    label_column: Annotated[
        list[str] | None, typer.Option(help="Column of the label; several for many labels.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="A run on the same task whose outputs are learnt as well.")
    ] = None,
    epochs: Epochs = None,
    max_length: Annotated[int | None, typer.Option(min=4, help="Tokens per text; the rest is cut, and told.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    seed: Seed = 1,
    data_dir: DataDir = None,
    set_: Annotated[list[str] | None, own_field("finetune.batch_size=16")] = None,
    json: Json = False,
) -> None:
    """Fine-tune an encoder on a task, store its predictions and measure it."""
    from potstill import api

    run = api.finetune(
        model,
        task,
        out,
        file=split_files(file),
        text_column=text_column,
        label_column=label_column,
        teacher=teacher,
        epochs=epochs,
        max_length=max_length,
        learning_rate=learning_rate,
        seed=seed,
        data_dir=data_dir,
        set=set_ or (),
    )
    show(run, as_json=json)


def split_files(given: list[str] | None) -> str | dict[str, str] | None:
    """What ``--file`` was given: ``data.csv`` as it is, ``train=a.csv`` and ``test=b.csv`` by split."""
    if not given:
        return None
    if len(given) == 1 and ("=" not in given[0] or Path(given[0]).exists()):
        return given[0]
    named = dict(entry.split("=", 1) for entry in given if "=" in entry)
    if len(named) < len(given):
        raise RecipeError(
            "several files need the names of their splits, one file each",
            found=", ".join(given),
            do="write --file train=… --file test=…",
        )
    return named


def show(run: Any, *, as_json: bool) -> None:
    """Print what a run reached, and tell what was noted on the way."""
    manifest = run.manifest
    if as_json:
        print_json({"run": str(run.path), "metrics": run.metrics(), "manifest": manifest})
        return
    if manifest["stage"] == "distil":
        from potstill.models.origins import origin_table

        print_rows(
            "Where the student's tensors came from", [row._asdict() for row in origin_table(manifest["origins"])]
        )
    for split, metrics in run.metrics().items():
        print_rows(f"{split}", [{"metric": name, "value": value} for name, value in metrics.items()])
    if manifest.get("epochs"):
        print_rows("Epochs, on the selection split", manifest["epochs"])
        tell(manifest["choice"])
    if manifest.get("tried"):
        print_rows("Penalties, on the selection split", manifest["tried"])
    of_the_data = (manifest.get("data") or manifest.get("corpus") or {}).get("notes", [])
    for note in (*of_the_data, *manifest.get("notes", [])):
        tell(f"note: {note}")
    tell(f"the run is in {run.path}")
