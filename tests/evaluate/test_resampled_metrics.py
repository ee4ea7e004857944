"""Oracle: scikit-learn (through ``score``) on rows that were really drawn and laid out one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.evaluate.metrics import METRICS, read_outcomes, score
from potstill.evaluate.resampled_metrics import RESAMPLED
from potstill.records import PROBLEM_TYPES

EVERY_METRIC = [(problem_type, name) for problem_type in PROBLEM_TYPES for name in METRICS[problem_type]]


def test_every_metric_has_a_resampled_form():
    assert {kind: set(table) for kind, table in RESAMPLED.items()} == {k: set(t) for k, t in METRICS.items()}


@pytest.mark.parametrize(("problem_type", "name"), EVERY_METRIC)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**20), n=st.integers(2, 30), more=st.integers(0, 3))
def test_resampled_form_equals_scikit_learn_on_the_rows_drawn(random_predictions, problem_type, name, seed, n, more):
    k = 2 + (0 if METRICS[problem_type][name].two_labels else more)
    outcomes = read_outcomes(random_predictions(problem_type, n, k, seed, truth=seed))
    drawn = np.random.default_rng(seed).integers(0, n, size=(4, n))
    counts = np.stack([np.bincount(rows, minlength=n) for rows in drawn]).astype(float)
    expected = [score(outcomes.take(rows), name) for rows in drawn]
    np.testing.assert_allclose(RESAMPLED[problem_type][name](outcomes)(counts), expected, rtol=1e-7, atol=1e-9)
