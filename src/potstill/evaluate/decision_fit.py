"""Decisions of a run: fitted on its selection split, kept with it, and its metrics stated anew under them."""

from __future__ import annotations

from pathlib import Path

from potstill.decisions import FILE, Decisions, ThresholdRule, decided, sha256_of, stored_decisions
from potstill.evaluate.calibration import FittedTemperature, fit_temperature
from potstill.evaluate.decision_effect import DecisionEffect, measure_effect
from potstill.evaluate.held_out import SELECTION, HeldOut
from potstill.evaluate.metrics import compute_metrics
from potstill.evaluate.significance import number_or_none
from potstill.evaluate.thresholds import fit_thresholds
from potstill.runs import RunFolder, write_json


def decide_run(path: Path, rule: ThresholdRule, *, scaled: bool) -> Decisions | None:
    """Fit what is asked for, keep it in the run with the metrics under it, and return it; None where nothing is asked.

    Then what was kept before is gone. Nothing is written where the same is there already, fitted on the same
    predictions. Raises DataError where the task has no use for what is asked.
    """
    run = RunFolder.open(path)
    kept = stored_decisions(run.path)
    if not scaled and rule.strategy == "none":
        if kept is not None:
            _state_metrics(run, None)
            (run.path / FILE).unlink()
        return None
    if kept is not None and (kept.rule, kept.scaled) == (rule, scaled) and not kept.is_stale(run.path):
        return kept
    decisions = fit_decisions(run, rule, scaled=scaled)
    # Metrics first: whoever is stopped in between does the whole again.
    _state_metrics(run, decisions)
    write_json(run.path / FILE, decisions.to_dict())
    return decisions


def fit_decisions(run: RunFolder, rule: ThresholdRule, *, scaled: bool) -> Decisions:
    """A temperature where ``scaled``, and thresholds by ``rule`` under it, fitted on the run's selection split."""
    held_out = HeldOut.of(run)
    temperature = fit_temperature(held_out) if scaled else FittedTemperature(1.0)
    thresholds = fit_thresholds(held_out, rule, temperature.value)
    return Decisions(
        label_names=held_out.predictions.label_names,
        problem_type=held_out.predictions.problem_type,
        temperature=temperature.value,
        thresholds=thresholds.values,
        rule=rule,
        scaled=scaled,
        split=SELECTION,
        n_rows=len(held_out.predictions),
        predictions_sha256=sha256_of(run.path / "predictions" / f"{SELECTION}.parquet"),
        notes=(*temperature.notes, *thresholds.notes),
    )


def _state_metrics(run: RunFolder, decisions: Decisions | None) -> None:
    """Write the metrics of every stored split as they are under ``decisions``, under the names they had."""
    stated = {}
    for split, metrics in run.metrics().items():
        raw = run.raw_predictions(split)
        values = compute_metrics(raw if decisions is None else decisions.apply(raw), list(metrics))
        stated[split] = {name: number_or_none(value) for name, value in values.items()}
    write_json(run.path / "metrics.json", stated)


def effect_of_decisions(runs: list[RunFolder], *, n_resamples: int = 1000) -> DecisionEffect:
    """What the decisions of an arm's runs, one per seed, change on the split they report on."""
    manifest = runs[0].manifest
    before = [run.raw_predictions(manifest["report_split"]) for run in runs]
    after = [decided(run.path, raw) for run, raw in zip(runs, before, strict=True)]
    return measure_effect(before, after, manifest["metric"], manifest["report_split"], n_resamples=n_resamples)
