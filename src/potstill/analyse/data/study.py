"""The study of a data set: one pass over its rows, then the figures; every row is counted, none is sampled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from potstill.analyse.data.class_balance import Balance, balance_of, scores_of
from potstill.analyse.data.distinctive import Words, study_words
from potstill.analyse.data.duplicate_examples import Example, ExampleRow, duplicate_examples, example_row
from potstill.analyse.data.duplicates import DuplicateFinder, Level, Placed, count_duplicates
from potstill.analyse.data.english import LookCounter, Looks
from potstill.analyse.data.length_choice import LengthChoice, choose_length
from potstill.analyse.data.lengths import Lengths, Summary, UnitLengths, summarise_lengths
from potstill.analyse.data.rows import CHUNK_TEXTS, Chunk, Part, Rows, read_chunks
from potstill.analyse.data.vocabulary import WordTable
from potstill.data.tokens import TextTokenizer

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Tokens:
    """What a tokenizer makes of all texts: tokens (special ones included), of which it does not know ``unknown``."""

    tokenizer: str
    limit: int
    tokens: int
    per_word: float | None
    unknown: int


@dataclass(frozen=True)
class StrangeText:
    """A text that does not look like English: how it looks, the share that decided, and the row."""

    look: str
    share: float
    row: ExampleRow


@dataclass(frozen=True)
class Study:
    """Everything a study found, as plain values: what the page shows and ``explore.json`` holds.

    rows: by part. balance: None without classes; scores: None without scores; tokens and length_choice: None without a
    tokenizer; duplicates, words and looks are always there. notes: what was done to the rows before they were studied.
    """

    title: str
    learnt: str
    problem_type: str | None
    label_names: Sequence[str]
    rows: Mapping[str, int]
    balance: Balance | None
    scores: Mapping[str, Summary] | None
    lengths: Sequence[UnitLengths]
    tokens: Tokens | None
    length_choice: LengthChoice | None
    words: Words
    duplicates: Sequence[Level]
    duplicate_examples: Sequence[Example]
    looks: Mapping[str, Mapping[str, int]]
    strange: Sequence[StrangeText]
    notes: Sequence[str]
    citation: str


def study_rows(
    rows: Rows,
    tokenizer: TextTokenizer | None,
    *,
    tokenizer_name: str = "",
    batch_size: int = 32,
    chunk_texts: int = CHUNK_TEXTS,
    most_words: int | None = None,
    tell: Tell = lambda message: None,
) -> Study:
    """Study ``rows``; without a tokenizer nothing is said of tokens.

    Texts are read once, ``chunk_texts`` at a time, and not kept: a row leaves some 160 bytes, a word of the bounded
    table (``most_words``, see ``vocabulary``) some 100 and 4 for each class. What is found does not depend on
    ``chunk_texts``. ``batch_size`` is that of the batches whose padding is told.
    """
    counters = _Counters(rows, tokenizer, most_words)
    for part in rows.parts:
        tell(f"reading {len(part):,} texts of {part.name}")
        for chunk in read_chunks(part, chunk_texts):
            counters.add(part, chunk)
    tell("comparing what was counted")
    groups, placed, looks = counters.duplicates.groups(), Placed.of(rows), counters.looks.result()
    one_label = rows.problem_type == "single_label_classification"
    return Study(
        title=rows.title,
        learnt=rows.learnt,
        problem_type=rows.problem_type,
        label_names=list(rows.label_names),
        rows={part.name: len(part) for part in rows.parts},
        balance=balance_of(rows),
        scores=scores_of(rows),
        lengths=summarise_lengths(rows, counters.lengths),
        tokens=None if tokenizer is None else _tokens(tokenizer, tokenizer_name, counters.lengths),
        length_choice=None if tokenizer is None else _length_choice(rows, counters.lengths, tokenizer, batch_size),
        words=study_words(counters.words.result(), rows.label_names, one_label=one_label),
        duplicates=count_duplicates(rows, placed, groups),
        duplicate_examples=duplicate_examples(rows, placed, groups),
        looks=looks.counts,
        strange=_strange(rows, looks),
        notes=list(rows.notes),
        citation=rows.citation,
    )


class _Counters:
    """Everything that is counted while the texts go by."""

    def __init__(self, rows: Rows, tokenizer: TextTokenizer | None, most_words: int | None) -> None:
        self._rows = rows
        self.lengths = Lengths(tokenizer)
        self.duplicates = DuplicateFinder()
        self.looks = LookCounter(rows.parts)
        self.words = WordTable(len(rows.label_names), most_words)

    def add(self, part: Part, chunk: Chunk) -> None:
        self.lengths.add(part.name, chunk)
        self.duplicates.add(chunk)
        self.looks.add(part.name, chunk)
        if part.name == self._rows.learnt:
            self.words.add(chunk.words, chunk.word_hashes, self._rows.membership(part, chunk))


def _tokens(tokenizer: TextTokenizer, name: str, lengths: Lengths) -> Tokens:
    return Tokens(
        tokenizer=name,
        limit=tokenizer.max_length,
        tokens=lengths.n_tokens,
        per_word=lengths.n_tokens / lengths.n_words if lengths.n_words else None,
        unknown=lengths.n_unknown,
    )


def _length_choice(rows: Rows, lengths: Lengths, tokenizer: TextTokenizer, batch_size: int) -> LengthChoice:
    n_tokens = {part.name: lengths.of(part.name, "tokens") for part in rows.parts}
    return choose_length(n_tokens, rows.learnt, limit=tokenizer.max_length, batch_size=batch_size)


def _strange(rows: Rows, looks: Looks) -> list[StrangeText]:
    return [
        StrangeText(example.look, example.share, example_row(rows, rows.part(example.part), example.row))
        for example in looks.examples
    ]
