"""The page of an ablation, its tables as csv, and its figures as files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from potstill.analyse.ablation.insights import say_cost, say_value
from potstill.analyse.ablation.standings import Standing
from potstill.analyse.ablation.study import ArmFacts, Study
from potstill.evaluate.significance import Interval
from potstill.report.ablation.figures import draw_panels, draw_study
from potstill.report.figures import save_svg
from potstill.report.shell import fill_page
from potstill.report.tables import NOTHING, Cell, Table
from potstill.runs import write_text


@dataclass(frozen=True)
class AblationReport:
    """Everything one page shows: a study for each task, and what was not done.

    n_arms: arms of the grid, those without a result included; failed: arm → why it has none; commands: what to type to
    get this again; grid_yaml: the grid as resolved; notes: what else has to be known, in words.
    """

    title: str
    created: str
    n_arms: int
    studies: Sequence[Study]
    failed: Mapping[str, str] = field(default_factory=dict)
    commands: Sequence[str] = ()
    grid_yaml: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class _View:
    """What the template shows of one task."""

    study: Study
    table: Table
    figures: Sequence[Markup]
    panels: str


def write_ablation(report: AblationReport, folder: Path) -> Path:
    """Write ``report.html``, ``runs.csv``, ``arms.csv`` and ``panels-<task>.svg`` to ``folder``; the page's path."""
    write_text(folder / "runs.csv", _csv(_run_rows(report.studies)))
    write_text(folder / "arms.csv", _csv(_arm_rows(report.studies)))
    for study in report.studies:
        save_svg(draw_panels(study), folder / _panels(study))
    page = folder / "report.html"
    write_text(page, render_ablation(report))
    return page


def render_ablation(report: AblationReport) -> str:
    """The page as HTML text; names and texts from files are escaped, figures are inline SVG."""
    views = [
        _View(study, arm_table(study), [Markup(figure) for figure in draw_study(study)], _panels(study))
        for study in report.studies
    ]
    return fill_page("ablation.html.j2", title=report.title, styles=("ablation.css",), report=report, views=views)


def arm_table(study: Study) -> Table:
    """A row for each arm, best first: rank, metric, change from the baseline, its settings, and its costs."""
    fronts = {front.cost: front for front in study.fronts}
    timed = all(arm.latency_ms is not None for arm in study.arms)
    columns = ["arm", "rank", study.scores.metric, "against the baseline", *study.fields, "parameters"]
    columns += [*(["one text", "many texts"] if timed else []), "fine-tuning", *(f"front: {cost}" for cost in fronts)]
    rows = []
    for number in sorted(range(len(study.arms)), key=lambda n: study.standings[n].rank):
        facts, one = study.arms[number], study.standings[number]
        rows.append(
            [
                Cell(facts.name, "baseline" if one.change is None else ""),
                _rank_cell(one),
                Cell(_figure(one.mean.value), _seeds_and_interval(one), sort=one.mean.value),
                _change_cell(one),
                *(_setting_cell(facts.settings[name]) for name in study.fields),
                Cell(say_cost(facts.n_parameters), f"{facts.bytes_on_disk / 2**20:,.1f} MiB", sort=facts.n_parameters),
                *(_speed_cells(facts) if timed else []),
                Cell(f"{_mean(facts.training_s):,.0f} s", "a seed", sort=_mean(facts.training_s)),
                *(_front_cell(front.on_front[number], front.shares[number]) for front in fronts.values()),
            ]
        )
    level = f"{study.scores.level:.0%}"
    caption = (
        f"Small figures: {level} intervals over resamples of rows and seeds, bounds of the rank in them, share of them "
        "in which the arm comes first or is on the front, p-values corrected for the number of arms. A click on a "
        "column's head sorts."
    )
    return Table(columns, rows, caption)


def _rank_cell(one: Standing) -> Cell:
    return Cell(str(one.rank), f"{one.rank_low} to {one.rank_high}\nfirst {one.first_share:.0%}", sort=one.rank)


