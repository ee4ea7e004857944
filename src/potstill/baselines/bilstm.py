"""Where a BiLSTM begins: its tokens, its embeddings and its tokens' weights, from training texts and another model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from potstill.data.sources import state_of_files
from potstill.data.tasks import TaskData
from potstill.data.token_files import encode_once
from potstill.data.tokens import EncodedTexts, TextTokenizer
from potstill.data.windows import UNCUT
from potstill.data.word_vectors import vector_size
from potstill.data.words import SPECIAL_TOKENS, build_word_tokenizer, inverse_document_frequencies, token_counts
from potstill.errors import DataError
from potstill.finetune.start import Started
from potstill.models.bilstm import BilstmConfig, BilstmForSequenceClassification, Weighting, new_bilstm
from potstill.models.teacher import classifier_config, load_encoder, load_tokenizer, resolve_model
from potstill.models.token_vectors import TokenVectors, vectors_of_file, vectors_of_teacher
from potstill.runs import model_fingerprint


@dataclass(frozen=True)
class FreshBilstm:
    """A start of fine-tuning: a BiLSTM that was never trained, drawn with ``seed``.

    teacher: the model whose ``tokens`` or ``embeddings`` are taken, where these say "teacher"; it is not opened
    otherwise. embeddings: "scratch", "teacher", or a file of word vectors. max_length: tokens of a text that are read,
    None for all: what is not read counts for no frequency. The other fields are those of the recipe's section.
    """

    teacher: str
    tokens: Literal["words", "teacher"]
    embeddings: str
    min_count: int
    max_words: int
    embedding_size: int
    hidden_size: int
    layers: int
    dropout: float
    classifier_dropout: float
    weighting: Weighting
    max_length: int | None
    seed: int

    def inputs(self) -> list[str]:
        """Fingerprints of the teacher and of the file of vectors, where they are used; DataError for a missing file."""
        used = [model_fingerprint(resolve_model(self.teacher))] if "teacher" in (self.tokens, self.embeddings) else []
        return used if self._file is None else [*used, file_fingerprint(self._file)]

    def check(self) -> None:
        """Raise what ``open`` would of a file of vectors; the teacher may not have been made yet."""
        if self._file is not None:
            vector_size(self._file)

    def open(self, data: TaskData) -> Started:
        """The classifier over the labels of ``data``, its tokenizer, and in words what was taken from where."""
        tokenizer = self._tokenizer(data)
        tokens = TextTokenizer.from_backend(tokenizer.backend_tokenizer, special_tokens=_spellings(tokenizer))
        texts = data.splits["train"].texts
        encoded = encode_once(texts, tokens, self.max_length or UNCUT, key=f"train of {data.fingerprint}")
        vectors = self._vectors(tokens)
        model = self._model(data, tokens, encoded, vectors)
        tokenizer.padding_side = "right"
        return Started(model, tokenizer, None, self._notes(tokens, encoded, vectors))

    @property
    def _file(self) -> Path | None:
        return None if self.embeddings in ("scratch", "teacher") else Path(self.embeddings).expanduser()

    def _tokenizer(self, data: TaskData) -> PreTrainedTokenizerFast:
        if self.tokens == "teacher":
            return load_tokenizer(self.teacher)
        texts = data.splits["train"].texts
        backend = build_word_tokenizer(texts, min_count=self.min_count, max_words=self.max_words)
        named = {f"{role}_token": spelling for role, spelling in SPECIAL_TOKENS.items()}
        return PreTrainedTokenizerFast(tokenizer_object=backend, **named)

    def _vectors(self, tokens: TextTokenizer) -> TokenVectors | None:
        if self._file is not None:
            return vectors_of_file(self._file, tokens, self.seed)
        if self.embeddings == "scratch":
            return None
        encoder = load_encoder(self.teacher)
        table = encoder.get_input_embeddings().weight.detach().numpy()
        theirs = load_tokenizer(self.teacher)
        teacher = TextTokenizer.from_backend(theirs.backend_tokenizer, special_tokens=_spellings(theirs))
        return vectors_of_teacher(table, teacher, tokens, self.seed)

    def _model(
        self, data: TaskData, tokens: TextTokenizer, encoded: EncodedTexts, vectors: TokenVectors | None
    ) -> BilstmForSequenceClassification:
        shape = BilstmConfig(
            vocab_size=tokens.vocab_size,
            embedding_size=self.embedding_size if vectors is None else vectors.table.shape[1],
            hidden_size=self.hidden_size,
            num_hidden_layers=self.layers,
            hidden_dropout_prob=self.dropout,
            classifier_dropout=self.classifier_dropout,
            token_weighting=self.weighting,
            pad_token_id=tokens.pad_id,
        )
        return new_bilstm(
            classifier_config(shape, data.task.label_names, data.task.problem_type),
            seed=self.seed,
            vectors=None if vectors is None else torch.from_numpy(vectors.table),
            token_weights=None if self.weighting == "none" else torch.from_numpy(token_weights(encoded, tokens)),
        )

    def _notes(self, tokens: TextTokenizer, encoded: EncodedTexts, vectors: TokenVectors | None) -> Sequence[str]:
        notes = [] if self.tokens == "words" else ["the tokens are the teacher's"]
        counts = token_counts(encoded, tokens.vocab_size)
        if self.tokens == "words":
            n_words, unknown = len(counts) - len(SPECIAL_TOKENS), counts[tokens.unk_id] / max(counts.sum(), 1)
            notes.append(f"{n_words:,} words are known; {unknown:.1%} of the tokens of the training texts are others")
        if vectors is not None:
            of = self._file.name if self._file else "the teacher's embeddings"
            coverage = vectors.coverage(counts, tokens)
            notes += [f"{of}, {vectors.table.shape[1]} wide: {coverage}; the others are drawn", *vectors.notes]
        return notes


def token_weights(encoded: EncodedTexts, tokens: TextTokenizer) -> np.ndarray:
    """``(vocab,)`` float32, positive: inverse document frequencies, divided by their mean over the training tokens.

    Each occurrence of a token weighs that much, so its occurrences in a text together weigh tf · idf. The mean is 1, so
    that weighting does not change the scale of what it multiplies.
    """
    idf = inverse_document_frequencies(encoded, tokens.vocab_size)
    counts = token_counts(encoded, tokens.vocab_size)
    return (idf * counts.sum() / (idf @ counts)).astype(np.float32)


def file_fingerprint(path: Path) -> str:
    """A sha256 of the file's bytes, taken again when its size or time changes; DataError where there is none."""
    if not path.is_file():
        raise DataError(f"there is no file of word vectors {path}", do="check bilstm.embeddings")
    return _hash(path, state_of_files([path]))


@lru_cache(maxsize=8)
def _hash(path: Path, state: tuple[tuple[str, int, int], ...]) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _spellings(tokenizer: PreTrainedTokenizerFast) -> dict[str, str]:
    return {role: getattr(tokenizer, f"{role}_token") for role in SPECIAL_TOKENS}
