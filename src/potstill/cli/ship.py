"""The verbs that ship a run: export, predict."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from potstill.cli.printing import print_json, print_rows, tell
from potstill.cli.train import DataDir, Json
from potstill.errors import DataError, UsageError

Engine = Annotated[
    str | None, typer.Option(help="openvino or onnxruntime; the first of them that is installed when absent.")
]


def register(app: typer.Typer) -> None:
    """Put the verbs of this file on the command line."""
    app.command()(export)
    app.command()(predict)


def export(
    run: Annotated[Path, typer.Argument(help="A fine-tuned run.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the bundle; new or empty.")],
    format_: Annotated[
        str,
        typer.Option(
            "--format", help="int8 (fitted on training texts), int8-dynamic, fp16 or bf16 (weights alone), fp32."
        ),
    ] = "int8",
    force: Annotated[bool, typer.Option("--force", help="Write it also outside the tolerance, marked so.")] = False,
    gate_rows: Annotated[
        int | None, typer.Option(min=1, help="Rows of the selection split to compare, at most; 5,000, evenly spaced.")
    ] = None,
    calibration_texts: Annotated[
        int | None, typer.Option(min=1, help="Training texts that int8 is fitted on, evenly spaced; 256.")
    ] = None,
    trim_vocabulary: Annotated[
        bool, typer.Option("--trim-vocabulary", help="Leave only the pieces that training texts use, and characters.")
    ] = False,
    data_dir: DataDir = None,
    engine: Engine = None,
    json: Json = False,
) -> None:
    """Write a run as a bundle that opens without torch, after holding its predictions against the run's."""
    from potstill import shipping

    bundle = shipping.export(
        run,
        out,
        format=format_,
        force=force,
        data_dir=data_dir,
        gate_rows=gate_rows,
        calibration_texts=calibration_texts,
        trim_vocabulary=trim_vocabulary,
        engine=engine,
        tell=tell,
    )
    if json:
        print_json(bundle)
        return
    gate = bundle["gate"]
    print_rows(f"{out}, held against {run} on {gate['rows']:,} rows of {gate['split']}", _gate_rows(gate))
    if left := bundle["graph"]["left_in_float32"]:
        tell(f"left in float32, so that it is within the tolerance: {', '.join(left)}")
    if bundle["forced"]:
        tell(f"outside the tolerance and written all the same: {', '.join(gate['complaints'])}")
    typer.echo(out)


def _gate_rows(gate: dict[str, Any]) -> list[dict[str, Any]]:
    metric, flips, change = gate["metric"], gate["label_flips"], gate["value_change"]
    largest = gate["logit_difference"]
    drop = f"{metric['name']}: {_number(metric['before'])} → {_number(metric['after'])}, a drop of"
    return [
        {"figure": "largest logit difference", "value": largest["largest"], "allowed": largest["allowed"]},
        {"figure": drop, "value": metric["drop"], "allowed": metric["allowed"]},
        *(
            {"figure": words, "value": value, "allowed": allowed}
            for words, value, allowed in (
                ("share of labels flipped", flips["share"], flips["allowed"]),
                ("change of a value in deviations of the targets", change["deviations"], change["allowed"]),
            )
            if value is not None
        ),
        *(
            {"figure": f"agreement on {label}", "value": share, "allowed": None}
            for label, share in gate["agreement"].items()
        ),
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def predict(
    bundle: Annotated[Path, typer.Argument(help="A bundle that export wrote.")],
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="csv, tsv, jsonl, txt, parquet; or - for stdin.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="csv, tsv, jsonl (each also .gz) or parquet; stdout when absent.")
    ] = None,
    text_column: Annotated[
        list[str] | None,
        typer.Option(help="Column of the text; twice for a pair. That of the training data if absent."),
    ] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Only so many likeliest labels, instead of all.")] = None,
    prefix: Annotated[str, typer.Option(help="What stands before the names of new columns.")] = "",
    format_: Annotated[str | None, typer.Option("--format", help="Format of the input; by its name if absent.")] = None,
    bad: Annotated[Path | None, typer.Option(help="Where bad rows go, for output to stdout.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores to use; all when absent.")] = None,
    engine: Engine = None,
    json: Json = False,
) -> None:
    """Add predictions to the rows of files, however many; a run that was stopped goes on where it was."""
    from potstill import shipping

    named: dict[str, Any] = {
        "text_column": text_column or (),
        "top_k": top_k,
        "prefix": prefix,
        "format": format_,
        "threads": threads,
        "engine": engine,
        "tell": tell,
    }
    given = [file for file in files or () if str(file) != "-"]
    if out is not None and given == (files or ()) and given:
        if bad is not None:
            raise UsageError("bad rows go beside the output", do="leave out --bad")
        summary = shipping.predict(bundle, given, out, **named)
        if json:
            print_json(summary)
        _conclude(summary)
        return
    if out is not None or len(files or ()) > 1 or json:
        raise UsageError(
            "standard input and one file go to standard output, several files to one file", do="name files and -o"
        )
    _conclude(_to_output(bundle, given[0] if given else None, bad=bad, **named))


def _to_output(bundle: Path, file: Path | None, **named: Any) -> dict[str, Any]:
    """Predict to standard output; whoever reads it may have enough before the end."""
    from potstill import shipping

    try:
        return shipping.predict_to_output(bundle, file, **named)
    except BrokenPipeError:
        # Python would try to write what is left, and complain, when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None


def _conclude(summary: dict[str, Any]) -> None:
    """Tell what was counted; DataError where all rows there were are bad, so that no script takes it for done."""
    cut = f", {summary['truncated']:,} of them cut to the maximum length" if summary["truncated"] else ""
    tell(f"{summary['predicted']:,} of {summary['rows']:,} rows predicted{cut}; {summary['bad']:,} bad rows")
    if summary["bad_rows"]:
        tell(f"the bad rows, each with its reason: {summary['bad_rows']}")
    if summary["rows"] and not summary["predicted"]:
        raise DataError("not one row could be predicted", do="look at the reasons of the bad rows")