def _change_cell(one: Standing) -> Cell:
    if one.change is None:
        return Cell(NOTHING)
    difference = one.change.difference
    p_value = "" if one.p_adjusted is None else _p(one.p_adjusted)
    return Cell(f"{difference.value:+.3g}", f"{_between(difference, '+.3g')}\n{p_value}", sort=difference.value)


def _p(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def _setting_cell(value: Any) -> Cell:
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    return Cell(say_value(value), sort=number)


def _speed_cells(facts: ArmFacts) -> list[Cell]:
    latency, bulk = facts.latency_ms, facts.texts_per_s
    return [
        Cell(NOTHING if latency is None else f"{latency:.3g} ms", sort=latency),
        Cell(NOTHING if bulk is None else f"{bulk:,.0f}/s", sort=bulk),
    ]


def _front_cell(on_front: bool, share: float) -> Cell:
    return Cell("yes" if on_front else "no", f"{share:.0%}", sort=share)


def _seeds_and_interval(one: Standing) -> str:
    seeds = "" if len(one.per_seed) == 1 else "\n" + " ".join(map(_figure, one.per_seed))
    return f"{_between(one.mean, '.4g')}{seeds}"


def _between(interval: Interval, form: str) -> str:
    if interval.low != interval.low:  # NaN: no bound could be placed
        return "no interval"
    return f"{interval.low:{form}} to {interval.high:{form}}"


def _figure(value: float) -> str:
    return NOTHING if value != value else f"{value:.4g}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _panels(study: Study) -> str:
    return f"panels-{study.task}.svg"


def _run_rows(studies: Sequence[Study]) -> Iterable[dict[str, Any]]:
    """A row for each task, arm and seed: settings, metrics on the reported split, what it was given and took."""
    for study in studies:
        for arm in study.arms:
            for number, seed in enumerate(arm.budget.seeds):
                yield {
                    "task": study.task,
                    "arm": arm.name,
                    "seed": seed,
                    **{name: say_value(value) for name, value in arm.settings.items()},
                    **{metric: values[number] for metric, values in arm.metrics.items()},
                    "training_rows": arm.budget.rows["train"],
                    "tokens": arm.budget.tokens[number],
                    **{f"tokens of {what}": tokens for what, tokens in arm.budget.tokens_before.items()},
                    "training_s": round(arm.training_s[number], 2),
                }


def _arm_rows(studies: Sequence[Study]) -> Iterable[dict[str, Any]]:
    """A row for each task and arm: settings, mean with interval, rank with bounds, change from the baseline, costs."""
    for study in studies:
        for number, (arm, one) in enumerate(zip(study.arms, study.standings, strict=True)):
            change = one.change
            yield {
                "task": study.task,
                "arm": arm.name,
                **{name: say_value(value) for name, value in arm.settings.items()},
                "metric": study.scores.metric,
                **{"mean": one.mean.value, "low": one.mean.low, "high": one.mean.high, "seeds": len(one.per_seed)},
                **{"rank": one.rank, "rank_low": one.rank_low, "rank_high": one.rank_high},
                "first_share": one.first_share,
                "change": None if change is None else change.difference.value,
                "change_low": None if change is None else change.difference.low,
                "change_high": None if change is None else change.difference.high,
                "p_adjusted": one.p_adjusted,
                "parameters": arm.n_parameters,
                "latency_ms": arm.latency_ms,
                "texts_per_s": arm.texts_per_s,
                "training_s": round(_mean(arm.training_s), 2),
                **{f"front: {front.cost}": front.on_front[number] for front in study.fronts},
            }


def _csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """CSV of rows whose keys may differ; the columns are in the order met, what is absent or no number is empty."""
    listed = [{name: None if value != value else value for name, value in row.items()} for row in rows]
    columns = dict.fromkeys(name for row in listed for name in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(listed)
    return text.getvalue()
