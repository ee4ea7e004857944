from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.cbook import boxplot_stats

from potstill.analyse.data.lengths import BINS, Lengths, histogram_edges, summarise, summarise_lengths
from potstill.analyse.data.rows import read_chunks

many_lengths = st.lists(st.integers(0, 5000), min_size=1, max_size=200).map(lambda values: np.array(values, np.int32))


def counted(rows, tokenizer=None, size=3):
    lengths = Lengths(tokenizer)
    for part in rows.parts:
        for chunk in read_chunks(part, size):
            lengths.add(part.name, chunk)
    return lengths


@settings(deadline=None)
@given(many_lengths)
def test_a_summary_is_that_of_numpy_and_its_whiskers_those_of_matplotlib(values):
    summary = summarise(values)
    (box,) = boxplot_stats(values)
    assert (summary.q1, summary.median, summary.q3) == pytest.approx((box["q1"], box["med"], box["q3"]))
    assert (summary.low_whisker, summary.high_whisker) == pytest.approx((box["whislo"], box["whishi"]))
    assert summary.outliers == len(box["fliers"])
    assert (summary.mean, summary.deviation) == pytest.approx((np.mean(values), np.std(values)))
    assert (summary.p1, summary.p5, summary.p95, summary.p99) == pytest.approx(
        tuple(np.percentile(values, (1, 5, 95, 99)))
    )
    assert (summary.minimum, summary.maximum, summary.texts) == (values.min(), values.max(), len(values))


@settings(deadline=None)
@given(many_lengths)
def test_every_text_is_in_one_bar_and_the_bars_are_few_and_even(values):
    edges = histogram_edges(values)
    assert np.histogram(values, edges)[0].sum() == len(values)
    assert len(edges) - 1 <= BINS + 2
    assert edges[0] == 0
    assert len(set(np.diff(edges[:-1]).tolist())) <= 1


def test_words_characters_and_tokens_are_counted(make_rows, letters):
    # oracle: worked by hand; every letter is a token, and [CLS] and [SEP] stand around them
    lengths = counted(make_rows({"train": (["ab c", "", "d!"], [0, 1, 0])}), letters)
    assert lengths.of("train", "words").tolist() == [2, 0, 1]
    assert lengths.of("train", "characters").tolist() == [4, 0, 2]
    assert lengths.of("train", "tokens").tolist() == [5, 2, 4]
    assert (lengths.n_tokens, lengths.n_words, lengths.n_unknown) == (11, 3, 1)


def test_a_pair_is_as_long_as_both_its_texts(make_rows, letters):
    lengths = counted(make_rows({"train": ([("ab", "cde")], [0])}), letters)
    assert [lengths.of("train", unit).tolist() for unit in lengths.units] == [[2], [5], [8]]


def test_tokens_are_those_of_an_encoding_without_cutting(make_rows, letters):
    # oracle: TextTokenizer.encode, which training uses
    texts = ["abc " * n for n in range(30)]
    lengths = counted(make_rows({"train": (texts, [0] * 30)}), letters, size=7)
    assert lengths.of("train", "tokens").tolist() == letters.encode(texts, 64).n_tokens.tolist()


def test_classes_are_those_of_the_split_that_training_sees(make_rows):
    rows = make_rows({"train": (["a", "a b", "a b c"], [0, 1, 1]), "test": (["a b c d e f"], [0])})
    words = summarise_lengths(rows, counted(rows))[0]
    assert {name: (of.texts, of.maximum) for name, of in words.classes.items()} == {"no": (1, 1), "yes": (2, 3)}
    assert {name: sum(of) for name, of in words.counts.items()} == {"train": 3, "test": 1}


def test_texts_of_many_labels_count_for_each_and_those_of_none_apart(make_rows):
    targets = [[1, 1], [0, 1], [0, 0]]
    rows = make_rows({"train": (["a", "a b", "a b c"], targets)}, ("x", "y"), "multi_label_classification")
    words = summarise_lengths(rows, counted(rows))[0]
    assert {name: of.texts for name, of in words.classes.items()} == {"x": 1, "y": 2, "no label": 1}


def test_a_class_without_texts_has_no_summary(make_rows):
    rows = make_rows({"train": (["a", "b"], [0, 0])})
    assert set(summarise_lengths(rows, counted(rows))[0].classes) == {"no"}
