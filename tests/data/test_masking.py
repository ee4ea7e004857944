"""Oracles: shares worked by hand, chi-square tests of draws with fixed seeds, and properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from potstill.data.masking import IGNORED, choose_masked, corrupt, mask_batch, mask_weights
from potstill.errors import DataError

VOCAB = 50
SPECIAL = frozenset({0, 1, 2, 3, 4})
MASK_ID = 4


def random_ids(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, VOCAB, size=shape)


def uniform_weights() -> np.ndarray:
    return mask_weights(np.ones(VOCAB, dtype=np.int64), SPECIAL)


def test_weights_follow_the_power_of_the_count() -> None:
    weights = mask_weights(np.array([7, 0, 1, 32, 100]), {0})
    assert weights[:4] == pytest.approx([0.0, 1.0, 1.0, 32**-0.7])
    assert weights[4] / weights[2] == pytest.approx(0.03981, rel=1e-3)


@given(st.integers(0, 2**32), st.integers(1, 8), st.integers(1, 60), st.floats(0.01, 0.99))
def test_exactly_the_fraction_of_the_maskable_tokens_is_masked(
    seed: int, batch: int, length: int, fraction: float
) -> None:
    rng = np.random.default_rng(seed)
    input_ids = random_ids(rng, batch, length)
    attended = rng.random((batch, length)) < 0.8
    mask = choose_masked(input_ids, attended, uniform_weights(), rng, fraction=fraction)
    maskable = attended & ~np.isin(input_ids, list(SPECIAL))
    assert not (mask & ~maskable).any()
    assert mask.sum() == (max(1, round(fraction * maskable.sum())) if maskable.any() else 0)


def test_rare_tokens_are_drawn_by_the_ratio_of_their_weights() -> None:
    """One draw among tokens with weights 1, 1/2 and 1/4 falls on them in the ratio 4 : 2 : 1."""
    counts = np.ones(VOCAB, dtype=np.int64)
    counts[11], counts[12] = 2, 4
    weights = mask_weights(counts, SPECIAL, smoothing=1.0)
    rng = np.random.default_rng(5)
    drawn = np.zeros(3)
    for _ in range(7000):
        drawn += choose_masked(np.array([[10, 11, 12]]), None, weights, rng, fraction=0.3)[0]
    assert drawn.sum() == 7000
    assert chisquare(drawn, [4000, 2000, 1000]).pvalue > 0.01


def test_smoothing_evens_out_rare_and_frequent_as_worked_by_hand() -> None:
    """With few of many masked, odds are the weights' ratio: 1000^0.7 = 125.9 for a count of 1 against one of 1000."""
    counts = np.ones(VOCAB, dtype=np.int64)
    counts[20] = 1000
    input_ids = np.where(np.arange(4000) % 2 == 0, 10, 20)[None, :]
    rng = np.random.default_rng(0)
    masks = [choose_masked(input_ids, None, mask_weights(counts, SPECIAL), rng, fraction=0.05)[0] for _ in range(100)]
    rare, frequent = (sum(int(mask[input_ids[0] == token].sum()) for mask in masks) for token in (10, 20))
    assert rare + frequent == 100 * 200
    assert frequent == pytest.approx(20_000 / (1 + 125.9 * 0.949), rel=0.15)  # 0.949: the rare ones used up meanwhile


def test_without_exactness_the_fraction_holds_on_average() -> None:
    rng = np.random.default_rng(1)
    input_ids = rng.integers(5, VOCAB, size=(100, 100))
    masked = [choose_masked(input_ids, None, uniform_weights(), rng, exact=False).sum() for _ in range(20)]
    assert len(set(masked)) > 1
    assert np.mean(masked) == pytest.approx(1500, abs=30)


def test_padding_changes_no_draw() -> None:
    input_ids = random_ids(np.random.default_rng(2), 4, 30)
    wider = np.pad(input_ids, ((0, 0), (0, 10)))
    attended = np.pad(np.ones_like(input_ids), ((0, 0), (0, 10)))
    narrow_mask, wide_mask = (
        choose_masked(ids, seen, uniform_weights(), np.random.default_rng(3))
        for ids, seen in ((input_ids, None), (wider, attended))
    )
    assert np.array_equal(wide_mask[:, :30], narrow_mask)
    assert not wide_mask[:, 30:].any()


def test_packed_row_without_padding_draws_like_a_batch() -> None:
    input_ids = random_ids(np.random.default_rng(2), 4, 30)
    batch, packed = (
        choose_masked(ids, None, uniform_weights(), np.random.default_rng(3)) for ids in (input_ids, input_ids.ravel())
    )
    assert np.array_equal(batch.ravel(), packed)


