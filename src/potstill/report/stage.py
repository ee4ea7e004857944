"""Run folders in; model cards and the page out. Every figure is computed from the predictions the runs stored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from potstill.data.catalogue import CATALOGUE, Task
from potstill.data.corpora import language_of
from potstill.data.windows import WINDOWS_ENTRY, Windows
from potstill.decisions import read_decisions
from potstill.errors import RunFolderError
from potstill.evaluate.metrics import confusion, per_class
from potstill.evaluate.speed import paired_ratios
from potstill.evaluate.stage import compare_runs, is_classifier
from potstill.records import Predictions
from potstill.report.decisions.evidence import gather_decisions
from potstill.report.evidence import ArmEvidence, DistillationEvidence, Interval, Report, TaskEvidence
from potstill.report.failures.stage import experiment_failures, failures_left_out, kept_failures
from potstill.report.model_card import ModelCard, Purpose, write_model_card
from potstill.report.page import write_page
from potstill.report.tabs import left_out, study_tabs
from potstill.runs import RunFolder, parameters_on_disk, read_json

PAGE = "report.html"
_NO_TRANSFORMERS: Mapping[str, tuple[str, str]] = {
    "potstill_bilstm": ("a bidirectional LSTM with attention", "trained"),
    "potstill_tfidf": ("a linear model over TF-IDF of words", "fitted"),
}
"""Families of models that potstill opens and transformers does not: in words what they are, and what made them."""


def write_experiment_page(root: Path, experiment: Mapping[str, Any]) -> Path:
    """Write the page of a whole experiment and return where it lies."""
    write_page(experiment_report(root, experiment), root / PAGE)
    return root / PAGE


def experiment_report(root: Path, experiment: Mapping[str, Any]) -> Report:
    """Everything that the runs of an experiment tell, gathered."""
    encoders = {arm: RunFolder.open(root / facts["run"]) for arm, facts in experiment["encoders"].items()}
    measured = _measured(root / "tasks" / experiment["tasks"][0]["name"])
    tasks = [_task_evidence(root, task) for task in experiment["tasks"]]
    hidden = [task for task, shown in zip(experiment["tasks"], tasks, strict=True) if shown.failures is None]
    return Report(
        title=experiment["name"],
        created=_newest(encoders.values()),
        tasks=tasks,
        distillations=[
            _distillation(experiment["encoders"][arm]["title"], run) for arm, run in encoders.items() if run.history()
        ],
        layer_map=_layer_map(encoders["student"]) if "student" in encoders else [],
        commands=["potstill run recipe.yaml"],
        recipe_yaml=_public_recipe(root),
        versions=measured["versions"],
        machine=measured["machine"],
        notes=[
            *(note for run in encoders.values() for note in run.manifest.get("notes") or ()),
            *(note for task in experiment["tasks"] for note in left_out(root, task)),
            *(note for task in hidden for note in failures_left_out(root, task)),
        ],
        studies=[tab for task in experiment["tasks"] for tab in study_tabs(root, task)],
    )


def write_run_page(path: Path) -> Path:
    """Write the page of a single classifier run into it and return where it lies."""
    run = RunFolder.open(path)
    figures: Any = compare_runs({path.name: [path]}).arms[path.name].to_dict()["metrics"]
    arm = ArmEvidence(name=path.name, role="student", **_run_figures([run]), **_summaries(figures))
    task = _task_of(run, [arm], kept_failures(path, path), _of_baseline(run))
    report = Report(
        title=path.name,
        created=run.manifest["finished"],
        tasks=[task],
        recipe_yaml=_public_recipe(path),
        versions=run.manifest["versions"],
    )
    write_page(report, path / PAGE)
    return path / PAGE


def _task_evidence(root: Path, task: Mapping[str, Any]) -> TaskEvidence:
    folder = root / "tasks" / task["name"]
    comparison, speeds = _measured(folder), read_json(folder / "speed.json")
    runs = {arm: [RunFolder.open(root / run) for run in facts["runs"]] for arm, facts in task["arms"].items()}
    arms = [
        ArmEvidence(
            name=facts["title"],
            role=facts["role"],
            **_run_figures(runs[arm]),
            **_compared(comparison, arm),
            p_beside=_beside(comparison["arms"][arm], task["arms"]),
            **_speed(speeds, arm, comparison["reference"]),
        )
        for arm, facts in task["arms"].items()
    ]
    firsts = [of_arm[0] for of_arm in runs.values()]
    notes = [f"{arm.name}: {note}" for arm, run in zip(arms, firsts, strict=True) for note in _of_baseline(run)]
    return _task_of(firsts[0], arms, experiment_failures(root, task), notes)


def _of_baseline(run: RunFolder) -> Sequence[str]:
    """What a model that is no transformer says of how it was made; the encoders of the others say it themselves."""
    return run.manifest["notes"] if _model_type(run) in _NO_TRANSFORMERS else ()


def _model_type(run: RunFolder) -> str:
    """The family of the run's model, as its ``config.json`` has it."""
    return str(_config(run).get("model_type"))


