"""The stages of ``potstill run`` in order: planned from a recipe, finished ones skipped, changed ones run again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill.errors import OtherRunError
from potstill.machine import machine, versions
from potstill.recipe import (
    ENCODER_BASELINES,
    DistilJob,
    DistilSection,
    FinetuneJob,
    Job,
    PretrainJob,
    Recipe,
    StudentSection,
    TaskSection,
    TeacherSection,
)
from potstill.recipe_baseline_jobs import BilstmJob, TfidfJob, bilstm_parts
from potstill.runs import (
    RunFolder,
    fingerprint,
    read_json,
    require_unused,
    set_aside,
    write_json,
    write_text,
)

EXPERIMENT = "experiment.json"
Tell = Callable[[str], None]

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
        stages.append(Stage("pretrain the teacher's head", _pretrain_job(recipe)))
    stages.append(Stage("distil the student", _distil_job(recipe, "student", recipe.student, recipe.distil)))
    stages += [_baseline(recipe, name) for name in _encoder_baselines(recipe)]
    stages += [stage for task in recipe.tasks for stage in _finetunes(recipe, task)]
    return stages


def _pretrain_job(recipe: Recipe) -> PretrainJob:
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


def _distil_job(recipe: Recipe, arm: str, student: StudentSection, distil: DistilSection) -> DistilJob:
    return DistilJob(
        out=recipe.folder / "encoders" / arm,
        seed=recipe.seeds[0],
        data_dir=recipe.data_dir,
        teacher=TeacherSection(model=_teacher_model(recipe)),
        corpus=recipe.corpus,
        student=student,
        distil=distil,
    )


def _encoder_baselines(recipe: Recipe) -> list[str]:
    return [name for name in recipe.baselines if name in ENCODER_BASELINES]


def _baseline(recipe: Recipe, name: str) -> Stage:
    """An encoder of the student's shape that went without what the student got."""
    student, distil = recipe.student, recipe.distil
    untrained = DistilSection(epochs=0.0)
    match name:
        case "copied":
            distil = untrained
        case "random":
            student, distil = student.model_copy(update={"initialise": "random"}), untrained
        case "mlm_only":
            no_teacher = {f"alpha_{term}": 0.0 for term in ("ce", "cos", "logit_mse", "hidden_mse")}
            distil = distil.model_copy(update={**no_teacher, "alpha_mlm": 1.0, "hidden_pairs": ()})
    return Stage(f"baseline: {ARMS[name][0]}", _distil_job(recipe, name, student, distil))


def arms_of(recipe: Recipe) -> list[str]:
    """The arms that every task is fine-tuned with, the teacher first."""
    return ["teacher", "student", *(["student-second"] if recipe.second_distillation else []), *recipe.baselines]


def _finetunes(recipe: Recipe, task: TaskSection) -> Iterator[Stage]:
    for arm in arms_of(recipe):
        for seed in task.seeds or recipe.seeds:
            yield Stage(f"{task.name}: {ARMS[arm][0]}, seed {seed}", _classifier_job(recipe, task, arm, seed))


def _classifier_job(recipe: Recipe, task: TaskSection, arm: str, seed: int) -> Job:
    """What makes the classifier of an arm: fine-tuning its encoder, or training on the task alone."""
    where = {"out": run_path(recipe.folder, task.name, arm, seed), "seed": seed, "data_dir": recipe.data_dir}
    if arm == "tfidf":
        metric = recipe.finetune_for(task).metric
        return TfidfJob(**where, task=_task_alone(task), metric=metric, tfidf=recipe.tfidf)
    if arm == "bilstm":
        return BilstmJob(**where, model=recipe.teacher.model, task=_task_alone(task), **bilstm_parts(recipe, task))
    return _finetune_job(recipe, task, arm, seed)


def _finetune_job(recipe: Recipe, task: TaskSection, arm: str, seed: int) -> FinetuneJob:
    encoder = {"teacher": _teacher_model(recipe), "student-second": str(recipe.folder / "encoders" / "student")}
    return FinetuneJob(
        out=run_path(recipe.folder, task.name, arm, seed),
        seed=seed,
        data_dir=recipe.data_dir,
        model=encoder.get(arm, str(recipe.folder / "encoders" / arm)),
        task=_task_alone(task),
        teacher=str(run_path(recipe.folder, task.name, "teacher", seed)) if arm == "student-second" else None,
        finetune=recipe.finetune_for(task),
    )


