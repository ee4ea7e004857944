"""Evidence as three tasks and four arms would leave it; its figures agree with one another, as real ones do."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from potstill.analyse.failures.study import FailureStudy, study_failures
from potstill.analyse.failures.summary import summarise
from potstill.records import Predictions, ProblemType, Text
from potstill.report.evidence import ArmEvidence, DistillationEvidence, Report, TaskEvidence
from potstill.report.failures.rows import browser_columns
from potstill.report.page import render_page

TEACHER, STUDENT, UNDISTILLED, RANDOM = "teacher", "student", "student, not distilled", "student, random"
ROLES = {TEACHER: "teacher", STUDENT: "student", UNDISTILLED: "baseline", RANDOM: "baseline"}
SIZES = {TEACHER: (22_714_000, 8.9, 163.0), STUDENT: (17_390_000, 4.7, 301.0)}
UNREST = (0.97, 1.0, 1.04)
"""What each of three repeats of the measurement of speed is off by."""
TASKS = {
    "cola": ("matthews_corrcoef", ("unacceptable", "acceptable"), 1043, (0.462, 0.391, 0.224, 0.031)),
    "sst2": ("accuracy", ("negative", "positive"), 872, (0.912, 0.893, 0.846, 0.794)),
    "docstrings": (
        "f1_macro",
        ("datasets", "matplotlib", "numpy", "pandas", "scikit-learn", "scipy", "torch", "transformers"),
        1600,
        (0.838, 0.814, 0.741, 0.613),
    ),
}


def make_report() -> Report:
    """A whole report: three tasks, the teacher, the student and both baselines, and one distillation."""
    return Report(
        title="MiniLM, six layers to three",
        created="2026-03-14 09:26",
        tasks=[make_task(name) for name in TASKS],
        distillations=[make_distillation()],
        layer_map=[
            {
                "student": f"distilbert.transformer.layer.{to}.*",
                "teacher": f"bert.encoder.layer.{of}.*",
                "tensors": "16",
            }
            for to, of in enumerate((0, 2, 5))
        ]
        + [
            {
                "student": "distilbert.embeddings.position_embeddings.weight",
                "teacher": "bert.embeddings.position_embeddings.weight + token_type[0]",
                "tensors": "1",
            },
            {"student": "vocab_transform.*", "teacher": "cls.predictions.transform.dense.*", "tensors": "2"},
        ],
        commands=["potstill run recipes/e5-distilbert.yaml --set teacher.model=minilm-l6", "potstill report runs/e5"],
        recipe_yaml="teacher:\n  model: minilm-l6\nstudent:\n  layers: 3\n  layer_choice: paper\n",
        versions={"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0"},
        machine={"processor": "2 cores", "memory": "8 GB"},
        notes=["3 of 23,767 paragraphs of the corpus were empty after cleaning and were left out."],
    )


def make_task(name: str) -> TaskEvidence:
    """One task with its four arms, the same texts under each."""
    metric, labels, n_texts, qualities = TASKS[name]
    measured = [
        make_arm(arm, metric=metric, labels=labels, n_texts=n_texts, quality=quality)
        for arm, quality in zip(ROLES, qualities, strict=True)
    ]
    arms = [hold_against(measured[0], arm, metric) for arm in measured]
    rows = {"train": 6 * n_texts, "selection": n_texts // 2, "validation": n_texts}
    return TaskEvidence(
        name=name,
        metric=metric,
        split="validation",
        arms=arms,
        rows=rows,
        rows_per_label={
            split: dict(zip(labels, spread(count, len(labels)), strict=True)) for split, count in rows.items()
        },
        label_names=labels,
        notes=["2 of 8,551 rows of train were left out: their text is empty.", "train: 7 texts occur twice."],
        citation="Warstadt et al. (2019), Neural Network Acceptability Judgments" if name == "cola" else "",
    )


def make_arm(name: str, *, metric: str, labels: tuple[str, ...], n_texts: int, quality: float) -> ArmEvidence:
    """An arm whose accuracy, confusion matrix and per-class rows are of the same predictions."""
    confusion = make_confusion(
        len(labels), n_texts, correct=quality if metric != "matthews_corrcoef" else 0.5 + 0.5 * quality
    )
    accuracy = float(np.trace(confusion) / confusion.sum())
    values = {"accuracy": [accuracy, accuracy - 0.004, accuracy + 0.006]}
    values.setdefault(metric, [quality, quality - 0.013, quality + 0.009])
    n_parameters, latency_ms, throughput = SIZES[TEACHER if name == TEACHER else STUDENT]
    return ArmEvidence(
        name=name,
        role=ROLES[name],  # type: ignore[arg-type]
        seeds=(1, 2, 3),
        metrics=values,
        medians={metric_name: float(np.median(of_seeds)) for metric_name, of_seeds in values.items()},
        intervals={
            metric_name: (min(of_seeds) - 0.02, max(of_seeds) + 0.02) for metric_name, of_seeds in values.items()
        },
        confusion=confusion.tolist(),
        shown_seed=1,
        per_class=make_per_class(confusion, labels),
        history=make_history(metric, quality, overfits=name == TEACHER and metric == "matthews_corrcoef"),
        best_epoch=3.0,
        n_parameters=n_parameters,
        bytes_on_disk=4 * n_parameters,
        training_s=412.0 if name == TEACHER else 233.0,
        latency_ms=latency_ms,
        throughput_texts_per_s=throughput,
        truncated_share=0.0 if metric == "accuracy" else 0.021,
    )


def hold_against(teacher: ArmEvidence, arm: ArmEvidence, metric: str) -> ArmEvidence:
    """The arm with the share it keeps of the teacher's median, and a test of the difference."""
    retention = arm.medians[metric] / teacher.medians[metric]
    if arm is teacher:
        return replace(arm, retention=retention)
    return replace(
        arm,
        retention=retention,
        retention_interval=(retention - 0.045, retention + 0.04),
        p_value=0.083 if arm.name == STUDENT and metric == "accuracy" else 0.0004,
        test="paired bootstrap",
        agreement=0.6 + 0.35 * retention,
        latency_ratios=[unrest * teacher.latency_ms / arm.latency_ms for unrest in UNREST],
        throughput_ratios=[unrest * arm.throughput_texts_per_s / teacher.throughput_texts_per_s for unrest in UNREST],
    )


