"""Sentences about failures, computed from a summary of them. None is written by hand for one result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from potstill.analyse.failures.text_marks import NEGATIONS
from potstill.report.sentences import SIGNIFICANT, percent

MOST_NAMED = 3
"""Slices that a sentence names."""
EXPECTED = "confidence"
"""The family whose slices differ in every model that knows when it is sure; sentences and figure leave it out."""

_FAIL = ("fail more or less often", "Fisher’s exact")

Summary = Mapping[str, Any]
"""What ``analyse.failure_summary`` makes, with ``task``, ``model``, ``teacher_model`` and ``split`` beside it."""


def failure_sentences(summary: Summary) -> list[str]:
    """What the summary says, the first sentence for how often the model fails."""
    told = [how_often(summary), _beside_teacher(summary), _confused(summary), _slices(summary), _lost(summary)]
    return [sentence for sentence in (*told, _label_errors(summary)) if sentence]


def how_often(summary: Summary) -> str:
    """How often the model is wrong, or by how much a regression is off, with the interval."""
    error, rows = summary["error"], f"{summary['n_rows']:,} rows of {summary['split']}"
    regression = summary["problem_type"] == "regression"
    show = _number if regression else percent
    bounds = "" if error["low"] is None else f"{show(error['low'])} to {show(error['high'])}"
    sure = f" ({summary['level']:.0%} interval {bounds})" if bounds else ""
    if regression:
        mean = _number(summary["mean_absolute_error"])
        return (
            f"“{summary['model']}” is off by {show(error['value'])} in the median{sure}, {mean} on average, on {rows}."
        )
    many = summary["problem_type"] == "multi_label_classification"
    fails = "decides a label wrongly" if many else "is wrong"
    count = f"{summary['n_wrong']:,}" if summary["n_wrong"] else "none"
    return f"“{summary['model']}” {fails} on {count} of {rows}: {show(error['value'])}{sure}."


def _beside_teacher(summary: Summary) -> str:
    teacher = summary["teacher"]
    if teacher is None:
        return ""
    name = f"Its teacher, “{summary['teacher_model']}”,"
    if teacher["counts"] is None:
        return f"{name} is off by {_number(teacher['error']['value'])} in the median."
    counts = teacher["counts"]
    p_value = "p < 0.001" if teacher["p_value"] < 0.001 else f"p = {teacher['p_value']:.3f}"
    chance = "more than chance explains" if teacher["p_value"] < SIGNIFICANT else "what chance may explain"
    return (
        f"{name} is wrong on {teacher['n_wrong']:,}. Both are wrong on {counts['both_wrong']:,}, "
        f"{teacher['n_same_mistake']:,} times with the same answer; only the student on "
        f"{counts['only_student_wrong']:,}, only the teacher on {counts['only_teacher_wrong']:,}, which is {chance} "
        f"(McNemar’s exact test, {p_value})."
    )


def _confused(summary: Summary) -> str:
    """The most frequent confusion, or the label that is most often decided wrongly."""
    if summary["confusions"]:
        first = summary["confusions"][0]
        share = percent(first["rows"] / summary["n_wrong"])
        return (
            f"The most frequent confusion is “{first['true']}” taken for “{first['predicted']}”: "
            f"{first['rows']:,} rows, {share} of the mistakes."
        )
    if summary["per_label"] and summary["n_wrong"]:
        worst = max(summary["per_label"], key=lambda label: label["false_positives"] + label["false_negatives"])
        return (
            f"The label most often decided wrongly is “{worst['label']}”: given wrongly to "
            f"{worst['false_positives']:,} rows and missed on {worst['false_negatives']:,}."
        )
    return ""


def _slices(summary: Summary) -> str:
    slices = summary["slices"]
    if not slices["n_looked_at"]:
        return ""
    regression = summary["problem_type"] == "regression"
    differ, test = ("are further off or nearer", "Mann and Whitney’s") if regression else _FAIL
    sure = f"({test} test, corrected for all of them by Benjamini and Hochberg at {slices['false_discoveries']:.0%})"
    if not slices["n_differing"]:
        return f"None of the {slices['n_looked_at']} slices that were looked at differs from the rest {sure}."
    worst = _worst(slices["findings"], regression)
    some = f"{slices['n_differing']} of {slices['n_looked_at']} slices {differ} than the rest {sure}"
    return f"{some}; worst are {worst}." if worst else f"{some}."


def _lost(summary: Summary) -> str:
    if summary["teacher"] is None or summary["teacher"]["counts"] is None:
        return ""
    worst = _worst(summary["teacher"]["lost"]["findings"], regression=False)
    return f"Of the rows that the teacher gets right, the student loses most in {worst}." if worst else ""


def _worst(findings: Sequence[Summary], regression: bool) -> str:
    """The slices that differ for the worse, those first whose figure is surely the highest; empty where none does."""
    worse = [
        found
        for found in findings
        if found["differs"] and found["family"] != EXPECTED and found["inside"]["value"] > found["outside"]["value"]
    ]
    worse.sort(key=lambda found: -(found["inside"]["low"] or 0.0))
    show = _number if regression else percent
    return ", ".join(
        f"“{one['family']}: {one['name']}” ({show(one['inside']['value'])} against {show(one['outside']['value'])})"
        for one in worse[:MOST_NAMED]
    )


def _label_errors(summary: Summary) -> str:
    doubted = summary["label_errors"]
    if summary["problem_type"] == "regression":
        return ""
    if doubted is None:
        return (
            f"No label is put in doubt here: the model was trained on the rows of {summary['split']}, and a model that "
            "has learnt a wrong label does not doubt it."
        )
    return (
        f"Confident learning puts {doubted['n_labels']:,} labels in doubt. It needs predictions of rows that the model "
        f"was not trained on, which those of {summary['split']} are; it cannot tell a wrong label from a hard text."
    )


def shown_sentences(columns: Summary) -> list[str]:
    """What the list of rows holds, what is cut from it, and what its filters mean."""
    n_shown, n_all = len(columns["id"]), columns["n_all"]
    told = [f"The list holds all {n_all:,} rows."]
    if n_shown < n_all:
        told = [
            f"The list holds {n_shown:,} of {n_all:,} rows: {columns['n_failing']:,} that fail (or whose label is in "
            "doubt), and of the others those of the highest loss."
        ]
    for kind in ("failing", "others"):
        if columns[f"n_cut_{kind}"]:
            which = "that fail" if kind == "failing" else "that do not fail"
            at = columns[f"cut_{kind}_at"]
            told.append(f"Texts of {columns[f'n_cut_{kind}']:,} rows {which} are cut after {at:,} characters.")
    if columns["n_cut_failing"] or columns["n_cut_others"]:
        told.append("The search looks through what is shown, not through what is cut.")
    listed = ", ".join(NEGATIONS)
    told.append(f"A text is counted as with negation if it holds one of {listed}, or a word that ends in n’t.")
    return told


def _number(value: float) -> str:
    return f"{value:.3g}"