def _task_alone(task: TaskSection) -> TaskSection:
    """What decides the rows of a task, without how it is trained on."""
    return task.model_copy(update={"finetune": {}, "seeds": None})


def run_path(root: Path, task: str, arm: str, seed: int) -> Path:
    """Where a classifier's run lies in an experiment."""
    return root / "tasks" / task / arm / f"seed-{seed}"


def pretrain(job: PretrainJob) -> RunFolder:
    """Train a masked-language model and write its card."""
    return _with_card(Stage("pretrain", job))


def distil(job: DistilJob) -> RunFolder:
    """Distil a student and write its card."""
    return _with_card(Stage("distil", job))


def finetune(job: FinetuneJob | TfidfJob) -> RunFolder:
    """Fine-tune a classifier, or train a baseline on the task alone, and write its card and its page."""
    from potstill.report.stage import write_run_page

    run = _with_card(Stage("finetune", job))
    write_run_page(run.path)
    return run


def _with_card(stage: Stage) -> RunFolder:
    from potstill.report.stage import write_card

    run = stage.run()
    write_card(run.path)
    return run


def evaluate(
    run: Path | str, *, split: str | None = None, data_dir: Path | None = None, batch_size: int = 64
) -> dict[str, float]:
    """Predict a split with a run, store the predictions, and return the metrics computed from them."""
    from potstill.evaluate.stage import evaluate_run

    return evaluate_run(run, split=split, data_dir=data_dir, batch_size=batch_size)


def compare(
    paths: Sequence[Path],
    *,
    metric: str | None = None,
    resamples: int = 1000,
    speed: bool = True,
    data_dir: Path | None = None,
) -> dict[str, Any]:
    """Runs, or folders of ``seed-…`` runs, held against the first of them, with ``costs`` and a ``verdict`` in words.

    ``speed`` measures latency and throughput of one run per arm, on texts of the first run's task, which are looked for
    in ``data_dir`` or where that run found them.
    """
    from potstill.evaluate.retention import verdict
    from potstill.evaluate.stage import arms_in, compare_runs, costs_of, measure_runs

    arms = arms_in(paths)
    compared = compare_runs(arms, metric=metric, resamples=resamples)
    speeds = measure_runs({name: runs[0] for name, runs in arms.items()}, data_dir=data_dir) if speed else None
    sizes = {name: RunFolder.open(runs[0]).manifest["parameters"] for name, runs in arms.items()}
    others = [name for name in arms if name != compared.reference]
    told = [verdict(compared, name, n_parameters=sizes, speeds=speeds) for name in others]
    return {**compared.to_dict(), "costs": costs_of(arms, speeds), "verdict": " ".join(told)}


def report(folder: Path) -> Path:
    """Write page and cards again, of an experiment or of one classifier's run; returns the page's path."""
    from potstill.report.stage import write_card, write_cards, write_experiment_page, write_run_page

    experiment = read_json(folder / EXPERIMENT)
    if experiment is None:
        write_card(folder)
        return write_run_page(folder)
    write_cards(folder, experiment)
    return write_experiment_page(folder, experiment)


def results(folder: Path) -> dict[str, Any]:
    """The comparison and the speed of every task of a finished experiment, as plain values."""
    experiment = read_json(folder / EXPERIMENT)
    return {
        "page": str(folder / "report.html"),
        "tasks": {
            task["name"]: {
                kind: read_json(folder / "tasks" / task["name"] / f"{kind}.json") for kind in ("comparison", "speed")
            }
            for task in experiment["tasks"]
        },
    }


def run_recipe(recipe: Recipe, *, tell: Tell = print) -> Path:
    """Run every stage, compare the arms and write the report; returns the report's path.

    Finished stages are skipped, an interrupted one resumes. A stage whose recipe or input changed runs again; what it
    left before is set aside under another name, and ``tell`` says so.
    """
    stages = plan(recipe)
    _read_inputs(recipe)
    _claim_folder(recipe)
    for number, stage in enumerate(stages, start=1):
        tell(f"[{number}/{len(stages)}] {stage.name}")
        _run_stage(stage, tell)
    return finish_experiment(recipe.folder, recipe, tell)


