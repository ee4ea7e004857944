"""Kinds and spellings of tokens, labelled by hand."""

from __future__ import annotations

import numpy as np

from potstill.analyse.attention.token_kinds import KINDS, TokenReader


def read(tokenizer, text):
    encoded = tokenizer.encode([text], 40)
    reader = TokenReader(tokenizer)
    ids = encoded.row(0)
    return reader.spell(ids), [KINDS[kind] for kind in reader.kinds(ids)], reader.word_starts(ids).tolist()


def test_kinds_of_wordpieces_are_those_of_their_words(wordpiece):
    tokens, kinds, starts = read(wordpiece, "The film: it's not good acting!")
    expected = [
        ("[CLS]", "cls"),
        ("the", "function"),
        ("film", "content"),
        ("[UNK]", "content"),  # ":" is not in this vocabulary, and what is unknown may be a word
        ("it", "function"),
        ("'", "punctuation"),
        ("s", "function"),
        ("not", "function"),
        ("good", "content"),
        ("act", "content"),
        ("ing", "content"),
        ("!", "punctuation"),
        ("[SEP]", "sep"),
    ]
    assert list(zip(tokens, kinds, strict=True)) == expected
    assert [token for token, start in zip(tokens, starts, strict=True) if not start] == ["ing"]


def test_byte_level_vocabularies_give_the_same_kinds(byte_level):
    tokens, kinds, _ = read(byte_level, "The film was not good, it's acting")
    assert tokens == ["<s>", "The", "film", "was", "not", "good", ",", "it", "'s", "acting", "</s>"]
    assert kinds[:7] == ["cls", "function", "content", "function", "function", "content", "punctuation"]
    assert (kinds[7], kinds[-2], kinds[-1]) == ("function", "content", "sep")


def test_letters_beyond_ascii_and_digits_are_words(wordpiece, byte_level):
    assert read(wordpiece, "café 2")[1] == ["cls", "content", "content", "sep"]
    assert "punctuation" not in read(byte_level, "日本 2")[1]


def test_only_the_frame_of_a_text_is_special(wordpiece):
    encoded = wordpiece.encode([("good", "zebra")], 40)
    reader = TokenReader(wordpiece)
    special = reader.is_special(encoded.row(0))
    assert special.tolist() == [True, False, True, False, True]
    assert np.array_equal(special, np.isin(reader.kinds(encoded.row(0)), [0, 1]))
