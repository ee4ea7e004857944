"""The page's tables: rows of cells, each a text with a smaller line under it; made of evidence, drawn by a template."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from potstill.evaluate.speed import clear_ratio
from potstill.report.evidence import ArmEvidence, Interval, Report, TaskEvidence
from potstill.report.sentences import mean_retention, median_over_tasks, over_all_tasks, percent, significance

NOTHING = "–"


@dataclass(frozen=True)
class Cell:
    """``text``, lines of smaller ``detail`` under it, what to sort by (the text where None), and its link."""

    text: str
    detail: str = ""
    sort: float | None = None
    link: str = ""


@dataclass(frozen=True)
class Table:
    """A first column of names and columns of figures; ``last_is_summary`` sets the last row apart."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    last_is_summary: bool = False


def retention_table(report: Report) -> Table:
    """Tasks down, arms across: median of the primary metric, its interval, and the share of the teacher's."""
    names = report.arm_names
    rows = [
        [Cell(task.name, f"{task.metric}\n{task.split}"), *(_quality(task, name) for name in names)]
        for task in report.tasks
    ]
    if len(report.tasks) > 1:
        means = [mean_retention(report, name) for name in names]
        rows.append([Cell("mean retention"), *(Cell(percent(mean), sort=mean) for mean in means)])
    return Table(["task", *names], rows, last_is_summary=len(report.tasks) > 1)


def size_table(report: Report) -> Table:
    """Arms down: weights, bytes, time of one text, texts per second, training; medians over the tasks."""
    columns = ["model", "parameters", "weights on disk", "one text", "many texts", "training on the task"]
    rows = [_size_row(report, name, report.arm_names[0]) for name in report.arm_names]
    caption = f"Medians over {len(report.tasks)} tasks. " if len(report.tasks) > 1 else ""
    return Table(columns, rows, caption + _compared_with(report.arm_names[0]))


def _compared_with(first: str) -> str:
    return f"The small figures compare with “{first}”; a speed is called another where all repeats agree."


def metrics_table(task: TaskEvidence) -> Table:
    """Arms down, metrics across: median over the seeds, with the interval; then what holds against the teacher.

    Last the primary metric on the selection split, where any arm has it: what choices saw, and no measure of quality.
    """
    metrics = list(dict.fromkeys([task.metric, *(name for arm in task.arms for name in arm.medians)]))
    shown = any(arm.on_selection is not None for arm in task.arms)
    rows = []
    for arm in task.arms:
        values = [_metric_cell(arm, metric) for metric in metrics]
        agreement = Cell(percent(arm.agreement), sort=arm.agreement)
        on_selection = [_number(arm.on_selection)] if shown else []
        rows.append([Cell(arm.name, _seeds(arm)), *values, agreement, _against_teacher(arm), *on_selection])
    columns = ["model", *metrics, "agrees with teacher", "difference from teacher"]
    if not shown:
        return Table(columns, rows)
    caption = "Choices were made on the selection split: its figures say how, and not how good a model is."
    return Table([*columns, f"{task.metric} on selection"], rows, caption)


def per_class_table(task: TaskEvidence) -> Table | None:
    """Labels down: support, the student's precision and recall, and F1 of every arm; None without classes."""
    arms = [arm for arm in task.arms if arm.per_class]
    if not arms:
        return None
    student = next((arm for arm in arms if arm.role == "student"), arms[0])
    rows = []
    for index, row in enumerate(student.per_class):
        f1s = [_number(arm.per_class[index]["f1"]) for arm in arms]
        support = Cell(f"{row['support']:,}", sort=row["support"])
        rows.append([Cell(str(row["label"])), support, _number(row["precision"]), _number(row["recall"]), *f1s])
    columns = ["label", "texts", f"precision, {student.name}", f"recall, {student.name}"]
    return Table([*columns, *(f"F1, {arm.name}" for arm in arms)], rows, _shown_seeds(arms))


def epoch_table(arm: ArmEvidence) -> Table | None:
    """Epochs down: training's loss, and validation's figures on the selection split; None where none was validated."""
    if not arm.epochs:
        return None
    names = [name for name in arm.epochs[0] if name not in ("epoch", "step", "training_loss", "loss", "kept")]
    rows = [
        [
            Cell(str(row["epoch"]), "kept" if row["kept"] else "", sort=row["epoch"]),
            *(Cell(_decimal(row[name]), sort=row[name]) for name in ("training_loss", "loss", *names)),
        ]
        for row in arm.epochs
    ]
    caption = _joined("Measured on the selection split.", _shown_seeds([arm]), by=" ")
    return Table(["epoch", "loss in training", "loss", *names], rows, caption)


def rate_table(arm: ArmEvidence) -> Table | None:
    """Parts of the model down, the head first: their peak learning rates and first steps; None if all are alike."""
    if len({(row["learning_rate"], row["from_step"]) for row in arm.rates}) < 2:
        return None
    rows = [
        [
            Cell(row["part"]),
            Cell(f"{row['parameters']:,}", sort=row["parameters"]),
            Cell(NOTHING if row["learning_rate"] is None else f"{row['learning_rate']:.3g}", sort=row["learning_rate"]),
            Cell("never" if row["from_step"] is None else f"{row['from_step']:,}", sort=row["from_step"]),
        ]
        for row in reversed(arm.rates)
    ]
    return Table(["part", "parameters", "peak learning rate", "trains from step"], rows)


