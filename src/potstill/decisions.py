"""How a run turns logits into decisions: a temperature and thresholds, kept beside the model and obeyed on reading."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from potstill.errors import RecipeError, RunFolderError
from potstill.records import Predictions, ProblemType

FILE = "decisions.json"
Strategy = Literal["none", "g_mean", "f1", "f_beta", "precision", "recall", "cost"]

_NEEDS: Mapping[str, tuple[str, ...]] = {
    "f_beta": ("beta",),
    "precision": ("at_least",),
    "recall": ("at_least",),
    "cost": ("false_positive_cost", "false_negative_cost"),
}
_WORDS: Mapping[str, str] = {
    "none": "no thresholds",
    "g_mean": "thresholds of the greatest G-mean",
    "f1": "thresholds of the greatest F1",
    "f_beta": "thresholds of the greatest F-beta with beta {beta:g}",
    "precision": "thresholds of the greatest recall at a precision of {at_least:g} or more",
    "recall": "thresholds of the greatest precision at a recall of {at_least:g} or more",
    "cost": "thresholds of the least cost, {false_positive_cost:g} for a false positive and {false_negative_cost:g} "
    "for a false negative",
}


@dataclass(frozen=True)
class ThresholdRule:
    """By what a threshold is chosen; raises RecipeError for a strategy that is not known or numbers it has no use for.

    beta: of F-beta, above 0: recall counts beta times as much as precision. at_least: the precision or recall to hold,
    in (0, 1]. The costs are those of one row, above 0, in any unit.
    """

    strategy: Strategy = "none"
    beta: float | None = None
    at_least: float | None = None
    false_positive_cost: float | None = None
    false_negative_cost: float | None = None

    def __post_init__(self) -> None:
        known = get_args(Strategy)
        if self.strategy not in known:
            near = difflib.get_close_matches(str(self.strategy), known, n=1, cutoff=0.5)
            do = f"did you mean {near[0]}?" if near else None
            raise RecipeError("unknown strategy of thresholds", found=str(self.strategy), allowed=known, do=do)
        needed, given = _NEEDS.get(self.strategy, ()), self._numbers()
        if missing := [name for name in needed if name not in given]:
            raise RecipeError(f"thresholds by {self.strategy} need {' and '.join(missing)}")
        if unused := [name for name in given if name not in needed]:
            raise RecipeError(f"thresholds by {self.strategy} have no use for {' and '.join(unused)}")
        for name, value in given.items():
            if not 0 < value < math.inf or (name == "at_least" and value > 1):
                allowed = "above 0, at most 1" if name == "at_least" else "a finite number above 0"
                raise RecipeError(f"{name} of the thresholds cannot be this", found=value, allowed=allowed)

    def _numbers(self) -> dict[str, float]:
        return {name: value for name, value in asdict(self).items() if name != "strategy" and value is not None}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without the numbers that this strategy does not have."""
        return {"strategy": self.strategy, **self._numbers()}

    def __str__(self) -> str:
        """The rule in words, with its numbers, as pages and tables show it."""
        return _WORDS[self.strategy].format(**self._numbers())


