"""Sentences about failures, computed from a summary of them. None is written by hand for one result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from potstill.analyse.failures.text_marks import NEGATIONS
from potstill.report.sentences import SIGNIFICANT, percent

MOST_NAMED = 2
"""Slices that the sentence about them names."""
EXPECTED = "confidence"
"""The family whose slices differ in every model that knows when it is sure; sentences and figure leave it out."""

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
        f"{counts['only_student_wrong']:,}, only the teacher on {counts['only_teacher_wrong']:,}: the difference is "
        f"{chance} (McNemar’s exact test, {p_value})."
    )


def _confused(summary: Summary) -> str:
    """The most frequent confusion, or the label that is most often decided wrongly."""
    if summary["confusions"]:
        first = summary["confusions"][0]
        share = percent(first["rows"] / summary["n_wrong"])
        return (
            f"The most frequent confusion is “{first['true']}” taken for “{first['predicted']}”: "
            f"{_counted(first['rows'], 'row')}, {share} of the mistakes."
        )
    if summary["per_label"] and summary["n_wrong"]:
        worst = max(summary["per_label"], key=lambda label: label["false_positives"] + label["false_negatives"])
        return (
            f"The label most often decided wrongly is “{worst['label']}”: given wrongly to "
            f"{_counted(worst['false_positives'], 'row')} and missed on {worst['false_negatives']:,}."
        )
    return ""


def slices_method(summary: Summary) -> str:
    """How the slices were compared."""
    regression = summary["problem_type"] == "regression"
    test = "the test of Mann and Whitney" if regression else "Fisher’s exact test"
    share = f"{summary['slices']['false_discoveries']:.0%}"
    return (
        f"Each kind of rows is held against all others by {test}, and the p-values are corrected for all of them "
        f"(Benjamini and Hochberg): of those said to differ, {share} at most are expected to do so by chance."
    )


def _slices(summary: Summary) -> str:
    slices = summary["slices"]
    if not slices["n_looked_at"]:
        return ""
    regression = summary["problem_type"] == "regression"
    if not slices["n_differing"]:
        return f"None of the {slices['n_looked_at']} slices that were looked at surely differs from the rest."
    differ = "is further off or nearer" if regression else "fails more or less often"
    worst = _worst(slices["findings"], MOST_NAMED, regression)
    some = f"In {slices['n_differing']} of {slices['n_looked_at']} slices it {differ} than in the rest"
    return f"{some}; worst are {worst}." if worst else f"{some}."


def _lost(summary: Summary) -> str:
    if summary["teacher"] is None or summary["teacher"]["counts"] is None:
        return ""
    worst = _worst(summary["teacher"]["lost"]["findings"], 1)
    return f"Of the rows that the teacher gets right, the student loses most in {worst}." if worst else ""


def _worst(findings: Sequence[Summary], most: int, regression: bool = False) -> str:
    """The ``most`` slices that differ for the worse and have the surest high figure; empty where none does."""
    worse = [
        found
        for found in findings
        if found["differs"] and found["family"] != EXPECTED and found["inside"]["value"] > found["outside"]["value"]
    ]
    worse.sort(key=lambda found: -(found["inside"]["low"] or 0.0))
    show = _number if regression else percent
    return ", ".join(
        f"“{one['family']}: {one['name']}” ({show(one['inside']['value'])} against {show(one['outside']['value'])})"
        for one in worse[:most]
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
    labels = _counted(doubted["n_labels"], "label")
    return (
        f"Confident learning puts {labels} in doubt. It needs predictions of rows that the model was not trained on, "
        f"which those of {summary['split']} are; it cannot tell a wrong label from a hard text."
    )


def shown_sentences(columns: Summary) -> list[str]:
    """What the list of rows holds, what is cut from it, and what its filters mean."""
    n_shown, n_all = len(columns["id"]), columns["n_all"]
    first = "those that fail, or whose label is in doubt, before the others, and high loss before low"
    some = f"The list holds {n_shown:,} of {n_all:,} rows: {first}."
    told = [some if n_shown < n_all else f"The list holds all {_counted(n_all, 'row')}."]
    for kind in ("failing", "others"):
        if columns[f"n_cut_{kind}"]:
            which = "that fail" if kind == "failing" else "that do not"
            rows, at = _counted(columns[f"n_cut_{kind}"], "row"), columns[f"cut_{kind}_at"]
            told.append(f"Of {rows} {which} the text is cut after {at:,} characters.")
    if columns["n_cut_failing"] or columns["n_cut_others"]:
        told.append("The search looks through what is shown, not through what is cut.")
    listed = ", ".join(NEGATIONS)
    told.append(f"A text is counted as with negation if it holds one of {listed}, or a word that ends in n’t.")
    return told


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _number(value: float) -> str:
    return f"{value:.3g}"
