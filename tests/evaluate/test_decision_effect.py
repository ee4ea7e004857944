"""What decisions change: figures of scikit-learn before and after, and words that the numbers decide."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sk

from potstill.evaluate.decision_effect import measure_effect
from potstill.evaluate.metrics import METRICS, compute_metrics

SINGLE, MULTI = "single_label_classification", "multi_label_classification"


@pytest.fixture(scope="module")
def rows(random_predictions):
    return random_predictions(MULTI, 400, 3, seed=1)


def effect_of(before, after, metric="f1_macro"):
    return measure_effect([before], [after], metric, "test", n_resamples=100)


def test_every_metric_of_the_task_is_there_before_and_after(rows):
    after = replace(rows, temperature=2.0, thresholds=np.full(3, 0.4))
    effect = effect_of(rows, after)
    assert set(METRICS[MULTI]) <= set(effect.metrics)
    assert {"ece", "ece_equal_mass", "brier_score", "log_loss"} <= set(effect.metrics)
    names = list(METRICS[MULTI])
    assert {name: effect.metrics[name].before for name in names} == pytest.approx(compute_metrics(rows, names))
    assert {name: effect.metrics[name].after for name in names} == pytest.approx(compute_metrics(after, names))
    f1 = sk.f1_score(rows.targets, after.predicted, average="macro")
    assert effect.metrics["f1_macro"].after == pytest.approx(f1)


def test_a_threshold_that_hurts_is_said_to_hurt(rows):
    effect = effect_of(rows, replace(rows, thresholds=np.full(3, 0.99)))
    assert effect.metrics["f1_macro"].word == "worse"
    assert effect.sentence.startswith("The decisions hurt f1_macro on 400 rows of test: f1_macro")
    assert f"{effect.metrics['f1_macro'].after:.4g} after" in effect.sentence


def test_a_threshold_that_helps_is_said_to_help(rows):
    effect = effect_of(replace(rows, thresholds=np.full(3, 0.99)), rows)
    assert effect.metrics["f1_macro"].word == "better"
    assert effect.sentence.startswith("The decisions help f1_macro")


def test_less_is_better_where_the_metric_says_so(rows):
    effect = effect_of(rows, replace(rows, thresholds=np.full(3, 0.01)), "hamming_loss")
    assert effect.metrics["hamming_loss"].after > effect.metrics["hamming_loss"].before
    assert effect.metrics["hamming_loss"].word == "worse"
    assert "Better beyond chance: " in effect.sentence  # recall
    assert "recall_macro" in effect.sentence.partition("Better beyond chance: ")[2]


def test_a_change_that_may_be_chance_is_called_neither_better_nor_worse(random_predictions):
    few = random_predictions(MULTI, 12, 2, seed=3)
    effect = effect_of(few, replace(few, thresholds=np.array([0.52, 0.5])))
    assert effect.metrics["f1_macro"].word in ("not distinguishable", "unchanged")
    assert "hurt" not in effect.sentence
    assert "help" not in effect.sentence


def test_a_temperature_alone_leaves_every_decision_as_it_is(random_predictions):
    rows = random_predictions(SINGLE, 200, 4, seed=2)
    effect = effect_of(rows, replace(rows, temperature=3.0), "accuracy")
    decided = [
        name for name, metric in METRICS[SINGLE].items() if metric.looks_at == "labels" and not metric.two_labels
    ]
    assert {effect.metrics[name].word for name in decided} == {"unchanged"}
    assert effect.sentence.startswith("The decisions leave accuracy as it is")
    assert effect.metrics["log_loss"].difference is not None


def test_figures_of_several_seeds_are_their_medians(random_predictions):
    seeds = [random_predictions(MULTI, 100, 2, seed=seed) for seed in (1, 2, 3)]
    after = [replace(one, thresholds=np.full(2, 0.3)) for one in seeds]
    effect = measure_effect(seeds, after, "f1_macro", "test", n_resamples=20)
    values = [compute_metrics(one, ["f1_macro"])["f1_macro"] for one in after]
    assert effect.metrics["f1_macro"].after == pytest.approx(np.median(values))
    assert "median of 3 seeds" in effect.sentence


def test_the_effect_is_plain_json(rows):
    told = effect_of(rows, rows).to_dict()
    assert json.loads(json.dumps(told))["metrics"]["f1_macro"]["word"] == "unchanged"


def test_a_metric_that_is_not_defined_is_not_told_as_a_number(make_predictions):
    # nobody has the first label
    logits, targets = (
        np.array([[1.0, -1.0], [-1.0, 1.0], [2.0, 2.0]]),
        np.array([[0, 1], [0, 0], [0, 1]], dtype=np.int8),
    )
    rows = make_predictions(logits, targets, MULTI)
    sentence = effect_of(rows, replace(rows, thresholds=np.full(2, 0.9)), "roc_auc_macro").sentence
    assert sentence.startswith("roc_auc_macro has no value on 3 rows of test.")
    assert "nan" not in sentence
