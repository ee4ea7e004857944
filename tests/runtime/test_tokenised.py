"""Rows of tokens cut into parts and joined again. Oracle: the same texts tokenised in those parts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.tokens import EncodedTexts
from potstill.runtime.tokenised import Tokenised, join_tokenised


def of(*texts: list[int], windows: bool, types: bool) -> Tokenised:
    """Texts by the lengths of their rows: one for each window, or the first alone. Tokens count up by themselves."""
    lengths = [length for text in texts for length in (text if windows else text[:1])]
    owners = [number for number, text in enumerate(texts) for _ in (text if windows else text[:1])]
    n = sum(lengths)
    ids = np.arange(n, dtype=np.int32)
    rows = EncodedTexts(
        input_ids=ids,
        offsets=np.r_[0, np.cumsum(lengths)].astype(np.int64),
        token_types=(ids % 2).astype(np.int8) if types else None,
        n_tokens=np.array(lengths, dtype=np.int32),
        truncated=np.array(lengths) > 3,
    )
    n_tokens = np.array([sum(text) for text in texts], dtype=np.int32)
    return Tokenised(rows, np.array(owners, dtype=np.int64) if windows else None, n_tokens, n_tokens > 5)


def assert_same(one: Tokenised, other: Tokenised) -> None:
    for name in ("input_ids", "offsets", "token_types", "n_tokens", "truncated"):
        np.testing.assert_array_equal(getattr(one.rows, name), getattr(other.rows, name), name)
    for name in ("owners", "n_tokens", "truncated", "costs"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)


TEXTS = st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=3), min_size=1, max_size=6)


@given(texts=TEXTS, windows=st.booleans(), types=st.booleans(), data=st.data())
def test_parts_joined_are_the_whole(texts: list[list[int]], windows: bool, types: bool, data: Any):
    whole = of(*texts, windows=windows, types=types)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(texts) - 1)))) if len(texts) > 1 else []
    bounds = [0, *cuts, len(texts)]
    parts = [whole.between(start, stop) for start, stop in pairwise(bounds)]
    assert [len(part) for part in parts] == np.diff(bounds).tolist()
    assert_same(join_tokenised(parts), whole)


@pytest.mark.parametrize("windows", [False, True])
def test_a_part_counts_from_nought_anew(windows):
    whole = of([2], [3, 4], [1], windows=windows, types=True)
    part = whole.between(1, 3)
    assert part.rows.offsets.tolist() == ([0, 3, 7, 8] if windows else [0, 3, 4])
    assert part.rows.row(0).tolist() == [2, 3, 4]
    assert (None if part.owners is None else part.owners.tolist()) == ([0, 0, 1] if windows else None)
    assert part.costs.tolist() == ([7, 1] if windows else [3, 1])
    assert part.n_tokens.tolist() == [7, 1]
