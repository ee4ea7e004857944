"""Rows of a study of failures as compact columns for a page, within a stated size; what is left out is counted."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from potstill.analyse.failures.judged_rows import JudgedRows
from potstill.analyse.failures.study import FailureStudy
from potstill.analyse.failures.summary import writable
from potstill.records import Text

MOST_ROWS = 50_000
"""Rows in a page. Of more, those that fail come first, then those of the highest loss."""
TEXT_CHARACTERS = 8_000_000
"""Characters of text in a page. Failing rows have them before the others, and share them with one length for all."""


def browser_columns(
    study: FailureStudy,
    texts: Sequence[Text],
    *,
    most_rows: int = MOST_ROWS,
    text_characters: int = TEXT_CHARACTERS,
) -> dict[str, Any]:
    """The rows that a page shows, in the order of their ids, as columns of JSON values; with what is cut, counted.

    Answers are numbers of labels (lists of them with many labels) or values; probabilities are in 1/10,000; yes and no
    are packed, eight rows to a byte, in base64. A pair's second text has a column of its own.
    """
    shown = _choose(study, most_rows)
    lengths, sizes = _lengths(study, shown, text_characters)
    first, second = _cut_texts(texts, shown, lengths)
    left_out = np.maximum(study.marks.n_characters[shown] - lengths, 0)
    return {
        "kind": study.rows.problem_type,
        "labels": list(study.rows.label_names),
        "n_all": len(study.rows),
        **sizes,
        "id": study.rows.ids[shown].tolist(),
        "text": first,
        "second": second,
        "left_out": left_out.tolist(),
        "words": study.marks.n_words[shown].tolist(),
        "tokens": study.rows.predictions.n_tokens[shown].tolist(),
        "truncated": _bits(study.rows.predictions.truncated[shown]),
        "negation": _bits(study.marks.negation[shown]),
        **_judged(study.rows, shown),
        "teacher": None if study.teacher is None else _judged(study.teacher, shown),
        "doubts": _doubts(study, shown),
        "slices": [
            {"name": f"{one.slice.family}: {one.slice.name}", "rows": _bits(one.slice.rows[shown])}
            for one in study.findings.findings
        ],
    }


def _failing(study: FailureStudy) -> np.ndarray:
    """``(n,)`` bool: wrong in the student or in the teacher, or of a doubted label. Of a regression all rows are."""
    if study.rows.wrong is None:
        return np.ones(len(study.rows), dtype=bool)
    failing = study.rows.wrong.copy()
    if study.teacher is not None and study.teacher.wrong is not None:
        failing |= study.teacher.wrong
    if study.suspicions is not None:
        failing[study.suspicions.rows] = True
    return failing


def _choose(study: FailureStudy, most_rows: int) -> np.ndarray:
    chosen = np.lexsort((study.rows.ids, -study.rows.loss, ~_failing(study)))[:most_rows]
    return chosen[np.argsort(study.rows.ids[chosen], kind="stable")]


def _lengths(study: FailureStudy, shown: np.ndarray, budget: int) -> tuple[np.ndarray, dict[str, int]]:
    """Characters that each of the ``shown`` rows may have, and the numbers that tell of it."""
    whole, failing = study.marks.n_characters[shown], _failing(study)[shown]
    of_failing = fair_length(whole[failing], budget)
    spent = int(np.minimum(whole[failing], of_failing).sum())
    of_others = fair_length(whole[~failing], budget - spent)
    lengths = np.where(failing, of_failing, of_others)
    cut = whole > lengths
    return lengths, {
        "n_failing": int(failing.sum()),
        "n_cut_failing": int((cut & failing).sum()),
        "n_cut_others": int((cut & ~failing).sum()),
        "cut_failing_at": of_failing,
        "cut_others_at": of_others,
    }


def fair_length(lengths: np.ndarray, budget: int) -> int:
    """The greatest length such that texts of ``lengths`` (n,), each cut to it, have ``budget`` characters at most."""
    ordered = np.sort(lengths)
    if ordered.sum() <= budget:
        return int(ordered[-1]) if len(ordered) else 0
    spent_before = np.cumsum(ordered) - ordered
    level = (budget - spent_before) // np.arange(len(ordered), 0, -1)
    return int(level[np.argmax(level < ordered)])


def _cut_texts(texts: Sequence[Text], shown: np.ndarray, lengths: np.ndarray) -> tuple[list[str], list[str] | None]:
    """The texts of the ``shown`` rows, cut; read in their stored order, which is how they lie on the disk."""
    place = {int(row): number for number, row in enumerate(shown)}
    pairs: list[tuple[str, str]] = [("", "")] * len(shown)
    for row, text in enumerate(texts):
        if row in place:
            pairs[place[row]] = _cut(text, int(lengths[place[row]]))
    is_pair = any(second for _, second in pairs)
    return [first for first, _ in pairs], [second for _, second in pairs] if is_pair else None


def _cut(text: Text, length: int) -> tuple[str, str]:
    """The beginning of a text, or of both of a pair: a short one leaves its room to the other."""
    first, second = (text, "") if isinstance(text, str) else text
    of_first = max(length // 2, length - len(second))
    first = first[:of_first]
    return writable(first), writable(second[: length - len(first)])


def _judged(rows: JudgedRows, shown: np.ndarray) -> dict[str, Any]:
    """Truth, answer, confidence and loss of one model."""
    columns: dict[str, Any] = {
        "truth": _answers(rows.outcomes.targets[shown]),
        "answer": _answers(rows.outcomes.predicted[shown]),
        "loss": [float(f"{loss:.4g}") for loss in rows.loss[shown]],
        "wrong": None if rows.wrong is None else _bits(rows.wrong[shown]),
        "confidence": None if rows.confidence is None else _in_ten_thousandths(rows.confidence[shown]),
    }
    if rows.problem_type == "multi_label_classification":
        concerned = (rows.outcomes.targets[shown] == 1) | (rows.outcomes.predicted[shown] == 1)
        of_labels = rows.outcomes.probabilities[shown]
        columns["probabilities"] = [
            _in_ten_thousandths(row[where]) for row, where in zip(of_labels, concerned, strict=True)
        ]
    return columns


def _answers(values: np.ndarray) -> list[Any]:
    if values.ndim == 2:
        return [np.flatnonzero(row).tolist() for row in values]
    return values.tolist() if values.dtype.kind == "i" else [float(f"{value:.6g}") for value in values]


def _in_ten_thousandths(probabilities: np.ndarray) -> list[int]:
    return np.rint(10_000 * probabilities).astype(int).tolist()


def _bits(values: np.ndarray) -> str:
    return base64.b64encode(np.packbits(values, bitorder="little").tobytes()).decode("ascii")


def _doubts(study: FailureStudy, shown: np.ndarray) -> list[list[Any]]:
    """Of each doubted label, the likeliest first: place of its row among the ``shown``, given and suggested label."""
    if study.suspicions is None:
        return []
    place = {int(row): number for number, row in enumerate(shown)}
    doubted = zip(study.suspicions.rows.tolist(), study.suspicions.given, study.suspicions.suggested, strict=True)
    return [[place[row], given, suggested] for row, given, suggested in doubted if row in place]
