"""How good predictions are: scikit-learn's metrics under scikit-learn's names, from stored predictions only."""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from scipy import stats
from sklearn import metrics as sk

from potstill.errors import DataError, RecipeError
from potstill.records import PROBLEM_TYPES, Predictions, ProblemType


@dataclass(frozen=True)
class Outcomes:
    """Truth and answer of ``n`` rows, checked, and nothing else: all that a metric may look at.

    targets: ``(n,)`` int64 for one label, ``(n, k)`` int8 for many, ``(n,)`` float64 for regression.
    predicted: what was decided, in the shape of ``targets``.
    probabilities: ``(n, k)`` float64; rows sum to one for one label; the values themselves for regression.
    """

    problem_type: ProblemType
    n_labels: int
    targets: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray

    def __len__(self) -> int:
        return int(self.targets.shape[0])

    def take(self, rows: np.ndarray) -> Outcomes:
        """The outcomes of ``rows``, in that order; a row named twice counts twice."""
        return Outcomes(
            self.problem_type, self.n_labels, self.targets[rows], self.predicted[rows], self.probabilities[rows]
        )

    @property
    def right(self) -> np.ndarray:
        """``(n,)`` bool: the label was found; with many labels, every one of the row was decided rightly."""
        if self.problem_type == "regression":
            raise DataError("a regression has no right and wrong rows", do="use its errors or a correlation")
        same = self.predicted == self.targets
        return same if same.ndim == 1 else same.all(axis=1)


def read_outcomes(predictions: Predictions) -> Outcomes:
    """The outcomes of ``predictions``; DataError without targets, without rows, or with values that are no number."""
    targets = _checked_targets(predictions)
    if not np.isfinite(predictions.logits).all():
        rows = np.flatnonzero(~np.isfinite(predictions.logits).all(axis=1))
        raise DataError(
            "the predictions hold logits that are no finite number",
            found=f"{len(rows)} rows, the first is {predictions.ids[rows[0]]}",
            do="the model has diverged: look at its training history",
        )
    probabilities = predictions.probabilities.astype(np.float64)
    if predictions.problem_type == "single_label_classification":
        probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    predicted = predictions.predicted
    if predictions.problem_type == "regression":
        predicted = predicted.astype(np.float64)
    return Outcomes(predictions.problem_type, len(predictions.label_names), targets, predicted, probabilities)


def _checked_targets(predictions: Predictions) -> np.ndarray:
    if predictions.targets is None:
        raise DataError(
            "these predictions carry no targets, so nothing can be measured",
            do="predict a labelled split, or attach the labels with with_targets()",
        )
    if len(predictions) == 0:
        raise DataError("there is not one prediction to measure", do="check the split that was predicted")
    targets, shape = predictions.targets, predictions.logits.shape
    allowed = shape if predictions.problem_type == "multi_label_classification" else shape[:1]
    if targets.shape != allowed:
        raise DataError(
            f"targets of a {predictions.problem_type} have the wrong shape", found=targets.shape, allowed=str(allowed)
        )
    if predictions.problem_type == "regression":
        if not np.isfinite(targets).all():
            raise DataError("a target is no finite number", do="drop the rows without a score")
        return targets.astype(np.float64)
    return _checked_labels(targets, 2 if targets.ndim == 2 else shape[1]).astype(
        np.int8 if targets.ndim == 2 else np.int64
    )


def _checked_labels(targets: np.ndarray, n_values: int) -> np.ndarray:
    if targets.dtype.kind not in "iub":
        raise DataError("targets of labels must be whole numbers", found=str(targets.dtype), allowed="int64 or int8")
    outside = targets[(targets < 0) | (targets >= n_values)]
    if len(outside):
        raise DataError("a target is outside the labels", found=int(outside[0]), allowed=f"0 to {n_values - 1}")
    return targets


def _always_defined(outcomes: Outcomes) -> str | None:
    return None


@dataclass(frozen=True)
class Metric:
    """One metric of one problem type.

    score: its value on checked outcomes, by scikit-learn or scipy.
    looks_at: "labels" if it depends on what was decided alone, "scores" if on probabilities or values.
    two_labels: it is defined for exactly two labels; the second is the positive one.
    undefined: why it has no value on these outcomes, or None; then its value is NaN.
    """

    name: str
    problem_type: ProblemType
    score: Callable[[Outcomes], float]
    looks_at: Literal["labels", "scores"] = "labels"
    higher_is_better: bool = True
    two_labels: bool = False
    undefined: Callable[[Outcomes], str | None] = _always_defined


def _from_labels(function: Callable[..., float], **settings: object) -> Callable[[Outcomes], float]:
    return lambda outcomes: float(function(outcomes.targets, outcomes.predicted, **settings))


