"""Maps for a page: what is put together is added up, rounding is bounded."""

from __future__ import annotations

import numpy as np
import pytest

from potstill.analyse.attention.shown import (
    FEWEST_TOKENS,
    GAP,
    MOST_MAP_BYTES,
    quantise,
    restore,
    shorten,
    show_attention,
    shown_places,
    tokens_that_fit,
)
from potstill.analyse.attention.token_kinds import TokenReader


def test_the_middle_of_a_long_text_shares_a_place():
    assert shown_places(5, 16).tolist() == [0, 1, 2, 3, 4]
    assert shown_places(7, 4).tolist() == [0, 1, 2, 3, 3, 3, 4]  # by hand: the first three, the gap, the last


def test_putting_tokens_together_worked_by_hand():
    # the middle two of four tokens become one: it receives their sum and gives their mean
    maps = np.array([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1], [0.0, 0.0, 0.0, 1.0], [0.25, 0.25, 0.25, 0.25]])
    expected = [[0.1, 0.5, 0.4], [0.2, 0.25, 0.55], [0.25, 0.5, 0.25]]
    np.testing.assert_allclose(shorten(maps, np.array([0, 1, 3]), np.array([1, 2, 1])), expected)


def test_shortened_rows_sum_to_one_and_tokens_receive_what_they_did(random_maps):
    maps = random_maps(30, seed=1).astype(np.float64)
    places = shown_places(30, 20)
    sizes = np.bincount(places)
    short = shorten(maps, np.searchsorted(places, np.arange(21)), sizes)
    np.testing.assert_allclose(short.sum(axis=-1), 1, atol=1e-6)
    received = np.add.reduceat(maps.mean(axis=-2), np.cumsum(sizes) - sizes, axis=-1)
    np.testing.assert_allclose(np.average(short, axis=-2, weights=sizes), received)


def test_rounding_to_eight_bits_is_off_by_at_most_four_thousandths():
    shares = np.linspace(0, 1, 100_001)
    error = np.abs(restore(quantise(shares)) - shares)
    assert error.max() <= 0.004
    assert error[shares <= 0.01].max() <= 0.0005
    assert (quantise(shares).min(), quantise(shares).max()) == (0, 255)


def test_maps_of_a_page_are_bounded_whatever_the_model():
    for n_texts, n_maps in ((5, 2 * 72), (20, 2 * 144), (20, 2 * 384)):
        n_tokens = tokens_that_fit(512, n_texts, n_maps)
        assert FEWEST_TOKENS <= n_tokens < 512
        assert n_texts * n_maps * (n_tokens + 1) ** 2 <= MOST_MAP_BYTES
    assert tokens_that_fit(64, 5, 2 * 72) == 64


def test_a_shown_text_says_what_it_leaves_out(wordpiece, random_maps):
    ids = wordpiece.encode(["the film was not good it was acting !" * 3], 40).row(0)
    shown = show_attention(TokenReader(wordpiece), ids, {"after": random_maps(len(ids), 2)}, 16)
    assert len(shown.tokens) == 17
    assert shown.tokens[15] == GAP
    assert shown.n_hidden == len(ids) - 16
    assert shown.n_tokens.sum() == len(ids)
    assert (shown.special[0], shown.special[15], shown.special[16]) == (True, False, True)
    assert shown.maps["after"].shape == (2, 3, 17, 17)
    assert shown.maps["after"].dtype == np.uint8
    assert shown.gather(np.ones(len(ids))).tolist() == shown.n_tokens.tolist()
    whole = show_attention(TokenReader(wordpiece), ids[:10], {"after": random_maps(10, 2)}, 16)
    assert (whole.n_hidden, len(whole.tokens)) == (0, 10)
    assert GAP not in whole.tokens


def test_one_token_too_many_is_shown_and_no_gap(wordpiece, random_maps):
    ids = wordpiece.encode(["the film was not good"], 40).row(0)
    shown = show_attention(TokenReader(wordpiece), ids, {"after": random_maps(len(ids), 2)}, len(ids) - 1)
    assert shown.tokens == TokenReader(wordpiece).spell(ids)
    assert shown.n_hidden == 0


def test_attention_of_ones_place_is_kept(random_maps):
    assert restore(quantise(np.array([1.0, 0.0]))).tolist() == pytest.approx([1, 0])
