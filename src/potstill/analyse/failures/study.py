"""Where and how a model fails: its mistakes, the slices they gather in, its teacher's beside them, labels in doubt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from potstill.analyse.failures.agreement import Agreement, agree
from potstill.analyse.failures.judged_rows import JudgedRows, judge_beside, judge_rows
from potstill.analyse.failures.label_errors import LabelSuspicions, suspect_labels
from potstill.analyse.failures.slices import SliceFindings, compare_errors, compare_shares, slices_of
from potstill.analyse.failures.text_marks import TextMarks, mark_texts
from potstill.records import Predictions, Text


@dataclass(frozen=True)
class FailureStudy:
    """The failures of one model on one split, beside its teacher's if one is given.

    findings: the slices by the share of wrong rows; for a regression by the median of the absolute errors.
    suspicions: labels in doubt; None for a regression, and where the model was trained on these rows.
    teacher: the same rows in the same order as judged of the teacher.
    agreement, lost: None without a teacher and for a regression. lost: among the rows that the teacher gets right, the
    slices by the share that the student gets wrong.
    """

    rows: JudgedRows
    marks: TextMarks
    findings: SliceFindings
    suspicions: LabelSuspicions | None
    teacher: JudgedRows | None = None
    agreement: Agreement | None = None
    lost: SliceFindings | None = None

    @property
    def hardest(self) -> np.ndarray:
        """Numbers of all rows, the one with the highest loss first."""
        return self.rows.ranked(self.rows.loss)

    @property
    def most_confidently_wrong(self) -> np.ndarray:
        """Numbers of the wrong rows, the one of whose answer the model was surest first; none for a regression."""
        if self.rows.confidence is None:
            return np.empty(0, dtype=np.int64)
        return self.rows.ranked(self.rows.confidence, self.rows.wrong)


def study_failures(
    predictions: Predictions,
    texts: Sequence[Text],
    *,
    teacher: Predictions | None = None,
    training_texts: Iterable[Text] | None = None,
    held_out: bool = True,
) -> FailureStudy:
    """The failures of ``predictions``, whose row i is of ``texts[i]``.

    ``training_texts`` tell which words training never met. ``held_out`` says that the model was not trained on these
    rows; where it was, no label is suspected, because a model that has learnt a wrong label does not doubt it.
    Raises DataError for predictions without targets, or a teacher's of other rows, targets or labels.
    """
    rows = judge_rows(predictions)
    marks = mark_texts(texts, training_texts)
    study = FailureStudy(
        rows=rows,
        marks=marks,
        findings=_find_slices(rows, marks),
        suspicions=suspect_labels(rows) if held_out else None,
    )
    return study if teacher is None else _beside(study, judge_beside(teacher, rows))


def _find_slices(rows: JudgedRows, marks: TextMarks) -> SliceFindings:
    slices = slices_of(rows, marks)
    return compare_errors(slices, np.abs(rows.errors)) if rows.wrong is None else compare_shares(slices, rows.wrong)


def _beside(study: FailureStudy, teacher: JudgedRows) -> FailureStudy:
    agreement = agree(study.rows, teacher)
    if agreement is None or study.rows.wrong is None:
        return replace(study, teacher=teacher)
    right = agreement.teacher_right
    known = [replace(one, rows=one.rows[right]) for one in slices_of(study.rows, study.marks)]
    lost = compare_shares(known, study.rows.wrong[right])
    return replace(study, teacher=teacher, agreement=agreement, lost=lost)