def split_table(task: TaskEvidence) -> Table | None:
    """Splits down: rows and share as counted, then rows of each label; None where nothing was counted."""
    if not task.rows:
        return None
    labels = list(dict.fromkeys(label for counts in task.rows_per_label.values() for label in counts))
    total = max(sum(task.rows.values()), 1)
    rows = []
    for split, count in task.rows.items():
        counts = task.rows_per_label.get(split, {})
        cells = [Cell(f"{counts.get(label, 0):,}", sort=counts.get(label, 0)) for label in labels]
        rows.append([Cell(split), Cell(f"{count:,}", sort=count), Cell(percent(count / total), sort=count), *cells])
    return Table(["split", "rows", "share", *labels], rows)


def mapping_table(rows: Sequence[Mapping[str, Any]]) -> Table | None:
    """Rows that share their keys, as they are (the layer map); None where there are none."""
    if not rows:
        return None
    columns = list(rows[0])
    return Table(columns, [[Cell(str(row[column])) for column in columns] for row in rows])


def _quality(task: TaskEvidence, name: str) -> Cell:
    arm = task.arm(name)
    if arm is None:
        return Cell(NOTHING)
    kept = "" if arm.retention is None or arm.role == "teacher" else f"keeps {percent(arm.retention)}"
    value = arm.medians.get(task.metric)
    return Cell(_decimal(value), _joined(_between(arm.intervals.get(task.metric)), kept, by="\n"), sort=value)


def _metric_cell(arm: ArmEvidence, metric: str) -> Cell:
    value = arm.medians.get(metric)
    return Cell(_decimal(value), _between(arm.intervals.get(metric)), sort=value)


def _against_teacher(arm: ArmEvidence) -> Cell:
    if arm.role == "teacher":
        return Cell(NOTHING)
    interval = arm.retention_interval
    between = "" if interval is None else f"{percent(interval[0])} to {percent(interval[1])}"
    kept = "" if arm.retention is None else f"keeps {percent(arm.retention)}"
    tested = _joined(significance(arm), f"({arm.test})" if arm.test and arm.p_value is not None else "", by=" ")
    return Cell(kept or NOTHING, _joined(between, tested, by="\n"), sort=arm.retention)


def _size_row(report: Report, name: str, first: str) -> list[Cell]:
    def size(field_name: str, form: str) -> Cell:
        value, reference = (median_over_tasks(report, arm, field_name) for arm in (name, first))
        return _size_cell(value, reference, form)

    def speed(field_name: str, ratios: str, form: str) -> Cell:
        return _speed_cell(median_over_tasks(report, name, field_name), over_all_tasks(report, name, ratios), form)

    training_s = median_over_tasks(report, name, "training_s")
    return [
        Cell(name),
        size("n_parameters", "{:.1f} M"),
        size("bytes_on_disk", "{:.1f} MB"),
        speed("latency_ms", "latency_ratios", "{:.1f} ms"),
        speed("throughput_texts_per_s", "throughput_ratios", "{:,.0f} texts/s"),
        Cell(duration(training_s), sort=training_s),
    ]


def _size_cell(value: float | None, reference: float | None, form: str) -> Cell:
    """A size in millions, and how many times it fits into the reference's or the other way round."""
    if value is None:
        return Cell(NOTHING)
    ratio = reference / value if reference and value else 1.0
    return Cell(form.format(value / 1e6), _times(ratio, "smaller", "larger") if ratio != 1 else "", sort=value)


def _speed_cell(value: float | None, ratios: Sequence[float], form: str) -> Cell:
    if value is None:
        return Cell(NOTHING)
    ratio = clear_ratio(ratios) if ratios else None
    unclear = "not distinguishable" if ratios else ""
    return Cell(form.format(value), unclear if ratio is None else _times(ratio, "faster", "slower"), sort=value)


def _times(ratio: float, word: str, opposite: str) -> str:
    return f"{ratio:.1f}× {word}" if ratio > 1 else f"{1 / ratio:.1f}× {opposite}"


def duration(seconds: float | None) -> str:
    """Seconds as ``42 s``, ``3 min 05 s`` or ``1 h 20 min``; an en dash for None."""
    if seconds is None:
        return NOTHING
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _number(value: float | None) -> Cell:
    return Cell(_decimal(value), sort=value)


def _decimal(value: float | None) -> str:
    return NOTHING if value is None or math.isnan(value) else f"{value:.3f}".replace("-", "−")


def _between(interval: Interval | None) -> str:
    return "" if interval is None else f"{_decimal(interval[0])} to {_decimal(interval[1])}"


def _seeds(arm: ArmEvidence) -> str:
    if not arm.seeds:
        return ""
    return f"seed {arm.seeds[0]}" if len(arm.seeds) == 1 else f"median of {len(arm.seeds)} seeds"


def _shown_seeds(arms: Sequence[ArmEvidence]) -> str:
    seeds = {arm.shown_seed for arm in arms if arm.shown_seed is not None}
    return f"Of seed {seeds.pop()}." if len(seeds) == 1 else ""


def _joined(*parts: str, by: str) -> str:
    return by.join(part for part in parts if part)
