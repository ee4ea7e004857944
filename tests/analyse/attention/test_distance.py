"""Distances against scipy's, shares and entropies worked by hand."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from potstill.analyse.attention.distance import (
    MEASURES,
    SHARES,
    collect,
    jensen_shannon,
    join_windows,
    measure_text,
)
from potstill.analyse.attention.token_kinds import KINDS

KINDS_OF_FIVE = np.array([KINDS.index(kind) for kind in ("cls", "content", "function", "punctuation", "sep")])


def test_the_distance_is_scipys(random_maps):
    before, after = random_maps(9, seed=1), random_maps(9, seed=2)
    expected = jensenshannon(before.astype(np.float64), after.astype(np.float64), base=2, axis=-1)
    measured = measure_text({"before": before, "after": after}, np.ones(9, int), reach=1)
    np.testing.assert_allclose(measured.distance / 9, expected.mean(axis=-1), rtol=1e-7)
    np.testing.assert_allclose(jensen_shannon(before, after), expected, atol=1e-5)


def test_a_model_is_at_no_distance_from_itself_and_never_nan_beside_its_like(random_maps):
    maps = random_maps(7, seed=3)
    measured = measure_text({"before": maps, "after": maps.copy()}, np.ones(7, int), reach=1)
    assert not measured.distance.any()
    nearly = maps.astype(np.float64) * (1 + 1e-9 * np.random.default_rng(0).normal(size=maps.shape))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.all(jensen_shannon(maps.astype(np.float64), nearly) < 1e-6)


def test_the_distance_is_symmetric_and_one_without_overlap(random_maps):
    before, after = random_maps(6, seed=4), random_maps(6, seed=5)
    np.testing.assert_allclose(jensen_shannon(before, after), jensen_shannon(after, before))
    assert jensen_shannon(np.array([1.0, 0, 0]), np.array([0, 0.5, 0.5])) == pytest.approx(1)


def test_shares_and_entropies_worked_by_hand():
    # two rows give all to one token, one spreads evenly over five, one halves between itself and [SEP], one to [CLS]
    rows = [[0, 1, 0, 0, 0], [0, 0, 0, 1, 0], [0.2] * 5, [0, 0, 0, 0.5, 0.5], [1, 0, 0, 0, 0]]
    maps = np.array([[rows]], dtype=np.float32)
    measured = measure_text({"after": maps}, KINDS_OF_FIVE, reach=1)
    sums = {name: float(value[0, 0]) for name, value in measured.sums["after"].items()}
    assert sums == pytest.approx(
        {
            "entropy_nats": math.log(5) + math.log(2),
            "relative_entropy": 1 + math.log(2) / math.log(5),
            "local": 1 + 0 + 0.6 + 1 + 0,  # of row 1 the neighbours are 0, 1 and 2, and all goes to 3
            "special": 0.4 + 0.5 + 1,
            "cls": 0.2 + 1,
            "sep": 0.2 + 0.5,
            "content": 1 + 0.2,
            "function": 0.2,
            "punctuation": 1 + 0.2 + 0.5,
        }
    )
    assert measured.n_rows == 5
    assert measured.distance is None


def test_entropy_is_scipys_and_its_share_is_at_most_one(random_maps):
    maps = random_maps(8, seed=6)
    sums = measure_text({"after": maps}, np.ones(8, int), reach=2).sums["after"]
    expected = entropy(maps.astype(np.float64), axis=-1)
    np.testing.assert_allclose(sums["entropy_nats"], expected.sum(axis=-1))
    np.testing.assert_allclose(sums["relative_entropy"], expected.sum(axis=-1) / math.log(8))
    even = measure_text({"after": np.full((1, 1, 8, 8), 1 / 8, np.float32)}, np.ones(8, int), reach=2)
    assert float(even.sums["after"]["relative_entropy"][0, 0]) == pytest.approx(8)


def test_attention_spread_evenly_gives_the_uniform_shares():
    even = np.full((1, 1, 5, 5), 0.2, dtype=np.float32)
    measured = measure_text({"after": even}, KINDS_OF_FIVE, reach=1)
    assert {name: float(measured.sums["after"][name][0, 0]) for name in SHARES} == pytest.approx(measured.uniform)
    assert measured.uniform["local"] == pytest.approx((2 + 3 + 3 + 3 + 2) / 5)


def test_kinds_share_out_everything_and_a_wide_reach_holds_it_all(random_maps):
    maps = random_maps(5, seed=7)
    sums = measure_text({"after": maps}, KINDS_OF_FIVE, reach=4).sums["after"]
    np.testing.assert_allclose(sum(sums[kind] for kind in KINDS), 5)
    np.testing.assert_allclose(sums["special"], sums["cls"] + sums["sep"])
    np.testing.assert_allclose(sums["local"], 5)


def test_a_sample_is_its_texts_stacked(random_maps):
    texts = [
        measure_text({"before": random_maps(n, n), "after": random_maps(n, n + 1)}, np.ones(n, int), reach=1)
        for n in (4, 6)
    ]
    sample = collect(iter(texts))
    assert sample.n_rows.tolist() == [4, 6]
    assert {name: array.shape for name, array in sample.sums["before"].items()} == dict.fromkeys(MEASURES, (2, 2, 3))
    np.testing.assert_array_equal(sample.distance[1], texts[1].distance)
    assert sample.uniform["content"].tolist() == [0, 0] or sample.uniform["sep"].tolist() == [4, 6]


def test_windows_of_a_text_are_added_up_row_by_row(random_maps):
    # oracle: one token, one vote; the mean over both windows' rows is that of all their rows together
    windows = [
        measure_text({"before": random_maps(n, n), "after": random_maps(n, n + 1)}, np.ones(n, int), reach=1)
        for n in (4, 6)
    ]
    joined = join_windows(windows)
    assert joined.n_rows == 10
    mean = (4 * (windows[0].distance / 4) + 6 * (windows[1].distance / 6)) / 10
    np.testing.assert_allclose(joined.distance / joined.n_rows, mean)
    assert joined.uniform["cls"] == 0
    np.testing.assert_allclose(joined.sums["after"]["cls"], 0)
    np.testing.assert_allclose(sum(joined.sums["after"][kind] for kind in KINDS), 10)
    assert join_windows(windows[:1]) is windows[0]
