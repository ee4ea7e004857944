"""The embeddings that a model not yet trained begins with: a teacher's, or word vectors read from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from potstill.data.tokens import TextTokenizer
from potstill.data.word_vectors import read_word_vectors
from potstill.errors import ModelError


@dataclass(frozen=True)
class TokenVectors:
    """A vector for every token.

    table: ``(vocab, size)`` float32. covered: ``(vocab,)`` bool, the tokens whose vector was found; the others' are
    drawn. notes: what was passed over on the way, in words.
    """

    table: np.ndarray
    covered: np.ndarray
    notes: Sequence[str] = ()

    def coverage(self, counts: np.ndarray, tokens: TextTokenizer) -> str:
        """Of how many types, and of how many tokens of the training texts, a vector was found, in words.

        counts: ``(vocab,)``, how often each token occurs there. Special tokens do not count, but for [UNK]: it stands
        for words outside the vocabulary, which have no vector.
        """
        ordinary = np.ones(len(counts), dtype=bool)
        ordinary[list(tokens.special_ids)] = False
        known = ordinary & self.covered
        n_tokens, n_found = int(counts[ordinary].sum() + counts[tokens.unk_id]), int(counts[known].sum())
        return (
            f"vectors for {known.sum():,} of {ordinary.sum():,} types ({known.sum() / max(ordinary.sum(), 1):.1%}), "
            f"which are {n_found:,} of the {n_tokens:,} tokens of the training texts ({n_found / max(n_tokens, 1):.1%})"
        )


def vectors_of_teacher(table: np.ndarray, teacher: TextTokenizer, tokens: TextTokenizer, seed: int) -> TokenVectors:
    """A vector for every token of ``tokens`` from a teacher's ``(vocab, size)`` embedding table.

    A token that the teacher has too gets its vector, and a word that the teacher cuts into pieces the mean of theirs.
    What the teacher cannot spell is drawn, as in ``vectors_of_file``.
    """
    found: dict[int, np.ndarray] = {}
    for token, number in tokens.backend.get_vocab(with_added_tokens=True).items():
        known = teacher.backend.token_to_id(token)
        if known is not None:
            found[number] = table[known]
            continue
        pieces = teacher.backend.encode(token, add_special_tokens=False).ids
        if pieces and teacher.unk_id not in pieces:
            found[number] = table[pieces].mean(axis=0)
    return _filled(found, tokens.vocab_size, table.shape[1], seed)


def vectors_of_file(path: Path, tokens: TextTokenizer, seed: int) -> TokenVectors:
    """A vector for every token of ``tokens`` from a file of word vectors; those of special tokens are always drawn.

    What the file lacks is drawn with ``seed``: normal, with the mean and deviation that each place of the vectors found
    has. Raises ``DataError`` for a file that cannot be read, ``ModelError`` where it has a vector for no token at all.
    """
    vocabulary = tokens.backend.get_vocab(with_added_tokens=True)
    read = read_word_vectors(path, vocabulary)
    numbered = {vocabulary[word]: vector for word, vector in read.vectors.items()}
    found = {number: vector for number, vector in numbered.items() if number not in tokens.special_ids}
    return _filled(found, tokens.vocab_size, read.size, seed, read.notes())


def _filled(
    found: Mapping[int, np.ndarray], vocab_size: int, size: int, seed: int, notes: Sequence[str] = ()
) -> TokenVectors:
    if not found:
        raise ModelError(
            "there is a vector for none of the tokens", do="check the language, and whether its words are lowercase"
        )
    numbers = np.array(sorted(found), dtype=np.int64)
    rows = np.stack([found[number] for number in numbers]).astype(np.float32)
    drawn = np.random.default_rng(seed).standard_normal((vocab_size, size), dtype=np.float32)
    table = drawn * rows.std(axis=0) + rows.mean(axis=0)
    table[numbers] = rows
    covered = np.zeros(vocab_size, dtype=bool)
    covered[numbers] = True
    return TokenVectors(table, covered, notes)
