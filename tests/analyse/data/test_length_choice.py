from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.analyse.data.length_choice import MOST_TRUNCATED, candidate_lengths, choose_length, shortest_fitting
from potstill.data.batches import BatchPlan, pad_rows
from potstill.data.tokens import EncodedTexts

some_lengths = st.lists(st.integers(2, 900), min_size=1, max_size=120).map(lambda values: np.array(values, np.int32))


def skewed(n: int = 300, seed: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(4, 0.8, size=n).astype(np.int32) + 2


def encoded(lengths: np.ndarray) -> EncodedTexts:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.ones(offsets[-1], dtype=np.int32)
    return EncodedTexts(ids, offsets, None, lengths, np.zeros(len(lengths), dtype=bool))


@pytest.mark.parametrize("length", [16, 64, 128])
def test_padding_is_that_of_the_batches_that_training_makes(length):
    # oracle: pad_rows on every batch of BatchPlan, counting what is attended
    n_tokens = skewed()
    kept = np.minimum(n_tokens, length)
    choice = choose_length({"train": n_tokens}, "train", limit=512, batch_size=32, seed=1)
    masks = [
        pad_rows(encoded(kept), rows, pad_id=0)["attention_mask"] for rows in BatchPlan(kept, 32, seed=1).batches()
    ]
    positions = sum(mask.size for mask in masks)
    row = choice.row(length)
    assert row.padding_in_batches == pytest.approx(1 - sum(mask.sum() for mask in masks) / positions)
    assert row.positions == positions


def test_the_other_ways_of_padding_are_those_worked_by_hand():
    # oracle: batches of two as they arrive are (10, 40), (40, 20): 160 positions for 110 tokens; to 40, 160 of 110
    choice = choose_length({"train": np.array([10, 60, 50, 20])}, "train", limit=40, batch_size=2)
    row = choice.rows[-1]
    assert row.length == 40
    assert row.padding_to_maximum == pytest.approx(1 - 110 / 160)
    assert row.padding_as_they_arrive == pytest.approx(1 - 110 / (2 * 40 + 2 * 40))
    assert row.truncated == {"train": 0.5}
    assert row.tokens_lost == pytest.approx(1 - 110 / 140)


@settings(deadline=None)
@given(some_lengths)
def test_the_fitting_length_is_the_shortest_multiple_of_eight_that_cuts_few_enough(n_tokens):
    length = shortest_fitting(n_tokens, MOST_TRUNCATED)
    assert length % 8 == 0
    assert (n_tokens > length).mean() <= MOST_TRUNCATED
    assert length == 8 or (n_tokens > length - 8).mean() > MOST_TRUNCATED


@settings(deadline=None)
@given(some_lengths, st.sampled_from([128, 512, 8192]))
def test_candidates_reach_from_short_to_what_cuts_nothing_or_the_limit(n_tokens, limit):
    candidates = candidate_lengths(n_tokens, shortest_fitting(n_tokens, MOST_TRUNCATED), limit)
    assert candidates == sorted(set(candidates))
    assert candidates[-1] == limit or candidates[-1] >= n_tokens.max()
    choice = choose_length({"train": n_tokens}, "train", limit=limit, batch_size=8)
    assert choice.proposed in candidates
    assert choice.fits == ((n_tokens > choice.proposed).mean() <= MOST_TRUNCATED)
    assert choice.fits or choice.proposed == limit


@settings(deadline=None)
@given(some_lengths)
def test_curves_agree_with_the_table(n_tokens):
    choice = choose_length({"train": n_tokens}, "train", limit=512, batch_size=8)
    for row in choice.rows:
        if row.length in choice.lengths:
            place = choice.lengths.index(row.length)
            assert choice.truncated["train"][place] == pytest.approx(row.truncated["train"])
            assert choice.padded[place] == pytest.approx(row.padding_to_maximum)
    assert choice.lengths[-1] >= choice.rows[-1].length


@settings(deadline=None)
@given(some_lengths)
def test_longer_is_never_cut_more_and_potstill_never_pads_more_than_to_the_maximum(n_tokens):
    choice = choose_length({"train": n_tokens}, "train", limit=512, batch_size=8)
    cuts = [row.truncated["train"] for row in choice.rows]
    assert cuts == sorted(cuts, reverse=True)
    for row in choice.rows:
        rounded = 1 - (1 - row.padding_to_maximum) * row.length / (-(-row.length // 8) * 8)
        assert row.padding_in_batches <= rounded + 1e-9


def test_the_split_that_is_reported_decides_nothing():
    own, short, long = skewed(), np.full(10, 3), np.full(10, 5000)
    proposed = [
        choose_length({"train": own, "test": other}, "train", limit=512, batch_size=32).proposed
        for other in (short, long)
    ]
    assert proposed[0] == proposed[1]
