"""Means and intervals over a sample, against sums by hand and against scipy's bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import bootstrap

from potstill.analyse.attention.change import FEWEST_TEXTS, summarise
from potstill.analyse.attention.distance import MEASURES, SHARES, SampleMeasures


def sample_of(n_texts=60, moved=0.0, seed=0, paired=True):
    """Texts of 5 to 30 tokens whose every measure is a draw about 0.3, and about ``moved`` more afterwards."""
    rng = np.random.default_rng(seed)
    n_rows = rng.integers(5, 30, n_texts)
    weights = n_rows[:, None, None]

    def draw(mean):
        return {name: weights * rng.normal(mean, 0.05, (n_texts, 2, 3)) for name in MEASURES}

    before = draw(0.3)
    after = {name: of_texts + weights * rng.normal(moved, 0.01, of_texts.shape) for name, of_texts in before.items()}
    return SampleMeasures(
        n_rows,
        {"before": before, "after": after} if paired else {"after": after},
        dict.fromkeys(SHARES, 0.2 * n_rows),
        np.abs(weights * rng.normal(0.2, 0.02, (n_texts, 2, 3))) if paired else None,
    )


def test_means_count_every_token_once():
    sample = sample_of()
    change = summarise(sample, reach=2, seed=1)
    sums = sample.sums["after"]["local"]
    by_head = sums.sum(axis=0) / sample.n_rows.sum()
    np.testing.assert_allclose(change.means["after"]["local"].by_head, by_head)
    assert change.means["after"]["local"].overall.value == pytest.approx(by_head.mean())
    assert [layer.value for layer in change.means["after"]["local"].by_layer] == pytest.approx(by_head.mean(axis=1))
    assert change.n_tokens == sample.n_rows.sum()
    assert change.uniform["local"] == pytest.approx(0.2)


def test_the_change_is_after_less_before_and_paired():
    change = summarise(sample_of(moved=0.02), reach=2, seed=1)
    moved = change.changes["content"].overall
    before, after = (change.means[model]["content"].overall for model in ("before", "after"))
    assert moved.value == pytest.approx(after.value - before.value)
    assert moved.high - moved.low < (after.high - after.low) / 2
    assert 0.015 < moved.low < 0.02 < moved.high < 0.025


def test_the_interval_is_near_that_of_scipys_bootstrap():
    sample = sample_of(n_texts=80)
    ours = summarise(sample, reach=2, seed=1, n_resamples=4000).means["after"]["special"].overall
    sums = sample.sums["after"]["special"].mean(axis=(1, 2))
    theirs = bootstrap(
        (sums, sample.n_rows),
        lambda s, n, axis=-1: s.sum(axis=axis) / n.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.1 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.1 * width)


def test_few_texts_have_no_interval():
    change = summarise(sample_of(n_texts=FEWEST_TEXTS - 1), reach=2, seed=1)
    assert math.isnan(change.changes["local"].overall.low)
    assert change.to_dict()["changes"]["local"]["overall"]["low"] is None
    assert math.isfinite(summarise(sample_of(n_texts=FEWEST_TEXTS), reach=2, seed=1).distance.overall.low)


def test_heads_are_ranked_by_distance_and_stand_in_order_without_one():
    change = summarise(sample_of(), reach=2, seed=1)
    ranked = [change.distance.by_head[place] for place in change.ranked_heads()]
    assert ranked == sorted(change.distance.by_head.ravel(), reverse=True)
    alone = summarise(sample_of(paired=False), reach=2, seed=1)
    assert alone.ranked_heads() == [(layer, head) for layer in range(2) for head in range(3)]
    assert alone.changes is alone.distance is None


def test_the_same_seed_gives_the_same_intervals():
    sample = sample_of()
    one, same, other = (summarise(sample, reach=2, seed=seed).to_dict() for seed in (1, 1, 2))
    assert one == same
    assert one["distance"]["overall"]["value"] == other["distance"]["overall"]["value"]
    assert one["distance"]["overall"]["low"] != other["distance"]["overall"]["low"]