def _log_loss(outcomes: Outcomes) -> float:
    return float(sk.log_loss(outcomes.targets, outcomes.probabilities, labels=np.arange(outcomes.n_labels)))


def _roc_auc(outcomes: Outcomes) -> float:
    """Area under the ROC curve: of the second label for two labels, mean of one against the rest for more."""
    if outcomes.n_labels == 2:
        return float(sk.roc_auc_score(outcomes.targets, outcomes.probabilities[:, 1]))
    labels = np.arange(outcomes.n_labels)
    return float(sk.roc_auc_score(outcomes.targets, outcomes.probabilities, multi_class="ovr", labels=labels))


def _roc_auc_macro(outcomes: Outcomes) -> float:
    return float(sk.roc_auc_score(outcomes.targets, outcomes.probabilities, average="macro"))


def _correlation(function: Callable[..., tuple[float, float]], outcomes: Outcomes) -> float:
    return float(function(outcomes.targets, outcomes.predicted)[0])


def _label_missing(outcomes: Outcomes) -> str | None:
    counts = np.bincount(outcomes.targets, minlength=outcomes.n_labels)
    missing = int((counts == 0).sum())
    return f"{missing} of {outcomes.n_labels} labels are not among the targets" if missing else None


def _column_constant(outcomes: Outcomes) -> str | None:
    positives = outcomes.targets.sum(axis=0)
    constant = int(((positives == 0) | (positives == len(outcomes))).sum())
    return f"{constant} of {outcomes.n_labels} labels are always or never given in the targets" if constant else None


def _values_constant(outcomes: Outcomes) -> str | None:
    for name, values in (("targets", outcomes.targets), ("predictions", outcomes.predicted)):
        if np.ptp(values) == 0:
            return f"all {name} are equal"
    return None


def _one_row(outcomes: Outcomes) -> str | None:
    return "there is one row only" if len(outcomes) < 2 else None


def _averaged(problem_type: ProblemType) -> list[Metric]:
    """Precision, recall and F1 over labels; a division by nothing counts as 0, as scikit-learn warns it does.

    With one label per row the macro mean runs over the labels met among targets or predictions, as scikit-learn's does.
    """
    functions = {"f1": sk.f1_score, "precision": sk.precision_score, "recall": sk.recall_score}
    wanted: tuple[str, ...] = ("f1_macro", "f1_micro", "f1_weighted", "precision_macro", "recall_macro")
    if problem_type == "multi_label_classification":
        wanted += ("precision_micro", "recall_micro")
    table = []
    for name in wanted:
        kind, average = name.split("_")
        table.append(Metric(name, problem_type, _from_labels(functions[kind], average=average, zero_division=0)))
    return table


def _single_label() -> list[Metric]:
    make = partial(Metric, problem_type="single_label_classification")
    binary = {"average": "binary", "pos_label": 1, "zero_division": 0}
    return [
        make("accuracy", score=_from_labels(sk.accuracy_score)),
        make("balanced_accuracy", score=_from_labels(sk.balanced_accuracy_score)),
        make("matthews_corrcoef", score=_from_labels(sk.matthews_corrcoef)),
        make("f1", score=_from_labels(sk.f1_score, **binary), two_labels=True),
        make("precision", score=_from_labels(sk.precision_score, **binary), two_labels=True),
        make("recall", score=_from_labels(sk.recall_score, **binary), two_labels=True),
        *_averaged("single_label_classification"),
        make("roc_auc", score=_roc_auc, looks_at="scores", undefined=_label_missing),
        make("log_loss", score=_log_loss, looks_at="scores", higher_is_better=False),
    ]


def _multi_label() -> list[Metric]:
    """The Jaccard index counts a row without labels that got none as 1 (full agreement), not as 0."""
    make = partial(Metric, problem_type="multi_label_classification")
    return [
        make("jaccard_samples", score=_from_labels(sk.jaccard_score, average="samples", zero_division=1)),
        make("hamming_loss", score=_from_labels(sk.hamming_loss), higher_is_better=False),
        make("subset_accuracy", score=_from_labels(sk.accuracy_score)),
        *_averaged("multi_label_classification"),
        make("roc_auc_macro", score=_roc_auc_macro, looks_at="scores", undefined=_column_constant),
    ]


def _regression() -> list[Metric]:
    make = partial(Metric, problem_type="regression", looks_at="scores")
    return [
        make("pearsonr", score=partial(_correlation, stats.pearsonr), undefined=_values_constant),
        make("spearmanr", score=partial(_correlation, stats.spearmanr), undefined=_values_constant),
        make("mean_squared_error", score=_from_labels(sk.mean_squared_error), higher_is_better=False),
        make("mean_absolute_error", score=_from_labels(sk.mean_absolute_error), higher_is_better=False),
        make("r2", score=_from_labels(sk.r2_score), undefined=_one_row),
    ]


