"""The study as a whole, and its summary. Oracles: scikit-learn's matrices, rows counted by hand, properties."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, mean_absolute_error, multilabel_confusion_matrix

from potstill.analyse.failures.study import study_failures
from potstill.analyse.failures.summary import EXCERPT_CHARACTERS, N_EXAMPLES, describe_row, summarise, wrong_rows
from potstill.errors import DataError

SINGLE, MULTI, SCORES = "single_label_classification", "multi_label_classification", "regression"


@pytest.fixture
def study(make_rows):
    """Five rows of three labels, of which the model gets two right; beside a teacher that gets three right."""
    texts = ["good", "not good", "a much longer text than these " * 20, "bad?", "7 of 9"]
    targets = [0, 0, 1, 2, 2]
    student = make_rows(np.array([4, 1, 3, 2, 5])[:, None] * np.eye(3)[[0, 1, 1, 0, 1]], targets)
    teacher = make_rows(4 * np.eye(3)[[0, 1, 0, 2, 2]], targets)
    return study_failures(student, texts, teacher=teacher), texts


def test_the_summary_by_hand(study):
    summary = summarise(*study)
    assert (summary["n_rows"], summary["n_wrong"], summary["error"]["value"]) == (5, 3, 0.6)
    assert [(pair["true"], pair["predicted"], pair["rows"]) for pair in summary["confusions"]] == [
        ("label-0", "label-1", 1),
        ("label-2", "label-0", 1),
        ("label-2", "label-1", 1),
    ]
    counts = {"both_right": 1, "only_student_wrong": 2, "only_teacher_wrong": 1, "both_wrong": 1}
    assert summary["teacher"]["counts"] == counts
    assert summary["teacher"]["n_same_mistake"] == 1
    assert [row["id"][-1] for row in summary["most_confidently_wrong"]] == ["4", "3", "1"]
    assert [row["id"][-1] for row in summary["hardest"]] == ["4", "3", "1", "2", "0"]


def test_a_row_tells_truth_answer_and_what_its_text_shows(study):
    told = describe_row(study[0], 1)
    assert (told["true"], told["predicted"], told["teacher"]) == ("label-0", "label-1", "label-1")
    assert (told["n_words"], told["negation"], told["n_tokens"], told["truncated"]) == (2, True, 6, False)


def test_excerpts_count_what_they_leave_out(study):
    summary = summarise(*study)
    (long,) = [row for row in summary["hardest"] if row["id"].endswith("2")]
    assert len(long["text"]) == EXCERPT_CHARACTERS
    assert long["characters_left_out"] == len(study[1][2]) - EXCERPT_CHARACTERS


def test_wrong_rows_are_all_the_wrong_ones_and_no_other(random_rows, random_texts):
    predictions = random_rows(SINGLE, 120, 3)
    told = wrong_rows(study_failures(predictions, random_texts(120)))
    wrong = predictions.ids[predictions.predicted != predictions.targets]
    assert {row["id"] for row in told} == set(wrong.tolist())
    assert [row["loss"] for row in told] == sorted((row["loss"] for row in told), reverse=True)


def test_confusions_are_what_scikit_learns_matrix_has_off_its_diagonal(random_rows, random_texts):
    predictions = random_rows(SINGLE, 300, 1, k=4)
    summary = summarise(study_failures(predictions, random_texts(300)), random_texts(300))
    expected = confusion_matrix(predictions.targets, predictions.predicted)
    np.fill_diagonal(expected, 0)
    found = np.zeros_like(expected)
    for pair in summary["confusions"]:
        found[int(pair["true"][-1]), int(pair["predicted"][-1])] = pair["rows"]
    np.testing.assert_array_equal(found, expected)
    counts = [pair["rows"] for pair in summary["confusions"]]
    assert counts == sorted(counts, reverse=True)


def test_mistakes_by_label_are_scikit_learns(random_rows, random_texts):
    predictions = random_rows(MULTI, 200, 1)
    summary = summarise(study_failures(predictions, random_texts(200)), random_texts(200))
    tables = multilabel_confusion_matrix(predictions.targets, predictions.predicted)
    for label, table in zip(summary["per_label"], tables, strict=True):
        assert (label["false_positives"], label["false_negatives"]) == (table[0, 1], table[1, 0])
        assert label["rows"] == table[1].sum()
    assert summary["n_wrong"] == (predictions.targets != predictions.predicted).any(axis=1).sum()


def test_a_regression_tells_its_largest_errors(random_rows, random_texts):
    predictions = random_rows(SCORES, 100, 1)
    summary = summarise(study_failures(predictions, random_texts(100)), random_texts(100))
    errors = np.abs(predictions.predicted - predictions.targets)
    largest = predictions.ids[np.argsort(-errors)[:N_EXAMPLES]].tolist()
    assert [row["id"] for row in summary["hardest"]] == largest
    assert summary["mean_absolute_error"] == pytest.approx(
        mean_absolute_error(predictions.targets, predictions.predicted)
    )
    assert summary["error"]["value"] == pytest.approx(np.median(errors))
    assert summary["n_wrong"] is summary["label_errors"] is None
    assert wrong_rows(study_failures(predictions, random_texts(100))) == []


@pytest.mark.parametrize("kind", [SINGLE, MULTI, SCORES])
def test_the_order_of_rows_changes_nothing(kind, random_rows, random_texts, shuffle_rows):
    student, teacher, texts = random_rows(kind, 150, 1), random_rows(kind, 150, 2), random_texts(150)
    order = np.random.default_rng(9).permutation(150)
    summary = summarise(study_failures(student, texts, teacher=teacher, training_texts=texts[:9]), texts)
    mixed = [texts[row] for row in order]
    other = study_failures(shuffle_rows(student, order), mixed, teacher=teacher, training_texts=texts[:9])
    again = summarise(other, mixed)
    for one in (summary, again):  # means, which are rounded in the order of their rows
        one["mean_absolute_error"] = one["mean_absolute_error"] and round(one["mean_absolute_error"], 6)
        if one["teacher"]["counts"] is None:
            one["teacher"]["mean_absolute_error"] = round(one["teacher"]["mean_absolute_error"], 6)
    assert again == summary


@pytest.mark.parametrize("kind", [SINGLE, MULTI, SCORES])
def test_a_summary_is_json_without_nan(kind, random_rows, random_texts):
    study = study_failures(random_rows(kind, 40, 1), random_texts(40), teacher=random_rows(kind, 40, 2))
    assert json.loads(json.dumps(summarise(study, random_texts(40)), allow_nan=False))["n_rows"] == 40


def test_a_slice_in_which_the_model_fails_is_found(make_rows, random_texts):
    texts = random_texts(400)
    negated = np.array([any(word in ("not", "never", "won't") for word in text.split()) for text in texts])
    targets = np.arange(400) % 2
    fails = np.random.default_rng(2).random(400) < np.where(negated, 0.6, 0.05)
    study = study_failures(make_rows(3 * np.eye(2)[targets ^ fails], targets), texts)
    (found,) = [one for one in study.findings.findings if one.slice.name == "with negation"]
    assert found.differs
    assert found.n_rows == negated.sum()
    assert found.inside.value == fails[negated].mean()
    assert found.outside.value == fails[~negated].mean()


def test_what_the_student_lost_is_counted_among_what_the_teacher_knows(random_rows, random_texts):
    student, teacher = (random_rows(SINGLE, 300, seed) for seed in (1, 2))
    study = study_failures(student, random_texts(300), teacher=teacher)
    known = teacher.predicted == teacher.targets
    lost = (student.predicted != student.targets) & known
    for one in study.lost.findings:
        assert one.n_rows == one.slice.rows.sum()
        assert len(one.slice.rows) == known.sum()
        assert one.inside.value == lost[known][one.slice.rows].mean()


def test_a_model_that_was_trained_on_the_rows_doubts_no_label(random_rows, random_texts):
    predictions = random_rows(SINGLE, 60, 1)
    assert study_failures(predictions, random_texts(60)).suspicions is not None
    trained = study_failures(predictions, random_texts(60), held_out=False)
    assert trained.suspicions is None
    assert summarise(trained, random_texts(60))["label_errors"] is None


def test_doubted_labels_come_with_both_probabilities(random_rows, random_texts):
    study = study_failures(random_rows(SINGLE, 200, 1), random_texts(200))
    told = summarise(study, random_texts(200))["label_errors"]
    assert told["n_labels"] == len(study.suspicions) >= len(told["likeliest"]) > 0
    margins = [one["suggested_probability"] - one["given_probability"] for one in told["likeliest"]]
    assert margins == sorted(margins, reverse=True)
    assert all(one["given"] == one["true"] != one["suggested"] for one in told["likeliest"])


def test_a_model_without_a_mistake_is_studied_too(make_rows):
    targets = np.arange(30) % 2
    texts = ["one word"] * 30
    study = study_failures(make_rows(9 * np.eye(2)[targets], targets), texts)
    summary = summarise(study, texts)
    assert summary["n_wrong"] == summary["slices"]["n_differing"] == 0
    assert summary["confusions"] == summary["most_confidently_wrong"] == []


def test_predictions_without_truth_are_refused(random_rows, random_texts):
    from dataclasses import replace

    with pytest.raises(DataError, match="no targets"):
        study_failures(replace(random_rows(SINGLE, 5, 1), targets=None), random_texts(5))
