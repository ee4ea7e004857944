"""Groups of rows by who is wrong. Oracles: counted by hand, set properties, McNemar's own counts."""

from __future__ import annotations

import numpy as np
import pytest

from potstill.analyse.failures.agreement import GROUPS, agree
from potstill.analyse.failures.judged_rows import judge_rows


def test_groups_and_shared_mistakes_by_hand(make_rows):
    targets = [0, 0, 0, 0, 0]
    student = judge_rows(make_rows(4 * np.eye(3)[[0, 1, 0, 1, 1]], targets))
    teacher = judge_rows(make_rows(4 * np.eye(3)[[0, 0, 2, 1, 2]], targets))
    agreement = agree(student, teacher)
    named = [GROUPS[group] for group in agreement.groups]
    assert named == ["both_right", "only_student_wrong", "only_teacher_wrong", "both_wrong", "both_wrong"]
    assert agreement.n_same_mistake == 1
    assert agreement.teacher_right.tolist() == [True, True, False, False, False]


@pytest.mark.parametrize("kind", ["single_label_classification", "multi_label_classification"])
@pytest.mark.parametrize("seed", range(3))
def test_every_row_is_in_exactly_one_group(kind, seed, random_rows):
    student, teacher = (judge_rows(random_rows(kind, 150, one, truth=seed)) for one in (seed, seed + 10))
    agreement = agree(student, teacher)
    counts = agreement.counts
    assert sum(counts.values()) == 150
    assert counts["only_student_wrong"] + counts["both_wrong"] == student.wrong.sum()
    assert counts["only_teacher_wrong"] + counts["both_wrong"] == teacher.wrong.sum()
    assert counts["both_wrong"] >= agreement.n_same_mistake
    tested = agreement.mcnemar
    assert (tested.only_a, tested.only_b) == (counts["only_teacher_wrong"], counts["only_student_wrong"])


def test_a_model_agrees_with_itself(random_rows):
    rows = judge_rows(random_rows("single_label_classification", 80, 1))
    agreement = agree(rows, rows)
    assert agreement.counts["only_student_wrong"] == agreement.counts["only_teacher_wrong"] == 0
    assert agreement.n_same_mistake == agreement.counts["both_wrong"] == rows.wrong.sum()


def test_a_regression_has_no_groups(random_rows):
    rows = judge_rows(random_rows("regression", 20, 1))
    assert agree(rows, rows) is None
