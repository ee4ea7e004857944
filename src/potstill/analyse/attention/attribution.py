"""What each token of a text added to an output, whether that is complete, and whether attention ranks tokens alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

TOLERANCE = 0.05
"""Attributions are complete where their error is at most this share of their sizes, as the paper has it."""


@dataclass(frozen=True)
class Attribution:
    """Integrated gradients of one text (Sundararajan, Taly and Yan 2017).

    values: ``(n,)`` float64, what each token adds to output ``target`` (a logit, or the value of a regression) beside
    the baseline, in which every token but [CLS] and [SEP] is [PAD]. output, baseline: the output of either.
    """

    values: np.ndarray
    target: int
    output: float
    baseline: float
    n_steps: int

    @property
    def delta(self) -> float:
        """What the values sum to, less what they would sum to if the integral were exact."""
        return float(self.values.sum()) - (self.output - self.baseline)

    @property
    def error(self) -> float:
        """The size of ``delta`` as a share of the values' sizes."""
        return abs(self.delta) / max(float(np.abs(self.values).sum()), 1e-12)

    @property
    def is_complete(self) -> bool:
        """Whether the error is within ``TOLERANCE``."""
        return self.error <= TOLERANCE


def rank_agreement(values: np.ndarray, received: np.ndarray, special: np.ndarray) -> float | None:
    """Spearman's rank correlation of the sizes of ``values`` with the attention ``received``, all ``(n,)``.

    Special tokens are left out; None where fewer than three tokens are left, or one side is the same for all.
    """
    sizes, looked_at = np.abs(values[~special]), received[~special]
    if len(sizes) < 3 or np.ptp(sizes) == 0 or np.ptp(looked_at) == 0:
        return None
    return float(spearmanr(sizes, looked_at).statistic)
