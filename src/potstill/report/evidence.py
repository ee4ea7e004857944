"""What a report is made from: plain numbers and words, gathered from run folders. Nothing here computes a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from statistics import median
from typing import Any, Literal

from potstill.errors import CheckError
from potstill.report.decisions.evidence import DecisionEvidence

Role = Literal["teacher", "student", "baseline"]
Interval = tuple[float, float]
History = Sequence[Mapping[str, Any]]
"""Rows with ``step`` and ``epoch`` and any of ``loss``, ``loss_<term>``, ``eval_loss``, ``eval_<term or metric>``."""

Confusion = Sequence[Sequence[int]]
"""``(k, k)`` counts, truth down and prediction across; empty where a text may carry many labels, or a value."""


@dataclass(frozen=True)
class ArmEvidence:
    """One model on one task, over all its seeds.

    metrics: metric -> one value per seed, in the order of ``seeds``; medians, intervals: metric -> value.
    on_selection: the primary metric on the split that choices were made on, median over seeds.
    retention: the primary metric as a share of the teacher's (1.0 is the teacher itself); p_value, by ``test``, of the
    difference from the teacher, and p_beside of that from each other arm; agreement: share of texts on which the arm
    decides as the teacher does.
    confusion, per_class (rows of label, precision, recall, f1, support), history, epochs (a row each, with the figures
    of its validation), choice (which was kept, in words) and rates (a row each part) are those of ``shown_seed``.
    A metric that is not defined on the texts is NaN or left out.
    n_parameters counts weights; bytes_on_disk the weights' file; training_s the wall time of one seed's training;
    latency_ms one text alone; throughput_texts_per_s many texts; truncated_share is in [0, 1]. latency_ratios and
    throughput_ratios: how many times as fast as the teacher in either, one per repeat; empty for the teacher itself.
    decisions: temperature and thresholds, under which all figures are; None where the arm has none.
    """

    name: str
    role: Role
    seeds: Sequence[int] = ()
    metrics: Mapping[str, Sequence[float]] = field(default_factory=dict)
    medians: Mapping[str, float] = field(default_factory=dict)
    on_selection: float | None = None
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    retention: float | None = None
    retention_interval: Interval | None = None
    p_value: float | None = None
    p_beside: Mapping[str, float] = field(default_factory=dict)
    test: str = ""
    agreement: float | None = None
    confusion: Confusion = ()
    shown_seed: int | None = None
    per_class: Sequence[Mapping[str, Any]] = ()
    history: History = ()
    best_epoch: float | None = None
    epochs: Sequence[Mapping[str, Any]] = ()
    choice: str = ""
    rates: Sequence[Mapping[str, Any]] = ()
    n_parameters: int | None = None
    bytes_on_disk: int | None = None
    training_s: float | None = None
    latency_ms: float | None = None
    throughput_texts_per_s: float | None = None
    latency_ratios: Sequence[float] = ()
    throughput_ratios: Sequence[float] = ()
    truncated_share: float | None = None
    decisions: DecisionEvidence | None = None


@dataclass(frozen=True)
class TaskEvidence:
    """One task: what it was measured on, and every arm measured on it.

    metric: the primary metric, by which arms are compared; split: the split all figures are computed on;
    rows: split -> rows as counted; rows_per_label: split -> label -> rows; notes: what was dropped, cut or cleaned.
    failures: the summary of a study of failures, with the columns of its list; None where there was none.
    """

    name: str
    metric: str
    split: str
    arms: Sequence[ArmEvidence]
    rows: Mapping[str, int] = field(default_factory=dict)
    rows_per_label: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    label_names: Sequence[str] = ()
    notes: Sequence[str] = ()
    citation: str = ""
    failures: Mapping[str, Any] | None = None

    def arm(self, name: str) -> ArmEvidence | None:
        """The arm of that name, or None where this task was not run with it."""
        return next((arm for arm in self.arms if arm.name == name), None)

    @property
    def teacher(self) -> ArmEvidence | None:
        """The arm that the others are held against."""
        return next((arm for arm in self.arms if arm.role == "teacher"), None)


@dataclass(frozen=True)
class DistillationEvidence:
    """One training without labels: pretraining or distillation. ``best_epoch`` counts as the history's epochs do."""

    name: str
    history: History
    best_epoch: float | None = None
    training_s: float | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class StudyTab:
    """A study with a page of its own, ``html``, which is self-contained; ``title`` is what its tab says."""

    title: str
    html: str