def test_batch_of_specials_only_masks_nothing() -> None:
    mask = choose_masked(np.array([[1, 2, 0, 0]]), None, uniform_weights(), np.random.default_rng(0))
    assert not mask.any()


@given(st.integers(0, 2**32), st.floats(0.05, 0.6))
def test_whole_words_are_masked_whole_and_never_beyond_the_number(seed: int, fraction: float) -> None:
    rng = np.random.default_rng(seed)
    input_ids = random_ids(rng, 5, 40)
    starts = np.arange(VOCAB) % 3 != 0
    mask = choose_masked(input_ids, None, uniform_weights(), rng, fraction=fraction, word_starts=starts)
    maskable = ~np.isin(input_ids, list(SPECIAL))
    goes_on = ~starts[input_ids[:, 1:]] & maskable[:, 1:] & maskable[:, :-1]
    assert (mask[:, 1:] == mask[:, :-1])[goes_on].all()
    sizes = np.diff(np.flatnonzero(np.r_[~np.c_[np.zeros((5, 1), bool), goes_on].ravel(), True]))
    wanted = max(1, round(fraction * maskable.sum()))
    assert wanted - sizes.max() < mask.sum() <= max(wanted, sizes.max())


def test_corruption_is_80_10_10_and_others_are_uniform() -> None:
    rng = np.random.default_rng(7)
    input_ids = np.full((200, 500), 10)
    mask = np.ones_like(input_ids, dtype=bool)
    corrupted = corrupt(input_ids, mask, rng, mask_id=MASK_ID, vocab_size=VOCAB, special_ids=SPECIAL)
    masked, other = corrupted == MASK_ID, (corrupted != MASK_ID) & (corrupted != 10)
    same = 100_000 - masked.sum() - other.sum()
    by_hand = [80_000, 10_000 * 44 / 45, 10_000 + 10_000 / 45]
    assert chisquare([masked.sum(), other.sum(), same], by_hand).pvalue > 0.01
    drawn = np.bincount(corrupted[other], minlength=VOCAB)
    assert drawn[list(SPECIAL)].sum() == 0
    assert chisquare(np.delete(drawn, [*SPECIAL, 10])).pvalue > 0.01


def test_corruption_touches_only_the_mask_and_leaves_the_original() -> None:
    rng = np.random.default_rng(8)
    input_ids = random_ids(rng, 10, 20)
    before, mask = input_ids.copy(), rng.random((10, 20)) < 0.3
    corrupted = corrupt(input_ids, mask, rng, mask_id=MASK_ID, vocab_size=VOCAB, special_ids=SPECIAL)
    assert np.array_equal(corrupted[~mask], input_ids[~mask])
    assert np.array_equal(input_ids, before)


def test_batch_gets_labels_at_masked_positions_only() -> None:
    rng = np.random.default_rng(9)
    batch = {
        "input_ids": random_ids(rng, 6, 32),
        "attention_mask": np.ones((6, 32), dtype=np.int64),
        "other": np.ones(6),
    }
    masked = mask_batch(batch, rng, weights=uniform_weights(), mask_id=MASK_ID, special_ids=SPECIAL)
    predicted = masked["labels"] != IGNORED
    assert predicted.sum() == round(0.15 * (~np.isin(batch["input_ids"], list(SPECIAL))).sum())
    assert np.array_equal(masked["labels"][predicted], batch["input_ids"][predicted])
    assert np.array_equal(masked["input_ids"][~predicted], batch["input_ids"][~predicted])
    assert masked["labels"].dtype == np.int64
    assert masked["other"] is batch["other"]


def test_same_generator_masks_alike_and_another_does_not() -> None:
    batch = {"input_ids": random_ids(np.random.default_rng(9), 6, 32)}
    first, again, other = (
        mask_batch(batch, np.random.default_rng(seed), weights=uniform_weights(), mask_id=MASK_ID, special_ids=SPECIAL)[
            "labels"
        ]
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_impossible_fraction_is_refused(fraction: float) -> None:
    with pytest.raises(DataError, match="fraction"):
        choose_masked(np.array([[10]]), None, uniform_weights(), np.random.default_rng(0), fraction=fraction)


def test_proportions_that_do_not_add_up_are_refused() -> None:
    ids = np.array([[10]])
    with pytest.raises(DataError, match="proportions"):
        corrupt(
            ids, ids > 0, np.random.default_rng(0), mask_id=4, vocab_size=9, special_ids=(), proportions=(0.8, 0.1, 0.2)
        )
