"""``potstill run``: every stage of a recipe, finished ones skipped, changed ones run again; and single stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from potstill.decide import decide_runs
from potstill.errors import OtherRunError, RecipeError
from potstill.machine import machine, versions
from potstill.recipe.baseline_jobs import BilstmJob, TfidfJob
from potstill.recipe.schema import ENCODER_BASELINES, DistilJob, FinetuneJob, Job, PretrainJob, Recipe
from potstill.runs import RunFolder, fingerprint, read_json, require_unused, set_aside, write_json, write_text
from potstill.stages import (
    Stage,
    classifier_job,
    describe_experiment,
    distil_job,
    encoder_baselines,
    plan,
    pretrain_job,
)
from potstill.studies import study_tasks

EXPERIMENT = "experiment.json"
Tell = Callable[[str], None]


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
    run: Path | str,
    *,
    split: str | None = None,
    data_dir: Path | None = None,
    batch_size: int = 64,
    tell: Tell = lambda message: None,
) -> dict[str, float]:
    """Predict a split with a run, store the predictions, and return the metrics computed from them."""
    from potstill.evaluate.stage import evaluate_run

    return evaluate_run(run, split=split, data_dir=data_dir, batch_size=batch_size, tell=tell)


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
        run_stage(stage, tell)
    classifiers = [stage.job.out for stage in stages if isinstance(stage.job, FinetuneJob | TfidfJob)]
    decide_runs(classifiers, recipe.decisions, tell)
    return finish_experiment(recipe.folder, recipe, tell)


def run_stage(stage: Stage, tell: Tell) -> RunFolder:
    """Run a stage, or find it done; a run of another recipe or input in its place is set aside, as ``tell`` is told."""
    try:
        return stage.run()
    except OtherRunError:
        kept = set_aside(stage.job.out)
        tell(f"    its recipe or input changed: it runs again; the run before is kept in {kept}")
        return stage.run()


def _read_inputs(recipe: Recipe) -> None:
    """Meet at once what a late stage would stop at: models, corpus, rows, or settings that do not go together.

    No weights are read for it. Stages that differ in arm and seed alone are refused for the same reasons.
    """
    from potstill.data.corpora import load_corpus
    from potstill.distil import stage as distil_stage
    from potstill.pretrain import stage as pretrain_stage

    models = {"teacher": _without_weights(recipe.teacher.model)}
    teacher, _ = models["teacher"]
    if recipe.student.model is not None:
        models["student"] = _without_weights(recipe.student.model)
        _require_fitting(recipe, models["student"], models["teacher"])
    others = [name for name in recipe.baselines if name not in ENCODER_BASELINES]
    for task in recipe.tasks:
        for arm in (*models, *others):
            _check_classifier(classifier_job(recipe, task, arm, recipe.seeds[0]), *models.get(arm, models["teacher"]))
    if recipe.student.model is None or encoder_baselines(recipe):
        distil_stage.check(distil_job(recipe, "student", recipe.student.shape, recipe.distil), teacher)
    if recipe.pretrain is not None:
        pretrain_stage.check(pretrain_job(recipe))
    if any(isinstance(stage.job, PretrainJob) or _reads_corpus(stage.job) for stage in plan(recipe)):
        load_corpus(**recipe.corpus.reading(), data_dir=recipe.data_dir)


def _reads_corpus(job: Job) -> bool:
    return isinstance(job, DistilJob) and bool(job.distil.epochs or job.distil.max_steps)


def _without_weights(name: str) -> tuple[Any, Any]:
    """A model of this shape with random weights, and its tokenizer."""
    from potstill.models.teacher import load_tokenizer, resolve_model, text_tokenizer, untrained_masked_lm

    source = resolve_model(name)
    model = untrained_masked_lm(source)
    return model, text_tokenizer(load_tokenizer(source), model)


def _check_classifier(job: FinetuneJob | TfidfJob, model: Any, texts: Any) -> None:
    from potstill.baselines import stage as baselines_stage
    from potstill.finetune import stage as finetune_stage

    if isinstance(job, BilstmJob | TfidfJob):
        baselines_stage.check(job, texts)
    else:
        finetune_stage.check(job, model, texts)


def _require_fitting(recipe: Recipe, student: tuple[Any, Any], teacher: tuple[Any, Any]) -> None:
    """Raise where a given student is no match for the arms it is to be compared with, or for who it learns from."""
    from potstill.models.teacher import check_same_vocabulary

    (given, of_given), (taught, of_taught) = student, teacher
    shape = recipe.student
    wanted = {"layers": shape.layers, "hidden_size": shape.hidden_size or taught.config.hidden_size}
    found = {"layers": given.config.num_hidden_layers, "hidden_size": given.config.hidden_size}
    if encoder_baselines(recipe) and wanted != found:
        raise RecipeError(
            f"the baselines would have {wanted['layers']} layers, {wanted['hidden_size']} wide, and "
            f"{shape.model} has {found['layers']}, {found['hidden_size']} wide",
            do=f"set student.layers to {found['layers']} and student.hidden_size to {found['hidden_size']}, or leave "
            "the baselines out",
        )
    if recipe.second_distillation:
        check_same_vocabulary(of_taught, of_given)


def _claim_folder(recipe: Recipe) -> None:
    """Take the experiment's folder, or the one this experiment had before; nothing of anybody else is overwritten."""
    import yaml

    require_unused(recipe.folder, ours=EXPERIMENT)
    recipe.folder.mkdir(parents=True, exist_ok=True)
    write_json(recipe.folder / EXPERIMENT, describe_experiment(recipe))
    write_text(recipe.folder / "recipe.yaml", yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))


def finish_experiment(root: Path, recipe: Recipe, tell: Tell = print) -> Path:
    """Compare the arms on their stored predictions, measure their speed, write the model cards and the page."""
    from potstill.report.failures.stage import write_experiment_failures
    from potstill.report.stage import write_cards, write_experiment_page

    experiment = read_json(root / EXPERIMENT)
    for task in experiment["tasks"]:
        _compare_task(root, task, recipe, tell)
        write_experiment_failures(root, task, data_dir=recipe.data_dir)
    write_cards(root, experiment)
    page = write_experiment_page(root, experiment)  # before the studies: one that fails costs no result
    if study_tasks(root, experiment, recipe, tell):
        write_experiment_page(root, experiment)
    return page


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
