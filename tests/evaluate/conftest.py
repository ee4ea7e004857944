"""Predictions made up for the tests of this room, with every field in its right shape."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from potstill.records import Predictions, ProblemType

Make = Callable[..., Predictions]


def _make(
    logits: np.ndarray,
    targets: np.ndarray | None,
    problem_type: ProblemType = "single_label_classification",
    ids: np.ndarray | None = None,
    **fields: np.ndarray,
) -> Predictions:
    logits = np.asarray(logits, dtype=np.float32)
    n, k = logits.shape
    return Predictions(
        ids=np.array([f"row-{i:06d}" for i in range(n)]) if ids is None else ids,
        logits=logits,
        label_names=("score",) if problem_type == "regression" else tuple(f"label-{j}" for j in range(k)),
        problem_type=problem_type,
        n_tokens=np.full(n, 7, dtype=np.int32),
        truncated=np.zeros(n, dtype=bool),
        elapsed_s=1.0,
        targets=targets,
        **fields,
    )


def _random(problem_type: ProblemType, n: int, k: int, seed: int, *, skill: float = 1.0, truth: int = 0) -> Predictions:
    """Rounded logits, so that ties occur; two with one ``truth`` share their targets, whatever their ``seed``."""
    rng, noise = np.random.default_rng(truth), np.random.default_rng(1000 + seed)
    if problem_type == "single_label_classification":
        targets = rng.integers(0, k, n)
        signal = np.eye(k)[targets]
    elif problem_type == "multi_label_classification":
        targets = (rng.random((n, k)) < 0.3).astype(np.int8)
        signal = 2.0 * targets - 1
    else:
        targets = rng.normal(3, 1, n).round(1).astype(np.float32)
        signal, k = targets[:, None], 1
    scale = 0.5 if problem_type == "regression" else 1.0
    return _make((skill * signal + scale * noise.normal(size=(n, k))).round(1), targets, problem_type)


@pytest.fixture(scope="session")
def make_predictions() -> Make:
    """Predictions of given logits and targets."""
    return _make


@pytest.fixture(scope="session")
def random_predictions() -> Make:
    """Predictions of ``n`` rows and ``k`` labels that are right more often the greater ``skill``."""
    return _random


@pytest.fixture(scope="session")
def labelled() -> Callable[[list[int], list[int], int], Predictions]:
    """Predictions of one label that decide ``predicted`` where the truth is ``targets``."""
    return lambda targets, predicted, k: _make(4 * np.eye(k)[predicted], np.array(targets, dtype=np.int64))
