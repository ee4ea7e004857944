from __future__ import annotations

from dataclasses import replace

import pytest

from potstill.errors import CheckError
from potstill.report.evidence import check_report


def test_figures_of_one_set_of_predictions_agree(report):
    check_report(report)


def test_an_accuracy_that_its_confusion_matrix_contradicts_is_refused(small_report, change_arm):
    # what a published report did: .9272 in the text, .924 by its own matrix
    stated = {"accuracy": [0.9272, 0.92, 0.93]}
    with pytest.raises(CheckError, match=r"student, seed 1: accuracy is stated as 0\.927200 and its confusion matrix"):
        check_report(change_arm(small_report, "student", metrics=stated))


def test_a_confusion_matrix_of_other_texts_is_refused(small_report, change_arm):
    wrong = change_arm(small_report, "student", confusion=[[500, 10], [3, 500]], metrics={})
    with pytest.raises(CheckError, match="holds 1013 texts, validation has 1043"):
        check_report(wrong)


def test_failures_that_the_confusion_matrix_contradicts_are_refused(small_report):
    task = small_report.tasks[0]
    student = next(arm for arm in task.arms if arm.role == "student")
    wrong = sum(map(sum, student.confusion)) - sum(row[i] for i, row in enumerate(student.confusion))

    def beside(n_wrong, split=task.split):
        return replace(small_report, tasks=[replace(task, failures={"split": split, "n_wrong": n_wrong})])

    check_report(beside(wrong))
    check_report(beside(0, split="selection"))
    with pytest.raises(CheckError, match=rf"study of failures counts {wrong + 1} wrong texts and the confusion matrix"):
        check_report(beside(wrong + 1))


def test_label_counts_that_do_not_add_up_to_their_split_are_refused(small_report):
    task = replace(small_report.tasks[0], rows_per_label={"train": {"unacceptable": 3000, "acceptable": 1}})
    with pytest.raises(CheckError, match="labels of train count 3001 rows, the split has 6258"):
        check_report(replace(small_report, tasks=[task]))


def test_label_counts_of_texts_with_many_labels_need_not_add_up(small_report):
    arms = [replace(arm, confusion=()) for arm in small_report.tasks[0].arms]
    task = replace(small_report.tasks[0], arms=arms, rows_per_label={"train": {"toxic": 30, "threat": 1}})
    check_report(replace(small_report, tasks=[task]))


def test_arms_come_with_the_teacher_first_and_baselines_last(report):
    turned = replace(report, tasks=[replace(task, arms=task.arms[::-1]) for task in report.tasks])
    assert turned.arm_names == ["teacher", "student", "student, random", "student, not distilled"]


def test_a_comparison_of_older_predictions_is_found(small_report, change_arm):
    older = {name: value + 0.01 for name, value in small_report.tasks[0].teacher.medians.items()}
    with pytest.raises(CheckError, match=r"was compared as 0\.\d+, and the median of its seeds is .*potstill run"):
        check_report(change_arm(small_report, "teacher", medians=older))
