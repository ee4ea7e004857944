"""A run and a split in, stored predictions and metrics out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from potstill.data.catalogue import Task, get_task
from potstill.data.custom import custom_task
from potstill.data.sources import state_of_files
from potstill.data.tasks import Split, TaskData, load_task
from potstill.decisions import FILE, read_decisions, sha256_of, stored_decisions
from potstill.errors import DataError, RunFolderError
from potstill.evaluate.metrics import compute_metrics, default_metrics
from potstill.evaluate.retention import Comparison, compare_arms
from potstill.evaluate.significance import number_or_none
from potstill.evaluate.speed import Speed, measure
from potstill.recipe.schema import TaskSection
from potstill.records import Predictions, Predictor
from potstill.runs import RunFolder, fingerprint, is_run, parameters_on_disk, read_json, write_json, write_predictions
from potstill.runtime.opening import open_predictor

_SEED = re.compile(r"seed-(\d+)")
DATA_SEED = 0
"""Splits are drawn with one seed for all runs, so that every arm and every seed meets the same rows."""
ROUNDING = 1e-3
"""Logits that differ by less than this are of the same model; batch sizes and devices round differently."""


def load_task_section(section: TaskSection, data_dir: Path | None) -> TaskData:
    """The rows of a task as a recipe describes it; read once for all runs, and again when they change."""
    return _load_task(section.model_dump_json(), data_dir, _state_of_files(section, data_dir))


def _state_of_files(section: TaskSection, data_dir: Path | None) -> tuple[tuple[str, int, int], ...]:
    """The state of every local file behind a task: what is read again when it changes."""
    if section.files is not None:
        named = section.files.values() if isinstance(section.files, dict) else (section.files,)
        paths = [Path(name).expanduser() for name in named]
    else:
        paths = [] if data_dir is None else [data_dir / file for file in get_task(section.name).local_files.values()]
    return state_of_files(paths)


@lru_cache(maxsize=2)
def _load_task(section_json: str, data_dir: Path | None, state: tuple[tuple[str, int, int], ...]) -> TaskData:
    section = TaskSection.model_validate_json(section_json)
    return load_task(task_of(section), data_dir=data_dir, seed=DATA_SEED, limits=section.limits)


def task_of(section: TaskSection) -> Task:
    """The task that a recipe describes: one of the catalogue, or the user's own files."""
    if section.files is None:
        task = get_task(section.name)
        return task if section.cleaning is None else replace(task, cleaning=section.cleaning)
    return custom_task(
        section.name,
        section.files,
        text_columns=section.text_columns or "text",
        label_columns=section.label_columns or "label",
        problem_type=section.problem_type,
        label_names=section.label_names,
        join=section.join,
        cleaning=section.cleaning or (),
    )


def predict_split(predictor: Predictor, split: Split) -> Predictions:
    """What ``predictor`` says of a split, with the truth beside it."""
    return predictor.predict(split.texts).with_targets(split.targets, split.ids)


def store_predictions(
    folder: Path, split: str, predictions: Predictions, metrics: Sequence[str] = ()
) -> dict[str, float]:
    """Keep predictions in a run folder, and the metrics computed from them: those named, and those usual.

    The metrics are of the predictions as they are decided; what is kept are their logits.
    """
    write_predictions(folder / "predictions" / f"{split}.parquet", predictions)
    return _store_metrics(folder, split, predictions, metrics)


def _store_metrics(folder: Path, split: str, predictions: Predictions, metrics: Sequence[str]) -> dict[str, float]:
    usual = default_metrics(predictions.problem_type, len(predictions.label_names))
    values = compute_metrics(predictions, list(dict.fromkeys((*metrics, *usual))))
    path = folder / "metrics.json"
    defined = {name: number_or_none(value) for name, value in values.items()}
    write_json(path, (read_json(path) or {}) | {split: defined})
    return values


