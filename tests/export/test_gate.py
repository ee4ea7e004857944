"""The gate: figures worked by hand on a few rows."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from potstill.errors import CheckError
from potstill.export.gate import TOLERANCES, Tolerance, evenly_spaced, hold_against

STRICT = Tolerance(logit_difference=1e-3, metric_drop=0.1, label_flips=0.25)


def held(run, bundle, metric="accuracy", tolerance=STRICT):
    return hold_against(
        run, bundle, metric=metric, tolerance=tolerance, split="selection", n_rows_stored=len(run), engine="openvino"
    )


def test_the_same_predictions_pass(random_rows):
    for kind, metric in (
        ("single_label_classification", "accuracy"),
        ("multi_label_classification", "f1_micro"),
        ("regression", "pearsonr"),
    ):
        rows = random_rows(kind, 40, 1)
        gate = held(rows, rows, metric, TOLERANCES["fp32"])
        assert gate.complaints == ()
        assert gate.logit_difference == 0
        assert gate.metric_drop == 0
        gate.require_passed()


def test_flips_and_agreement_are_counted_by_label(make_rows):
    run = make_rows([[1, 0], [1, 0], [0, 1], [1, 0]], [0, 0, 1, 1], label_names=("no", "yes"))
    bundle = make_rows([[1, 0], [0, 1], [0, 1], [1, 0]], [0, 0, 1, 1], label_names=("no", "yes"))
    gate = held(run, bundle)
    assert gate.label_flips == 0.25
    assert gate.agreement == {"no": pytest.approx(2 / 3), "yes": 1.0}
    assert (gate.metric_before, gate.metric_after) == (0.75, 0.5)
    assert gate.metric_drop == 0.25
    assert gate.logit_difference == 1


def test_a_label_never_given_has_no_agreement(make_rows):
    run = make_rows([[2, 0, 1], [2, 0, 1]], [0, 2])
    assert held(run, run).agreement == {"label-0": 1.0, "label-1": None, "label-2": None}


def test_of_many_labels_every_decision_counts(make_rows):
    kind = "multi_label_classification"
    run = make_rows([[1, -1], [1, 1]], [[1, 0], [1, 1]], kind)
    bundle = make_rows([[1, 1], [1, 1]], [[1, 0], [1, 1]], kind)
    gate = held(run, bundle, "subset_accuracy")
    assert gate.label_flips == 0.25
    assert gate.agreement == {"label-0": 1.0, "label-1": 0.5}


def test_a_metric_that_is_better_when_small_drops_when_it_grows(make_rows):
    run = make_rows([[1], [2]], [1, 2], "regression", ("score",))
    bundle = make_rows([[2], [2]], [1, 2], "regression", ("score",))
    gate = held(run, bundle, "mean_squared_error")
    assert gate.metric_drop == 0.5
    assert gate.label_flips is None
    assert gate.agreement == {}


def test_values_that_all_moved_alike_are_noticed_though_no_correlation_sees_it(make_rows):
    targets = [0.0, 2.0, 4.0, 6.0]  # their standard deviation is the root of 5
    run = make_rows([[0.0], [2], [4], [6]], targets, "regression", ("score",))
    moved = make_rows([[0.3], [2.3], [4.3], [6.3]], targets, "regression", ("score",))
    gate = held(run, moved, "pearsonr", TOLERANCES["int8"])
    assert gate.metric_drop == pytest.approx(0, abs=1e-6)
    assert gate.value_change == pytest.approx(0.3 / 5**0.5, rel=1e-5)
    assert gate.complaints == ("change of a value in deviations of the targets 0.1342 (at most 0.1)",)
    nearer = make_rows([[0.2], [2.2], [4.2], [6.2]], targets, "regression", ("score",))
    assert held(run, nearer, "pearsonr", TOLERANCES["int8"]).complaints == ()


def test_a_bundle_that_says_one_value_of_all_does_not_pass_because_it_has_no_correlation(make_rows):
    run = make_rows([[0.0], [0.01], [0.02]], [0, 100, 200], "regression", ("score",))
    constant = make_rows([[0.01], [0.01], [0.01]], [0, 100, 200], "regression", ("score",))
    gate = held(run, constant, "pearsonr", TOLERANCES["int8"])
    assert (gate.metric_before, gate.metric_after) == (pytest.approx(1), None)
    assert gate.complaints == ("pearsonr is no longer defined",)
    assert held(constant, constant, "pearsonr", TOLERANCES["int8"]).complaints == ()


@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["single_label_classification", "multi_label_classification", "regression"])
def test_logits_that_are_no_numbers_are_refused_in_any_arithmetic(random_rows, kind, broken):
    run = random_rows(kind, 40, 1)
    logits = run.logits.copy()
    logits[3] = broken
    metric = {"single_label_classification": "accuracy", "multi_label_classification": "f1_micro"}.get(kind, "pearsonr")
    gate = held(run, replace(run, logits=logits), metric, TOLERANCES["int8"])
    assert gate.not_finite == 1
    assert gate.complaints[0] == "rows with logits that are no number 1 (at most 0)"
    json.dumps(gate.to_dict(), allow_nan=False)


def test_what_is_outside_is_named_with_its_figures(make_rows):
    run = make_rows([[1, 0], [0, 1]], [0, 1])
    bundle = make_rows([[0, 1], [0, 1]], [0, 1])
    with pytest.raises(
        CheckError, match=r"largest logit difference 1 \(at most 0.001\).*drop of accuracy 0.5"
    ) as refused:
        held(run, bundle).require_passed()
    assert refused.value.exit_code == 3
    assert "share of labels flipped 0.5" in str(refused.value)
    assert held(run, bundle).to_dict()["passed"] is False


def test_arithmetic_that_differs_by_intent_is_not_held_to_the_logits(make_rows):
    run, bundle = make_rows([[1.0, 0]], [0]), make_rows([[1.2, 0]], [0])
    assert held(run, bundle, tolerance=Tolerance(None)).complaints == ()
    assert held(run, bundle, tolerance=Tolerance(0.1)).complaints != ()


def test_all_rows_are_compared_or_some_evenly_spaced():
    assert evenly_spaced(5, 10).tolist() == [0, 1, 2, 3, 4]
    chosen = evenly_spaced(1000, 11)
    assert chosen.tolist() == [0, 100, 200, 300, 400, 500, 599, 699, 799, 899, 999]
    assert np.unique(evenly_spaced(7, 6)).size == 6
