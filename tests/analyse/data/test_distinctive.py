from __future__ import annotations

from math import log, sqrt

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.feature_selection import chi2

from potstill.analyse.data.distinctive import LEAST_Z, correlate_classes, log_odds, study_words
from potstill.analyse.data.rows import read_words

PLAIN = ["the film was long", "a film of the year", "the story of a day", "one day in the film"]
NAMES = ("bad", "good")


def reviews(n: int = 60, seed: int = 4) -> tuple[list[str], list[int]]:
    draw = np.random.default_rng(seed)
    classes = draw.integers(2, size=n).tolist()
    texts = [f"{PLAIN[draw.integers(4)]} {('dull', 'fine')[of]} {draw.integers(9)}" for of in classes]
    return texts, classes


def test_log_odds_are_those_of_the_paper():
    # oracle: its formulas written out for one word at a time
    own, others, size = np.array([8, 1, 3]), np.array([2, 9, 27]), 5.0
    found = log_odds(own, others, size)
    for word in range(3):
        prior = size * (own[word] + others[word]) / (own.sum() + others.sum())
        here = (own[word] + prior) / (own.sum() + size - own[word] - prior)
        there = (others[word] + prior) / (others.sum() + size - others[word] - prior)
        deviation = sqrt(1 / (own[word] + prior) + 1 / (others[word] + prior))
        assert found[word] == pytest.approx((log(here) - log(there)) / deviation)


def test_chi_squared_is_that_of_scikit_learn_on_the_presence_of_words(tabulate):
    texts, classes = reviews()
    words = study_words(tabulate(texts, classes), NAMES, one_label=True, most=1000)
    vectorizer = CountVectorizer(analyzer=read_words, binary=True)
    scores, p_values = chi2(vectorizer.fit_transform(texts), classes)
    assert words.telling[0].word in ("dull", "fine")
    for found in words.telling:
        number = vectorizer.vocabulary_[found.word]
        assert (found.chi2, found.p_value) == pytest.approx((scores[number], p_values[number]))


def test_the_words_that_make_a_class_are_the_most_distinctive(tabulate):
    texts, classes = reviews()
    words = study_words(tabulate(texts, classes), NAMES, one_label=True)
    assert words.distinctive["bad"][0].word == "dull"
    assert words.distinctive["good"][0].word == "fine"
    best = words.distinctive["good"][0]
    assert (best.share, best.share_elsewhere, best.texts) == (1.0, 0.0, sum(classes))


def test_a_text_that_repeats_a_word_does_not_speak_for_its_class(tabulate):
    texts, classes = reviews()
    counts = study_words(tabulate(texts, classes), NAMES, one_label=True)
    shouting = study_words(tabulate([*texts, "ax " * 1000], [*classes, 1]), NAMES, one_label=True)
    assert "ax" not in [found.word for found in shouting.distinctive["good"]]
    assert [found.word for found in shouting.distinctive["good"]] == [f.word for f in counts.distinctive["good"]]


def test_classes_correlate_as_scipy_says(tabulate):
    # oracle: scipy.stats.pearsonr of the logarithms of smoothed shares
    texts, classes = reviews()
    counts = tabulate(texts, classes)
    rates = (counts.by_class + 0.5) / (counts.class_texts + 1)
    found = correlate_classes(counts)
    assert found[0, 1] == pytest.approx(pearsonr(np.log(rates[:, 0]), np.log(rates[:, 1])).statistic)
    assert np.diag(found) == pytest.approx([1, 1])


def test_function_words_are_left_out_of_the_frequent_words_of_a_class(tabulate):
    texts, classes = reviews()
    words = study_words(tabulate(texts, classes), NAMES, one_label=True)
    assert {"the", "of", "a"} <= {word.word for word in words.listed}
    assert not {"the", "of", "a"} & set(words.frequent_by_class["good"])
    assert "fine" in words.frequent_by_class["good"]


def test_every_word_of_every_list_can_be_looked_up(tabulate):
    texts, classes = reviews()
    words = study_words(tabulate(texts, classes), NAMES, one_label=True)
    listed = {word.word for word in words.listed}
    assert {found.word for of in words.distinctive.values() for found in of} <= listed
    assert {found.word for found in words.telling} <= listed


def test_figures_that_forgetting_would_make_wrong_are_left_out(tabulate):
    texts, classes = reviews()
    words = study_words(tabulate(texts, classes, most_words=6), NAMES, one_label=True)
    assert words.missed > 0
    assert (words.once, words.different_by_class) == (None, None)


def test_many_labels_get_no_chi_squared_and_a_corpus_no_classes(tabulate):
    texts, _ = reviews()
    many = study_words(tabulate(texts), NAMES, one_label=False)
    assert many.telling == []
    assert set(many.distinctive) == set(NAMES)
    alone = study_words(tabulate(texts, n_classes=0, classes=[0] * len(texts)), (), one_label=False)
    assert (alone.distinctive, alone.correlation, alone.frequent_by_class) == ({}, None, {})


def test_the_prior_pulls_rare_words_towards_chance():
    # property: of two words found in one class alone, the rarer has the lower score, and hardly any with a heavy prior
    own, others = np.array([2.0, 40.0, 400.0]), np.array([0.0, 0.0, 400.0])
    light, heavy = log_odds(own, others, 10.0), log_odds(own, others, 10_000.0)
    assert light[0] < light[1]
    assert heavy[0] < light[0] < LEAST_Z


def test_scores_of_two_classes_are_each_others_negatives():
    own, others = np.array([3.0, 30.0, 200.0]), np.array([4.0, 10.0, 300.0])
    assert log_odds(own, others, 20.0) == pytest.approx(-log_odds(others, own, 20.0))
