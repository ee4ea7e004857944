"""Texts of wanted lengths. Oracle: a predictor that counts tokens by a stated rule."""

from __future__ import annotations

import numpy as np
import pytest

from potstill.bench.texts import DISTRIBUTIONS, Lengths, TextMaker
from potstill.errors import DataError
from potstill.records import Predictions


class CountingPredictor:
    """Two special tokens a text, one more for a second text, and a stated number of tokens a word."""

    label_names = ("a", "b")
    problem_type = "single_label_classification"

    def __init__(self, per_word):
        self.per_word = per_word

    def tokens(self, text):
        parts = (text,) if isinstance(text, str) else text
        return 1 + len(parts) + self.per_word * sum(len(part.split()) for part in parts)

    def predict(self, texts):
        n = len(texts)
        return Predictions(
            ids=np.arange(n).astype(str),
            logits=np.zeros((n, 2), np.float32),
            label_names=self.label_names,
            problem_type=self.problem_type,
            n_tokens=np.array([self.tokens(text) for text in texts], np.int32),
            truncated=np.zeros(n, bool),
            elapsed_s=1.0,
        )


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("per_word", [1, 2])
def test_a_text_has_about_the_tokens_that_are_wanted(per_word, pairs):
    predictor = CountingPredictor(per_word)
    maker = TextMaker(predictor, pairs=pairs)
    for wanted in (8, 33, 128, 512):
        assert abs(predictor.tokens(maker.text(wanted)) - wanted) < per_word
    assert predictor.tokens(maker.text(1)) > 2


def test_a_pair_is_two_texts():
    first, second = TextMaker(CountingPredictor(1), pairs=True).text(20)
    assert first
    assert second


def test_lengths_have_the_median_and_the_percentile_they_are_named_by():
    lengths = Lengths(132, 220).draw(20_000, 10_000)
    assert np.median(lengths) == pytest.approx(132, rel=0.02)
    assert np.quantile(lengths, 0.95) == pytest.approx(220, rel=0.02)


@pytest.mark.parametrize("name", sorted(DISTRIBUTIONS))
def test_no_text_is_longer_than_is_read(name):
    predictor = CountingPredictor(1)
    assert max(map(predictor.tokens, TextMaker(predictor, pairs=False).drawn(name, 100))) <= 100


def test_a_predictor_that_counts_no_words_is_refused():
    with pytest.raises(DataError, match="no more tokens"):
        TextMaker(CountingPredictor(0), pairs=False)