def make_confusion(n_labels: int, n_texts: int, *, correct: float) -> np.ndarray:
    """``(k, k)`` counts that sum to ``n_texts`` with about ``correct`` of them on the diagonal."""
    confusion = np.zeros((n_labels, n_labels), dtype=int)
    for label, count in enumerate(spread(n_texts, n_labels)):
        right = round(count * (correct - 0.02 * (label % 3)))
        confusion[label, label] = right
        others = [other for other in range(n_labels) if other != label]
        for other, wrong in zip(others, spread(count - right, len(others)), strict=True):
            confusion[label, other] = wrong
    return confusion


def make_per_class(confusion: np.ndarray, labels: tuple[str, ...]) -> list[dict[str, object]]:
    """Precision, recall, F1 and support of each label, by their definitions."""
    rows = []
    for index, label in enumerate(labels):
        right, support, predicted = confusion[index, index], confusion[index].sum(), confusion[:, index].sum()
        precision, recall = right / predicted, right / support
        f1 = 2 * precision * recall / (precision + recall)
        rows.append({"label": label, "precision": precision, "recall": recall, "f1": f1, "support": int(support)})
    return rows


def make_history(metric: str, quality: float, *, overfits: bool) -> list[dict[str, float]]:
    """Four epochs of fine-tuning, as the trainer logs them; validation loss turns after the second if it overfits."""
    rows: list[dict[str, float]] = []
    for tenth in range(1, 41):
        epoch = tenth / 10
        loss = 0.69 * math.exp(-0.5 * epoch) + 0.02 * math.sin(7 * epoch)
        rows.append({"step": 20 * tenth, "epoch": epoch, "loss": loss, "learning_rate": 2e-5, "tokens_per_s": 5100.0})
        if tenth % 10 == 0:
            turn = 0.06 * max(epoch - 2, 0) if overfits else 0.0
            validation = 0.3 + 0.3 * math.exp(-0.9 * epoch) + turn
            better = quality * (1 - 0.25 * math.exp(-epoch)) - (0.01 if epoch > 3 else 0)
            rows.append({"step": 20 * tenth, "epoch": epoch, "eval_loss": validation, f"eval_{metric}": better})
    return rows


