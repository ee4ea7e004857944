"""Decisions kept beside a model: read as they were written, applied to their own labels, refused when stale."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from potstill.decisions import FILE, Decisions, ThresholdRule, read_decisions, sha256_of, stored_decisions
from potstill.errors import RecipeError, RunFolderError
from potstill.records import Predictions
from potstill.runs import write_json, write_predictions

RULES = [
    ThresholdRule(),
    ThresholdRule("g_mean"),
    ThresholdRule("f1"),
    ThresholdRule("f_beta", beta=2.0),
    ThresholdRule("precision", at_least=0.9),
    ThresholdRule("recall", at_least=1.0),
    ThresholdRule("cost", false_positive_cost=1.0, false_negative_cost=5.0),
]


def some_predictions(n: int = 4) -> Predictions:
    return Predictions(
        ids=np.array([f"selection-{i}" for i in range(n)]),
        logits=np.linspace(-2, 2, 2 * n, dtype=np.float32).reshape(n, 2),
        label_names=("rude", "kind"),
        problem_type="multi_label_classification",
        n_tokens=np.ones(n, dtype=np.int32),
        truncated=np.zeros(n, dtype=bool),
        elapsed_s=0.5,
        targets=np.zeros((n, 2), dtype=np.int8),
    )


def some_decisions(folder: Path, **changes: Any) -> Decisions:
    """Decisions in ``folder`` and the predictions that they say they were fitted on."""
    file = folder / "predictions" / "selection.parquet"
    write_predictions(file, some_predictions())
    decisions = Decisions(
        label_names=("rude", "kind"),
        problem_type="multi_label_classification",
        temperature=1.5,
        thresholds={"rude": 0.25, "kind": 0.75},
        rule=ThresholdRule("f1"),
        scaled=True,
        split="selection",
        n_rows=4,
        predictions_sha256=sha256_of(file),
        notes=("1 of 2 labels keep the threshold 0.5",),
    )
    decisions = replace(decisions, **changes)
    write_json(folder / FILE, decisions.to_dict())
    return decisions


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.strategy)
def test_decisions_are_read_as_they_were_written(rule: ThresholdRule, tmp_path: Path):
    written = some_decisions(tmp_path, rule=rule)
    assert read_decisions(tmp_path) == written
    assert str(rule)


def test_a_folder_without_decisions_has_none(tmp_path: Path):
    assert read_decisions(tmp_path) is None


def test_decisions_are_applied_to_logits(tmp_path: Path):
    decided = some_decisions(tmp_path).apply(some_predictions())
    assert decided.temperature == 1.5
    assert decided.thresholds is not None
    assert decided.thresholds.tolist() == [0.25, 0.75]
    np.testing.assert_array_equal(decided.logits, some_predictions().logits)


def test_decisions_of_another_model_are_refused(tmp_path: Path):
    other = replace(some_predictions(), label_names=("rude", "cruel"))
    with pytest.raises(RunFolderError, match=r"rude, kind.*rude, cruel"):
        some_decisions(tmp_path).apply(other)


def test_stale_decisions_are_refused_and_told_how_to_renew(tmp_path: Path):
    written = some_decisions(tmp_path)
    changed = replace(some_predictions(), logits=some_predictions().logits + np.float32(0.5))
    write_predictions(tmp_path / "predictions" / "selection.parquet", changed)
    with pytest.raises(RunFolderError, match=r"split selection.*potstill calibrate"):
        read_decisions(tmp_path)
    assert stored_decisions(tmp_path) == written


def test_a_model_copied_without_its_predictions_keeps_its_decisions(tmp_path: Path):
    written = some_decisions(tmp_path)
    (tmp_path / "predictions" / "selection.parquet").unlink()
    assert read_decisions(tmp_path) == written


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("thresholds", {"rude": 0.5}),
        ("thresholds", {"rude": 0.5, "kind": 1.5}),
        ("thresholds", [0.5, 0.5]),
        ("temperature", None),
        ("asked", {"thresholds": {"strategy": "luck"}, "temperature": True}),
        ("fitted_on", {}),
    ],
)
def test_a_file_that_holds_something_else_is_refused(field: str, value: Any, tmp_path: Path):
    content = some_decisions(tmp_path).to_dict()
    (tmp_path / FILE).write_text(json.dumps(content | {field: value}), encoding="utf-8")
    with pytest.raises(RunFolderError, match="does not hold the decisions"):
        read_decisions(tmp_path)


def test_a_file_that_is_no_json_is_refused(tmp_path: Path):
    (tmp_path / FILE).write_text("{", encoding="utf-8")
    with pytest.raises(RunFolderError, match="does not hold the decisions"):
        read_decisions(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"strategy": "f2"}, "did you mean f1"),
        ({"strategy": "f_beta"}, "need beta"),
        ({"strategy": "cost", "false_positive_cost": 1.0}, "need false_negative_cost"),
        ({"strategy": "f1", "beta": 2.0}, "no use for beta"),
        ({"strategy": "precision", "at_least": 1.2}, "at most 1"),
        ({"strategy": "recall", "at_least": 0.0}, "above 0"),
        ({"strategy": "f_beta", "beta": -1.0}, "above 0"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(fields: dict[str, Any], message: str):
    with pytest.raises(RecipeError, match=message):
        ThresholdRule(**fields)
