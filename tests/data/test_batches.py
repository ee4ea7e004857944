"""Oracles: properties of plans over random lengths, padding counted by hand, torch and accelerate as the callers."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.batches import BatchKey, BatchPlan, is_packed, pack_rows, pad_rows, padding_share, plan_batches
from potstill.data.tokens import EncodedTexts
from potstill.errors import DataError

lengths_of_rows = st.lists(st.integers(1, 300), max_size=200)


def encoded(rows: list[list[int]], with_types: bool = False) -> EncodedTexts:
    flat = np.array([token for row in rows for token in row], dtype=np.int32)
    lengths = np.array([len(row) for row in rows], dtype=np.int32)
    types = np.ones(len(flat), dtype=np.int8) if with_types else None
    return EncodedTexts(flat, np.r_[0, np.cumsum(lengths)].astype(np.int64), types, lengths, lengths < 0)


def flat(batches: list[np.ndarray]) -> list[int]:
    return [int(row) for rows in batches for row in rows]


@given(lengths_of_rows, st.integers(1, 40), st.integers(0, 99), st.integers(0, 9), st.integers(1, 60), st.booleans())
def test_each_row_is_in_exactly_one_batch(
    lengths: list[int], batch_size: int, seed: int, epoch: int, window: int, shuffle: bool
) -> None:
    batches = plan_batches(lengths, batch_size=batch_size, seed=seed, epoch=epoch, window=window, shuffle=shuffle)
    assert sorted(flat(batches)) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // batch_size)
    assert sum(len(rows) != batch_size for rows in batches) <= 1


@given(lengths_of_rows, st.integers(0, 99), st.integers(0, 9))
def test_same_seed_and_epoch_give_the_same_plan(lengths: list[int], seed: int, epoch: int) -> None:
    first, again = (plan_batches(lengths, batch_size=7, seed=seed, epoch=epoch) for _ in range(2))
    assert flat(first) == flat(again)


def test_epochs_and_seeds_differ_in_order() -> None:
    plans = [flat(plan_batches([5] * 100, batch_size=8, seed=s, epoch=e)) for s, e in ((0, 0), (0, 1), (1, 0))]
    assert len({tuple(plan) for plan in plans}) == 3


def test_without_shuffling_rows_keep_their_order() -> None:
    lengths = np.random.default_rng(0).integers(1, 99, size=50)
    assert flat(plan_batches(lengths, batch_size=8, seed=0, epoch=3, shuffle=False)) == list(range(50))


def test_batches_do_not_run_from_short_to_long() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, size=1600)
    means = [lengths[rows].mean() for rows in plan_batches(lengths, batch_size=16, seed=0, epoch=0)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


@pytest.mark.parametrize("seed", range(5))
def test_sorted_windows_leave_far_less_padding_than_arrival_order(seed: int) -> None:
    """Pitfall 7."""
    lengths = np.random.default_rng(seed).geometric(1 / 80, size=3000)
    arrival, planned = (padding_share(lengths, BatchPlan(lengths, 16, seed, shuffle)) for shuffle in (False, True))
    assert planned < arrival / 4


def test_padding_share_is_that_counted_by_hand() -> None:
    batches = [np.array([0, 1]), np.array([2])]
    assert padding_share([2, 4, 3], batches) == pytest.approx(2 / 11)
    assert padding_share([], []) == 0.0


def test_plan_has_the_same_number_of_batches_in_each_epoch() -> None:
    plan = BatchPlan(np.arange(1, 102), 8, seed=1)
    for epoch in range(4):
        plan.set_epoch(epoch)
        assert len(list(plan)) == len(plan) == 13


def test_resuming_in_the_middle_meets_the_same_batches_and_draws() -> None:
    straight, resumed = BatchPlan(np.arange(1, 102), 8, seed=1), BatchPlan(np.arange(1, 102), 8, seed=1)
    straight.set_epoch(2)
    resumed.set_epoch(2)
    for (one,), (other,) in zip(islice(straight, 5, None), islice(resumed, 5, None), strict=True):
        assert one == other
        assert np.array_equal(one.rows, other.rows)
        assert one.generator(7).random() == other.generator(7).random()


def test_draws_differ_between_batches_epochs_and_seeds() -> None:
    rows = np.arange(3)
    keys = [(BatchKey(0, 0, rows), 1), (BatchKey(0, 1, rows), 1), (BatchKey(1, 0, rows), 1), (BatchKey(0, 0, rows), 2)]
    assert len({key.generator(seed).random() for key, seed in keys}) == 4


def met(plan: BatchPlan, epoch: int) -> list[tuple[int, int, tuple[int, ...]]]:
    plan.set_epoch(epoch)
    return [(key.epoch, key.number, tuple(key.rows.tolist())) for (key,) in plan]


@given(lengths_of_rows, st.integers(0, 99), st.integers(1, 3), st.integers(0, 9))
def test_an_epoch_meets_the_batches_of_its_draw_in_some_order(
    lengths: list[int], seed: int, draws: int, epoch: int
) -> None:
    plain, drawn = BatchPlan(lengths, 4, seed), BatchPlan(lengths, 4, seed, draws=draws)
    assert sorted(met(drawn, epoch)) == sorted(met(plain, epoch % draws))
    assert len(drawn) == len(plain)


def test_the_first_round_of_draws_is_that_without_draws_and_later_ones_are_in_another_order() -> None:
    lengths = np.arange(1, 102)
    plain, drawn = BatchPlan(lengths, 4, 1), BatchPlan(lengths, 4, 1, draws=2)
    assert [met(drawn, epoch) for epoch in (0, 1)] == [met(plain, epoch) for epoch in (0, 1)]
    assert len({tuple(met(drawn, epoch)) for epoch in range(6)}) == 6
    assert met(drawn, 4) == met(BatchPlan(lengths, 4, 1, draws=2), 4)


def test_without_shuffling_draws_change_nothing() -> None:
    assert met(BatchPlan([3] * 9, 2, 1, shuffle=False, draws=1), 5) == met(BatchPlan([3] * 9, 2, 1, shuffle=False), 0)


def test_no_draws_at_all_are_refused() -> None:
    with pytest.raises(DataError, match="number of draws"):
        BatchPlan([3], 2, 1, draws=0)


class KeyedRows:
    """A data set that answers a key with its rows, as training's batches do."""

    def __len__(self) -> int:
        return 13

    def __getitem__(self, key: BatchKey) -> list[int]:
        return key.rows.tolist()


