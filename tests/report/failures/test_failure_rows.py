"""Columns of a page's list: whole, within their size, what is cut is counted. Oracles: decoded again, properties."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.analyse.failures.study import study_failures
from potstill.report.failures.rows import browser_columns, fair_length

KINDS = ("single_label_classification", "multi_label_classification", "regression")


def unpack(packed: str, n: int) -> list[bool]:
    """As the page's script does: bit ``row`` modulo 8 of byte ``row`` divided by 8."""
    data = base64.b64decode(packed)
    return [bool(data[row >> 3] >> (row & 7) & 1) for row in range(n)]


@given(st.lists(st.integers(0, 60), min_size=1, max_size=30), st.integers(0, 900))
def test_the_fair_length_uses_the_budget_and_keeps_to_it(lengths: list[int], budget: int):
    longest = fair_length(np.array(lengths), budget)
    spent = sum(min(length, longest) for length in lengths)
    assert spent <= budget
    if longest < max(lengths):
        assert sum(min(length, longest + 1) for length in lengths) > budget


@pytest.fixture
def made(make_failures: Any) -> Any:
    """Student, teacher, texts and their study, of one label each."""
    return make_failures("single_label_classification", 120)


def test_columns_are_the_predictions(made):
    columns = browser_columns(made.study, made.texts)
    assert columns["id"] == made.student.ids.tolist()
    assert columns["text"] == made.texts
    assert columns["second"] is None
    assert columns["truth"] == made.student.targets.tolist()
    assert columns["answer"] == made.student.predicted.tolist()
    assert columns["teacher"]["answer"] == made.teacher.predicted.tolist()
    wrong = made.student.predicted != made.student.targets
    assert unpack(columns["wrong"], 120) == wrong.tolist()
    assert unpack(columns["negation"], 120) == made.study.marks.negation.tolist()
    confidence = made.student.probabilities.max(axis=1)
    np.testing.assert_allclose(np.array(columns["confidence"]) / 10_000, confidence, atol=5.1e-5)
    for found, column in zip(made.study.findings.findings, columns["slices"], strict=True):
        assert unpack(column["rows"], 120) == found.slice.rows.tolist()


def test_many_labels_are_lists_with_the_probabilities_of_those_concerned(make_failures):
    made = make_failures("multi_label_classification", 60)
    columns = browser_columns(made.study, made.texts)
    for row in range(60):
        truth, answer = set(columns["truth"][row]), set(columns["answer"][row])
        assert truth == set(np.flatnonzero(made.student.targets[row]).tolist())
        assert answer == set(np.flatnonzero(made.student.predicted[row]).tolist())
        expected = made.student.probabilities[row, sorted(truth | answer)]
        np.testing.assert_allclose(np.array(columns["probabilities"][row]) / 10_000, expected, atol=5.1e-5)


def test_doubts_point_at_their_rows(made):
    columns = browser_columns(made.study, made.texts)
    rows = [made.student.ids[row] for row in made.study.suspicions.rows]
    assert rows
    assert [columns["id"][place] for place, *_ in columns["doubts"]] == rows
    assert [given for _, given, _ in columns["doubts"]] == list(made.study.suspicions.given)


def test_a_pair_has_two_columns(make_failures):
    made = make_failures("single_label_classification", 30, pairs=True)
    columns = browser_columns(made.study, made.texts)
    assert list(zip(columns["text"], columns["second"], strict=True)) == made.texts


def test_texts_of_failing_rows_are_cut_last(made):
    whole = sum(map(len, made.texts))
    columns = browser_columns(made.study, made.texts, text_characters=whole // 2)
    assert sum(map(len, columns["text"])) <= whole // 2
    failing = np.array(unpack(columns["wrong"], 120)) | np.array(unpack(columns["teacher"]["wrong"], 120))
    failing[[place for place, *_ in columns["doubts"]]] = True
    assert columns["n_failing"] == failing.sum()
    left_out = np.array(columns["left_out"])
    assert (left_out > 0).sum() == columns["n_cut_failing"] + columns["n_cut_others"]
    assert columns["n_cut_others"] > 0
    assert columns["cut_failing_at"] > columns["cut_others_at"]
    for text, shown, missing in zip(made.texts, columns["text"], left_out, strict=True):
        assert text.startswith(shown)
        assert len(text) == len(shown) + missing


@pytest.mark.parametrize("length", [0, 3, 10, 11, 40])
def test_a_pair_is_cut_to_the_length_of_both(length, make_rows):
    texts = [("a" * first, "b" * second) for first, second in ((1, 30), (30, 1), (20, 20), (5, 5))]
    study = study_failures(make_rows([[0.0, 1.0]] * 4, [0, 0, 0, 0]), texts)
    columns = browser_columns(study, texts, text_characters=4 * length)
    at = columns["cut_failing_at"]
    for row, (first, second) in enumerate(texts):
        shown = len(columns["text"][row]) + len((columns["second"] or [""] * 4)[row])
        assert shown == min(at, len(first) + len(second))
        assert columns["left_out"][row] == len(first) + len(second) - shown


def test_of_too_many_rows_those_that_fail_are_kept(made):
    failing = browser_columns(made.study, made.texts)["n_failing"]
    columns = browser_columns(made.study, made.texts, most_rows=failing + 5)
    assert len(columns["id"]) == failing + 5
    assert columns["n_failing"] == failing
    assert columns["n_all"] == 120
    assert columns["id"] == sorted(columns["id"])
    fewer = browser_columns(made.study, made.texts, most_rows=3)
    assert set(fewer["id"]) <= set(columns["id"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_rows_changes_no_column(kind, make_failures):
    made = make_failures(kind, 80)
    mixed = make_failures(kind, 80, order=np.random.default_rng(3).permutation(80))
    assert mixed.student.ids.tolist() != made.student.ids.tolist()
    assert browser_columns(mixed.study, mixed.texts) == browser_columns(made.study, made.texts)


def test_a_text_that_utf8_cannot_hold_is_shown_without_its_surrogates(make_rows):
    texts = ["fine \ud800 text", "x"]
    study = study_failures(make_rows([[0.0, 1.0]] * 2, [0, 0]), texts)
    assert browser_columns(study, texts)["text"][0] == "fine ? text"
