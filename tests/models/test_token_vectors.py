"""Where embeddings come from and how many were found; every count is worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from potstill.data.tokens import TextTokenizer
from potstill.errors import ModelError
from potstill.models.token_vectors import vectors_of_file, vectors_of_teacher

SPECIAL = 5


@pytest.fixture
def tokens(tiny_tokenizer):
    """The words a, good, bad and film, ids from 5."""
    return TextTokenizer.from_backend(tiny_tokenizer().backend_tokenizer)


@pytest.fixture
def vectors(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("good 1 2\nbad 3 4\nother 5 6\n[CLS] 7 8\n", encoding="utf-8")
    return path


def test_coverage_counts_types_and_tokens_and_unknown_words_as_not_found(tokens, vectors):
    # 2 of 4 types; of good, good, bad, film and two unknown words, 3 of 6 tokens
    found = vectors_of_file(vectors, tokens, seed=1)
    counts = np.zeros(9, dtype=np.int64)
    for token in tokens.encode(["good good film x", "bad y"], max_length=20).input_ids:
        counts[token] += 1
    assert found.covered.tolist() == [False] * (SPECIAL + 1) + [True, True, False]
    assert found.coverage(counts, tokens) == (
        "vectors for 2 of 4 types (50.0%), which are 3 of the 6 tokens of the training texts (50.0%)"
    )


def test_found_vectors_stand_in_the_rows_of_their_tokens(tokens, vectors):
    table = vectors_of_file(vectors, tokens, seed=1).table
    assert table.shape == (9, 2)
    assert table.dtype == np.float32
    assert table[[6, 7]].tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_the_others_are_drawn_with_the_seed_and_with_the_spread_of_those_found(tokens, vectors):
    first, same, other = (vectors_of_file(vectors, tokens, seed=seed).table for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert not np.allclose(first[8], other[8])
    drawn = np.concatenate([vectors_of_file(vectors, tokens, seed=seed).table[8:] for seed in range(2000)])
    np.testing.assert_allclose(drawn.mean(axis=0), [2, 3], atol=0.1)
    np.testing.assert_allclose(drawn.std(axis=0), [1, 1], atol=0.1)


def test_a_file_of_other_words_is_refused(tokens, tmp_path):
    (tmp_path / "glove.txt").write_text("Film 1 2\n", encoding="utf-8")
    with pytest.raises(ModelError, match="none of the tokens"):
        vectors_of_file(tmp_path / "glove.txt", tokens, seed=1)


def test_a_teachers_own_tokens_get_its_table(tokens):
    table = np.arange(18, dtype=np.float32).reshape(9, 2)
    found = vectors_of_teacher(table, tokens, tokens, seed=1)
    np.testing.assert_array_equal(found.table, table)
    assert found.covered.all()


def test_a_word_that_the_teacher_cuts_gets_the_mean_of_its_pieces(tokens):
    from tokenizers import Tokenizer, models, pre_tokenizers

    pieces = {
        token: number for number, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ba", "##d", "a"])
    }
    backend = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    teacher = TextTokenizer.from_backend(backend)
    table = np.arange(16, dtype=np.float32).reshape(8, 2)
    found = vectors_of_teacher(table, teacher, tokens, seed=1)
    # tokens 5 a, 6 good, 7 bad, 8 film; the teacher has a, and of the others spells bad alone
    assert found.covered.tolist() == [True] * SPECIAL + [True, False, True, False]
    assert found.table[5].tolist() == table[7].tolist()
    assert found.table[7].tolist() == ((table[5] + table[6]) / 2).tolist()
    assert found.table[2].tolist() == table[2].tolist()
