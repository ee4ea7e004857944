"""What the tests of the study share: rows out of plain lists, and a small tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from tokenizers.normalizers import BertNormalizer

from potstill.analyse.data.rows import Part, Rows, read_chunks
from potstill.analyse.data.vocabulary import WordCounts, WordTable
from potstill.data.tokens import TextTokenizer
from potstill.records import Text

MakeRows = Callable[..., Rows]

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="session")
def make_rows() -> MakeRows:
    """Rows of splits given as ``name: (texts, targets)``; the first is the one that training sees."""

    def make(
        parts: Mapping[str, tuple[Sequence[Text], Sequence[object] | None]],
        label_names: Sequence[str] = ("no", "yes"),
        problem_type: str | None = "single_label_classification",
    ) -> Rows:
        dtype = {"regression": np.float32, "multi_label_classification": np.int8}.get(problem_type or "", np.int64)
        named = problem_type not in (None, "regression")
        return Rows(
            title="made",
            parts=tuple(
                Part(name, texts, None if targets is None else np.array(targets, dtype=dtype))
                for name, (texts, targets) in parts.items()
            ),
            learnt=next(iter(parts)),
            problem_type=problem_type,  # type: ignore[arg-type]
            label_names=tuple(label_names) if named else (),
        )

    return make


@pytest.fixture(scope="session")
def tabulate() -> Callable[..., WordCounts]:
    """The words of texts counted by class, which are given one number a text or dealt out in turn."""

    def count(
        texts: Sequence[str],
        classes: Sequence[int] | None = None,
        *,
        size: int = 7,
        n_classes: int = 2,
        most_words: int | None = None,
    ) -> WordCounts:
        given = np.arange(len(texts)) % n_classes if classes is None else np.array(classes)
        table = WordTable(n_classes, most_words)
        for chunk in read_chunks(Part("train", texts), size):
            members = given[chunk.start : chunk.start + len(chunk), None] == np.arange(n_classes)
            table.add(chunk.words, chunk.word_hashes, members)
        return table.result()

    return count


@pytest.fixture(scope="session")
def letters() -> TextTokenizer:
    """WordPiece in which every letter is a token, so that a text has as many tokens as letters, and two more."""
    pieces = [*SPECIALS, *"abcdefghijklmnopqrstuvwxyz", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]
    backend = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(SPECIALS)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return TextTokenizer.from_backend(backend, max_length=64)