def _config(run: RunFolder) -> Mapping[str, Any]:
    return read_json(run.path / "config.json") or {}


def _windows(run: RunFolder) -> Windows | None:
    kept = _config(run).get(WINDOWS_ENTRY)
    return None if kept is None else Windows(**kept)


def _measured(folder: Path) -> dict[str, Any]:
    """The stored comparison of a task; raises RunFolderError where it was not made yet."""
    comparison = read_json(folder / "comparison.json")
    if comparison is None or not (folder / "speed.json").exists():
        raise RunFolderError(
            f"the arms in {folder} were not compared yet", do="finish the experiment with: potstill run"
        )
    return comparison


def _task_of(
    run: RunFolder, arms: Sequence[ArmEvidence], failures: Mapping[str, Any] | None, notes: Sequence[str]
) -> TaskEvidence:
    manifest = run.manifest
    counts, name = manifest["data"]["counts"], manifest["task"]["name"]
    return TaskEvidence(
        name=name,
        metric=manifest["metric"],
        split=manifest["report_split"],
        arms=arms,
        rows={split: facts["rows"] for split, facts in counts.items()},
        rows_per_label={split: facts["labels"] for split, facts in counts.items() if facts["labels"]},
        label_names=manifest["label_names"],
        notes=[*manifest["data"]["notes"], *notes],
        citation=known.citation if (known := _known_task(manifest)) else "",
        failures=failures,
    )


def _known_task(manifest: Mapping[str, Any]) -> Task | None:
    """The catalogue's task that a run was trained on; None for the user's own files, whatever they are called."""
    return None if manifest["task"]["files"] is not None else CATALOGUE.get(manifest["task"]["name"])


def _run_figures(runs: Sequence[RunFolder]) -> dict[str, Any]:
    """What one arm's runs tell by themselves; figures of one seed are those of the first."""
    first = runs[0]
    split = first.manifest["report_split"]
    predictions = first.predictions(split)
    by_seed = [_numbers(run.metrics()[split]) for run in runs]
    single = predictions.problem_type == "single_label_classification"
    best = first.manifest["best"]
    return {
        "seeds": [_seed(run) for run in runs],
        "metrics": {name: [metrics[name] for metrics in by_seed] for name in by_seed[0]},
        "on_selection": _on_selection(runs),
        "confusion": confusion(predictions).tolist() if single else [],
        "shown_seed": _seed(first),
        "per_class": [] if predictions.problem_type == "regression" else per_class(predictions),
        "history": first.history(),
        "best_epoch": best["epoch"] if best else None,
        "epochs": first.manifest.get("epochs") or (),
        "choice": first.manifest.get("choice") or "",
        "rates": first.manifest.get("rates") or (),
        "n_parameters": first.manifest["parameters"],
        "bytes_on_disk": parameters_on_disk(first.path),
        "training_s": median(run.manifest["training_s"] for run in runs),
        "truncated_share": _share(predictions),
        "decisions": gather_decisions(runs),
    }


def _on_selection(runs: Sequence[RunFolder]) -> float | None:
    """The primary metric on the selection split, median over the runs; None where one of them lacks it."""
    found = [_numbers(run.metrics().get("selection", {})).get(run.manifest["metric"]) for run in runs]
    known = [value for value in found if value is not None]
    return median(known) if len(known) == len(runs) else None


