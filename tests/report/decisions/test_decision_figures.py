"""Figures of decisions: named, marked where the threshold was chosen, and the reliability they say."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from potstill.evaluate.calibration import Reliability
from potstill.report.decisions.evidence import LabelCurves, Point
from potstill.report.decisions.figures import draw_precision_recall, draw_reliability, draw_roc

CURVE = [Point(0, 0, 1), Point(0, 0.5, 1), Point(0.5, 0.5, 0.5), Point(1, 1, 0.5)]
CURVES = [
    LabelCurves("threat", 0.08, CURVE, Point(0, 0.5, 1), Point(0.1, 0.4, 0.8)),
    LabelCurves("<insult>", 0.5, CURVE, Point(0.5, 0.5, 0.5), None),
]
BINS = Reliability(np.array([30, 10]), np.array([0.2, 0.9]), np.array([0.3, 0.7]))


def texts_of(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]


DRAWN = {
    "roc": lambda: draw_roc(CURVES, title="toxicity, student: ROC"),
    "precision and recall": lambda: draw_precision_recall(CURVES, title="toxicity, student: precision and recall"),
    "reliability": lambda: draw_reliability(BINS, BINS, title="toxicity, student: reliability"),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_a_figure_is_well_formed_named_and_the_same_each_time(draw):
    svg = draw()
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") in texts_of(svg)
    assert svg == draw()
    assert "currentColor" in svg


@pytest.mark.parametrize("name", ["roc", "precision and recall"])
def test_every_curve_tells_its_label_and_threshold(name):
    assert {"threat from 0.080", "<insult> from 0.500"} <= set(texts_of(DRAWN[name]()))


def test_the_axes_say_what_is_shared_out():
    assert "share found (recall)" in texts_of(DRAWN["roc"]())
    assert {"probability stated", "share that came true"} <= set(texts_of(DRAWN["reliability"]()))


def test_the_error_in_the_legend_is_that_of_the_bins():
    # (30 · |.2 − .3| + 10 · |.9 − .7|) / 40
    assert "before: error 0.125" in texts_of(DRAWN["reliability"]())
