"""Tokens counted before the queue, and cutting at the left. Oracle: the fake's tokenizer, a token for a known word."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from potstill.serve.measured_texts import measure_texts, share_room

from potstill.data.windows import Windows
from potstill.serve.refusals import RefusedError

LONG = " ".join(["the good"] + ["film"] * 9 + ["was bad"])


def measured(predictor: Any, *texts: Any, truncate: bool = True, direction: Any = "right") -> Any:
    return measure_texts(texts, predictor, truncate=truncate, direction=direction)


def test_special_tokens_count(predictor):
    done = measured(predictor, "the good film", ("good", "bad"), "xyz")
    assert done.n_tokens.tolist() == [5, 5, 5]
    assert done.costs.tolist() == [5, 5, 5]
    assert not done.truncated.any()


def test_a_long_text_is_refused_where_it_must_not_be_cut(predictor):
    with pytest.raises(RefusedError, match="input 1 is too long: 15 tokens; allowed: at most 12") as refused:
        measured(predictor, "good", LONG, truncate=False)
    assert (refused.value.status, refused.value.kind) == (422, "validation")


def test_at_the_right_the_predictor_cuts(predictor):
    done = measured(predictor, LONG)
    assert done.texts == (LONG,)
    assert (done.n_tokens.tolist(), done.truncated.tolist(), done.costs.tolist()) == ([15], [True], [12])


def test_at_the_left_the_last_words_stay(predictor):
    (text,) = measured(predictor, LONG, direction="left").texts
    assert text == " ".join(["film"] * 8 + ["was bad"])
    assert predictor.tokenizer.encode([text], 12).n_tokens.tolist() == [12]


def test_at_the_left_a_word_is_not_cut_in_its_middle(predictor):
    text = "abcdef " + " ".join(["film"] * 8)
    assert measured(predictor, text, direction="left").texts == [" ".join(["film"] * 8)]


def test_at_the_left_a_word_longer_than_the_model_keeps_its_end(predictor):
    (text,) = measured(predictor, "abcdefghijklmnopqrstuvwxyz", direction="left").texts
    assert text == "qrstuvwxyz"


def test_of_a_pair_the_longer_is_cut(predictor):
    (pair,) = measured(predictor, ("good bad", LONG), direction="left").texts
    assert pair == ("good bad", " ".join(["film"] * 5 + ["was bad"]))
    assert predictor.tokenizer.encode([pair], 12).n_tokens.tolist() == [12]


@given(st.integers(0, 60), st.integers(0, 60), st.integers(2, 60))
def test_a_pair_shares_its_room_as_the_tokenizer_does(n_first: int, n_second: int, room: int):
    # oracle: taking one token at a time from the longer, the second of two alike
    first, second = n_first, n_second
    while first + second > room:
        first, second = (first - 1, second) if first > second else (first, second - 1)
    kept = share_room(n_first, n_second, room)
    assert sum(kept) == first + second
    assert max(abs(kept[0] - first), abs(kept[1] - second)) <= 1


def test_a_predictor_with_windows_reads_everything(fake):
    predictor = fake.FakePredictor(windows=Windows(2))
    done = measured(predictor, LONG, truncate=False)
    assert (done.truncated.tolist(), done.costs.tolist()) == ([False], [15])
    with pytest.raises(RefusedError, match="windows"):
        measured(predictor, ("a", "b"))
