"""The finished arms of a grid in, its page, tables and sentences out; all from what the runs stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from potstill.analyse.ablation.budget import ArmBudget
from potstill.analyse.ablation.study import ArmFacts, Study, study_arms
from potstill.evaluate.stage import fingerprint_of_arms, measure_runs
from potstill.grid.plan import GridPlan, GridStage
from potstill.machine import machine, versions
from potstill.recipe.schema import DistilJob, PretrainJob
from potstill.report.ablation.page import AblationReport, write_ablation
from potstill.runs import RunFolder, fingerprint, parameters_on_disk, read_json, write_json

RESULTS = "ablation.json"
RESAMPLES_PER_ARM = 100
"""Resamples for each arm at least: of fewer no p-value, once corrected for the number of arms, could become small."""


def write_results(plan: GridPlan, failed: Mapping[str, str], *, command: str) -> dict[str, Any]:
    """Study the arms that have a result, write everything beside the runs, and return what ``ablation.json`` holds.

    ``failed``: arm → why it has none. A task on which the baseline or all but one arm are missing is not studied.
    """
    done = [arm.name for arm in plan.grid.arms if arm.name not in failed]
    comparable = plan.grid.baseline in done and len(done) > 1
    studies = [_study(plan, task, done) for task in plan.runs] if comparable else []
    notes = _notes(plan, comparable)
    report = AblationReport(
        title=plan.grid.name,
        created=_newest(plan, done),
        n_arms=len(plan.grid.arms),
        studies=studies,
        failed=failed,
        commands=[command],
        grid_yaml=_public_grid(plan),
        versions=versions(),
        machine=machine(),
        notes=notes,
    )
    page = write_ablation(report, plan.folder)
    results: dict[str, Any] = {
        "name": plan.grid.name,
        "created": report.created,
        "baseline": plan.grid.baseline,
        "page": page.name,
        "failed": dict(failed),
        "notes": notes,
        "tasks": {study.task: study.to_dict() for study in studies},
        "machine": report.machine,
        "versions": report.versions,
    }
    plain: dict[str, Any] = _plain(results)
    write_json(plan.folder / RESULTS, plain)
    return plain


def _study(plan: GridPlan, task: str, done: Sequence[str]) -> Study:
    grid, runs = plan.grid, _open_runs(plan, task, done)
    speeds = _speeds(plan, task, {arm: of_arm[0].path for arm, of_arm in runs.items()})
    first = runs[grid.baseline][0].manifest
    return study_arms(
        [_facts(plan, task, arm, runs[arm], speeds[arm]) for arm in done],
        {arm: [run.predictions(first["report_split"]) for run in of_arm] for arm, of_arm in runs.items()},
        task=task,
        split=first["report_split"],
        metric=first["metric"],
        baseline=grid.baseline,
        fields=grid.fields,
        grid_fields=grid.grid_fields,
        unequal=grid.unequal,
        encoders_once=grid.encoders == "once",
        n_resamples=max(grid.arms[0].recipe.evaluate.resamples, RESAMPLES_PER_ARM * len(done)),
    )


def _open_runs(plan: GridPlan, task: str, done: Sequence[str]) -> dict[str, list[RunFolder]]:
    return {arm: [RunFolder.open(plan.path(key)) for key in plan.runs[task][arm].values()] for arm in done}


def _facts(plan: GridPlan, task: str, arm: str, runs: Sequence[RunFolder], speed: Mapping[str, Any]) -> ArmFacts:
    asked, first = plan.grid.arm(arm), runs[0].manifest
    before = _before(plan, next(iter(plan.runs[task][arm].values())))
    return ArmFacts(
        name=arm,
        settings=asked.settings,
        in_grid=asked.in_grid,
        budget=_budget(arm, runs, before),
        metrics=_metrics(runs),
        n_parameters=first["parameters"],
        bytes_on_disk=parameters_on_disk(runs[0].path),
        training_s=tuple(run.manifest["training_s"] for run in runs),
        encoder_s=sum(run.manifest["training_s"] for _, run in before),
        latency_ms=speed["latency_ms"]["p50"],
        texts_per_s=speed["texts_per_s"]["median"],
    )


def _before(plan: GridPlan, key: str) -> list[tuple[GridStage, RunFolder]]:
    """Every stage that a stage rests on, once, with its run."""
    found: dict[str, None] = {}
    pending = list(plan.stages[key].needs)
    while pending:
        need = pending.pop(0)
        found[need] = None
        pending += [further for further in plan.stages[need].needs if further not in found]
    return [(plan.stages[need], RunFolder.open(plan.path(need))) for need in found]


def _metrics(runs: Sequence[RunFolder]) -> dict[str, list[float | None]]:
    by_seed = [run.metrics()[run.manifest["report_split"]] for run in runs]
    return {name: [metrics.get(name) for metrics in by_seed] for name in by_seed[0]}


def _budget(arm: str, runs: Sequence[RunFolder], before: Sequence[tuple[GridStage, RunFolder]]) -> ArmBudget:
    counts = runs[0].manifest["data"]["counts"]
    precision = {
        phase["precision"]
        for run in (*runs, *(made for _, made in before))
        for phase in run.manifest["throughput"].values()
        if phase
    }
    return ArmBudget(
        arm=arm,
        rows={split: facts["rows"] for split, facts in counts.items()},
        data=runs[0].manifest["data"]["fingerprint"],
        seeds=tuple(run.manifest["seed"] for run in runs),
        tokens=tuple(run.manifest["tokens_seen"] for run in runs),
        steps=tuple(int(max((record["step"] for record in run.history()), default=0)) for run in runs),
        tokens_before={_training(stage): run.manifest["tokens_seen"] for stage, run in before},
        precision=tuple(sorted(precision)),
    )


def _training(stage: GridStage) -> str:
    """What a stage before the fine-tuning is called."""
    if isinstance(stage.stage.job, PretrainJob):
        return "pretraining the teacher"
    return "distillation" if isinstance(stage.stage.job, DistilJob) else "fine-tuning the teacher"


def _speeds(plan: GridPlan, task: str, runs: Mapping[str, Path]) -> dict[str, Any]:
    """Speed of the first seed of every arm, side by side; measured again only for other runs or settings."""
    asked = plan.grid.arms[0].recipe.evaluate
    measured = fingerprint(
        asked.model_dump(mode="json"), fingerprint_of_arms({arm: [run] for arm, run in runs.items()})
    )
    file = plan.folder / f"speed-{task}.json"
    known = read_json(file) or {}
    if known.get("of") != measured:
        found = measure_runs(
            runs,
            data_dir=plan.grid.arms[0].recipe.data_dir,
            speed_texts=asked.speed_texts,
            repeats=asked.speed_repeats,
        )
        known = {"of": measured, "speeds": {arm: speed.to_dict() for arm, speed in found.items()}}
        write_json(file, known)
    return dict(known["speeds"])


def _notes(plan: GridPlan, comparable: bool) -> list[str]:
    shared = sum(len(stage.arms) > 1 for stage in plan.stages.values())
    notes = [f"{len(plan.stages)} stages, {shared} of them shared by several arms and done once."]
    if not comparable:
        notes.append("Nothing could be compared: the baseline, or all arms but one, have no result.")
    return notes


def _newest(plan: GridPlan, done: Sequence[str]) -> str:
    """When the last of the runs behind the results was finished."""
    keys = [key for arms in plan.runs.values() for arm in done for key in arms[arm].values()]
    return max((RunFolder.open(plan.path(key)).manifest["finished"] for key in keys), default="")


def _public_grid(plan: GridPlan) -> str:
    """The grid as it can be shown to others: without the folders of this machine."""
    recipe = {name: value for name, value in plan.grid.content["recipe"].items() if name not in ("out", "data_dir")}
    model = Path((recipe.get("teacher") or {}).get("model", ""))
    if model.is_absolute():
        recipe["teacher"] = {**recipe["teacher"], "model": model.name}
    return yaml.safe_dump({**plan.grid.content, "recipe": recipe}, sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    """``value`` in JSON's words: lists, and nothing where a number has no value."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value
