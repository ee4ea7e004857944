"""The verbs of a whole experiment: init, run, demo."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from potstill.cli.printing import print_json, print_rows, tell
from potstill.cli.train import DataDir, Json, Set
from potstill.errors import RecipeError

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only show the stages, their sizes and an estimate of the time.")
]

LAYERS = 3
"""Of the student that ``init`` writes: half of its teacher's."""


def register(app: typer.Typer) -> None:
    """Put the verbs of this file on the command line."""
    app.command()(init)
    app.command()(run)
    app.command()(demo)


def init(
    path: Annotated[Path, typer.Argument(help="Recipe to write.")] = Path("recipe.yaml"),
    task: Annotated[str, typer.Option(help="Task to fine-tune on.")] = "docstrings",
    preset: Annotated[str, typer.Option(help="default, or original (the 2019 settings).")] = "default",
) -> None:
    """Write a commented recipe to edit; never over a file that is there."""
    from potstill.data.catalogue import get_task
    from potstill.recipe.files import commented_yaml, with_preset
    from potstill.recipe.schema import Recipe
    from potstill.recipe.sections import build
    from potstill.runs import write_text

    if path.exists():
        raise RecipeError(f"{path} is there already", do="name another file, or move it away")
    get_task(task)
    given = {"name": path.stem, "pretrain": {}, "student": {"layers": LAYERS}, "tasks": [{"name": task}]}
    content = with_preset(given, preset)
    recipe = build(Recipe, content, where="init")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, commented_yaml(Recipe, recipe.model_dump(mode="json")) + "\n")
    tell(f"wrote {path}; run it with: potstill run {path}")


def run(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of one that comes with potstill.")],
    data_dir: DataDir = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the experiment.")] = None,
    set_: Set = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Run every stage of a recipe: finished stages are skipped, interrupted ones resume, changed ones run again."""
    from potstill import pipeline
    from potstill.recipe.files import load_recipe, shipped_recipe

    given = {"data_dir": data_dir, "out": out}
    # Quoted, because an override is read as YAML and a folder called 2024 is no number.
    overrides = [*(set_ or []), *(f"{name}={dumps(str(path))}" for name, path in given.items() if path is not None)]
    resolved = load_recipe(shipped_recipe(recipe), overrides)
    if dry_run:
        from potstill.estimate import estimate

        rows = estimate(resolved)
        print_json(rows) if json else print_rows("What would happen", rows)
        return
    page = pipeline.run_recipe(resolved, tell=tell)
    print_json(pipeline.results(resolved.folder)) if json else typer.echo(page)


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the experiment.")] = Path("runs/demo"),
    set_: Set = None,
) -> None:
    """The main job on the built-in corpus and task: minutes, offline, and a page to look at."""
    run("demo", out=out, set_=set_)
