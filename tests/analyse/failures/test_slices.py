"""Slices and their tests. Oracles: sums over the hypergeometric distribution, Wilson's and BH's formulas, scipy."""

from __future__ import annotations

from math import comb, sqrt

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from potstill.analyse.failures.judged_rows import judge_rows
from potstill.analyse.failures.slices import (
    FALSE_DISCOVERIES,
    MIN_ROWS,
    Slice,
    compare_errors,
    compare_shares,
    median_rate,
    slices_of,
    wilson_rate,
)
from potstill.analyse.failures.text_marks import mark_texts


def fisher_by_sums(hits: int, n: int, other_hits: int, n_other: int) -> float:
    """Two-sided: all tables of the same margins that are no likelier than the one met."""
    total, margin = n + n_other, hits + other_hits
    chances = {
        inside: comb(n, inside) * comb(n_other, margin - inside) / comb(total, margin)
        for inside in range(max(0, margin - n_other), min(n, margin) + 1)
    }
    return sum(chance for chance in chances.values() if chance <= chances[hits] * (1 + 1e-9))


def first_rows(n: int, of: int) -> np.ndarray:
    return np.arange(of) < n


def test_wilsons_interval_is_its_formula():
    rate, z = wilson_rate(8, 10), 1.959963984540054
    middle, half = (0.8 + z * z / 20) / (1 + z * z / 10), z * sqrt(0.16 / 10 + z * z / 400) / (1 + z * z / 10)
    assert (rate.value, rate.low, rate.high) == pytest.approx((0.8, middle - half, middle + half))


def test_the_interval_of_a_median_is_of_ranks():
    # 20 values: between the 6th and the 15th lies the median in 95.9% of samples, by sums of the binomial distribution
    rate = median_rate(np.arange(1.0, 21.0))
    assert (rate.value, rate.low, rate.high) == (10.5, 6.0, 15.0)


def test_a_slice_is_tested_by_fishers_exact_test():
    hits = np.zeros(40, dtype=bool)
    hits[:8] = hits[20:23] = True
    (found,) = compare_shares([Slice("rows", "first", first_rows(12, 40))], hits).findings
    assert (found.n_rows, found.inside.value, found.outside.value) == (12, 8 / 12, 3 / 28)
    assert found.p_value == pytest.approx(fisher_by_sums(8, 12, 3, 28))
    assert found.q_value == pytest.approx(found.p_value)


def test_p_values_are_corrected_for_all_slices_that_were_looked_at():
    rng = np.random.default_rng(3)
    slices = [Slice("random", str(number), rng.random(200) < 0.3) for number in range(12)]
    hits = slices[0].rows & (rng.random(200) < 0.6) | (rng.random(200) < 0.1)
    found = compare_shares(slices, hits).findings
    p_values = np.sort([one.p_value for one in found])
    scaled = p_values * 12 / np.arange(1, 13)
    expected = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    np.testing.assert_allclose([one.q_value for one in found], expected)
    assert found[0].slice.name == "0"
    assert found[0].differs


def test_chance_alone_seldom_makes_a_slice_differ():
    rng, n_fooled = np.random.default_rng(11), 0
    for _ in range(60):
        slices = [Slice("random", str(number), rng.random(150) < 0.4) for number in range(8)]
        n_fooled += any(one.differs for one in compare_shares(slices, rng.random(150) < 0.2).findings)
    assert n_fooled <= 8, f"expected {60 * FALSE_DISCOVERIES} at most, on average"


def test_small_slices_are_counted_and_not_looked_at():
    slices = [Slice("rows", str(n), first_rows(n, 40)) for n in (0, MIN_ROWS - 1, MIN_ROWS, 30, 31, 40)]
    compared = compare_shares(slices, first_rows(20, 40))
    assert {one.slice.name for one in compared.findings} == {"10", "30"}
    assert compared.n_too_small == 4
    assert compare_shares([], first_rows(20, 40)).findings == ()


def test_errors_are_tested_by_mann_and_whitney():
    errors = np.random.default_rng(1).gamma(2, size=60)
    errors[:20] *= 3
    inside = first_rows(20, 60)
    (found,) = compare_errors([Slice("rows", "first", inside)], errors).findings
    assert found.p_value == mannwhitneyu(errors[:20], errors[20:], alternative="two-sided").pvalue
    assert found.inside.value == np.median(errors[:20])
    (same,) = compare_errors([Slice("rows", "first", inside)], np.ones(60)).findings
    assert same.p_value == 1.0


@pytest.mark.parametrize("kind", ["single_label_classification", "multi_label_classification", "regression"])
def test_bands_of_one_family_share_out_the_rows(kind, random_rows, random_texts):
    rows = judge_rows(random_rows(kind, 200, 1))
    slices = slices_of(rows, mark_texts(random_texts(200), random_texts(50)))
    assert len({(one.family, one.name) for one in slices}) == len(slices)
    banded = {"words", "tokens", "unseen words", "true value", "predicted value"}
    banded |= {"true", "predicted", "confidence"} if kind == "single_label_classification" else set()
    for family in banded & {one.family for one in slices}:
        counts = np.sum([one.rows for one in slices if one.family == family], axis=0)
        assert set(counts.tolist()) == {1}, family
    assert {"words", "tokens", "text"} <= {one.family for one in slices}


def test_bands_hold_a_quarter_each_and_ties_share_one(make_rows):
    def bands(n_words: list[int]) -> dict[str, int]:
        rows = judge_rows(make_rows([[0.0, 1.0]] * len(n_words), [0] * len(n_words)))
        slices = slices_of(rows, mark_texts(["word " * n for n in n_words]))
        return {one.name: int(one.rows.sum()) for one in slices if one.family == "words"}

    assert bands(list(range(1, 41))) == {"1 to 10": 10, "11 to 20": 10, "21 to 30": 10, "31 to 40": 10}
    assert bands([5] * 30 + [9, 10, 11, 12, 13]) == {"5": 30}, "the other five are the rest of it"
    assert bands([1] * 24 + [2] * 8 + [3] * 8) == {"1": 24, "2": 8, "3": 8}


def test_of_two_labels_one_is_enough(random_rows, random_texts):
    rows = judge_rows(random_rows("single_label_classification", 60, 1, k=2))
    names = [(one.family, one.name) for one in slices_of(rows, mark_texts(random_texts(60)))]
    assert ("true", "label-0") in names
    assert ("true", "label-1") not in names
