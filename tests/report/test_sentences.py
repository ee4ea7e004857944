from __future__ import annotations

from dataclasses import replace

import pytest

from potstill.report.sentences import mean_retention, rising_loss, truncation, verdict


def test_verdict_says_the_mean_of_what_was_kept_and_where_it_was_least(report):
    kept = [task.arm("student").medians[task.metric] / task.teacher.medians[task.metric] for task in report.tasks]
    assert f"kept {100 * sum(kept) / 3:.1f}% of its teacher's quality on average over 3 tasks" in verdict(report)
    assert f"(least on cola: {100 * kept[0]:.1f}%)" in verdict(report)


def test_verdict_compares_size_and_speed_with_the_teacher(report):
    # by hand: 1 - 17.39 / 22.714 = 23.4%; 8.9 / 4.7 = 1.89
    assert "with 23.4% fewer parameters and 1.89 times the speed on a single text." in verdict(report)


def test_verdict_states_no_speed_that_one_repeat_contradicts(small_report, change_arm):
    unsure = change_arm(small_report, "student", latency_ratios=(1.4, 1.3, 0.99))
    assert "fewer parameters and a speed on a single text that cannot be told from the teacher's." in verdict(unsure)


def test_a_repeat_on_another_task_contradicts_a_speed_as_well(report):
    first, *others = report.tasks
    slower = [replace(arm, latency_ratios=(0.9,)) if arm.name == "student" else arm for arm in first.arms]
    assert "cannot be told from" in verdict(replace(report, tasks=[replace(first, arms=slower), *others]))


def test_verdict_names_the_tasks_where_chance_may_explain_the_difference(report):
    assert verdict(report).endswith("On sst2 the difference from the teacher may be chance (p ≥ 0.05).")


def test_verdict_says_so_when_a_baseline_kept_more(small_report, change_arm):
    better = change_arm(small_report, "student, not distilled", retention=0.97)
    points = 97 - 100 * mean_retention(small_report, "student")
    assert f"“student, not distilled” kept {points:.1f} points more: distillation did not pay here." in verdict(better)


@pytest.mark.parametrize(
    ("p_value", "said"),
    [
        (0.4, "kept {points} points more. Chance may explain that (p ≥ 0.05)."),
        (
            0.01,
            "kept {points} points more. The student is behind it on {task} by more than chance explains (p < 0.05).",
        ),
    ],
)
def test_verdict_says_whether_chance_explains_what_a_baseline_kept_more(small_report, change_arm, p_value, said):
    better = change_arm(small_report, "student, not distilled", retention=0.97)
    tested = change_arm(better, "student", p_beside={"student, not distilled": p_value})
    points = f"{97 - 100 * mean_retention(small_report, 'student'):.1f}"
    assert said.format(points=points, task=small_report.tasks[0].name) in verdict(tested)


def test_verdict_names_the_tasks_on_which_a_student_is_clearly_ahead_of_a_baseline(small_report, change_arm):
    tested = change_arm(small_report, "student", p_beside={"student, not distilled": 0.002})
    assert (
        f"The student is ahead of it on {small_report.tasks[0].name} by more than chance explains (p < 0.05)."
        in verdict(tested)
    )


def test_verdict_says_so_when_a_baseline_kept_as_much(small_report, change_arm):
    same = change_arm(small_report, "student, random", retention=mean_retention(small_report, "student"))
    assert "distillation added nothing here" in verdict(same)


def test_verdict_of_a_student_larger_and_slower_than_its_teacher_is_not_flattering(small_report, change_arm):
    larger = change_arm(small_report, "student", n_parameters=45_428_000, latency_ratios=(0.49, 0.5, 0.52))
    assert "100.0% more parameters and 0.50 times the speed" in verdict(larger)


def test_verdict_without_student_test_or_retention_claims_nothing(small_report, change_arm):
    task = small_report.tasks[0]
    alone = replace(small_report, tasks=[replace(task, arms=[task.teacher])])
    assert verdict(alone).startswith("No student was measured")
    assert verdict(replace(small_report, tasks=[])).startswith("No student was measured")
    assert "was not tested" in verdict(change_arm(small_report, "student", p_value=None))
    assert "no share of the teacher's quality" in verdict(change_arm(small_report, "student", retention=None))


@pytest.mark.parametrize(
    ("losses", "warns"),
    [([0.5, 0.4, 0.3], False), ([0.5, 0.3, 0.4], True), ([0.5, 0.3, 0.302], False), ([0.3], False), ([], False)],
    ids=["falling", "rising", "rising by less than 1%", "one point", "none"],
)
def test_rising_validation_loss_is_warned_of(losses, warns):
    history = [{"epoch": epoch, "eval_loss": loss} for epoch, loss in enumerate(losses, start=1)]
    assert (rising_loss(history) is not None) is warns


def test_the_warning_tells_both_losses_and_both_epochs():
    history = [{"epoch": 1, "eval_loss": 0.31}, {"epoch": 2, "eval_loss": 0.45}, {"epoch": 2, "loss": 0.1}]
    assert rising_loss(history).startswith("Validation loss rose from 0.310 (epoch 1) to 0.450 (epoch 2)")


def test_truncation_is_told_for_each_share(small_report, change_arm):
    task = small_report.tasks[0]
    assert truncation(task) == "2.1% of the texts of validation were cut at the models' maximum length."
    unequal = change_arm(small_report, "teacher", truncated_share=0.0).tasks[0]
    assert "0.0% for teacher, 2.1% for student, student, not distilled and student, random" in truncation(unequal)
    none_cut = replace(task, arms=[replace(arm, truncated_share=0.0) for arm in task.arms])
    assert truncation(none_cut) == "No text of validation was longer than the models take."
    unknown = replace(task, arms=[replace(arm, truncated_share=None) for arm in task.arms])
    assert "not recorded" in truncation(unknown)


def test_a_baseline_measured_on_fewer_tasks_is_not_averaged_beside_the_others(report):
    # without the hardest task its mean would be the best of all
    first = report.tasks[0]
    fewer = [arm for arm in first.arms if arm.name != "student, random"]
    uneven = replace(report, tasks=[replace(first, arms=fewer), *report.tasks[1:]])
    assert mean_retention(uneven, "student, random") is None
    assert "the best baseline, “student, not distilled”" in verdict(uneven)
