"""From a row to the text that a model reads. Oracles: how training makes the same row's text, and stated reasons."""

from __future__ import annotations

import pytest

from potstill.bundle import Reading
from potstill.data.texts import SEPARATOR
from potstill.errors import DataError
from potstill.runtime.row_texts import LONGEST_TEXT, RowTexts

ONE = Reading(("text",), "pair", (), 40, None)
PAIR = Reading(("first", "second"), "pair", (), 40, None)
JOINED = Reading(("title", "body"), "sep", (), 40, None)


def test_texts_are_those_of_training():
    assert RowTexts(ONE).text_of({"text": " a ", "n": 3}) == " a "
    assert RowTexts(PAIR).text_of({"first": "a", "second": "b"}) == ("a", "b")
    assert RowTexts(PAIR).text_of({"first": "a", "second": None}) == ("a", "")
    assert RowTexts(JOINED).text_of({"title": "a", "body": "b"}) == f"a{SEPARATOR}b"
    assert RowTexts(JOINED).text_of({"title": " ", "body": "b"}) == "b"


def test_texts_are_cleaned_as_they_were_for_training():
    reading = Reading(("text",), "pair", ("line_breaks", "max_words:2"), 40, None)
    assert RowTexts(reading).text_of({"text": "a\n b c"}) == "a b"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "no field 'text'"),
        ({"text": None}, "no text in 'text'"),
        ({"text": " \n"}, "no text in 'text'"),
        ({"text": 3}, "'text' is no text, but int"),
        ({"text": ["a"]}, "'text' is no text, but list"),
        ({"text": "a" * (LONGEST_TEXT + 1)}, "has 500,001 characters, more than 500,000"),
        ({"text": "\udcff"}, "surrogate"),
    ],
)
def test_a_row_without_text_says_why(values, reason):
    with pytest.raises((TypeError, ValueError), match=reason):
        RowTexts(ONE).text_of(values)


def test_cleaning_may_leave_no_text():
    reading = Reading(("text",), "pair", ("too_short:20",), 40, None)
    with pytest.raises(ValueError, match="cleaning left no text"):
        RowTexts(reading).text_of({"text": "short"})


def test_columns_can_be_others_but_not_of_another_number():
    assert RowTexts(ONE, ("review",)).text_of({"review": "a"}) == "a"
    assert RowTexts(JOINED, ("body",)).text_of({"body": "a"}) == "a"
    for reading, columns in ((ONE, ("a", "b")), (PAIR, ("a",)), (JOINED, ("a", "b", "c"))):
        with pytest.raises(DataError, match="another number of text columns"):
            RowTexts(reading, columns)


def test_a_missing_column_is_named_with_the_nearest():
    with pytest.raises(DataError, match=r"rows.csv has no column 'text'.*texts"):
        RowTexts(ONE).require_in(("texts", "label"), "rows.csv")


def test_lines_are_single_texts():
    texts = RowTexts(Reading(("sentence",), "pair", (), 40, None))
    assert texts.for_lines().text_of({"text": "a"}) == "a"
    with pytest.raises(DataError, match="takes pairs"):
        RowTexts(PAIR).for_lines()
