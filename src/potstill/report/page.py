"""The report: one HTML file that holds everything it shows and asks nothing of any network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from potstill.report import sentences, tables
from potstill.report.decisions.view import DecisionView, view_decisions
from potstill.report.evidence import ArmEvidence, DistillationEvidence, History, Report, TaskEvidence, check_report
from potstill.report.failures.tables import FailuresView, failures_view
from potstill.report.figures import Curve, Dot, draw_confusion, draw_curves, draw_dots, draw_tradeoff
from potstill.report.shell import embed_json, fill_page
from potstill.runs import write_text

MOST_WARNINGS = 3
"""With more than these, the head of the page counts its warnings instead of listing them."""
NOT_CURVES = {"step", "epoch", "learning_rate", "grad_norm", "tokens", "total_flos"}
"""Keys of a history that are no loss and no metric; nor are those ending in ``_s``, ``_runtime``, ``_per_second``."""


@dataclass(frozen=True)
class _Drawn:
    """Figures and tables of one training, with its warning (or None), under its name."""

    name: str
    figures: Sequence[Markup]
    warning: str | None
    notes: Sequence[str] = ()
    took: str = ""
    details: Sequence[tables.Table] = ()

    @property
    def shows_anything(self) -> bool:
        """Whether there is a curve or a table; a training of one epoch has no curve."""
        return bool(self.figures or self.details)


@dataclass(frozen=True)
class _TaskView:
    """What the template shows of one task."""

    task: TaskEvidence
    truncation: str
    metrics: tables.Table
    splits: tables.Table | None
    per_class: tables.Table | None
    confusions: Sequence[Markup]
    trainings: Sequence[_Drawn]
    decisions: Sequence[DecisionView]
    failures: FailuresView | None


def write_page(report: Report, path: Path) -> None:
    """Write the report to ``path``, atomically; raises CheckError where its figures contradict one another."""
    check_report(report)
    write_text(path, render_page(report))


def render_page(report: Report) -> str:
    """The page as HTML text; texts from data are escaped, figures are inline SVG."""
    views = [_view(task, number) for number, task in enumerate(report.tasks, start=1)]
    return fill_page(
        "page.html.j2",
        title=report.title,
        styles=("failures.css", "studies.css"),
        scripts=("failures.js", "studies.js"),
        report=report,
        verdict=sentences.verdict(report),
        retention=tables.retention_table(report) if report.tasks else None,
        retention_figure=_retention_figure(report),
        sizes=tables.size_table(report) if report.tasks else None,
        tradeoffs=_tradeoffs(report),
        distillations=[_draw_distillation(run) for run in report.distillations],
        views=views,
        warnings=_warnings(report),
        layer_map=tables.mapping_table(report.layer_map),
        studies=[(tab.title, embed_json(tab.html)) for tab in report.studies],
    )


def read_curves(history: History, name: str) -> list[Curve]:
    """Training and validation lines of one loss or metric, named without prefix; a line has two points at least."""
    curves = []
    for keys, label, validation in (
        ((f"loss_{name}", name), "training", False),
        ((f"eval_{name}", f"eval_loss_{name}"), "validation", True),
    ):
        points = [(row["epoch"], row[key]) for row in history for key in keys if _is_point(row, key)]
        if len(points) > 1:
            x, y = zip(*points, strict=True)
            curves.append(Curve(label, x, y, validation=validation))
    return curves


def curve_names(history: History) -> list[str]:
    """What can be drawn of a history, in the order met: ``loss``, each of its terms, and validation metrics."""
    found = []
    for row in history:
        for key in row:
            if key not in NOT_CURVES and not key.endswith(("_s", "_runtime", "_per_second")):
                found.append(key.removeprefix("eval_").removeprefix("loss_"))
    return list(dict.fromkeys(found))


def _is_point(row: Mapping[str, Any], key: str) -> bool:
    return row.get(key) is not None and row.get("epoch") is not None


def _view(task: TaskEvidence, number: int) -> _TaskView:
    return _TaskView(
        task=task,
        truncation=sentences.truncation(task),
        metrics=tables.metrics_table(task),
        splits=tables.split_table(task),
        per_class=tables.per_class_table(task),
        confusions=[_draw_confusion(task, arm) for arm in task.arms if arm.confusion],
        trainings=[drawn for arm in task.arms if (drawn := _draw_training(task, arm)).shows_anything],
        decisions=view_decisions(task),
        failures=None if task.failures is None else failures_view(task.failures, f"failures-{number}"),
    )


def _draw_confusion(task: TaskEvidence, arm: ArmEvidence) -> Markup:
    seed = "" if arm.shown_seed is None or len(arm.seeds) < 2 else f", seed {arm.shown_seed}"
    return Markup(draw_confusion(arm.confusion, task.label_names, title=f"{task.name}: {arm.name}{seed}"))


def _draw_training(task: TaskEvidence, arm: ArmEvidence) -> _Drawn:
    """Loss, primary metric and rate over the epochs, the epochs side by side, and rates by depth where they differ."""
    of = f"{task.name}, {arm.name}"
    drawn = _draw_names(arm.history, ("loss", task.metric), of, arm.best_epoch) + _draw_rate(arm.history, of)
    details = [table for table in (tables.epoch_table(arm), tables.rate_table(arm)) if table is not None]
    return _Drawn(
        arm.name,
        drawn,
        sentences.rising_loss(arm.history),
        notes=[arm.choice] if arm.choice else (),
        details=details,
    )


def _draw_rate(history: History, of: str) -> list[Markup]:
    """The rate of the head over the epochs; nothing of a training with fewer than two records of it."""
    points = [(row["epoch"], row["learning_rate"]) for row in history if _is_point(row, "learning_rate")]
    if len(points) < 2:
        return []
    x, y = zip(*points, strict=True)
    return [Markup(draw_curves([Curve("head", x, y)], title=f"{of}: learning rate", unit="learning rate"))]


def _draw_distillation(run: DistillationEvidence) -> _Drawn:
    """Every term of the loss, and every figure validation gave."""
    drawn = _draw_names(run.history, curve_names(run.history), run.name, run.best_epoch)
    took = "" if run.training_s is None else tables.duration(run.training_s)
    return _Drawn(run.name, drawn, sentences.rising_loss(run.history), run.notes, took)


def _draw_names(history: History, names: Sequence[str], of: str, best_epoch: float | None) -> list[Markup]:
    return [
        Markup(draw_curves(curves, title=f"{of}: {name}", unit=name, best_epoch=best_epoch))
        for name in names
        if (curves := read_curves(history, name))
    ]


def _warnings(report: Report) -> list[str]:
    """Every rising validation loss with the training it belongs to, or how many there are when there are many."""
    runs = [(run.name, run.history) for run in report.distillations]
    runs += [(f"{task.name}, {arm.name}", arm.history) for task in report.tasks for arm in task.arms]
    rising = [f"{name}. {warning}" for name, history in runs if (warning := sentences.rising_loss(history))]
    if len(rising) <= MOST_WARNINGS:
        return rising
    return [f"Validation loss rose in {len(rising)} of {len(runs)} trainings; each is marked beside its curves."]


def _retention_figure(report: Report) -> Markup | None:
    dots = [
        Dot(task.name, arm.name, _in_percent(arm.retention), _interval_in_percent(arm))
        for task in report.tasks
        for name in report.arm_names
        if (arm := task.arm(name)) is not None and arm.role != "teacher" and arm.retention is not None
    ]
    if not dots:
        return None
    unit = "share of the teacher's quality (%)"
    return Markup(draw_dots(dots, arms=report.arm_names, title="Retention and its interval", unit=unit, reference=100))


def _tradeoffs(report: Report) -> list[Markup]:
    figures = []
    for task in report.tasks:
        points = {
            arm.name: (arm.latency_ms, arm.medians[task.metric])
            for name in report.arm_names
            if (arm := task.arm(name)) is not None
            and arm.latency_ms is not None
            and math.isfinite(arm.medians.get(task.metric, math.nan))
        }
        if len(points) > 1:
            title = f"{task.name}: quality against time"
            arms, time = report.arm_names, "one text (ms)"
            figures.append(Markup(draw_tradeoff(points, arms=arms, title=title, x_unit=time, y_unit=task.metric)))
    return figures


def _in_percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _interval_in_percent(arm: ArmEvidence) -> tuple[float, float] | None:
    interval = arm.retention_interval
    return None if interval is None else (100 * interval[0], 100 * interval[1])