@dataclass(frozen=True)
class Decisions:
    """What one run does with its logits, and what that was fitted on.

    label_names, problem_type: of the model they belong to; predictions of another are refused.
    thresholds: label -> probability in [0, 1], after the temperature; for one label of two, of the second label alone;
        None leaves 0.5 and the likeliest label.
    rule, scaled: what was asked for: by what thresholds were chosen, and whether a temperature was.
    split, n_rows, predictions_sha256: the predictions they were fitted on.
    notes: what could not be fitted, in words.
    """

    label_names: tuple[str, ...]
    problem_type: ProblemType
    temperature: float
    thresholds: Mapping[str, float] | None
    rule: ThresholdRule
    scaled: bool
    split: str
    n_rows: int
    predictions_sha256: str
    notes: tuple[str, ...] = ()

    @property
    def asked(self) -> str:
        """What was asked for, in words: runs are held against one another only where it is the same."""
        return asked_in_words(self.rule, scaled=self.scaled)

    def apply(self, predictions: Predictions) -> Predictions:
        """The same logits under these decisions; RunFolderError for predictions of other labels."""
        if (predictions.label_names, predictions.problem_type) != (self.label_names, self.problem_type):
            raise RunFolderError(
                "the decisions were fitted for another model",
                found=f"{self.problem_type} of {', '.join(self.label_names)}",
                allowed=f"{predictions.problem_type} of {', '.join(predictions.label_names)}",
                do="fit them again with: potstill calibrate",
            )
        thresholds = None if self.thresholds is None else np.array(list(self.thresholds.values()))
        return replace(predictions, temperature=self.temperature, thresholds=thresholds)

    def is_stale(self, folder: Path) -> bool:
        """Whether the predictions they were fitted on are there and are others now."""
        file = folder / "predictions" / f"{self.split}.parquet"
        return file.is_file() and sha256_of(file) != self.predictions_sha256

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, in the form that ``decisions.json`` has."""
        fitted_on = {"split": self.split, "rows": self.n_rows, "predictions_sha256": self.predictions_sha256}
        return {
            "temperature": self.temperature,
            "thresholds": None if self.thresholds is None else dict(self.thresholds),
            "asked": {"thresholds": self.rule.to_dict(), "temperature": self.scaled},
            "fitted_on": fitted_on,
            "problem_type": self.problem_type,
            "label_names": list(self.label_names),
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Decisions:
        """What ``to_dict`` gave; KeyError, TypeError, ValueError or RecipeError for anything else."""
        asked, fitted_on, thresholds = content["asked"], content["fitted_on"], content["thresholds"]
        labels, problem_type = tuple(content["label_names"]), content["problem_type"]
        if thresholds is not None:
            named = labels[1:] if problem_type == "single_label_classification" else labels
            if set(thresholds) != set(named) or not all(0 <= value <= 1 for value in thresholds.values()):
                raise ValueError(f"thresholds in [0, 1] are needed for {', '.join(named)}")
            thresholds = {label: float(thresholds[label]) for label in named}
        return cls(
            label_names=labels,
            problem_type=problem_type,
            temperature=float(content["temperature"]),
            thresholds=thresholds,
            rule=ThresholdRule(**asked["thresholds"]),
            scaled=bool(asked["temperature"]),
            split=fitted_on["split"],
            n_rows=int(fitted_on["rows"]),
            predictions_sha256=fitted_on["predictions_sha256"],
            notes=tuple(content["notes"]),
        )


def asked_in_words(rule: ThresholdRule, *, scaled: bool) -> str:
    """What is asked of a fit, as half a sentence."""
    return f"{rule}, {'temperature scaling' if scaled else 'no temperature scaling'}"


def stored_decisions(folder: Path) -> Decisions | None:
    """The decisions in a run or model folder, stale or not; None where none were fitted."""
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        return Decisions.from_dict(json.loads(file.read_text(encoding="utf-8")))
    except (AttributeError, KeyError, TypeError, ValueError, RecipeError) as broken:
        raise RunFolderError(
            f"{file} does not hold the decisions of a run ({broken})",
            do=f"delete that file and fit them again: potstill calibrate {folder}",
        ) from broken


def read_decisions(folder: Path) -> Decisions | None:
    """The decisions in a folder, None where none were fitted; RunFolderError where they are stale.

    A folder without the predictions they were fitted on, such as a copy of the model alone, cannot contradict them.
    """
    decisions = stored_decisions(folder)
    if decisions is not None and decisions.is_stale(folder):
        raise RunFolderError(
            f"the predictions of split {decisions.split} in {folder} are not those that its {FILE} was fitted on",
            do=f"fit them again: potstill calibrate {folder}",
        )
    return decisions


def decided(folder: Path, predictions: Predictions) -> Predictions:
    """``predictions`` under the decisions of the run in ``folder``, as they are where there are none."""
    decisions = read_decisions(folder)
    return predictions if decisions is None else decisions.apply(predictions)


def sha256_of(file: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
