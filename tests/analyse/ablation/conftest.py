"""Arms whose scores are written by hand, without any model behind them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from potstill.analyse.ablation.standings import Scores, draw_seeds
from potstill.records import Predictions


def _make_scores(
    values: Mapping[str, Sequence[float]], baseline: str = "", *, noise: float = 0.01, metric: str = "accuracy"
) -> Scores:
    """Scores of these values for each seed; resampled rows move all arms by some noise of their own."""
    per_seed = np.array(list(values.values()), dtype=float)
    rng = np.random.default_rng(7)
    rows = per_seed[None] + noise * rng.standard_normal((400, *per_seed.shape))
    return Scores(tuple(values), baseline or next(iter(values)), metric, per_seed, draw_seeds(rows, 0), n_rows=100)


def _full_grid(**levels: Sequence[Any]) -> list[dict[str, Any]]:
    """The settings of every combination."""
    return [dict(zip(levels, chosen, strict=True)) for chosen in itertools.product(*levels.values())]


def _scores_of(settings: Sequence[Mapping[str, Any]], value: Any, **options: Any) -> Scores:
    """Scores of arms with these settings, each a function of its settings; three seeds around it."""
    return _make_scores(
        {str(number): [value(arm) + off for off in (-0.001, 0.0, 0.001)] for number, arm in enumerate(settings)},
        **options,
    )


def _make_predictions(right: Sequence[bool]) -> Predictions:
    """Predictions of two labels that are right on these rows."""
    n = len(right)
    targets = np.arange(n) % 2
    chosen = np.where(right, targets, 1 - targets)
    return Predictions(
        ids=np.array([f"test-{row:04d}" for row in range(n)]),
        logits=np.eye(2, dtype=np.float32)[chosen] * 4,
        label_names=("no", "yes"),
        problem_type="single_label_classification",
        n_tokens=np.full(n, 5, dtype=np.int32),
        truncated=np.zeros(n, dtype=bool),
        elapsed_s=1.0,
        targets=targets,
    )


@pytest.fixture(scope="session")
def three_arms() -> dict[str, list[Predictions]]:
    """Arms that are right on 60, 75 and 90% of 200 rows, a little more or less by seed."""
    rng = np.random.default_rng(3)
    rates, offs = {"weak": 0.6, "middle": 0.75, "strong": 0.9}, (-0.02, 0, 0.02)
    return {arm: [_make_predictions(rng.random(200) < rate + off) for off in offs] for arm, rate in rates.items()}


@pytest.fixture(scope="session")
def make_scores() -> Callable[..., Any]:
    """``make_scores(values by arm and seed, baseline)``."""
    return _make_scores


@pytest.fixture(scope="session")
def full_grid() -> Callable[..., Any]:
    """``full_grid(field=values, …)``."""
    return _full_grid


@pytest.fixture(scope="session")
def scores_of() -> Callable[..., Any]:
    """``scores_of(settings, value of an arm)``."""
    return _scores_of


@pytest.fixture(scope="session")
def make_predictions() -> Callable[..., Any]:
    """``make_predictions(rows that are right)``."""
    return _make_predictions
