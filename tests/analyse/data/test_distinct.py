from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.analyse.data.distinct import DistinctSketch, distinct


@settings(deadline=None)
@given(st.lists(st.integers(-5, 5), max_size=30))
def test_distinct_values_are_those_of_numpy(values):
    assert distinct(np.array(values, dtype=np.int64)).tolist() == np.unique(np.array(values, dtype=np.int64)).tolist()


@pytest.mark.parametrize("n", [0, 5, 1000])
def test_a_sketch_is_exact_while_it_has_room(n):
    hashes = np.random.default_rng(1).integers(2**63, size=n, dtype=np.uint64)
    sketch = DistinctSketch(1001)
    sketch.add(np.repeat(hashes, 3))
    assert (sketch.estimate(), sketch.error) == (n, 0.0)


def test_a_full_sketch_is_off_by_what_it_says():
    # property: over 40 independent sets the root mean square of the relative error is near 1 / sqrt(k - 2)
    draw, errors = np.random.default_rng(2), []
    for _ in range(40):
        sketch = DistinctSketch(402)
        for part in np.array_split(draw.integers(2**64 - 1, size=20_000, dtype=np.uint64), 9):
            sketch.add(part)
        errors.append(sketch.estimate() / 20_000 - 1)
    assert 0.6 * sketch.error < np.sqrt(np.mean(np.square(errors))) < 1.5 * sketch.error
    assert sketch.error == pytest.approx(0.05)