@dataclass(frozen=True)
class Report:
    """Everything one page shows.

    created: date and time in words; recipe_yaml: the recipe as resolved; commands: what to type to get this again;
    layer_map: rows, all with the same keys, saying where the student's tensors came from; versions and machine: name ->
    value; notes: whatever else was skipped or cut, in words; studies: pages that the report holds as tabs.
    """

    title: str
    created: str
    tasks: Sequence[TaskEvidence]
    distillations: Sequence[DistillationEvidence] = ()
    layer_map: Sequence[Mapping[str, Any]] = ()
    commands: Sequence[str] = ()
    recipe_yaml: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    studies: Sequence[StudyTab] = ()

    @property
    def arm_names(self) -> list[str]:
        """Every arm once: the teacher first, then students, then baselines, in the order met."""
        order = {"teacher": 0, "student": 1, "baseline": 2}
        first_met: dict[str, int] = {}
        for task in self.tasks:
            for arm in task.arms:
                first_met.setdefault(arm.name, order[arm.role])
        return sorted(first_met, key=first_met.__getitem__)

    def arms_named(self, name: str) -> list[tuple[TaskEvidence, ArmEvidence]]:
        """That arm on every task that has it."""
        return [(task, arm) for task in self.tasks if (arm := task.arm(name)) is not None]


def check_report(report: Report) -> None:
    """Raise CheckError where two figures about the same predictions contradict each other.

    A confusion matrix must hold as many texts as the split was counted to have, its diagonal must be the accuracy
    stated for its seed and what is off it the failures of the study, the counts per label of a split must add up to its
    rows, and what was compared must be the median of what the seeds reached.
    """
    for task in report.tasks:
        with_confusion = [arm for arm in task.arms if arm.confusion]
        if with_confusion:  # one label per text: everything can be counted
            _check_label_counts(task)
        for arm in with_confusion:
            _check_total(task, arm)
            _check_diagonal(task, arm)
        _check_failures(task)
        for arm in task.arms:
            _check_medians(task, arm)


def _check_failures(task: TaskEvidence) -> None:
    """The study is of the first seed of the first student, as its confusion matrix is."""
    failures, student = task.failures, next((arm for arm in task.arms if arm.role == "student"), None)
    if failures is None or student is None or not student.confusion or failures["split"] != task.split:
        return
    wrong = sum(map(sum, student.confusion)) - sum(row[i] for i, row in enumerate(student.confusion))
    if failures["n_wrong"] != wrong:
        raise CheckError(
            f"{task.name}, {student.name}: the study of failures counts {failures['n_wrong']} wrong texts and the "
            f"confusion matrix {wrong}",
            do="study them again with: potstill failures",
        )


def _check_medians(task: TaskEvidence, arm: ArmEvidence) -> None:
    for metric, of_seeds in arm.metrics.items():
        compared, reached = arm.medians.get(metric, nan), median(of_seeds) if of_seeds else nan
        if abs(compared - reached) > 1e-6:  # not so for what is not defined
            raise CheckError(
                f"{task.name}, {arm.name}: {metric} was compared as {compared:.6f}, and the median of its seeds is "
                f"{reached:.6f}",
                do="compare again what was evaluated again, with: potstill run",
            )


def _check_label_counts(task: TaskEvidence) -> None:
    for split, counts in task.rows_per_label.items():
        total, rows = sum(counts.values()), task.rows.get(split)
        if rows is not None and total != rows:
            raise CheckError(f"{task.name}: the labels of {split} count {total} rows, the split has {rows}")


def _check_total(task: TaskEvidence, arm: ArmEvidence) -> None:
    total, rows = sum(map(sum, arm.confusion)), task.rows.get(task.split)
    if rows is not None and total != rows:
        raise CheckError(f"{task.name}, {arm.name}: the confusion matrix holds {total} texts, {task.split} has {rows}")


def _check_diagonal(task: TaskEvidence, arm: ArmEvidence) -> None:
    if "accuracy" not in arm.metrics or arm.shown_seed is None or arm.shown_seed not in arm.seeds:
        return
    stated = arm.metrics["accuracy"][list(arm.seeds).index(arm.shown_seed)]
    share = sum(row[i] for i, row in enumerate(arm.confusion)) / max(sum(map(sum, arm.confusion)), 1)
    if abs(stated - share) > 1e-6:
        raise CheckError(
            f"{task.name}, {arm.name}, seed {arm.shown_seed}: accuracy is stated as {stated:.6f} and its confusion "
            f"matrix says {share:.6f}",
            do="evaluate the run again, so that both come from the same predictions",
        )