def _run_stage(stage: Stage, tell: Tell) -> RunFolder:
    try:
        return stage.run()
    except OtherRunError:
        kept = set_aside(stage.job.out)
        tell(f"    its recipe or input changed: it runs again; the run before is kept in {kept}")
        return stage.run()


def _read_inputs(recipe: Recipe) -> None:
    """Meet at once what a late stage would stop at: teacher, corpus, rows, or settings that do not go together.

    No weights are read for it. Stages that differ in arm and seed alone are refused for the same reasons.
    """
    from potstill.baselines import stage as baselines_stage
    from potstill.data.corpora import load_corpus
    from potstill.distil import stage as distil_stage
    from potstill.finetune import stage as finetune_stage
    from potstill.models.teacher import load_tokenizer, resolve_model, text_tokenizer, untrained_masked_lm
    from potstill.pretrain import stage as pretrain_stage

    source = resolve_model(recipe.teacher.model)
    teacher = untrained_masked_lm(source)
    texts = text_tokenizer(load_tokenizer(source), teacher)
    for task in recipe.tasks:
        finetune_stage.check(_finetune_job(recipe, task, "teacher", recipe.seeds[0]), teacher, texts)
        baselines_stage.check([_classifier_job(recipe, task, arm, recipe.seeds[0]) for arm in recipe.baselines])
    distil_stage.check(_distil_job(recipe, "student", recipe.student, recipe.distil), teacher)
    if recipe.pretrain is not None:
        pretrain_stage.check(_pretrain_job(recipe))
    load_corpus(**recipe.corpus.reading(), data_dir=recipe.data_dir)


def _claim_folder(recipe: Recipe) -> None:
    """Take the experiment's folder, or the one this experiment had before; nothing of anybody else is overwritten."""
    import yaml

    require_unused(recipe.folder, ours=EXPERIMENT)
    recipe.folder.mkdir(parents=True, exist_ok=True)
    write_json(recipe.folder / EXPERIMENT, describe_experiment(recipe))
    write_text(recipe.folder / "recipe.yaml", yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))


def describe_experiment(recipe: Recipe) -> dict[str, Any]:
    """What the comparison and the report have to know of an experiment, as plain values with relative paths."""
    root = recipe.folder
    encoders = ["teacher"] if recipe.pretrain is not None else []
    encoders += ["student", *_encoder_baselines(recipe)]
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


def finish_experiment(root: Path, recipe: Recipe, tell: Tell = print) -> Path:
    """Compare the arms on their stored predictions, measure their speed, write the model cards and the page."""
    from potstill.report.stage import write_cards, write_experiment_page

    experiment = read_json(root / EXPERIMENT)
    for task in experiment["tasks"]:
        _compare_task(root, task, recipe, tell)
    write_cards(root, experiment)
    return write_experiment_page(root, experiment)


def _compare_task(root: Path, task: Mapping[str, Any], recipe: Recipe, tell: Tell) -> None:
    """Comparison and speed of one task, written beside its runs; again only for other runs, predictions or settings."""
    from potstill.evaluate.stage import compare_runs, fingerprint_of_arms, measure_runs

    folder = root / "tasks" / task["name"]
    arms = {arm: [root / run for run in facts["runs"]] for arm, facts in task["arms"].items()}
    measured = fingerprint(recipe.evaluate.model_dump(mode="json"), fingerprint_of_arms(arms))
    done = read_json(folder / "comparison.json") or {}
    if done.get("of") == measured and (folder / "speed.json").exists():
        return
    tell(f"comparing the arms on {task['name']}")
    speeds = measure_runs(
        {arm: runs[0] for arm, runs in arms.items()},
        data_dir=recipe.data_dir,
        speed_texts=recipe.evaluate.speed_texts,
        repeats=recipe.evaluate.speed_repeats,
    )
    write_json(folder / "speed.json", {arm: speed.to_dict() for arm, speed in speeds.items()})
    compared = compare_runs(arms, resamples=recipe.evaluate.resamples)
    where = {"machine": machine(), "versions": versions()}
    write_json(folder / "comparison.json", {"of": measured, **where, **compared.to_dict()})
