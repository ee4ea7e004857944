"""What is studied: the splits of a task or the texts of a corpus, read in chunks so that memory stays bounded."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from potstill.data.tasks import TaskData
from potstill.records import ProblemType, Text

CHUNK_TEXTS, CHUNK_CHARACTERS = 1_000, 1_000_000
"""Texts are read in chunks of at most so many, or one text alone where it is longer."""

WORD = re.compile(r"[^\W_]{1,64}(?:'[^\W_]{1,64}){0,3}")
"""A word: letters and digits, with apostrophes inside; what is no word of any language is cut after 64 characters.

Scripts without spaces or with combining vowels fit it badly.
"""

_MOST_KNOWN_WORDS = 300_000


@dataclass(frozen=True)
class Part:
    """One split: its texts (on disk where they can be), targets as in ``Predictions`` or None, and the rows' ids."""

    name: str
    texts: Sequence[Text]
    targets: np.ndarray | None = None
    ids: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def row_id(self, row: int) -> str:
        """What row ``row`` is called: its id in the task, or its number from 0 behind the part's name."""
        return f"{self.name}-{row:06d}" if self.ids is None else str(self.ids[row])


@dataclass(frozen=True)
class Rows:
    """Everything a study reads.

    learnt: the part that training sees; words, classes and the length to choose are studied on it alone, because a
    choice made on the split that is reported would spoil its figures. label_names: empty for a corpus and a regression.
    notes: in words, what was inferred, cleaned, dropped or sampled before the study.
    """

    title: str
    parts: tuple[Part, ...]
    learnt: str
    problem_type: ProblemType | None = None
    label_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    citation: str = ""

    def part(self, name: str) -> Part:
        """The part called ``name``."""
        return next(part for part in self.parts if part.name == name)

    def membership(self, part: Part, chunk: Chunk) -> np.ndarray:
        """``(n, k)`` bool: which of the ``k`` classes each text of ``chunk`` belongs to; no columns without classes."""
        if part.targets is None or not self.label_names:
            return np.zeros((len(chunk), 0), dtype=bool)
        targets = part.targets[chunk.start : chunk.start + len(chunk)]
        return targets.astype(bool) if targets.ndim == 2 else targets[:, None] == np.arange(len(self.label_names))

    def in_class(self, part: Part, number: int) -> np.ndarray:
        """``(n,)`` bool: which rows of ``part`` belong to the class of that number."""
        assert part.targets is not None
        return part.targets[:, number] == 1 if part.targets.ndim == 2 else part.targets == number

    def label(self, part: Part, row: int) -> str:
        """The label of a row in words: its name, the names it has, its score, or nothing where there are no labels."""
        if part.targets is None:
            return ""
        target = part.targets[row]
        if self.problem_type == "regression":
            return f"{target:g}"
        if self.problem_type == "multi_label_classification":
            return ", ".join(name for name, given in zip(self.label_names, target, strict=True) if given) or "no label"
        return self.label_names[int(target)]


@dataclass(frozen=True)
class Chunk:
    """Some texts of one part, from row ``start`` on, with their words and the text in its normal form."""

    start: int
    texts: list[Text]
    words: list[list[str]]
    normals: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def n_words(self) -> np.ndarray:
        """``(n,)`` int64, words per text."""
        return np.fromiter(map(len, self.words), dtype=np.int64, count=len(self))

    @cached_property
    def word_hashes(self) -> np.ndarray:
        """``(sum of n_words,)`` uint64, the hashes of all words end to end: the same in every process."""
        words = (word for text in self.words for word in text)
        return np.fromiter(map(_HASHES.__getitem__, words), dtype=np.uint64, count=int(self.n_words.sum()))


def rows_of_task(data: TaskData) -> Rows:
    """The splits of a loaded task under the names of what they are for."""
    named = data.task.problem_type != "regression"
    return Rows(
        title=data.task.name,
        parts=tuple(Part(name, part.texts, part.targets, part.ids) for name, part in data.splits.items()),
        learnt="train",
        problem_type=data.task.problem_type,
        label_names=data.task.label_names if named else (),
        notes=tuple(data.notes),
        citation=data.task.citation,
    )


def rows_of_corpus(title: str, texts: Sequence[str], notes: Sequence[str] = ()) -> Rows:
    """Unlabelled texts as the one part ``texts``."""
    return Rows(title, (Part("texts", texts),), learnt="texts", notes=tuple(notes))


def read_chunks(part: Part, most_texts: int = CHUNK_TEXTS) -> Iterator[Chunk]:
    """The rows of ``part`` in order, a bounded number of texts and characters at a time."""
    texts: list[Text] = []
    start = n_characters = 0
    for text in part.texts:
        texts.append(text)
        n_characters += sum(map(len, text_parts(text)))
        if len(texts) == most_texts or n_characters >= CHUNK_CHARACTERS:
            yield _chunk(start, texts)
            start, texts, n_characters = start + len(texts), [], 0
    if texts:
        yield _chunk(start, texts)


def text_parts(text: Text) -> tuple[str, ...]:
    """The text alone, or both texts of a pair."""
    return (text,) if isinstance(text, str) else text


def read_words(text: str) -> list[str]:
    """The words of a text in order, lower-case, after Unicode's compatibility normalisation (NFKC)."""
    return WORD.findall(_lowered(text))


def _lowered(text: str) -> str:
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", text).casefold().replace("’", "'")


def _chunk(start: int, texts: list[Text]) -> Chunk:
    by_part = [[read_words(part) for part in text_parts(text)] for text in texts]
    words = [parts[0] if len(parts) == 1 else [word for part in parts for word in part] for parts in by_part]
    normals = [_normal(text, parts) for text, parts in zip(texts, by_part, strict=True)]
    return Chunk(start, texts, words, normals)


def _normal(text: Text, words: list[list[str]]) -> str:
    """The text as its words alone; one without words keeps its signs, so that ":)" and "!!" stay two texts."""
    parts = [" ".join(found or _lowered(part).split()) for part, found in zip(text_parts(text), words, strict=True)]
    return "\x1f".join(parts)


def digest(text: str) -> int:
    """64 bits of BLAKE2b: n different texts share one with a probability below n² / 2**65, 3e-8 for a million."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class _WordHashes(dict[str, int]):
    """Digests of words, kept while they are few enough; Python's own hashes differ from process to process."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _MOST_KNOWN_WORDS:
            self.clear()
        self[word] = found = digest(word)
        return found


_HASHES = _WordHashes()