METRICS: dict[ProblemType, dict[str, Metric]] = {
    problem_type: {metric.name: metric for metric in table}
    for problem_type, table in zip(PROBLEM_TYPES, (_single_label(), _multi_label(), _regression()), strict=True)
}
"""Every metric by problem type and name."""


def find_metric(name: str, problem_type: ProblemType, n_labels: int) -> Metric:
    """The metric called ``name`` for such a task; RecipeError, naming the nearest, if there is none."""
    table = METRICS[problem_type]
    fitting = [known for known, metric in table.items() if n_labels == 2 or not metric.two_labels]
    if name in fitting:
        return table[name]
    reason = "needs exactly two labels" if name in table else f"is not known for {problem_type}"
    nearest = difflib.get_close_matches(name, fitting, n=1, cutoff=0.5)
    raise RecipeError(
        f"the metric {name} {reason}",
        found=f"{n_labels} labels" if name in table else None,
        allowed=fitting,
        do=f"did you mean {nearest[0]}?" if nearest else None,
    )


def default_metrics(problem_type: ProblemType, n_labels: int) -> tuple[str, ...]:
    """The metrics shown for a task that names none; the first is its primary one."""
    if problem_type == "multi_label_classification":
        return ("jaccard_samples", "hamming_loss", "f1_micro", "f1_macro")
    if problem_type == "regression":
        return ("pearsonr", "spearmanr", "mean_squared_error")
    return ("accuracy", "f1" if n_labels == 2 else "f1_macro", "matthews_corrcoef")


def higher_is_better(name: str) -> bool:
    """Whether more of the metric called ``name`` is better, in any problem type; RecipeError if nobody knows it."""
    for table in METRICS.values():
        if name in table:
            return table[name].higher_is_better
    known = sorted({metric for table in METRICS.values() for metric in table})
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    do = f"did you mean {nearest[0]}?" if nearest else None
    raise RecipeError(f"the metric {name} is not known", allowed=known, do=do)


def score(outcomes: Outcomes, name: str) -> float:
    """One metric of ``outcomes``; NaN where it is not defined (``undefined_reason`` says why)."""
    metric = find_metric(name, outcomes.problem_type, outcomes.n_labels)
    if metric.undefined(outcomes) is not None:
        return math.nan
    with warnings.catch_warnings():
        # scikit-learn warns of labels never met or never predicted; what it then returns is said in this module.
        warnings.simplefilter("ignore", UserWarning)
        return metric.score(outcomes)


def compute_metrics(predictions: Predictions, names: Sequence[str] | None = None) -> dict[str, float]:
    """The metrics called ``names`` (by default those of the problem type), in that order; NaN where not defined.

    Raises RecipeError for a name unknown for the problem type, DataError for predictions without targets.
    """
    outcomes = read_outcomes(predictions)
    wanted = default_metrics(outcomes.problem_type, outcomes.n_labels) if names is None else names
    return {name: score(outcomes, name) for name in wanted}


def undefined_reason(predictions: Predictions, name: str) -> str | None:
    """Why the metric called ``name`` is NaN on ``predictions``, as half a sentence; None where it has a value."""
    outcomes = read_outcomes(predictions)
    return find_metric(name, outcomes.problem_type, outcomes.n_labels).undefined(outcomes)


def confusion(predictions: Predictions) -> np.ndarray:
    """``(k, k)`` int64, rows the targets and columns the predicted; DataError unless there is one label per row."""
    outcomes = read_outcomes(predictions)
    if outcomes.problem_type != "single_label_classification":
        raise DataError(
            "a confusion matrix needs exactly one label per row", found=outcomes.problem_type, do="use per_class()"
        )
    labels = np.arange(outcomes.n_labels)
    return np.asarray(sk.confusion_matrix(outcomes.targets, outcomes.predicted, labels=labels), dtype=np.int64)


def per_class(predictions: Predictions) -> list[dict[str, str | float | int]]:
    """One row per label: label, precision, recall, f1 and support (rows that truly have it); 0 for a division by 0."""
    outcomes = read_outcomes(predictions)
    if outcomes.problem_type == "regression":
        raise DataError("a regression has no classes", do="use compute_metrics()")
    labels = np.arange(outcomes.n_labels)
    columns = sk.precision_recall_fscore_support(outcomes.targets, outcomes.predicted, labels=labels, zero_division=0)
    return [
        {"label": label, "precision": float(p), "recall": float(r), "f1": float(f1), "support": int(support)}
        for label, p, r, f1, support in zip(predictions.label_names, *columns, strict=True)
    ]
