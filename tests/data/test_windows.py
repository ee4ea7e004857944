"""Oracles: windows written out by hand, properties over random lengths, and sums over single windows."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.tokens import EncodedTexts, TextTokenizer
from potstill.data.windows import UNCUT, WindowedTexts, cut_windows, pool_windows, single_texts
from potstill.errors import DataError


class Wrapped:
    """Stands for a tokenizer that puts one special token before a text and one after it."""

    special_sides = (1, 1)


def encoded(lengths: list[int], with_types: bool = False) -> EncodedTexts:
    """Texts of these many content tokens, numbered from 10 on, between 1 and 2."""
    rows = [[1, *range(10, 10 + n), 2] for n in lengths]
    flat = np.array([token for row in rows for token in row], dtype=np.int32)
    sizes = np.array([len(row) for row in rows], dtype=np.int32)
    types = np.zeros(len(flat), dtype=np.int8) if with_types else None
    return EncodedTexts(flat, np.r_[0, np.cumsum(sizes)].astype(np.int64), types, sizes, sizes < 0, fingerprint="f")


def cut(lengths: list[int], max_length: int, overlap: int) -> WindowedTexts:
    return cut_windows(encoded(lengths), Wrapped(), max_length, overlap)  # type: ignore[arg-type]


def test_windows_are_those_written_by_hand() -> None:
    windowed = cut([3, 7, 0], max_length=6, overlap=1)
    assert [windowed.rows.row(i).tolist() for i in range(4)] == [
        [1, 10, 11, 12, 2],
        [1, 10, 11, 12, 13, 2],
        [1, 13, 14, 15, 16, 2],
        [1, 2],
    ]
    assert windowed.owners.tolist() == [0, 1, 1, 2]
    assert windowed.n_tokens.tolist() == [5, 9, 2]
    assert windowed.n_long == 1


def test_the_last_window_is_full_and_ends_with_the_text() -> None:
    windowed = cut([6], max_length=6, overlap=0)
    assert [windowed.rows.row(i).tolist() for i in range(2)] == [[1, 10, 11, 12, 13, 2], [1, 12, 13, 14, 15, 2]]


@given(st.lists(st.integers(0, 60), max_size=20), st.integers(5, 20), st.integers(0, 2))
def test_every_token_is_in_a_window_and_none_is_too_long(lengths: list[int], max_length: int, overlap: int) -> None:
    windowed = cut(lengths, max_length, overlap)
    assert windowed.rows.lengths.max(initial=0) <= max_length
    assert not windowed.rows.truncated.any()
    for text, n in enumerate(lengths):
        rows = [windowed.rows.row(i) for i in np.flatnonzero(windowed.owners == text)]
        assert all(row[0] == 1 and row[-1] == 2 for row in rows)
        assert {int(token) for row in rows for token in row[1:-1]} == set(range(10, 10 + n))
        for left, right in itertools.pairwise(rows):
            assert len(np.intersect1d(left[1:-1], right[1:-1])) >= overlap


def test_windows_that_would_not_move_on_are_refused() -> None:
    with pytest.raises(DataError, match=r"overlap too much; found 4; allowed: 0 to 3"):
        cut([9], max_length=6, overlap=4)


def test_other_windows_have_another_fingerprint() -> None:
    found = {cut([9], *setting).rows.fingerprint for setting in ((6, 1), (6, 2), (7, 1))}
    assert len(found) == 3


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.integers(0, 9))
def test_pooled_logits_are_mean_and_maximum_over_a_texts_windows(counts: list[int], seed: int) -> None:
    owners = np.repeat(np.arange(len(counts)), counts)
    logits = np.random.default_rng(seed).normal(size=(len(owners), 3)).astype(np.float32)
    own = [logits[owners == text] for text in range(len(counts))]
    np.testing.assert_allclose(pool_windows(logits, owners, "mean"), [rows.mean(axis=0) for rows in own], rtol=1e-5)
    np.testing.assert_array_equal(pool_windows(logits, owners, "max"), [rows.max(axis=0) for rows in own])


def test_no_texts_have_no_windows() -> None:
    windowed = cut([], 6, 1)
    assert len(windowed.rows) == 0
    assert pool_windows(np.empty((0, 3), np.float32), windowed.owners, "mean").shape == (0, 3)


def test_a_pair_is_refused_with_its_row() -> None:
    with pytest.raises(DataError, match="row 1 is a pair"):
        list(single_texts(["a", ("b", "c")]))


def test_windows_of_real_text_hold_its_tokens(tiny: Any) -> None:
    tokenizer = TextTokenizer.open(Path(tiny.teacher))
    whole = tokenizer.encode(["the cat sat on the mat and the dog lay on the rug " * 5], UNCUT)
    windowed = cut_windows(whole, tokenizer, 12, 3)
    prefix, tail = tokenizer.special_sides
    content = [windowed.rows.row(i)[prefix : 12 - tail].tolist() for i in range(len(windowed.rows))]
    joined = content[0] + [token for window in content[1:-1] for token in window[3:]]
    assert joined == whole.row(0)[prefix : prefix + len(joined)].tolist()
    assert content[-1] == whole.row(0)[-tail - len(content[-1]) : -tail].tolist()