def evaluate_run(
    run: Path | str,
    *,
    split: str | None = None,
    data_dir: Path | None = None,
    batch_size: int = 64,
    tell: Callable[[str], None] = lambda message: None,
) -> dict[str, float]:
    """Metrics of a classifier's run on one split of its task, predictions stored in the run.

    The run's temperature and thresholds are obeyed, and ``tell`` is told where they were fitted on these rows.
    ``split`` None is the split the task reports on. Raises
    RunFolderError when the run is no classifier of ours or now predicts the split that its decisions were fitted on
    otherwise than then, and DataError naming the splits there are.
    """
    (folder,), data = open_runs([run], data_dir)
    chosen = split or data.task.report_split
    rows = data.split(chosen)
    predictor = open_predictor(run, batch_size=batch_size, max_length=folder.manifest["max_length"])
    metrics = (folder.manifest["metric"], *data.task.metrics)
    predictions = predict_split(predictor, rows)
    decisions = read_decisions(folder.path)
    if decisions is not None and decisions.split == chosen:
        tell(f"temperature and thresholds were fitted on the rows of {chosen}: figures on them flatter the model")
        if _said_again(folder, chosen, predictions):
            return _store_metrics(folder.path, chosen, folder.predictions(chosen), metrics)
    values = store_predictions(folder.path, chosen, predictions, metrics)
    read_decisions(folder.path)  # raises where they rested on what was there before
    return values


def _said_again(run: RunFolder, split: str, fresh: Predictions) -> bool:
    """Whether ``fresh`` is what is stored of ``split`` but for rounding.

    Where decisions were fitted on that it stays: another rounding, by another size of batch, would part the two.
    """
    stored = run.raw_predictions(split)
    assert stored.targets is not None
    assert fresh.targets is not None
    same_rows = np.array_equal(stored.ids, fresh.ids) and np.array_equal(stored.targets, fresh.targets)
    return same_rows and np.allclose(stored.logits, fresh.logits, rtol=0, atol=ROUNDING)


def open_runs(paths: Sequence[Path | str], data_dir: Path | None) -> tuple[list[RunFolder], TaskData]:
    """Classifiers' runs, and the rows that all of them were trained and measured on, from ``data_dir`` or from where
    the first run found them. Raises RunFolderError for a run that is no classifier's, DataError for other rows.
    """
    runs = [_open_classifier_run(path) for path in paths]
    where = data_dir or runs[0].recipe().get("data_dir")
    section = TaskSection.model_validate(runs[0].manifest["task"])
    data = load_task_section(section, None if where is None else Path(where))
    for run in runs:
        _require_same_rows(run, data)
    return runs, data


def is_classifier(run: RunFolder) -> bool:
    """Whether a run holds a classifier of a task, whatever stage made it; else it is an encoder."""
    return "task" in run.manifest


def _open_classifier_run(path: Path | str) -> RunFolder:
    run = RunFolder.open(path)
    if not is_classifier(run):
        raise RunFolderError(
            f"{path} is a {run.manifest['stage']} run; only a fine-tuned classifier can be measured",
            do="fine-tune it first: potstill finetune --model … --task …",
        )
    return run


def _require_same_rows(run: RunFolder, data: TaskData) -> None:
    """Splits are drawn from the rows there are: of other rows, some that are measured may have been trained on."""
    if run.manifest["data"]["fingerprint"] != data.fingerprint:
        raise DataError(
            f"the rows of {data.task.name} are not those that {run.path} was trained and measured on",
            do="put the data back as they were, or fine-tune again",
        )


def compare_runs(arms: Mapping[str, Sequence[Path]], *, metric: str | None = None, resamples: int = 1000) -> Comparison:
    """The arms held against the first of them, on the predictions they stored; an arm is one run per seed.

    Raises RunFolderError for a run that is no classifier's or lacks predictions of the reported split, DataError for
    runs trained or measured on different rows or decided by different rules, CheckError for different numbers of seeds.
    """
    runs = {name: [_open_classifier_run(path) for path in paths] for name, paths in arms.items()}
    _require_one_data_set([run for same_arm in runs.values() for run in same_arm])
    _require_one_rule([run for same_arm in runs.values() for run in same_arm])
    first = next(iter(runs.values()))[0].manifest
    predictions = {
        name: [run.predictions(first["report_split"]) for run in same_arm] for name, same_arm in runs.items()
    }
    return compare_arms(predictions, next(iter(arms)), metric or first["metric"], n_resamples=resamples)


def fingerprint_of_arms(arms: Mapping[str, Sequence[Path]]) -> str:
    """Identity of what ``compare_runs`` holds together: what the runs say of the reported split."""
    runs = {name: [_open_classifier_run(path) for path in paths] for name, paths in arms.items()}
    return fingerprint(
        {name: [identity_of(run, run.manifest["report_split"]) for run in same_arm] for name, same_arm in runs.items()}
    )


