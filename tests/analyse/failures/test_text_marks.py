"""What texts show by themselves. Oracles: worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from potstill.analyse.failures.text_marks import NEGATIONS, mark_texts, negates, words_of


@pytest.mark.parametrize(
    "text", ["I don't know", "it is n't so", "he isn’t", "CANNOT be", "Nothing.", "won't!", "can not", *NEGATIONS]
)
def test_negation_is_met(text):
    assert mark_texts([text]).negation.tolist() == [True]


@pytest.mark.parametrize("text", ["a knot", "note it", "another want", "canton", "present", "noon", "n", ""])
def test_words_that_look_like_negation_are_none(text):
    assert not negates(words_of(text))


def test_words_are_runs_of_letters_with_apostrophes_inside():
    assert words_of("It’s 'fine', 3rd-rate; naïve ÉTÉ x_y") == ["it's", "fine", "rd", "rate", "naïve", "été", "x", "y"]


def test_lengths_digits_and_questions():
    marks = mark_texts(["One two 3", "why?", ("a b", "c?")])
    assert marks.n_words.tolist() == [2, 1, 3]
    assert marks.n_characters.tolist() == [9, 4, 5]
    assert marks.digits.tolist() == [True, False, False]
    assert marks.question.tolist() == [False, True, True]
    assert marks.shared_words is None, "not all are pairs"


def test_the_share_of_unseen_words_counts_every_occurrence():
    marks = mark_texts(["old new new", "old", "", "NEW"], training_texts=iter(["an old one"]))
    np.testing.assert_allclose(marks.unseen_share, [2 / 3, 0, 0, 1])
    assert mark_texts(["old"]).unseen_share is None


def test_words_that_a_pair_shares():
    marks = mark_texts([("a b", "b c"), ("a a", "A"), ("a", "b"), ("", "")])
    np.testing.assert_allclose(marks.shared_words, [1 / 3, 1, 0, 1])
    assert mark_texts([("x y", "x")], [("x", "z")]).unseen_share.tolist() == [1 / 3]