def _share(predictions: Predictions) -> float:
    return float(predictions.truncated.mean())


def _seed(run: RunFolder) -> int:
    return int(run.manifest["seed"])


def _compared(comparison: Mapping[str, Any], arm: str) -> dict[str, Any]:
    facts, metric = comparison["arms"][arm], comparison["metric"]
    change, rows = facts["changes"].get(metric), facts["rows"]
    retained = change["retention"] if change else None
    return {
        **_summaries(facts["metrics"]),
        "retention": 1.0 if arm == comparison["reference"] else (retained["value"] if retained else None),
        "retention_interval": _bounds(retained) if retained else None,
        "p_value": change["p_value"] if change else None,
        "test": "paired bootstrap" if change else "",
        "agreement": rows["agreement"] if rows else None,
    }


def _beside(compared: Mapping[str, Any], arms: Mapping[str, Any]) -> dict[str, float]:
    """Other arms by their titles, with the p-value of the difference from each; none in a comparison without them."""
    changes = compared.get("beside", {})
    return {
        arms[other]["title"]: change["p_value"] for other, change in changes.items() if change["p_value"] is not None
    }


def _summaries(metrics: Mapping[str, Any]) -> dict[str, Any]:
    intervals = {name: _bounds(summary["interval"]) for name, summary in metrics.items()}
    return {
        "medians": _numbers({name: summary["median"] for name, summary in metrics.items()}),
        "intervals": {name: bounds for name, bounds in intervals.items() if bounds is not None},
    }


