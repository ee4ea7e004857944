"""The verbs that measure and show: evaluate, calibrate, compare, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from potstill.cli.printing import comparison_rows, cost_rows, print_json, print_rows, tell
from potstill.cli.train import DataDir, Json


def register(app: typer.Typer) -> None:
    """Put the verbs of this file on the command line."""
    app.command()(evaluate)
    app.command()(calibrate)
    app.command()(compare)
    app.command()(report)


def evaluate(
    run: Annotated[Path, typer.Argument(help="A fine-tuned run.")],
    split: Annotated[str | None, typer.Option(help="Split; the one the task reports on when absent.")] = None,
    data_dir: DataDir = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts per batch.")] = 64,
    json: Json = False,
) -> None:
    """Predict a split, store the predictions in the run, and print the metrics computed from them."""
    from potstill import pipeline

    metrics = pipeline.evaluate(run, split=split, data_dir=data_dir, batch_size=batch_size, tell=tell)
    if json:
        print_json(metrics)
    else:
        print_rows(str(run), [{"metric": name, "value": value} for name, value in metrics.items()])


def calibrate(
    run: Annotated[Path, typer.Argument(help="A fine-tuned run.")],
    thresholds: Annotated[
        str, typer.Option(help="By what: g_mean, f1, f_beta, precision, recall, cost; or none (0.5).")
    ] = "none",
    temperature: Annotated[bool, typer.Option(help="Fit a temperature, so that probabilities are calibrated.")] = True,
    beta: Annotated[float | None, typer.Option(help="For f_beta: recall counts that many times as precision.")] = None,
    at_least: Annotated[float | None, typer.Option(help="For precision and recall: what to hold.")] = None,
    false_positive_cost: Annotated[float | None, typer.Option(help="For cost: a label wrongly given.")] = None,
    false_negative_cost: Annotated[float | None, typer.Option(help="For cost: a label missed.")] = None,
    json: Json = False,
) -> None:
    """Fit temperature and thresholds on the selection split, keep them with the run, and show what they change."""
    from potstill import api

    done = api.calibrate(
        run,
        thresholds=thresholds,
        temperature=temperature,
        beta=beta,
        at_least=at_least,
        false_positive_cost=false_positive_cost,
        false_negative_cost=false_negative_cost,
    )
    if json:
        print_json(done)
    else:
        _show_decisions(run, done)


def _show_decisions(run: Path, done: dict[str, Any]) -> None:
    decisions, effect = done["decisions"], done["effect"]
    if decisions is None:
        tell(f"{run} decides without temperature and thresholds")
        return
    from potstill.decide import effect_rows

    fitted_on = f"{decisions['fitted_on']['rows']:,} rows of {decisions['fitted_on']['split']}"
    thresholds = {f"threshold of {label}": value for label, value in (decisions["thresholds"] or {}).items()}
    fitted = {"temperature": decisions["temperature"], **thresholds}
    print_rows(f"Fitted on {fitted_on}", [{"decision": name, "value": value} for name, value in fitted.items()])
    print_rows(f"{effect['split']}, {effect['n_rows']:,} rows", effect_rows(effect))
    for note in decisions["notes"]:
        tell(f"note: {note}")
    tell(effect["sentence"])
    tell(f"the page is {done['page']}")


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Runs, or folders of seed-… runs; the first is the reference.")],
    metric: Annotated[str | None, typer.Option(help="Metric to compare by; the task's own when absent.")] = None,
    resamples: Annotated[int, typer.Option(min=1, help="Bootstrap resamples behind the intervals.")] = 1000,
    speed: Annotated[bool, typer.Option(help="Measure latency and throughput on this machine too.")] = True,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Put runs side by side: intervals, retention and tests on the same rows, then size and speed."""
    from potstill import pipeline

    compared = pipeline.compare(runs, metric=metric, resamples=resamples, speed=speed, data_dir=data_dir)
    if json:
        print_json(compared)
        return
    print_rows(f"{compared['metric']} on {compared['n_rows']:,} rows", comparison_rows(compared))
    print_rows("Size and speed on this machine", cost_rows(compared))
    tell(compared["verdict"])


def report(
    folder: Annotated[Path, typer.Argument(help="An experiment's folder, or a fine-tuned run.")],
) -> None:
    """Write the page and the model cards again from what the runs stored."""
    from potstill import pipeline

    typer.echo(pipeline.report(folder))
