"""The stages of a recipe: what each is asked to do and where, in an order in which each finds what it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill.recipe.baseline_jobs import BilstmJob, TfidfJob, bilstm_parts, tfidf_parts
from potstill.recipe.models import StudentSection, TeacherSection
from potstill.recipe.schema import (
    ENCODER_BASELINES,
    DistilJob,
    DistilSection,
    FinetuneJob,
    Job,
    PretrainJob,
    Recipe,
    TaskSection,
)
from potstill.runs import RunFolder

ARMS: Mapping[str, tuple[str, str]] = {
    "teacher": ("teacher", "teacher"),
    "student": ("student", "student"),
    "student-second": ("student, second distillation", "student"),
    "copied": ("copied layers, no distillation", "baseline"),
    "random": ("random weights", "baseline"),
    "mlm_only": ("copied layers, MLM only", "baseline"),
    "bilstm": ("BiLSTM with attention", "baseline"),
    "tfidf": ("TF-IDF and a linear model", "baseline"),
}
"""Folder of each arm → its name in tables, and its role."""


@dataclass(frozen=True)
class Stage:
    """One step of the plan: a name to show, and the job that says what is done and where."""

    name: str
    job: Job

    def run(self) -> RunFolder:
        """Do it, or find it done; the rooms behind it are heavy and are entered only now."""
        if isinstance(self.job, PretrainJob):
            from potstill.pretrain import stage as pretrain_stage

            return pretrain_stage.run(self.job)
        if isinstance(self.job, DistilJob):
            from potstill.distil import stage as distil_stage

            return distil_stage.run(self.job)
        if isinstance(self.job, TfidfJob | BilstmJob):
            from potstill.baselines import stage as baselines_stage

            return baselines_stage.run(self.job)
        from potstill.finetune import stage as finetune_stage

        assert isinstance(self.job, FinetuneJob)
        return finetune_stage.run(self.job)


def plan(recipe: Recipe) -> list[Stage]:
    """Every stage of the recipe, in an order in which each finds what it needs."""
    stages: list[Stage] = []
    if recipe.pretrain is not None:
        stages.append(Stage("pretrain the teacher's head", pretrain_job(recipe)))
    if recipe.student.model is None:
        stages.append(Stage("distil the student", distil_job(recipe, "student", recipe.student.shape, recipe.distil)))
    stages += [_baseline(recipe, name) for name in encoder_baselines(recipe)]
    stages += [stage for task in recipe.tasks for stage in _finetunes(recipe, task)]
    return stages


def pretrain_job(recipe: Recipe) -> PretrainJob:
    """What makes the teacher a masked-language model, where the recipe has the section ``pretrain``."""
    assert recipe.pretrain is not None
    return PretrainJob(
        out=recipe.folder / "encoders" / "teacher",
        seed=recipe.seeds[0],
        data_dir=recipe.data_dir,
        model=recipe.teacher.model,
        corpus=recipe.corpus,
        pretrain=recipe.pretrain,
    )


def _teacher_model(recipe: Recipe) -> str:
    """The teacher that is distilled and fine-tuned: as given, or with the head that was trained for it."""
    return recipe.teacher.model if recipe.pretrain is None else str(recipe.folder / "encoders" / "teacher")


def distil_job(recipe: Recipe, arm: str, student: StudentSection, distil: DistilSection) -> DistilJob:
    """What makes the encoder of an arm: ``student`` distilled as ``distil`` says."""
    return DistilJob(
        out=recipe.folder / "encoders" / arm,
        seed=recipe.seeds[0],
        data_dir=recipe.data_dir,
        teacher=TeacherSection(model=_teacher_model(recipe)),
        corpus=recipe.corpus,
        student=student,
        distil=distil,
    )


def encoder_baselines(recipe: Recipe) -> list[str]:
    """The baselines that are encoders of the student's shape."""
    return [name for name in recipe.baselines if name in ENCODER_BASELINES]


