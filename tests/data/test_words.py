"""Words as tokens: which are known and in which order, and how much each tells."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from potstill.data.tokens import TextTokenizer
from potstill.data.words import build_word_tokenizer, inverse_document_frequencies, token_counts
from potstill.errors import DataError

TEXTS = ["The cat sat. The cat!", "a dog sat", "CAT and Dog", "Éclair, a dog's éclair"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def words_of(tokenizer):
    vocabulary = tokenizer.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def test_words_are_counted_lowercased_and_numbered_by_frequency_then_spelling():
    # worked by hand: cat and dog 3 times; a, sat, the and éclair twice; each mark, and, s once
    tokenizer = build_word_tokenizer(TEXTS, min_count=2, max_words=100)
    assert words_of(tokenizer) == [*SPECIAL, "cat", "dog", "a", "sat", "the", "éclair"]


def test_the_most_frequent_words_are_kept():
    assert words_of(build_word_tokenizer(TEXTS, min_count=1, max_words=2)) == [*SPECIAL, "cat", "dog"]


def test_texts_and_pairs_are_framed_as_berts_are_and_other_words_are_unknown():
    tokenizer = build_word_tokenizer(TEXTS, min_count=2, max_words=100)
    assert tokenizer.encode("The bird").tokens == ["[CLS]", "the", "[UNK]", "[SEP]"]
    pair = tokenizer.encode("a cat", "a dog")
    assert pair.tokens == ["[CLS]", "a", "cat", "[SEP]", "a", "dog", "[SEP]"]
    assert pair.type_ids == [0, 0, 0, 0, 1, 1, 1]


def test_both_texts_of_a_pair_are_counted():
    assert words_of(build_word_tokenizer([("x y", "y")], min_count=2, max_words=9)) == [*SPECIAL, "y"]


def test_the_order_of_the_texts_changes_no_id():
    forward, backward = (build_word_tokenizer(texts, min_count=1, max_words=99) for texts in (TEXTS, TEXTS[::-1]))
    assert forward.get_vocab() == backward.get_vocab()


def test_it_is_a_tokenizer_like_any_other():
    tokens = TextTokenizer.from_backend(build_word_tokenizer(TEXTS, min_count=2, max_words=100))
    assert (tokens.pad_id, tokens.unk_id, tokens.cls_id, tokens.sep_id, tokens.mask_id) == (0, 1, 2, 3, 4)
    encoded = tokens.encode(["the cat sat the cat"], max_length=5)
    assert encoded.input_ids.tolist() == [2, 9, 5, 8, 3]
    assert encoded.truncated.all()


def test_texts_without_a_frequent_word_are_refused():
    with pytest.raises(DataError, match="no word occurs 2 times"):
        build_word_tokenizer(["one", "two"], min_count=2, max_words=9)


@pytest.mark.parametrize("rows_at_once", [1, 3, 4096])
def test_document_frequencies_are_scikit_learns(monkeypatch, rows_at_once):
    # oracle: TfidfVectorizer over the same tokens
    monkeypatch.setattr("potstill.data.words._ROWS_AT_ONCE", rows_at_once)
    tokens = TextTokenizer.from_backend(build_word_tokenizer(TEXTS, min_count=2, max_words=100))
    encoded = tokens.encode(TEXTS, max_length=64)
    found = inverse_document_frequencies(encoded, tokens.vocab_size)
    words = words_of(tokens.backend)
    vectorizer = TfidfVectorizer(
        analyzer=lambda text: tokens.backend.encode(text).tokens, vocabulary=words, lowercase=False
    )
    np.testing.assert_allclose(found, vectorizer.fit(TEXTS).idf_)
    assert found[tokens.cls_id] == 1.0
    assert found[tokens.pad_id] == np.log(5) + 1


def test_tokens_are_counted():
    tokens = TextTokenizer.from_backend(build_word_tokenizer(TEXTS, min_count=2, max_words=100))
    counts = token_counts(tokens.encode(TEXTS, max_length=64), tokens.vocab_size)
    assert counts[[tokens.cls_id, tokens.pad_id]].tolist() == [4, 0]
    assert counts[5:].tolist() == [3, 3, 2, 2, 2, 2]
