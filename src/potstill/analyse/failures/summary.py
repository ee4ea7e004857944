"""A study of failures as plain JSON values, for machines, and for sentences, tables and pages to be made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn import metrics as sk

from potstill.analyse.failures.slices import FALSE_DISCOVERIES, LEVEL, Rate, SliceFindings, median_rate, wilson_rate
from potstill.analyse.failures.study import FailureStudy
from potstill.evaluate.metrics import confusion
from potstill.evaluate.significance import number_or_none
from potstill.records import Text

N_EXAMPLES = 20
"""Rows in each list of examples."""
EXCERPT_CHARACTERS = 400


def summarise(study: FailureStudy, texts: Sequence[Text]) -> dict[str, Any]:
    """Counts, confusions, slices, agreement, doubted labels, and the rows that stand out, with excerpts of their texts.

    Undefined numbers are None. Lists that are empty for the kind of task are there, and empty.
    """
    rows, wrong = study.rows, study.rows.wrong
    single = rows.problem_type == "single_label_classification"
    return {
        "problem_type": rows.problem_type,
        "label_names": list(rows.label_names),
        "n_rows": len(rows),
        "n_wrong": None if wrong is None else int(wrong.sum()),
        "error": _rate(median_rate(np.abs(rows.errors)) if wrong is None else wilson_rate(int(wrong.sum()), len(rows))),
        "mean_absolute_error": None if wrong is not None else float(np.abs(rows.errors).mean()),
        "level": LEVEL,
        "confusions": _confusions(study) if single else [],
        "per_label": _per_label(study) if rows.problem_type == "multi_label_classification" else [],
        "slices": _slices(study.findings),
        "teacher": _teacher(study),
        "label_errors": _label_errors(study, texts),
        "hardest": [example(study, row, texts) for row in study.hardest[:N_EXAMPLES]],
        "most_confidently_wrong": [example(study, row, texts) for row in study.most_confidently_wrong[:N_EXAMPLES]],
    }


def wrong_rows(study: FailureStudy) -> list[dict[str, Any]]:
    """Every wrong prediction without its text, the highest loss first; none for a regression."""
    wrong = study.rows.wrong
    return [] if wrong is None else [describe_row(study, row) for row in study.rows.ranked(study.rows.loss, wrong)]


def describe_row(study: FailureStudy, row: int) -> dict[str, Any]:
    """One row in plain values: id, truth and answer by name (lists of names with many labels), confidence, loss."""
    rows = study.rows
    told = {
        "id": str(rows.ids[row]),
        "true": _answer(study, rows.outcomes.targets[row]),
        "predicted": _answer(study, rows.outcomes.predicted[row]),
        "confidence": None if rows.confidence is None else float(rows.confidence[row]),
        "loss": float(rows.loss[row]),
        "n_words": int(study.marks.n_words[row]),
        "n_tokens": int(rows.predictions.n_tokens[row]),
        "truncated": bool(rows.predictions.truncated[row]),
        "negation": bool(study.marks.negation[row]),
    }
    if study.teacher is not None:
        told["teacher"] = _answer(study, study.teacher.outcomes.predicted[row])
    return told


def example(study: FailureStudy, row: int, texts: Sequence[Text]) -> dict[str, Any]:
    """One row with the beginning of its text; the characters left out are counted."""
    text = texts[int(row)]
    whole = text if isinstance(text, str) else "\n".join(text)
    left_out = max(len(whole) - EXCERPT_CHARACTERS, 0)
    return {**describe_row(study, row), "text": writable(whole[:EXCERPT_CHARACTERS]), "characters_left_out": left_out}


def writable(text: str) -> str:
    """``text`` with question marks for lone surrogates, which UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _answer(study: FailureStudy, value: Any) -> str | list[str] | float:
    names = study.rows.label_names
    if study.rows.problem_type == "single_label_classification":
        return names[int(value)]
    if study.rows.problem_type == "multi_label_classification":
        return [names[label] for label in np.flatnonzero(value)]
    return float(value)


def _rate(rate: Rate) -> dict[str, float | None]:
    return {"value": rate.value, "low": number_or_none(rate.low), "high": number_or_none(rate.high)}


def _confusions(study: FailureStudy) -> list[dict[str, Any]]:
    """Pairs of labels that were taken for one another, the most frequent first."""
    counts = confusion(study.rows.predictions)
    pairs = [(int(counts[cell]), *cell) for cell in np.ndindex(*counts.shape) if cell[0] != cell[1] and counts[cell]]
    names = study.rows.label_names
    return [
        {"true": names[true], "predicted": names[predicted], "rows": count}
        for count, true, predicted in sorted(pairs, key=lambda pair: (-pair[0], pair[1:]))
    ]


def _per_label(study: FailureStudy) -> list[dict[str, Any]]:
    """Of each label the rows that truly have it, those that got it wrongly, and those that it is missing from."""
    tables = sk.multilabel_confusion_matrix(study.rows.outcomes.targets, study.rows.outcomes.predicted)
    return [
        {"label": name, "rows": int(fn + tp), "false_positives": int(fp), "false_negatives": int(fn)}
        for name, ((_, fp), (fn, tp)) in zip(study.rows.label_names, tables, strict=True)
    ]


def _slices(found: SliceFindings) -> dict[str, Any]:
    return {
        "n_looked_at": len(found.findings),
        "n_too_small": found.n_too_small,
        "n_differing": sum(finding.differs for finding in found.findings),
        "false_discoveries": FALSE_DISCOVERIES,
        "findings": [
            {
                "family": finding.slice.family,
                "name": finding.slice.name,
                "rows": finding.n_rows,
                "inside": _rate(finding.inside),
                "outside": _rate(finding.outside),
                "p_value": finding.p_value,
                "q_value": finding.q_value,
                "differs": finding.differs,
            }
            for finding in found.findings
        ],
    }


def _teacher(study: FailureStudy) -> dict[str, Any] | None:
    """What holds against the teacher; for a regression only how far off it is itself."""
    if study.teacher is None:
        return None
    if study.agreement is None or study.lost is None:
        errors = np.abs(study.teacher.errors)
        return {"error": _rate(median_rate(errors)), "mean_absolute_error": float(errors.mean()), "counts": None}
    counts = study.agreement.counts
    n_wrong = counts["only_teacher_wrong"] + counts["both_wrong"]
    return {
        "error": _rate(wilson_rate(n_wrong, len(study.rows))),
        "n_wrong": n_wrong,
        "counts": counts,
        "n_same_mistake": study.agreement.n_same_mistake,
        "p_value": study.agreement.mcnemar.p_value,
        "lost": _slices(study.lost),
    }


def _label_errors(study: FailureStudy, texts: Sequence[Text]) -> dict[str, Any] | None:
    doubted = study.suspicions
    if doubted is None:
        return None
    first = [
        {
            "given": doubted.given[place],
            "suggested": doubted.suggested[place],
            "given_probability": float(doubted.given_probability[place]),
            "suggested_probability": float(doubted.suggested_probability[place]),
            **example(study, doubted.rows[place], texts),
        }
        for place in range(min(len(doubted), N_EXAMPLES))
    ]
    return {"n_labels": len(doubted), "n_rows": len(np.unique(doubted.rows)), "likeliest": first}
