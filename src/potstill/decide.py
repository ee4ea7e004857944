"""Decisions as a verb and as a step of ``potstill run``: fitted, kept with the model, and what they change shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from potstill.decisions import asked_in_words, stored_decisions
from potstill.recipe.decisions import DecisionsSection
from potstill.runs import RunFolder

NOTHING = DecisionsSection(temperature=False)
"""What is asked for where a recipe does not speak of decisions."""


def calibrate(path: Path, section: DecisionsSection) -> dict[str, Any]:
    """Fit what ``section`` asks for on a run's selection split and keep it; write its card and page again.

    Returns ``decisions`` (None where nothing was asked for, and what was kept before is gone), their ``effect`` on the
    split that is reported, and the ``page``.
    """
    from potstill.evaluate.decision_fit import decide_run, effect_of_decisions
    from potstill.report.stage import write_card, write_run_page

    decisions = decide_run(path, section.rule, scaled=section.temperature)
    effect = None if decisions is None else effect_of_decisions([RunFolder.open(path)])
    write_card(path)
    return {
        "decisions": None if decisions is None else decisions.to_dict(),
        "effect": None if effect is None else effect.to_dict(),
        "page": str(write_run_page(path)),
    }


def effect_rows(effect: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per metric: before, after, the difference with its interval, and what may be said of it."""
    rows = []
    for name, metric in effect["metrics"].items():
        change = metric["difference"]
        placed = change is not None and change["low"] is not None
        rows.append(
            {
                "metric": name,
                "before": metric["before"],
                "after": metric["after"],
                "95% interval of the difference": f"{change['low']:+.4f} – {change['high']:+.4f}" if placed else "–",
                "in words": metric["word"],
            }
        )
    return rows


def decide_runs(paths: Iterable[Path], section: DecisionsSection | None, tell: Callable[[str], None]) -> None:
    """Give every classifier of a recipe the decisions it asks for, all by one rule, fitted on its own selection split.

    Where it asks for none, what was kept is gone. A task that has no use for a part of it goes without, and ``tell``
    says so.
    """
    asked, limited = section or NOTHING, set()
    for path in paths:
        task = RunFolder.open(path).manifest["task"]["name"]
        possible = _possible(path, asked)
        if possible != asked and task not in limited:
            limited.add(task)
            words = asked_in_words(possible.rule, scaled=possible.temperature)
            tell(f"    {task} has no use for all of the recipe's decisions; it gets {words}")
        _decide(path, possible, tell)


def _decide(path: Path, section: DecisionsSection, tell: Callable[[str], None]) -> None:
    from potstill.evaluate.decision_fit import decide_run

    before = stored_decisions(path)
    decisions = decide_run(path, section.rule, scaled=section.temperature)
    if decisions is None and before is not None:
        tell(f"    {path}: its decisions ({before.asked}) are not in the recipe and were taken away")
    elif decisions is not None and decisions != before:
        notes = "".join(f"; {note}" for note in decisions.notes)
        tell(f"    {path}: decisions fitted on {decisions.n_rows:,} rows of {decisions.split}{notes}")


def _possible(path: Path, section: DecisionsSection) -> DecisionsSection:
    """What of ``section`` the task of a run has a use for."""
    from potstill.evaluate.thresholds import can_have_thresholds

    manifest = RunFolder.open(path).manifest
    if manifest["problem_type"] == "regression":
        return NOTHING
    if can_have_thresholds(manifest["problem_type"], len(manifest["label_names"])):
        return section
    return DecisionsSection(temperature=section.temperature)
