"""The gate: what a bundle says of held-out rows, held against what its run said of them. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from potstill.errors import CheckError
from potstill.evaluate.metrics import find_metric, read_outcomes, score
from potstill.evaluate.significance import number_or_none
from potstill.records import Predictions


@dataclass(frozen=True)
class Tolerance:
    """How far a bundle may be from its run.

    logit_difference: the largest of any logit, None where arithmetic differs by intent. metric_drop: in units of the
    run's metric, its direction regarded. label_flips: the share of decisions that are others, in [0, 1]. value_change:
    of a regression, the root mean square change of a value in standard deviations of the targets. A correlation does
    not see values that all moved or stretched alike; changes at random by a tenth cost it 0.005.
    """

    logit_difference: float | None
    metric_drop: float = 0.005
    label_flips: float = 0.01
    value_change: float = 0.1


TOLERANCES: Mapping[str, Tolerance] = {
    "int8": Tolerance(logit_difference=None),
    "int8-dynamic": Tolerance(logit_difference=None),
    "fp16": Tolerance(logit_difference=None),
    "bf16": Tolerance(logit_difference=None),
    "fp32": Tolerance(logit_difference=1e-3),
}
"""By arithmetic. In float32 only the order of sums differs, 1e-5 as a rule; in any other, logits differ by intent."""


@dataclass(frozen=True)
class Gate:
    """The comparison on ``n_rows`` rows, of what ``engine`` made of the bundle.

    not_finite: rows of which the bundle's logits are no finite numbers; then there is no metric of it. metric_before,
    metric_after: of the run and of the bundle, None where the metric is not defined there. metric_drop: above 0 where
    the bundle is worse. label_flips: None for a regression. value_change: for a regression alone, in the unit of
    ``Tolerance``; None where all targets are the same. agreement: by label, the share of the rows to which the run gave
    it (or of all decisions about it, where there are many labels) that the bundle decides alike; None for a label never
    given.
    """

    split: str
    n_rows: int
    n_rows_stored: int
    engine: str
    not_finite: int
    logit_difference: float
    metric: str
    metric_before: float | None
    metric_after: float | None
    metric_drop: float | None
    label_flips: float | None
    value_change: float | None
    agreement: Mapping[str, float | None]
    tolerance: Tolerance

    @property
    def complaints(self) -> tuple[str, ...]:
        """What is outside the tolerance, in words; nothing where the bundle passes."""
        held: tuple[tuple[str, float | None, float | None], ...] = (
            ("rows with logits that are no number", self.not_finite, 0),
            ("largest logit difference", self.logit_difference, self.tolerance.logit_difference),
            (f"drop of {self.metric}", self.metric_drop, self.tolerance.metric_drop),
            ("share of labels flipped", self.label_flips, self.tolerance.label_flips),
            ("change of a value in deviations of the targets", self.value_change, self.tolerance.value_change),
        )
        outside = tuple(
            f"{name} {value:.4g} (at most {limit:g})"
            for name, value, limit in held
            # Written so that a NaN does not pass.
            if limit is not None and value is not None and not value <= limit
        )
        lost = self.metric_before is not None and self.metric_after is None
        return (*outside, f"{self.metric} is no longer defined") if lost else outside

    def require_passed(self) -> None:
        """Raise CheckError with the figures where something is outside the tolerance."""
        if self.complaints:
            raise CheckError(
                f"the bundle does not say what its run says, on {self.n_rows:,} rows of {self.split}",
                found=", ".join(self.complaints),
                do="nothing was written; choose another --format, or --force, which writes it and marks it so",
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        limits = self.tolerance
        return {
            "split": self.split,
            "rows": self.n_rows,
            "rows_stored": self.n_rows_stored,
            "engine": self.engine,
            "not_finite": self.not_finite,
            "logit_difference": {"largest": number_or_none(self.logit_difference), "allowed": limits.logit_difference},
            "metric": {
                "name": self.metric,
                "before": self.metric_before,
                "after": self.metric_after,
                "drop": self.metric_drop,
                "allowed": limits.metric_drop,
            },
            "label_flips": {"share": self.label_flips, "allowed": limits.label_flips},
            "value_change": {"deviations": self.value_change, "allowed": limits.value_change},
            "agreement": dict(self.agreement),
            "passed": not self.complaints,
            "complaints": list(self.complaints),
        }


def hold_against(
    run: Predictions,
    bundle: Predictions,
    *,
    metric: str,
    tolerance: Tolerance,
    split: str,
    n_rows_stored: int,
    engine: str,
) -> Gate:
    """The predictions of a bundle beside those of its run, both decided, of the same rows with the same targets."""
    finite = np.isfinite(bundle.logits).all(axis=1)
    before, after = _metric(run, metric), _metric(bundle, metric) if finite.all() else None
    higher = find_metric(metric, run.problem_type, len(run.label_names)).higher_is_better
    drop = None if before is None or after is None else (before - after if higher else after - before)
    return Gate(
        split=split,
        n_rows=len(run),
        n_rows_stored=n_rows_stored,
        engine=engine,
        not_finite=int(len(finite) - finite.sum()),
        logit_difference=float(np.abs(run.logits - bundle.logits).max(initial=0.0)),
        metric=metric,
        metric_before=before,
        metric_after=after,
        metric_drop=drop,
        label_flips=_flips(run, bundle),
        value_change=_value_change(run, bundle) if finite.all() else None,
        agreement=_agreement(run, bundle),
        tolerance=tolerance,
    )


def evenly_spaced(n_rows: int, most: int) -> np.ndarray:
    """Numbers of all ``n_rows`` rows, or of ``most`` of them, evenly spaced: ``(at most most,)`` int64."""
    if n_rows <= most:
        return np.arange(n_rows)
    return np.linspace(0, n_rows - 1, most).round().astype(np.int64)


def _metric(predictions: Predictions, name: str) -> float | None:
    return number_or_none(score(read_outcomes(predictions), name))


def _flips(run: Predictions, bundle: Predictions) -> float | None:
    """The share of all decisions, one a row or one for each of many labels, that are others."""
    if run.problem_type == "regression":
        return None
    return float(np.mean(run.predicted != bundle.predicted))


def _value_change(run: Predictions, bundle: Predictions) -> float | None:
    if run.problem_type != "regression" or run.targets is None:
        return None
    spread = float(np.std(run.targets.astype(np.float64)))
    changes = (run.logits - bundle.logits).astype(np.float64)
    return float(np.sqrt(np.mean(changes**2))) / spread if spread > 0 else None


def _agreement(run: Predictions, bundle: Predictions) -> dict[str, float | None]:
    if run.problem_type == "regression":
        return {}
    same = run.predicted == bundle.predicted
    if run.problem_type == "multi_label_classification":
        return {name: float(same[:, label].mean()) for label, name in enumerate(run.label_names)}
    given = [run.predicted == label for label in range(len(run.label_names))]
    return {
        name: float(same[rows].mean()) if rows.any() else None
        for name, rows in zip(run.label_names, given, strict=True)
    }
