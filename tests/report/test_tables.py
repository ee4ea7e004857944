from __future__ import annotations

import math
from dataclasses import replace

import pytest

from potstill.report import tables


def test_retention_table_has_a_row_per_task_and_the_mean_last(report):
    table = tables.retention_table(report)
    assert [row[0].text for row in table.rows] == ["cola", "sst2", "docstrings", "mean retention"]
    assert table.columns == ["task", "teacher", "student", "student, not distilled", "student, random"]
    assert table.rows[-1][1].text == "100.0%"
    assert (table.rows[0][2].text, table.rows[0][2].detail) == ("0.391", "0.358 to 0.420\nkeeps 84.6%")


def test_an_arm_missing_on_one_task_leaves_its_cell_empty(report):
    task = report.tasks[0]
    fewer = replace(report, tasks=[replace(task, arms=task.arms[:2]), *report.tasks[1:]])
    assert [cell.text for cell in tables.retention_table(fewer).rows[0]] == ["cola", "0.462", "0.391", "–", "–"]


def test_size_table_compares_with_the_teacher(report):
    table = tables.size_table(report)
    student = table.rows[1]
    assert [cell.text for cell in student] == ["student", "17.4 M", "69.6 MB", "4.7 ms", "301 texts/s", "3 min 53 s"]
    assert [cell.detail for cell in student[1:5]] == ["1.3× smaller", "1.3× smaller", "1.9× faster", "1.8× faster"]
    assert all(cell.detail == "" for cell in table.rows[0])


def test_a_slower_student_is_called_slower(small_report, change_arm):
    changes = {"latency_ratios": (0.49, 0.5, 0.52), "n_parameters": 45_428_000}
    slower = tables.size_table(change_arm(small_report, "student", **changes))
    assert [cell.detail for cell in slower.rows[1]][1:4:2] == ["2.0× larger", "2.0× slower"]


def test_a_speed_that_one_repeat_contradicts_is_not_called_another(small_report, change_arm):
    changes = {"latency_ratios": (1.4, 1.3, 0.99), "throughput_ratios": (0.8, 1.0, 0.9)}
    unsure = tables.size_table(change_arm(small_report, "student", **changes))
    assert [cell.detail for cell in unsure.rows[1]][3:5] == ["not distinguishable", "not distinguishable"]


def test_an_undefined_metric_is_shown_as_nothing(small_report, change_arm):
    undefined = change_arm(small_report, "student", medians={"matthews_corrcoef": math.nan})
    assert tables.retention_table(undefined).rows[0][2].text == "–"


def test_metrics_table_puts_the_primary_metric_first(report):
    table = tables.metrics_table(report.tasks[2])
    assert table.columns[:3] == ["model", "f1_macro", "accuracy"]
    assert table.rows[1][-1].text == "keeps 97.1%"
    assert "p < 0.001 (paired bootstrap)" in table.rows[1][-1].detail


def test_what_choices_saw_is_a_column_of_its_own(small_report, change_arm):
    chosen = tables.metrics_table(change_arm(small_report, "student", on_selection=0.4125).tasks[0])
    assert chosen.columns[-1] == "matthews_corrcoef on selection"
    assert [row[-1].text for row in chosen.rows] == ["–", "0.412", *["–"] * (len(chosen.rows) - 2)]
    assert "on selection" not in " ".join(tables.metrics_table(small_report.tasks[0]).columns)


def test_per_class_table_holds_every_label_and_every_arm(report):
    table = tables.per_class_table(report.tasks[2])
    assert [row[0].text for row in table.rows] == list(report.tasks[2].label_names)
    assert sum(row[1].sort for row in table.rows) == report.tasks[2].rows["validation"]
    assert [column for column in table.columns if column.startswith("F1")] == [
        f"F1, {arm.name}" for arm in report.tasks[2].arms
    ]


def test_split_table_prints_rows_and_shares_as_counted(small_report):
    # 37.5 / 12.5 / 50 must not pass for 60 / 20 / 20
    task = replace(small_report.tasks[0], rows={"train": 375, "validation": 125, "test": 500}, rows_per_label={})
    cells = [[cell.text for cell in row] for row in tables.split_table(task).rows]
    assert cells == [["train", "375", "37.5%"], ["validation", "125", "12.5%"], ["test", "500", "50.0%"]]


def test_tables_of_nothing_are_none(small_report):
    task = replace(
        small_report.tasks[0], rows={}, arms=[replace(arm, per_class=()) for arm in small_report.tasks[0].arms]
    )
    assert (tables.split_table(task), tables.per_class_table(task), tables.mapping_table([])) == (None, None, None)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "–"), (4.23, "4.2 s"), (59.4, "59 s"), (59.7, "1 min 00 s"), (3599.6, "1 h 00 min"), (4805, "1 h 20 min")],
)
def test_durations_are_in_the_unit_a_person_would_use(seconds, words):
    assert tables.duration(seconds) == words


EPOCHS = (
    {"epoch": 1, "step": 6, "training_loss": 0.9, "loss": 0.7, "accuracy": 0.8, "kept": False},
    {"epoch": 2, "step": 12, "training_loss": 0.5, "loss": 0.75, "accuracy": None, "kept": True},
)
RATES = (
    {"part": "embeddings", "parameters": 11_000, "learning_rate": None, "from_step": None},
    {"part": "layer 0", "parameters": 2_500, "learning_rate": 2e-5, "from_step": 30},
    {"part": "head", "parameters": 400, "learning_rate": 5e-5, "from_step": 0},
)


def test_epochs_stand_side_by_side_with_the_one_that_was_kept(report):
    arm = replace(report.tasks[0].arms[0], epochs=EPOCHS)
    table = tables.epoch_table(arm)
    assert table.columns == ["epoch", "loss in training", "loss", "accuracy"]
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["1", "0.900", "0.700", "0.800"],
        ["2", "0.500", "0.750", "–"],
    ]
    assert [row[0].detail for row in table.rows] == ["", "kept"]
    assert table.caption == "Measured on the selection split. Of seed 1."
    assert tables.epoch_table(report.tasks[0].arms[0]) is None


def test_rates_are_shown_where_parts_differ(report):
    arm = replace(report.tasks[0].arms[0], rates=RATES)
    assert [[cell.text for cell in row] for row in tables.rate_table(arm).rows] == [
        ["head", "400", "5e-05", "0"],
        ["layer 0", "2,500", "2e-05", "30"],
        ["embeddings", "11,000", "–", "never"],
    ]
    alike = [{**row, "learning_rate": 5e-5, "from_step": 0} for row in RATES]
    assert tables.rate_table(replace(arm, rates=alike)) is None
