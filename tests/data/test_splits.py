"""Splits and samples: shares counted against their definition, and multi-label ones against a random split."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.data.splits import stratified_sample, stratified_split
from potstill.errors import DataError

classes = st.lists(st.integers(0, 4), min_size=1, max_size=200).map(np.array)
shares = st.sampled_from([(0.9, 0.1), (0.8, 0.1, 0.1), (0.5, 0.5), (0.6, 0.2, 0.2)])
SINGLE, MULTI, SCORES = "single_label_classification", "multi_label_classification", "regression"


@given(classes, shares, st.integers(0, 5))
def test_every_row_falls_into_exactly_one_split(targets: np.ndarray, fractions: tuple[float, ...], seed: int) -> None:
    splits = stratified_split(targets, fractions, seed, SINGLE)
    assert np.array_equal(np.sort(np.concatenate(splits)), np.arange(len(targets)))


@given(classes, shares, st.integers(0, 5))
def test_every_class_has_its_share_within_one_row(targets: np.ndarray, fractions: tuple[float, ...], seed: int) -> None:
    for share, rows in zip(fractions, stratified_split(targets, fractions, seed, SINGLE), strict=True):
        for value in np.unique(targets):
            assert abs((targets[rows] == value).sum() - share * (targets == value).sum()) < 1 + 1e-6


@given(classes, shares)
def test_the_first_split_holds_every_class(targets: np.ndarray, fractions: tuple[float, ...]) -> None:
    first = stratified_split(targets, fractions, 0, SINGLE)[0]
    assert set(targets[first]) == set(targets)


def test_round_shares_are_met_exactly() -> None:
    targets = np.repeat(np.arange(14), 1000)
    splits = stratified_split(targets, (0.8, 0.1, 0.1), 3, SINGLE)
    assert [np.bincount(targets[rows]).tolist() for rows in splits] == [[800] * 14, [100] * 14, [100] * 14]


def test_the_same_seed_gives_the_same_split_and_another_seed_another() -> None:
    targets = np.arange(300) % 3
    first, again, other = (stratified_split(targets, (0.5, 0.5), seed, SINGLE)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_scores_are_spread_alike_over_the_splits() -> None:
    scores = np.random.default_rng(0).gamma(2.0, size=2000).astype(np.float32)
    for rows in stratified_split(scores, (0.8, 0.1, 0.1), 0, SCORES):
        # one row in ten of each decile, so that quantiles agree to less than the width of two deciles
        np.testing.assert_allclose(
            np.quantile(scores[rows], [0.1, 0.5, 0.9]), np.quantile(scores, [0.1, 0.5, 0.9]), rtol=0.1
        )


def _label_error(targets: np.ndarray, rows: np.ndarray, share: float) -> float:
    return float(np.abs(targets[rows].sum(axis=0) - share * targets.sum(axis=0)).max())


@pytest.mark.parametrize("seed", range(5))
def test_many_labels_keep_their_shares_better_than_at_random(seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = (rng.random((2000, 6)) < np.array([0.3, 0.1, 0.05, 0.01, 0.02, 0.005])).astype(np.int8)
    parts = stratified_split(targets, (0.8, 0.1, 0.1), seed, MULTI)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(2000))
    assert [len(rows) for rows in parts] == pytest.approx([1600, 200, 200], abs=8)
    at_random = rng.permutation(2000)[:200]
    assert _label_error(targets, parts[2], 0.1) <= min(3.0, _label_error(targets, at_random, 0.1))


def test_a_rare_label_reaches_every_split_that_it_can() -> None:
    targets = np.zeros((100, 2), dtype=np.int8)
    targets[:10, 0] = 1
    assert [int(targets[rows, 0].sum()) for rows in stratified_split(targets, (0.8, 0.1, 0.1), 0, MULTI)] == [8, 1, 1]


@settings(max_examples=50)
@given(classes, st.integers(1, 250), st.integers(0, 3))
def test_a_sample_has_exactly_the_rows_asked_for(targets: np.ndarray, n_rows: int, seed: int) -> None:
    rows = stratified_sample(targets, n_rows, seed, SINGLE)
    assert len(rows) == min(n_rows, len(targets))
    assert np.array_equal(rows, np.unique(rows))


def test_a_sample_keeps_the_shares_of_the_classes() -> None:
    targets = np.repeat([0, 1, 2], [600, 300, 100])
    assert np.bincount(targets[stratified_sample(targets, 100, 0, SINGLE)]).tolist() == [60, 30, 10]


@pytest.mark.parametrize("fractions", [(0.5, 0.4), (1.2, -0.2), (1.0, 0.0)])
def test_shares_that_make_no_whole_are_refused(fractions: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match="sum to 1"):
        stratified_split(np.zeros(4), fractions, 0, SINGLE)
