"""Sentences about failures say what the numbers say. Oracles: numbers of a summary made up for the purpose."""

from __future__ import annotations

from typing import Any

import pytest

from potstill.report.failures.sentences import failure_sentences, how_often, shown_sentences, slices_method


def rate(value: float, low: float | None = None, high: float | None = None) -> dict[str, float | None]:
    return {"value": value, "low": value - 0.01 if low is None else low, "high": value + 0.01 if high is None else high}


def finding(family: str, name: str, inside: float, outside: float, *, differs: bool) -> dict[str, Any]:
    return {"family": family, "name": name, "inside": rate(inside), "outside": rate(outside), "differs": differs}


def slices(*findings: dict[str, Any]) -> dict[str, Any]:
    return {
        "n_looked_at": len(findings),
        "n_too_small": 0,
        "n_differing": sum(one["differs"] for one in findings),
        "false_discoveries": 0.05,
        "findings": list(findings),
    }


LONG = finding("words", "300 to 900", 0.3, 0.1, differs=True)
SURE = finding("confidence", "50% to 70%", 0.5, 0.1, differs=True)
EASY = finding("true", "pos", 0.02, 0.2, differs=True)
SAME = finding("text", "with digits", 0.14, 0.1, differs=False)


@pytest.fixture
def summary() -> dict[str, Any]:
    """120 of 1,000 rows wrong, beside a teacher with 90."""
    counts = {"both_right": 860, "only_student_wrong": 50, "only_teacher_wrong": 20, "both_wrong": 70}
    return {
        "problem_type": "single_label_classification",
        "model": "student, seed 1",
        "teacher_model": "teacher, seed 1",
        "split": "test",
        "n_rows": 1000,
        "level": 0.95,
        "n_wrong": 120,
        "error": rate(0.12, 0.1012, 0.1416),
        "mean_absolute_error": None,
        "confusions": [
            {"true": "neg", "predicted": "pos", "rows": 90},
            {"true": "pos", "predicted": "neg", "rows": 30},
        ],
        "per_label": [],
        "slices": slices(LONG, SURE, EASY, SAME),
        "teacher": {"n_wrong": 90, "counts": counts, "n_same_mistake": 65, "p_value": 0.0003, "lost": slices(SAME)},
        "label_errors": {"n_labels": 17, "n_rows": 17},
    }


def test_the_first_sentence_says_how_often_and_how_sure(summary):
    assert how_often(summary) == (
        "“student, seed 1” is wrong on 120 of 1,000 rows of test: 12.0% (95% interval 10.1% to 14.2%)."
    )
    none = how_often(summary | {"n_wrong": 0, "error": rate(0.0, 0.0, 0.0038)})
    assert none.endswith("is wrong on none of 1,000 rows of test: 0.0% (95% interval 0.0% to 0.4%).")
    many = how_often(summary | {"problem_type": "multi_label_classification"})
    assert "decides a label wrongly on 120 of 1,000" in many


def test_the_teacher_is_held_beside(summary):
    text = " ".join(failure_sentences(summary))
    assert "Its teacher, “teacher, seed 1”, is wrong on 90. Both are wrong on 70, 65 times with the same answer" in text
    assert "only the student on 50, only the teacher on 20: the difference is more than chance explains" in text
    summary["teacher"]["p_value"] = 0.4
    text = " ".join(failure_sentences(summary))
    assert "what chance may explain (McNemar’s exact test, p = 0.400)" in text


def test_the_most_frequent_confusion_has_its_share(summary):
    assert any("“neg” taken for “pos”: 90 rows, 75.0% of the mistakes" in one for one in failure_sentences(summary))


def test_of_slices_those_are_named_that_differ_for_the_worse(summary):
    (told,) = [one for one in failure_sentences(summary) if "slices" in one]
    assert told == (
        "In 3 of 4 slices it fails more or less often than in the rest; "
        "worst are “words: 300 to 900” (30.0% against 10.0%)."
    )
    (told,) = [one for one in failure_sentences(summary | {"slices": slices(SAME)}) if "slices" in one]
    assert told == "None of the 1 slices that were looked at surely differs from the rest."
    (told,) = [one for one in failure_sentences(summary | {"slices": slices(EASY)}) if "slices" in one]
    assert "worst" not in told


def test_the_test_of_the_slices_is_named(summary):
    assert "Fisher’s exact test" in slices_method(summary)
    assert "5% at most are expected" in slices_method(summary)
    assert "Mann and Whitney" in slices_method(summary | {"problem_type": "regression"})


def test_what_the_student_lost_is_said_only_where_it_stands(summary):
    assert not any("loses most" in one for one in failure_sentences(summary))
    summary["teacher"]["lost"] = slices(LONG)
    assert any("the student loses most in “words: 300 to 900”" in one for one in failure_sentences(summary))


def test_doubted_labels_come_with_what_the_method_asks_for(summary):
    last = failure_sentences(summary)[-1]
    assert "puts 17 labels in doubt" in last
    assert "not trained on, which those of test are" in last
    last = failure_sentences(summary | {"label_errors": None, "split": "train"})[-1]
    assert "the model was trained on the rows of train" in last


def test_a_regression_is_told_by_its_errors(summary):
    slow = finding("words", "300 to 900", 1.5, 0.4, differs=True)
    changed = summary | {
        "problem_type": "regression",
        "n_wrong": None,
        "error": rate(0.41, 0.38, 0.45),
        "mean_absolute_error": 0.553,
        "confusions": [],
        "slices": slices(slow),
        "teacher": {"error": rate(0.35), "mean_absolute_error": 0.4, "counts": None},
        "label_errors": None,
    }
    first, teacher, of_slices = failure_sentences(changed)
    assert first.endswith(
        "off by 0.41 in the median (95% interval 0.38 to 0.45), 0.553 on average, on 1,000 rows of test."
    )
    assert "is off by 0.35 in the median" in teacher
    assert "(1.5 against 0.4)" in of_slices


def test_what_the_list_leaves_out_is_told():
    columns = {
        "id": ["a"] * 30,
        "n_all": 30,
        "n_failing": 10,
        "n_cut_failing": 0,
        "n_cut_others": 0,
        "cut_failing_at": 500,
        "cut_others_at": 80,
    }
    assert shown_sentences(columns)[0] == "The list holds all 30 rows."
    assert not any("cut" in one for one in shown_sentences(columns))
    told = " ".join(shown_sentences(columns | {"n_all": 90, "n_cut_failing": 2, "n_cut_others": 7}))
    assert "30 of 90 rows: those that fail" in told
    assert "Of 2 rows that fail the text is cut after 500 characters" in told
    assert "Of 7 rows that do not the text is cut after 80 characters" in told
    assert "not through what is cut" in told