def test_torch_data_loader_takes_the_plan() -> None:
    data = pytest.importorskip("torch.utils.data")
    plan = BatchPlan(np.arange(1, 102), 8, seed=1)
    loader = data.DataLoader(KeyedRows(), batch_sampler=plan, collate_fn=lambda batches: batches[0])
    assert list(loader) == [rows.tolist() for rows in plan.batches()]


def test_accelerate_deals_every_batch_to_exactly_one_process() -> None:
    data_loader = pytest.importorskip("accelerate.data_loader")
    plan = BatchPlan(np.arange(1, 97), 8, seed=1)
    shards = [data_loader.BatchSamplerShard(plan, num_processes=3, process_index=i) for i in range(3)]
    dealt = [key.number for shard in shards for (key,) in shard]
    assert sorted(dealt) == list(range(12))


def test_padding_is_on_the_right_to_the_longest_row() -> None:
    batch = pad_rows(encoded([[5, 6, 7], [8], [9, 10]], with_types=True), [2, 0], pad_id=99)
    assert batch["input_ids"].tolist() == [[9, 10, 99], [5, 6, 7]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["token_type_ids"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert {array.dtype for array in batch.values()} == {np.dtype(np.int64)}


def test_token_types_are_left_out_where_the_tokenizer_has_none() -> None:
    assert set(pad_rows(encoded([[5]]), [0], pad_id=0)) == {"input_ids", "attention_mask"}


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=20), min_size=1, max_size=10))
def test_padded_rows_hold_the_rows_and_nothing_else(rows: list[list[int]]) -> None:
    batch = pad_rows(encoded(rows), np.arange(len(rows)), pad_id=0)
    assert batch["input_ids"].shape == (len(rows), max(map(len, rows)))
    for row, ids, attended in zip(rows, batch["input_ids"], batch["attention_mask"], strict=True):
        assert ids[attended == 1].tolist() == row
        assert attended.sum() == len(row)
        assert not ids[attended == 0].any()


@pytest.mark.parametrize(("batch_size", "window"), [(0, 50), (8, 0)])
def test_impossible_sizes_are_refused(batch_size: int, window: int) -> None:
    with pytest.raises(DataError, match="positive"):
        plan_batches([1, 2], batch_size=batch_size, seed=0, epoch=0, window=window)


def test_packed_rows_lie_end_to_end_with_positions_of_their_own() -> None:
    batch = pack_rows(encoded([[5, 6, 7], [8], [9, 10]], with_types=True), [2, 0])
    assert batch["input_ids"].tolist() == [[9, 10, 5, 6, 7]]
    assert batch["position_ids"].tolist() == [[0, 1, 0, 1, 2]]
    assert batch["token_type_ids"].tolist() == [[1, 1, 1, 1, 1]]
    assert batch["sequence_starts"].tolist() == [0, 2, 5]
    assert batch.pop("sequence_starts").dtype == np.int32
    assert {array.dtype for array in batch.values()} == {np.dtype(np.int64)}


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=20), min_size=1, max_size=10), st.integers(0, 99))
def test_packed_rows_hold_what_padded_rows_attend_to(rows: list[list[int]], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(rows))
    packed, padded = pack_rows(encoded(rows), order), pad_rows(encoded(rows), order, pad_id=0)
    assert is_packed(packed)
    assert not is_packed(padded)
    attended = padded["attention_mask"] == 1
    assert packed["input_ids"][0].tolist() == padded["input_ids"][attended].tolist()
    assert packed["position_ids"][0].tolist() == np.nonzero(attended)[1].tolist()
    assert np.diff(packed["sequence_starts"]).tolist() == padded["attention_mask"].sum(axis=1).tolist()
    assert "token_type_ids" not in packed


def test_a_row_without_tokens_cannot_be_packed() -> None:
    with pytest.raises(DataError, match="row 1"):
        pack_rows(encoded([[5], []]), [0, 1])
