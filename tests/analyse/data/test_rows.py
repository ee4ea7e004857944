from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.analyse.data import rows as rows_module
from potstill.analyse.data.rows import Part, Rows, digest, read_chunks, read_words


def test_words_are_lower_case_with_apostrophes_inside_and_without_signs():
    # oracle: worked by hand
    assert read_words("It's a <br /> THREE-star “film’s” end_of 2nd 'quoted'!") == [
        "it's", "a", "br", "three", "star", "film's", "end", "of", "2nd", "quoted",
    ]  # fmt: skip


def test_compatibility_characters_and_case_do_not_make_other_words():
    # oracle: Unicode's own equivalences, "ﬁ" is "fi", full-width letters are letters, "ß" folds to "ss"
    assert read_words("ﬁne ＦＩＮＥ Straße") == ["fine", "fine", "strasse"]


@settings(deadline=None)
@given(st.lists(st.text(max_size=30), max_size=40), st.integers(1, 50))
def test_chunks_hold_every_text_once_in_order_whatever_their_size(texts, size):
    chunks = list(read_chunks(Part("train", texts), size))
    assert [text for chunk in chunks for text in chunk.texts] == texts
    assert [chunk.start for chunk in chunks] == np.cumsum([0, *map(len, chunks)])[:-1].tolist()
    assert all(len(chunk) <= size for chunk in chunks)


def test_a_chunk_is_bounded_in_characters_too(monkeypatch):
    monkeypatch.setattr(rows_module, "CHUNK_CHARACTERS", 10)
    assert [chunk.texts for chunk in read_chunks(Part("a", ["x" * 25, "y" * 4, "z" * 6, "w"]))] == [
        ["x" * 25], ["y" * 4, "z" * 6], ["w"],
    ]  # fmt: skip


def test_the_words_of_a_pair_are_those_of_both_and_its_normal_form_keeps_them_apart():
    (chunk,) = read_chunks(Part("a", [("A b", "c"), ("A", "b c")]))
    assert chunk.words == [["a", "b", "c"], ["a", "b", "c"]]
    assert chunk.normals[0] != chunk.normals[1]


def test_texts_without_words_keep_their_signs_in_normal_form():
    (chunk,) = read_chunks(Part("a", [":)", "!!", " :)  ", ""]))
    assert chunk.normals == [":)", "!!", ":)", ""]


def test_hashes_of_words_are_the_same_in_another_process():
    # oracle: a fresh interpreter, whose own hashes of strings are salted otherwise
    program = "from potstill.analyse.data.rows import digest; print(digest('potstill'))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert int(said.stdout) == digest("potstill")


def test_forgetting_words_changes_no_hash(monkeypatch):
    # property: a full cache starts anew
    texts = [f"word{i % 7} other{i}" for i in range(50)]
    (before,) = read_chunks(Part("a", texts))
    expected = before.word_hashes.copy()
    monkeypatch.setattr(rows_module, "_MOST_KNOWN_WORDS", 3)
    (after,) = read_chunks(Part("a", texts))
    assert (after.word_hashes == expected).all()


@pytest.mark.parametrize(
    ("problem_type", "targets", "names", "labels"),
    [
        ("single_label_classification", np.array([1, 0]), ("no", "yes"), ["yes", "no"]),
        ("multi_label_classification", np.array([[1, 1], [0, 0]], dtype=np.int8), ("x", "y"), ["x, y", "no label"]),
        ("regression", np.array([2.5, 4.0], dtype=np.float32), (), ["2.5", "4"]),
        (None, None, (), ["", ""]),
    ],
)
def test_labels_are_said_in_words(problem_type, targets, names, labels):
    part = Part("train", ["a", "b"], targets)
    rows = Rows("made", (part,), "train", problem_type, names)
    assert [rows.label(part, row) for row in range(2)] == labels


def test_membership_says_which_classes_the_texts_of_a_chunk_have(make_rows):
    rows = make_rows({"train": (["a", "b", "c"], [2, 0, 1])}, label_names=("x", "y", "z"))
    first, second = read_chunks(rows.parts[0], 2)
    assert rows.membership(rows.parts[0], first).astype(int).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert rows.membership(rows.parts[0], second).astype(int).tolist() == [[0, 1, 0]]
    assert rows.in_class(rows.parts[0], 2).tolist() == [True, False, False]
