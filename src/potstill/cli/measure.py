"""The verb that measures what is shipped: bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from potstill.cli.printing import print_json, print_rows, tell
from potstill.cli.ship import Engine
from potstill.cli.train import Json


def register(app: typer.Typer) -> None:
    """Put the verb of this file on the command line."""
    app.command()(bench)


def bench(
    subjects: Annotated[list[Path], typer.Argument(metavar="BUNDLE|RUN...", help="Bundles and runs, side by side.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for bench.json and figures.")] = None,
    length: Annotated[
        list[int] | None, typer.Option(min=1, help="Tokens of a single text; repeat it. 8, 16 … 512 when absent.")
    ] = None,
    texts_a_call: Annotated[
        list[int] | None, typer.Option(min=1, help="Texts given at once; repeat it. 1, 16 and 256 when absent.")
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="Cores to use; repeat it. One and all when absent.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Processes for each, taking turns.")] = 3,
    seconds: Annotated[float, typer.Option(min=0, help="Of each measurement in each of them.")] = 1.0,
    price: Annotated[
        float | None, typer.Option(min=0, help="Of a core for an hour, for the cost of a million.")
    ] = None,
    engine: Engine = None,
    json: Json = False,
) -> None:
    """Measure latency, throughput, memory, cold start and size of bundles and runs, side by side."""
    from potstill import shipping

    measured = shipping.bench(
        subjects,
        out=out,
        lengths=length or (),
        texts_a_call=texts_a_call or (),
        threads=threads or (),
        repeats=repeats,
        seconds=seconds,
        price=price,
        engine=engine,
        tell=tell,
    )
    if json:
        print_json(measured)
        return
    print_rows("at rest", [_at_rest(subject) for subject in measured["subjects"]])
    print_rows("one text at a time, ms", [row for subject in measured["subjects"] for row in _latency(subject)])
    print_rows("texts per second", [row for subject in measured["subjects"] for row in _throughput(subject)])
    if out is not None:
        typer.echo(out)


def _at_rest(subject: dict[str, Any]) -> dict[str, Any]:
    return {
        **_who(subject),
        "kind": subject["kind"],
        "MiB on disk": subject["bytes"] / 2**20,
        "cold start, s": subject["cold_start_s"],
        "peak MiB": subject["peak_mib"],
    }


def _latency(subject: dict[str, Any]) -> list[dict[str, Any]]:
    quantiles = ("p50_ms", "p95_ms", "p99_ms")
    return [
        {**_who(subject), "tokens": point["tokens"], **{name[:3]: point[name] for name in quantiles}}
        for point in subject["latency"]
    ]


def _throughput(subject: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            **_who(subject),
            "lengths": point["lengths"],
            "texts a call": str(point["texts_a_call"]),
            "texts/s": point["texts_per_s"],
            "a million costs": point["cost_per_million"],
        }
        for point in subject["throughput"]
    ]


def _who(subject: dict[str, Any]) -> dict[str, str]:
    return {"subject": subject["name"], "threads": str(subject["threads"])}
