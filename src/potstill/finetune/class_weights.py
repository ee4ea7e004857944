"""Weights of the labels in the loss: scikit-learn's balanced ones from the training rows, or given by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from potstill.data.names import suggest
from potstill.errors import RecipeError
from potstill.records import ProblemType

ClassWeights = Literal["none", "balanced"] | Mapping[str, float]


def label_weights(
    wished: ClassWeights, targets: np.ndarray, label_names: Sequence[str], problem_type: ProblemType
) -> np.ndarray | None:
    """float32 weights for :func:`potstill.finetune.hard_loss.hard_loss`, None where all are alike.

    One label: ``(classes,)``. Many labels: ``(labels, 2)``, of a label that is not given and of one that is. Balanced
    are those of scikit-learn's ``compute_class_weight`` on the training ``targets``, of each label's column where there
    are many; a class that no row has weighs 1. By name, what is not named weighs 1, and of many labels the weight is
    that of the label where it is given, as torch's ``pos_weight``. Raises RecipeError for a name that is no label, and
    for a regression.
    """
    if wished == "none":
        return None
    if problem_type == "regression":
        raise RecipeError("a regression has no labels that class_weights could weigh", allowed="class_weights: none")
    many = problem_type == "multi_label_classification"
    if isinstance(wished, str):
        columns = targets.T if many else [targets]
        balanced = [_balanced(column, 2 if many else len(label_names)) for column in columns]
        return np.stack(balanced) if many else balanced[0]
    given = np.asarray(_by_name(wished, label_names), dtype=np.float32)
    return np.stack([np.ones_like(given), given], axis=1) if many else given


def _balanced(targets: np.ndarray, n_classes: int) -> np.ndarray:
    """``(n_classes,)``: of each class that is there, rows over classes that are there times its rows."""
    weights, present = np.ones(n_classes, dtype=np.float32), np.unique(targets)
    weights[present] = compute_class_weight("balanced", classes=present, y=targets)
    return weights


def _by_name(wished: Mapping[str, float], label_names: Sequence[str]) -> list[float]:
    for name in wished:
        if name not in label_names:
            known = f"known are {', '.join(label_names[:20])}"
            raise RecipeError("class_weights names no label", found=name, do=suggest(name, label_names, known))
    return [wished.get(name, 1.0) for name in label_names]


def weights_by_name(weights: Any | None, label_names: Sequence[str]) -> dict[str, float | list[float]] | None:
    """The weights as plain values by label: a number each, or of many labels two, not given and given."""
    return None if weights is None else dict(zip(label_names, weights.tolist(), strict=True))