def _numbers(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Metrics as JSON keeps them, where one that is not defined is null, as this room knows them, where it is NaN."""
    return {name: math.nan if value is None else value for name, value in metrics.items()}


def _bounds(interval: Mapping[str, float | None]) -> Interval | None:
    """The bounds, or None where too many resamples had no value for the metric."""
    low, high = interval["low"], interval["high"]
    return None if low is None or high is None else (low, high)


def _speed(speeds: Mapping[str, Any], arm: str, reference: str) -> dict[str, Any]:
    latency, throughput = speeds[arm]["latency_ms"], speeds[arm]["texts_per_s"]
    figures = {"latency_ms": latency["p50"], "throughput_texts_per_s": throughput["median"]}
    if arm == reference:
        return figures
    theirs = speeds[reference]
    return figures | {
        "latency_ratios": paired_ratios(theirs["latency_ms"]["per_repeat"], latency["per_repeat"]),
        "throughput_ratios": paired_ratios(throughput["per_repeat"], theirs["texts_per_s"]["per_repeat"]),
    }


def _distillation(title: str, run: RunFolder) -> DistillationEvidence:
    best = run.manifest["best"]
    return DistillationEvidence(
        name=title,
        history=run.history(),
        best_epoch=best["epoch"] if best else None,
        training_s=run.manifest["training_s"],
        notes=(run.manifest.get("corpus") or {}).get("notes", []),
    )


def _layer_map(student: RunFolder) -> list[dict[str, Any]]:
    from potstill.models.origins import origin_table

    return [row._asdict() for row in origin_table(student.manifest["origins"])]


def _newest(runs: Any) -> str:
    return max(run.manifest["finished"] for run in runs)


def write_cards(root: Path, experiment: Mapping[str, Any]) -> None:
    """Write the model card of every encoder and classifier of an experiment."""
    for facts in experiment["encoders"].values():
        write_card(root / facts["run"])
    for task in experiment["tasks"]:
        for arm in task["arms"].values():
            for run in arm["runs"]:
                write_card(root / run)


def write_card(path: Path) -> None:
    """Write the ``README.md`` of one run, from its manifest, metrics and predictions."""
    run = RunFolder.open(path)
    card = _classifier_card(run) if is_classifier(run) else _encoder_card(run)
    write_model_card(card, path / "README.md")


def _classifier_card(run: RunFolder) -> ModelCard:
    manifest, name = run.manifest, run.manifest["task"]["name"]
    known, split = _known_task(manifest), manifest["report_split"]
    predictions = run.predictions(split)
    labels, decisions = manifest["label_names"], read_decisions(run.path)
    return ModelCard(
        model_name=run.path.resolve().name if known is None else f"{name}-{run.path.resolve().parent.name}",
        summary=f"A classifier of {name} ({len(labels)} outputs), {_kind(run)}.",
        created=manifest["finished"],
        max_length=manifest["max_length"],
        windows=_windows(run),
        problem_type=manifest["problem_type"],
        label_names=labels,
        text_pair=known is not None and known.problem_type != "multi_label_classification" and known.takes_pairs,
        dataset_name=name,
        dataset_id=known.hub_name if known else None,
        dataset_config=known.hub_config if known else None,
        split=split,
        primary_metric=manifest["metric"],
        metrics=_numbers(run.metrics()[split]),
        n_examples=len(predictions),
        seeds=[manifest["seed"]],
        thresholds=(decisions.thresholds or {}) if decisions else {},
        temperature=decisions.temperature if decisions else 1.0,
        n_parameters=manifest["parameters"],
        bytes_on_disk=parameters_on_disk(run.path),
        truncated_share=_share(predictions),
        opens_with=manifest.get("opens_with") or "transformers",
        tags=() if manifest["base_model"] is None else ("knowledge-distillation",),
        making=[_made(run), *_second(manifest), *_choice(manifest), *_of_baseline(run)],
        data_notes=manifest["data"]["notes"],
        recipe_yaml=_public_recipe(run.path),
        versions=manifest["versions"],
        citation=known.citation if known else "",
        language=known.language if known else None,
    )


def _kind(run: RunFolder) -> str:
    """What a classifier is and where it began, as the end of a sentence."""
    base = run.manifest["base_model"]
    what = _NO_TRANSFORMERS.get(_model_type(run), ("",))[0]
    began = "trained on the task alone" if base is None else f"fine-tuned from {_public(base)}"
    return f"{what}, {began}" if what else began


def _made(run: RunFolder) -> str:
    verb = _NO_TRANSFORMERS.get(_model_type(run), ("", "fine-tuned"))[1]
    return f"{verb} for {run.manifest['training_s']:.0f} s"


def _second(manifest: Mapping[str, Any]) -> list[str]:
    return [f"learnt from the outputs of {_public(manifest['teacher'])} as well"] if manifest["teacher"] else []


def _choice(manifest: Mapping[str, Any]) -> list[str]:
    return [manifest["choice"]] if manifest.get("choice") else []


def _public_recipe(folder: Path) -> str:
    """The recipe of a run or an experiment as it can be shown to others: without the folders of this machine."""
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    shown = {name: value for name, value in recipe.items() if name not in ("out", "data_dir")}
    for name in ("model", "teacher"):
        if isinstance(shown.get(name), str):
            shown[name] = _public(shown[name])
        elif isinstance(shown.get(name), dict):
            shown[name] = shown[name] | {"model": _public(shown[name]["model"])}
    if isinstance(shown.get("bilstm"), dict):
        shown["bilstm"] = shown["bilstm"] | {"embeddings": _public(shown["bilstm"]["embeddings"])}
    return yaml.safe_dump(shown, sort_keys=False)


def _public(name: str) -> str:
    """A model's name without the folders of this machine."""
    return Path(name).name if Path(name).is_absolute() else name


def _encoder_card(run: RunFolder) -> ModelCard:
    manifest = run.manifest
    distilled = manifest["stage"] == "distil"
    made = "distilled from" if distilled else "trained as a masked language model from"
    purpose: Purpose = "fill-mask"
    return ModelCard(
        model_name=run.path.resolve().name,
        summary=f"An encoder with a masked-language-model head, {made} {_public(manifest['teacher'])}.",
        created=manifest["finished"],
        max_length=512,
        purpose=purpose,
        teacher=_public(manifest["teacher"]),
        n_parameters=manifest["parameters"],
        bytes_on_disk=parameters_on_disk(run.path),
        making=[f"{made} {_public(manifest['teacher'])} in {manifest['training_s']:.0f} s"],
        data_notes=(manifest.get("corpus") or {}).get("notes", []),
        language=language_of(run.recipe()["corpus"]["source"]) if "corpus" in manifest else None,
        recipe_yaml=_public_recipe(run.path),
        versions=manifest["versions"],
    )