def identity_of(run: RunFolder, split: str) -> tuple[str, ...]:
    """Of what a run says of ``split``: another once the run, its stored predictions or its decisions are others."""
    decisions = run.path / FILE
    decided = (sha256_of(decisions),) if decisions.is_file() else ()
    return run.manifest["fingerprint"], run.predictions_fingerprint(split), *decided


def _require_one_rule(runs: Sequence[RunFolder]) -> None:
    """An arm with fitted thresholds beside one without differs in more than its model."""
    rules = [(run.path, "none" if (kept := stored_decisions(run.path)) is None else kept.asked) for run in runs]
    first_path, first = rules[0]
    for path, rule in rules[1:]:
        if rule != first:
            raise DataError(
                f"{path} does not decide by the same rule as {first_path}",
                found=rule,
                allowed=first,
                do="give all that is compared the same decisions: potstill calibrate",
            )


def _require_one_data_set(runs: Sequence[RunFolder]) -> None:
    first = runs[0]
    for run in runs[1:]:
        if run.manifest["data"]["fingerprint"] != first.manifest["data"]["fingerprint"]:
            raise DataError(
                f"{run.path} was not trained and measured on the same rows as {first.path}",
                found=_rows_of(run),
                allowed=_rows_of(first),
                do="fine-tune all that is compared on the same task, with the same limits",
            )


def _rows_of(run: RunFolder) -> str:
    counts = [f"{split} {facts['rows']:,}" for split, facts in run.manifest["data"]["counts"].items()]
    return f"{run.manifest['task']['name']}: {', '.join(counts)} rows"


def arms_in(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Arms by name: each path is a run, or a folder whose ``seed-<n>`` folders are the runs of one arm.

    Raises DataError for a path that is named twice.
    """
    twice = [path for path in paths if paths.count(path) > 1]
    if twice:
        raise DataError("a run is compared with itself", found=twice[0], do="name every run once")
    names = [path.name for path in paths]
    return {path.name if names.count(path.name) == 1 else str(path): _seeds_in(path) or [path] for path in paths}


def _seeds_in(folder: Path) -> list[Path]:
    """The runs of an arm in the order of their seeds; runs that were set aside have other names and do not count."""
    numbered = {int(match[1]): entry for entry in folder.glob("seed-*") if (match := _SEED.fullmatch(entry.name))}
    return [numbered[seed] for seed in sorted(numbered) if is_run(numbered[seed])]


def measure_runs(
    runs: Mapping[str, Path], *, data_dir: Path | None, speed_texts: int = 128, repeats: int = 5
) -> dict[str, Speed]:
    """Latency and throughput of runs, in one interleaved measurement on texts of the task the first one reports on.

    Without ``data_dir`` the texts are looked for where that run found them.
    """
    import torch

    first = RunFolder.open(next(iter(runs.values())))
    where = data_dir or first.recipe().get("data_dir")
    data = load_task_section(TaskSection.model_validate(first.manifest["task"]), None if where is None else Path(where))
    limits = {name: RunFolder.open(path).manifest["max_length"] for name, path in runs.items()}
    predictors = {name: open_predictor(path, max_length=limits[name]) for name, path in runs.items()}
    return measure(
        predictors,
        data.split(first.manifest["report_split"]).texts,
        repeats=repeats,
        bulk_texts=speed_texts,
        n_threads=torch.get_num_threads(),
        max_lengths={name: limit for name, limit in limits.items() if limit is not None},
    )


def costs_of(arms: Mapping[str, Sequence[Path]], speeds: Mapping[str, Speed] | None) -> dict[str, dict[str, Any]]:
    """What each arm costs: parameters, bytes of its weights, median training time over seeds, and speed if measured."""
    costs: dict[str, dict[str, Any]] = {}
    for name, paths in arms.items():
        runs = [RunFolder.open(path) for path in paths]
        costs[name] = {
            "parameters": runs[0].manifest["parameters"],
            "bytes_on_disk": parameters_on_disk(runs[0].path),
            "training_s": median(run.manifest["training_s"] for run in runs),
        }
        if speeds is not None:
            speed = speeds[name]
            costs[name] |= {"latency_ms": speed.latency_ms.p50, "texts_per_s": speed.texts_per_s.median}
    return costs
