"""Oracles: properties of batches over random lengths, and cuts worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.batches import BatchPlan, padding_share
from potstill.data.token_budget import SPREAD, batch_bounds, rows_near_in_length
from potstill.errors import DataError

lengths_of_rows = st.lists(st.integers(1, 300), max_size=200)


def padded_positions(lengths: np.ndarray, rows: np.ndarray) -> int:
    return int(lengths[rows].max()) * len(rows)


@given(lengths_of_rows, st.integers(300, 5000), st.integers(0, 99), st.integers(0, 5))
def test_each_row_is_in_one_batch_and_no_batch_takes_more_than_its_tokens(
    rows: list[int], tokens: int, seed: int, epoch: int
) -> None:
    lengths = np.array(rows, dtype=np.int64)
    plan = BatchPlan(lengths, 1, seed, tokens=tokens)
    plan.set_epoch(epoch)
    batches = plan.batches()
    assert sorted(int(row) for batch in batches for row in batch) == list(range(len(rows)))
    assert len(batches) == len(plan)
    assert all(0 < padded_positions(lengths, batch) <= tokens for batch in batches)


def test_cuts_are_those_worked_by_hand() -> None:
    # Four rows of 8 fit 32 tokens. At 10 tokens a neighbour may be 11 long, two of which fit, though three of 10 would.
    assert batch_bounds([8] * 6, 32).tolist() == [0, 4, 6]
    assert batch_bounds([10, 10, 10, 12], 32).tolist() == [0, 2, 4]
    assert batch_bounds([], 32).tolist() == [0]


def test_a_text_longer_than_the_budget_is_refused_with_both_figures() -> None:
    with pytest.raises(DataError, match=r"33 tokens, in a batch of 32.*raise batch_tokens"):
        batch_bounds([5, 33], 32)


@given(lengths_of_rows, st.integers(0, 99))
def test_rows_come_in_order_of_length_but_for_the_spread(rows: list[int], seed: int) -> None:
    lengths = np.array(rows, dtype=np.int64)
    met = lengths[rows_near_in_length(lengths, np.random.default_rng(seed))]
    assert (met <= np.sort(lengths) * (1 + SPREAD) / (1 - SPREAD) + 1e-9).all()
    assert (met >= np.sort(lengths) * (1 - SPREAD) / (1 + SPREAD) - 1e-9).all()


def test_epochs_mix_near_rows_anew_and_a_resumed_plan_meets_the_same_batches() -> None:
    lengths = np.random.default_rng(0).integers(100, 120, size=400)
    plan, resumed = BatchPlan(lengths, 1, 3, tokens=2048), BatchPlan(lengths, 1, 3, tokens=2048)
    first, second = ([tuple(key.rows) for key in plan.keys(epoch)] for epoch in (0, 1))
    assert not set(first) & set(second)
    assert second == [tuple(key.rows) for key in resumed.keys(1)]


@pytest.mark.parametrize("seed", range(3))
def test_batches_by_tokens_leave_no_more_padding_than_windows_of_rows_and_a_hundredth(seed: int) -> None:
    lengths = np.random.default_rng(seed).geometric(1 / 80, size=3000)
    windows = padding_share(lengths, BatchPlan(lengths, 16, seed))
    assert padding_share(lengths, BatchPlan(lengths, 16, seed, tokens=2048)) < windows + 0.01


def test_batches_do_not_run_from_short_to_long() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, size=1600)
    means = [lengths[rows].mean() for rows in BatchPlan(lengths, 1, 0, tokens=4096).batches()]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


def test_rows_that_keep_their_order_are_not_batched_by_tokens() -> None:
    with pytest.raises(DataError, match="keep their order"):
        BatchPlan([3, 4], 2, 0, shuffle=False, tokens=100)
