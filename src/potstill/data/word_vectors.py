"""Word vectors from a text file, one word a line as GloVe and word2vec write them: streamed, only those wanted kept."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from potstill.data.formats import lines_of
from potstill.errors import DataError

MOST_MALFORMED = 0.01
"""A file with a larger share of lines that cannot be read is refused: it is no file of vectors, or a damaged one."""


@dataclass
class WordVectors:
    """The vectors found for the wanted words.

    vectors: word → ``(size,)`` float32. n_lines: lines that should hold a vector; n_malformed of them did not, the
    first at line ``first_malformed``; n_repeated held a word that an earlier line has, whose vector was kept.
    """

    size: int
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    n_lines: int = 0
    n_malformed: int = 0
    first_malformed: int | None = None
    n_repeated: int = 0

    def notes(self) -> list[str]:
        """What was passed over, in words; nothing where every line was read."""
        told = []
        if self.n_malformed:
            told.append(
                f"{self.n_malformed:,} of {self.n_lines:,} lines of vectors were malformed and left out, "
                f"the first is line {self.first_malformed}"
            )
        if self.n_repeated:
            told.append(f"{self.n_repeated:,} lines of vectors repeat a word; its first vector was taken")
        return told


def vector_size(path: Path) -> int:
    """The width of the vectors in ``path``, from its first vector; DataError where there is none."""
    return _first_vector(path)[0]


def read_word_vectors(path: Path, wanted: Collection[str]) -> WordVectors:
    """The vectors of the words in ``wanted``, of a file that may be gzipped and is never held in memory.

    A line is a word, a space and as many numbers as the first line has. A first line of two whole numbers is a header,
    as word2vec writes it. A word may hold spaces: the last numbers are the vector. Of words that are not wanted only
    the number of fields is looked at. A line of another form, or with a number that is not finite, counts as malformed.
    Raises DataError for a file without vectors, and for one where more than 1% of the lines are malformed.
    """
    wanted = wanted if isinstance(wanted, set | frozenset | dict) else set(wanted)
    size, has_header = _first_vector(path)
    found = WordVectors(size)
    for number, line in enumerate(lines_of(path), start=1):
        if not (number == 1 and has_header):
            _take(found, line.rstrip(), number, wanted)
    if found.n_malformed > MOST_MALFORMED * found.n_lines:
        raise DataError(
            f"{path} has too many lines that hold no vector",
            found=f"{found.n_malformed:,} of {found.n_lines:,}, the first is line {found.first_malformed}",
            allowed=f"at most {MOST_MALFORMED:.0%}; a word, a space and {size} numbers with a space between them",
            do="fetch the file again",
        )
    return found


def _first_vector(path: Path) -> tuple[int, bool]:
    """The width of the vectors, and whether a header comes before the first."""
    if not path.is_file():
        raise DataError(f"there is no file of word vectors {path}", do="check bilstm.embeddings")
    lines = lines_of(path)
    first = next(lines, "").split()
    has_header = len(first) == 2 and all(part.isdigit() for part in first)
    fields = next(lines, "").split() if has_header else first
    size = len(fields) - 1
    if size < 1 or _numbers(fields[1:]) is None:
        raise DataError(f"{path} does not begin with a word and its vector", found=" ".join(fields)[:60])
    return size, has_header


def _take(found: WordVectors, line: str, number: int, wanted: Collection[str]) -> None:
    found.n_lines += 1
    if line.count(" ") < found.size:
        _malformed(found, number)
        return
    word, *numbers = line.rsplit(" ", found.size)
    if word not in wanted:
        return
    vector = _numbers(numbers)
    if vector is None:
        _malformed(found, number)
    elif word in found.vectors:
        found.n_repeated += 1
    else:
        found.vectors[word] = vector


def _malformed(found: WordVectors, number: int) -> None:
    found.n_malformed += 1
    found.first_malformed = found.first_malformed or number


def _numbers(fields: list[str]) -> np.ndarray | None:
    """The fields as float32, or None where one of them is no finite number."""
    try:
        vector = np.array(fields, dtype=np.float32)
    except ValueError:
        return None
    return vector if np.isfinite(vector).all() else None
