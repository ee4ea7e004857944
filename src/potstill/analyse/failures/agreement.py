"""A student's mistakes beside its teacher's: both wrong, only the one, only the other, both right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from potstill.analyse.failures.judged_rows import JudgedRows
from potstill.evaluate.significance import McNemar, mcnemar

GROUPS = ("both_right", "only_student_wrong", "only_teacher_wrong", "both_wrong")
"""Every row is in exactly one of these."""


@dataclass(frozen=True)
class Agreement:
    """Who was wrong on which of ``n`` rows.

    groups: ``(n,)`` int64, each row's place in ``GROUPS``. n_same_mistake: rows that both get wrong with one and the
    same answer. mcnemar: whether one is wrong more often than the other.
    """

    groups: np.ndarray
    n_same_mistake: int
    mcnemar: McNemar

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each group."""
        return dict(zip(GROUPS, np.bincount(self.groups, minlength=len(GROUPS)).tolist(), strict=True))

    @property
    def teacher_right(self) -> np.ndarray:
        """``(n,)`` bool: the rows that the teacher gets right."""
        return self.groups < GROUPS.index("only_teacher_wrong")


def agree(student: JudgedRows, teacher: JudgedRows) -> Agreement | None:
    """The two held together, row i of both the same text; None for a regression, where no row is right or wrong."""
    if student.wrong is None or teacher.wrong is None:
        return None
    same = (student.outcomes.predicted == teacher.outcomes.predicted).reshape(len(student), -1).all(axis=1)
    return Agreement(
        groups=student.wrong + 2 * teacher.wrong.astype(np.int64),
        n_same_mistake=int((same & student.wrong & teacher.wrong).sum()),
        mcnemar=mcnemar(student.outcomes, teacher.outcomes),
    )
