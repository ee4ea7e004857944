from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from potstill.analyse.data.rows import Part, read_chunks, read_words
from potstill.analyse.data.vocabulary import WordTable

word = st.sampled_from([f"w{i}" for i in range(30)])
corpora = st.lists(st.lists(word, max_size=12).map(" ".join), min_size=1, max_size=40)


@settings(deadline=None)
@given(corpora)
def test_counts_are_those_of_scikit_learn(tabulate, texts):
    # oracle: CountVectorizer with our words, its counts summed over texts and over texts of each class
    counts = tabulate(texts)
    vectorizer = CountVectorizer(analyzer=read_words)
    if not any(map(read_words, texts)):
        assert counts.words == []
        return
    matrix = vectorizer.fit_transform(texts).toarray()
    order = [vectorizer.vocabulary_[found] for found in counts.words]
    classes = np.arange(len(texts)) % 2
    assert counts.occurrences.tolist() == matrix.sum(axis=0)[order].tolist()
    assert counts.texts.tolist() == (matrix > 0).sum(axis=0)[order].tolist()
    for number in range(2):
        assert counts.by_class[:, number].tolist() == (matrix[classes == number] > 0).sum(axis=0)[order].tolist()
    assert (counts.different, counts.missed) == (len(vectorizer.vocabulary_), 0)
    assert counts.texts.tolist() == sorted(counts.texts.tolist(), reverse=True)


@settings(max_examples=30, deadline=None)
@given(corpora, st.integers(1, 12), st.integers(1, 40))
def test_a_table_that_overflows_is_never_too_high_and_too_low_by_no_more_than_it_says(
    tabulate, texts, most_words, size
):
    # oracle: an unbounded counter
    counts = tabulate(texts, size=size, most_words=most_words)
    truth = Counter(found for text in texts for found in set(read_words(text)))
    known = dict(zip(counts.words, counts.texts.tolist(), strict=True))
    for found, texts_of in truth.items():
        assert texts_of - counts.missed <= known.get(found, 0) <= texts_of
    assert len(counts.words) <= most_words + 12


@settings(max_examples=30, deadline=None)
@given(corpora, st.integers(1, 12), st.integers(1, 40))
def test_what_is_forgotten_does_not_depend_on_the_size_of_chunks(tabulate, texts, most_words, size):
    one, other = (tabulate(texts, size=n, most_words=most_words) for n in (size, 1000))
    assert one.words == other.words
    assert one.by_class.tolist() == other.by_class.tolist()
    assert (one.different, one.missed, one.n_words) == (other.different, other.missed, other.n_words)


def test_a_text_counts_for_every_class_it_has_and_for_all_texts_once():
    table = WordTable(2)
    (chunk,) = read_chunks(Part("train", ["a a b", "b"]))
    table.add(chunk.words, chunk.word_hashes, np.array([[True, True], [False, False]]))
    counts = table.result()
    found = dict(zip(counts.words, zip(counts.texts.tolist(), counts.by_class.tolist(), strict=True), strict=True))
    assert found == {"b": (2, [1, 1]), "a": (1, [1, 1])}
    assert (counts.class_texts.tolist(), counts.n_texts) == ([1, 1], 2)