def _baseline(recipe: Recipe, name: str) -> Stage:
    """An encoder of the student's shape that went without what the student got."""
    student, distil = recipe.student.shape, recipe.distil
    untrained = DistilSection(epochs=0.0)
    match name:
        case "copied":
            distil = untrained
        case "random":
            student, distil = student.model_copy(update={"initialise": "random"}), untrained
        case "mlm_only":
            no_teacher = {f"alpha_{term}": 0.0 for term in ("ce", "cos", "logit_mse", "hidden_mse")}
            distil = distil.model_copy(update={**no_teacher, "alpha_mlm": 1.0, "hidden_pairs": ()})
    return Stage(f"baseline: {ARMS[name][0]}", distil_job(recipe, name, student, distil))


def arms_of(recipe: Recipe) -> list[str]:
    """The arms that every task is fine-tuned with, the teacher first."""
    return ["teacher", "student", *(["student-second"] if recipe.second_distillation else []), *recipe.baselines]


def _finetunes(recipe: Recipe, task: TaskSection) -> Iterator[Stage]:
    for arm in arms_of(recipe):
        for seed in task.seeds or recipe.seeds:
            yield Stage(f"{task.name}: {ARMS[arm][0]}, seed {seed}", classifier_job(recipe, task, arm, seed))


def classifier_job(recipe: Recipe, task: TaskSection, arm: str, seed: int) -> FinetuneJob | TfidfJob:
    """What makes the classifier of an arm: fine-tuning its encoder, or training on the task alone."""
    where: dict[str, Any] = {
        "out": run_path(recipe.folder, task.name, arm, seed),
        "seed": seed,
        "data_dir": recipe.data_dir,
        "task": _task_alone(task),
    }
    if arm == "tfidf":
        return TfidfJob(**where, **tfidf_parts(recipe, task))
    if arm == "bilstm":
        return BilstmJob(**where, model=_teacher_model(recipe), **bilstm_parts(recipe, task))
    student = recipe.student.model or str(recipe.folder / "encoders" / "student")
    encoder = {"teacher": _teacher_model(recipe), "student": student, "student-second": student}
    return FinetuneJob(
        **where,
        model=encoder.get(arm, str(recipe.folder / "encoders" / arm)),
        teacher=str(run_path(recipe.folder, task.name, "teacher", seed)) if arm == "student-second" else None,
        finetune=recipe.finetune_for(task),
    )


def _task_alone(task: TaskSection) -> TaskSection:
    """What decides the rows of a task, without how it is trained on."""
    return task.model_copy(update={"finetune": {}, "seeds": None})


def run_path(root: Path, task: str, arm: str, seed: int) -> Path:
    """Where a classifier's run lies in an experiment."""
    return root / "tasks" / task / arm / f"seed-{seed}"


def describe_experiment(recipe: Recipe) -> dict[str, Any]:
    """What the comparison and the report have to know of an experiment, as plain values with relative paths."""
    root = recipe.folder
    encoders = ["teacher"] if recipe.pretrain is not None else []
    encoders += ["student"] if recipe.student.model is None else []
    encoders += encoder_baselines(recipe)
    return {
        "name": recipe.name,
        "teacher": recipe.teacher.model,
        "encoders": {arm: {"title": ARMS[arm][0], "run": f"encoders/{arm}"} for arm in encoders},
        "tasks": [
            {
                "name": task.name,
                "seeds": list(task.seeds or recipe.seeds),
                "arms": {
                    arm: {
                        "title": ARMS[arm][0],
                        "role": ARMS[arm][1],
                        "runs": [
                            run_path(root, task.name, arm, seed).relative_to(root).as_posix()
                            for seed in task.seeds or recipe.seeds
                        ],
                    }
                    for arm in arms_of(recipe)
                },
            }
            for task in recipe.tasks
        ],
    }
