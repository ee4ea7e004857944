"""Files of word vectors: every line is read, counted as malformed or as repeated; the oracle is the file, by hand."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from potstill.data.word_vectors import read_word_vectors, vector_size
from potstill.errors import DataError

LINES = ["the 0.5 -1 2", "cat 1e-3 2 3.25", ". . . 7 8 9", "dog 4 5 6", "rare 0 0 1"]


@pytest.fixture
def file(tmp_path):
    """Write lines to a file, gzipped if its name says so."""

    def write(lines, name="vectors.txt"):
        text = "".join(f"{line}\n" for line in lines).encode()
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        return tmp_path / name

    return write


@pytest.mark.parametrize("name", ["vectors.txt", "vectors.txt.gz"])
def test_the_wanted_vectors_are_read_as_they_are_written(file, name):
    read = read_word_vectors(file(LINES, name), {"the", "cat", ". . .", "absent"})
    assert {word: vector.tolist() for word, vector in read.vectors.items()} == {
        "the": [0.5, -1.0, 2.0],
        "cat": [np.float32(1e-3), 2.0, 3.25],
        ". . .": [7.0, 8.0, 9.0],
    }
    assert all(vector.dtype == np.float32 for vector in read.vectors.values())
    assert (read.size, read.n_lines, read.n_malformed, read.notes()) == (3, 5, 0, [])


def test_a_header_and_spaces_at_the_ends_of_lines_are_no_matter(file):
    path = file(["5 3", *(f"{line} " for line in LINES)])
    read = read_word_vectors(path, ["dog"])
    assert read.vectors["dog"].tolist() == [4.0, 5.0, 6.0]
    assert (read.n_lines, read.n_malformed, vector_size(path)) == (5, 0, 3)


@pytest.mark.parametrize(
    ("line", "counted"),
    [("short 1 2", 1), ("", 1), ("cow 1 x 3", 1), ("cow 1 nan 3", 1), ("cow 1 inf 3", 1), ("unasked 1 x 3", 0)],
)
def test_a_malformed_line_is_counted_told_and_left_out(file, line, counted):
    many = [f"word{number} 1 2 3" for number in range(200)]
    read = read_word_vectors(file([*many, line, "cat 1 2 3"]), {"cow", "cat"})
    assert (read.n_lines, read.n_malformed, list(read.vectors)) == (202, counted, ["cat"])
    if counted:
        assert "1 of 202 lines of vectors were malformed and left out, the first is line 201" in read.notes()[0]


def test_a_file_with_many_malformed_lines_is_refused(file):
    with pytest.raises(DataError, match="1 of 6, the first is line 3"):
        read_word_vectors(file([*LINES[:2], "<html>", *LINES[2:]]), {"cat"})


def test_of_a_repeated_word_the_first_vector_is_taken_and_it_is_told(file):
    read = read_word_vectors(file([*LINES, "dog 0 0 0"]), {"dog"})
    assert read.vectors["dog"].tolist() == [4.0, 5.0, 6.0]
    assert read.notes() == ["1 lines of vectors repeat a word; its first vector was taken"]


@pytest.mark.parametrize("lines", [[], ["just words here"], ["alone"], ["400000 300"]])
def test_what_does_not_begin_with_a_vector_is_refused(file, lines):
    with pytest.raises(DataError, match="does not begin with a word and its vector"):
        vector_size(file(lines))


def test_an_absent_a_binary_and_a_broken_file_are_refused(file, tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        vector_size(tmp_path / "absent.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="UTF-8"):
        vector_size(tmp_path / "binary.txt")
    whole = file(LINES, "vectors.txt.gz").read_bytes()
    (tmp_path / "vectors.txt.gz").write_bytes(whole[:-9])
    with pytest.raises(DataError, match="gzip"):
        read_word_vectors(tmp_path / "vectors.txt.gz", {"cat"})
