"""What the page shows of decisions: rows of both tables, worked from the evidence, and curves of a few labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from potstill.evaluate.calibration import reliability
from potstill.evaluate.decision_effect import measure_effect
from potstill.evaluate.thresholds import operating_points
from potstill.records import Predictions
from potstill.report.decisions.evidence import MOST_POINTS, DecisionEvidence, LabelCurves, Point, _thinned, point_at
from potstill.report.decisions.view import MOST_CURVES, effect_table, threshold_table, view_decisions
from potstill.report.page import render_page


def predictions(n: int = 60, k: int = 2) -> Predictions:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, (n, k)).astype(np.int8)
    return Predictions(
        ids=np.array([f"test-{i}" for i in range(n)]),
        logits=(2 * targets - 1 + rng.normal(0, 2, (n, k))).astype(np.float32),
        label_names=tuple(f"label-{j}" for j in range(k)),
        problem_type="multi_label_classification",
        n_tokens=np.ones(n, dtype=np.int32),
        truncated=np.zeros(n, dtype=bool),
        elapsed_s=0.5,
        targets=targets,
    )


def evidence(k: int = 2, seeds: int = 1) -> DecisionEvidence:
    before = predictions(k=k)
    after = replace(before, temperature=1.5, thresholds=np.linspace(0.1, 0.9, k))
    chosen = Point(0.25, 0.75, 0.5)
    curves = [
        LabelCurves(label, float(threshold), [Point(0, 0, 1), chosen, Point(1, 1, 0.5)], chosen, None)
        for label, threshold in zip(before.label_names, after.thresholds, strict=True)
    ]
    return DecisionEvidence(
        asked="thresholds of the greatest F1, temperature scaling",
        fitted_on="60 rows of selection",
        temperatures=[1.5] * seeds,
        thresholds=dict(zip(before.label_names, map(float, after.thresholds), strict=True)),
        effect=measure_effect([before], [after], "f1_macro", "test", n_resamples=20),
        curves=curves,
        before=reliability(before),
        after=reliability(after),
        notes=("1 of 2 labels keep the threshold 0.5",),
    )


def texts(table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def test_every_label_has_its_threshold_and_what_it_does():
    assert texts(threshold_table(evidence())) == [
        ["label-0", "0.1000", "0.5000", "0.7500", "–", "–"],
        ["label-1", "0.9000", "0.5000", "0.7500", "–", "–"],
    ]


def test_every_metric_is_shown_before_and_after():
    effect = evidence().effect
    rows = {row[0]: row for row in texts(effect_table(effect))}
    assert list(rows) == list(effect.metrics)
    f1 = effect.metrics["f1_macro"]
    assert rows["f1_macro"][1:3] == [f"{f1.before:.4f}", f"{f1.after:.4f}"]
    assert rows["f1_macro"][4] == f1.word


@pytest.fixture
def with_decisions(small_report):
    """The report of one task in which the first two arms have decisions."""

    def make(found):
        task = small_report.tasks[0]
        arms = [replace(arm, decisions=found if index < 2 else None) for index, arm in enumerate(task.arms)]
        return replace(small_report, tasks=[replace(task, arms=arms)])

    return make


def test_the_page_says_and_draws_them_for_every_arm_that_has_some(with_decisions):
    found = evidence()
    page = render_page(with_decisions(found))
    assert page.count("Fitted on 60 rows of selection: thresholds of the greatest F1, temperature scaling") == 2
    assert page.count("1 of 2 labels keep the threshold 0.5") == 2
    assert found.effect.sentence.partition(":")[0] in page


def test_a_page_without_decisions_does_not_speak_of_them(small_report):
    assert "Temperature and thresholds" not in render_page(small_report)


def test_of_many_labels_those_furthest_from_one_half_are_drawn(with_decisions):
    task = with_decisions(evidence(k=15)).tasks[0]
    (view,) = view_decisions(replace(task, arms=task.arms[:1]))
    assert len(view.figures) == 2 * MOST_CURVES // 4 + 1
    assert "Curves of 3 labels whose thresholds are nearer to 0.5 are not drawn." in view.notes


def test_a_point_is_where_its_threshold_leads():
    # given: rows 1, 2, 3; rightly: 1 and 3 of three that have the label; wrongly: 1 of two others
    point = point_at(0.5, np.array([1, 0, 1, 0, 1]), np.array([0.9, 0.8, 0.5, 0.4, 0.1]))
    assert point == Point(pytest.approx(1 / 2), pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert point_at(0.5, np.ones(3, dtype=int), np.full(3, 0.9)) is None
    assert point_at(0.5, np.array([0, 1]), np.array([0.1, 0.2])) == Point(0, 0, 1)


def test_a_long_curve_keeps_its_ends_and_its_shape():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 20_000)
    points = operating_points(truth, truth * 0.3 + 0.7 * rng.random(20_000))
    few = _thinned(points)
    assert len(few) <= MOST_POINTS
    assert (few[0].recall, few[-1].recall, few[-1].false_positive_rate) == (0, 1, 1)
    x, y = np.array([(point.false_positive_rate, point.recall) for point in few]).T
    assert np.trapezoid(y, x) == pytest.approx(np.trapezoid(points.recall, points.false_positive_rate), abs=2e-3)