def make_distillation() -> DistillationEvidence:
    """Three epochs of the triple loss, every term falling."""
    rows: list[dict[str, float]] = []
    for tenth in range(1, 31):
        epoch = tenth / 10
        terms = {"kl": 2.4 * math.exp(-epoch) + 0.6, "mlm": 3.5 * math.exp(-epoch) + 2.4, "cos": 0.3 * math.exp(-epoch)}
        total = 5 * terms["kl"] + 2 * terms["mlm"] + terms["cos"]
        rows.append({"step": 10 * tenth, "epoch": epoch, "loss": total, **{f"loss_{k}": v for k, v in terms.items()}})
        if tenth % 10 == 0:
            rows.append({"step": 10 * tenth, "epoch": epoch, **{f"eval_{k}": v + 0.1 for k, v in terms.items()}})
            rows[-1] |= {"eval_perplexity": math.exp(terms["mlm"]), "eval_agreement": 0.8 - 0.4 * math.exp(-epoch)}
    return DistillationEvidence(
        name="distillation, 6 to 3 layers",
        history=rows,
        best_epoch=3.0,
        training_s=1312.0,
        notes=["2,413,006 tokens in 18,852 blocks of at most 128; 2% of the blocks are held out for validation."],
    )


def spread(total: int, parts: int) -> list[int]:
    """``total`` in ``parts`` nearly equal parts that sum to it."""
    return [total // parts + (index < total % parts) for index in range(parts)]


def with_arm(report: Report, arm_name: str, **changes: object) -> Report:
    """The report with that arm changed on every task."""
    tasks = [
        replace(task, arms=[replace(arm, **changes) if arm.name == arm_name else arm for arm in task.arms])
        for task in report.tasks
    ]
    return replace(report, tasks=tasks)


@pytest.fixture(scope="session")
def report() -> Report:
    """Three tasks, the teacher, the student and both baselines, one distillation."""
    return make_report()


@pytest.fixture(scope="session")
def small_report(report: Report) -> Report:
    """One task of two labels, without curves: quick to draw."""
    without_curves = [replace(arm, history=()) for arm in report.tasks[0].arms]
    return replace(report, tasks=[replace(report.tasks[0], arms=without_curves)], distillations=[])


@pytest.fixture(scope="session")
def page(report: Report) -> str:
    """The whole report as a page; only the first task has curves, which are slow to draw."""
    without_curves = [replace(task, arms=[replace(arm, history=()) for arm in task.arms]) for task in report.tasks[1:]]
    return render_page(replace(report, tasks=[report.tasks[0], *without_curves]))


@pytest.fixture
def change_arm() -> Callable[..., Report]:
    """``change_arm(report, arm_name, field=value)``: the report with that arm changed on every task."""
    return with_arm


# -- failures: predictions of a student and a teacher, texts, and their study ------------------------------------------


@dataclass(frozen=True)
class Failures:
    """What a page of failures is made from."""

    student: Predictions
    teacher: Predictions
    texts: list[Text]
    study: FailureStudy

    @property
    def summary(self) -> dict[str, Any]:
        """As the stage makes it."""
        names = {"task": "reviews", "model": "student, seed 1", "teacher_model": "teacher, seed 1", "split": "test"}
        made = {"created": "2026-03-14T09:26:00+00:00", **summarise(self.study, self.texts)}
        return {**names, **made, "browser": browser_columns(self.study, self.texts)}


@pytest.fixture(scope="session")
def make_failures(random_rows: Any, shuffle_rows: Any, random_texts: Any) -> Callable[..., Failures]:
    """``make_failures(kind, n)``: student, teacher, random texts (each beginning with ``text``) and their study."""

    def make(
        kind: ProblemType,
        n: int,
        *,
        pairs: bool = False,
        text: str = "",
        alone: bool = False,
        label_names: tuple[str, ...] | None = None,
        order: Sequence[int] | None = None,
    ) -> Failures:
        rows = np.arange(n) if order is None else np.asarray(order)
        student, teacher = (shuffle_rows(random_rows(kind, n, seed, label_names=label_names), rows) for seed in (1, 2))
        drawn: list[Any] = [f"{text} {one}".strip() for one in random_texts(2 * n)]
        drawn = list(zip(drawn[:n], drawn[n:], strict=True)) if pairs else drawn[:n]
        texts = [drawn[row] for row in rows]
        study = study_failures(student, texts, teacher=None if alone else teacher, training_texts=drawn[:3])
        return Failures(student, teacher, texts, study)

    return make
