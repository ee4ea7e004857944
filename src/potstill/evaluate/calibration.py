"""Whether probabilities mean what they say, and the one temperature that mends most of it (Guo et al. 2017).

scikit-learn's temperature scaling is the oracle of the tests and not used here: it takes logits that happen to lie
between 0 and 1 and to sum to one for probabilities, needs five rows of every label, and knows no multi-label task.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, softmax
from sklearn import metrics as sk

from potstill.errors import DataError
from potstill.evaluate.held_out import HeldOut
from potstill.evaluate.metrics import Outcomes, read_outcomes
from potstill.records import Predictions

LOWEST, HIGHEST = 0.01, 100.0
"""Temperatures between which the best one is looked for."""
N_BINS = 15
"""Bins of a reliability diagram and of its error, as in Guo et al."""


@dataclass(frozen=True)
class FittedTemperature:
    """A temperature above 0; notes say why it is 1 where none could be fitted."""

    value: float
    notes: tuple[str, ...] = ()


def fit_temperature(held_out: HeldOut) -> FittedTemperature:
    """The T that makes the held-out truth likeliest under softmax or sigmoid of logits / T; one T for all labels.

    The negative log-likelihood is convex in 1/T, so its minimum is where its slope is 0. Where the slope has no such
    place between ``LOWEST`` and ``HIGHEST``, T stays 1 and a note says why. DataError for a regression.
    """
    outcomes, logits = read_outcomes(held_out.predictions), held_out.predictions.logits.astype(np.float64)
    if outcomes.problem_type == "regression":
        raise DataError("a regression gives no probabilities that could be calibrated", do="leave it as it is")
    slope = _slope(logits, outcomes)
    if _never_wrong(logits, outcomes.targets):  # asked of the logits: far out the slope is but rounding
        why = "no decision is wrong, so no temperature is too low"
    elif slope(1 / HIGHEST) >= 0:
        why = "equal probabilities are likelier than those of the logits"
    elif slope(1 / LOWEST) <= 0:
        why = f"the best one would be below {LOWEST}"
    else:
        return FittedTemperature(1 / float(brentq(slope, 1 / HIGHEST, 1 / LOWEST, xtol=1e-12)))
    return FittedTemperature(1.0, (f"the temperature stays 1: on the {len(outcomes):,} rows it is fitted on, {why}",))


def _never_wrong(logits: np.ndarray, targets: np.ndarray) -> bool:
    """Whether no logit speaks against the truth; equal ones do not."""
    if targets.ndim == 2:
        return bool(((2 * targets - 1) * logits >= 0).all())
    return bool((logits[np.arange(len(logits)), targets] >= logits.max(axis=1)).all())


def _slope(logits: np.ndarray, outcomes: Outcomes) -> Callable[[float], float]:
    """The slope of the negative log-likelihood in 1/T: mean of (probability − truth) · logit, summed over labels."""
    many = outcomes.targets.ndim == 2
    truth = outcomes.targets if many else np.eye(outcomes.n_labels)[outcomes.targets]
    activation = expit if many else lambda scaled: softmax(scaled, axis=1)

    def slope(inverse: float) -> float:
        return float(((activation(inverse * logits) - truth) * logits).sum(axis=1).mean())

    return slope


@dataclass(frozen=True)
class Reliability:
    """Bins of a reliability diagram; those without a decision are left out.

    counts, mean_probability, share_right: per bin, how many decisions fall into it, what they said on average, and the
    share that came true.
    """

    counts: np.ndarray
    mean_probability: np.ndarray
    share_right: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error: the mean gap of the bins, weighted by their decisions; in [0, 1]."""
        gaps = np.abs(self.mean_probability - self.share_right)
        return float((gaps * self.counts).sum() / self.counts.sum())


def stated_and_true(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """What is held against what: probabilities ``(m,)`` float64 and ``(m,)`` bool, whether it was so.

    For one label per row, the likeliest label's and whether it is the true one, whatever thresholds say; for many,
    every label's and whether the row has it.
    """
    outcomes = read_outcomes(predictions)
    if outcomes.problem_type == "regression":
        raise DataError("a regression states no probabilities", do="use its errors or a correlation")
    if outcomes.targets.ndim == 2:
        return outcomes.probabilities.ravel(), outcomes.targets.ravel() == 1
    likeliest = outcomes.probabilities.argmax(axis=1)
    return outcomes.probabilities.max(axis=1), likeliest == outcomes.targets


def reliability(predictions: Predictions, n_bins: int = N_BINS, *, equal_mass: bool = False) -> Reliability:
    """The reliability of ``predictions``, in bins of equal width or with about as many decisions each.

    Bins are those of scikit-learn's ``calibration_curve``, which does not tell their counts.
    """
    stated, true = stated_and_true(predictions)
    edges = np.linspace(0, 1, n_bins + 1)
    if equal_mass:
        edges = np.quantile(stated, edges)
    bins = np.searchsorted(edges[1:-1], stated)
    counts = np.bincount(bins, minlength=n_bins)
    there = counts > 0
    sums = (np.bincount(bins, weights=values, minlength=n_bins)[there] for values in (stated, true))
    mean_probability, share_right = (total / counts[there] for total in sums)
    return Reliability(counts[there], mean_probability, share_right)


def calibration_scores(predictions: Predictions) -> dict[str, float]:
    """How far probabilities are from the truth; of all of these less is better.

    ece, ece_equal_mass: expected calibration error over 15 bins. brier_score: scikit-learn's, in [0, 1], but in [0, 2]
    for one label of more than two. log_loss: in nats. Of many labels both are means over all rows and labels.
    """
    outcomes = read_outcomes(predictions)
    ece = {"ece": reliability(predictions).error, "ece_equal_mass": reliability(predictions, equal_mass=True).error}
    if outcomes.targets.ndim == 2 or outcomes.n_labels == 2:
        probabilities = outcomes.probabilities if outcomes.targets.ndim == 2 else outcomes.probabilities[:, 1]
        truth, stated, labels = outcomes.targets.ravel(), probabilities.ravel(), [0, 1]
    else:
        truth, stated, labels = outcomes.targets, outcomes.probabilities, list(range(outcomes.n_labels))
    brier = sk.brier_score_loss(truth, stated, labels=labels)
    return {**ece, "brier_score": float(brier), "log_loss": float(sk.log_loss(truth, stated, labels=labels))}
