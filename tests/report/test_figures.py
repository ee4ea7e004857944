from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from potstill.report.figures import Curve, Dot, draw_confusion, draw_curves, draw_dots, draw_tradeoff, save_svg

CURVES = [Curve("training", [0.5, 1, 1.5, 2], [0.9, 0.6, 0.5, 0.45]), Curve("validation", [1, 2], [0.7, 0.8], True)]
ARMS = ("teacher", "student", "random")


def texts_of(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]


def colours_of(svg: str) -> set[str]:
    return set(re.findall(r"#[0-9a-f]{6}\b", svg.lower()))


def curves() -> str:
    return draw_curves(CURVES, title="cola, student: loss", unit="loss", best_epoch=1.0)


def dots() -> str:
    points = [Dot("cola", "student", 84.6, (80.0, 89.0)), Dot("cola", "random", None), Dot("sst2", "random", 70.0)]
    return draw_dots(points, arms=ARMS, title="Retention", unit="share (%)", reference=100)


def tradeoff() -> str:
    points = {"teacher": (8.9, 0.46), "student": (4.7, 0.39)}
    return draw_tradeoff(points, arms=ARMS, title="quality against time", x_unit="one text (ms)", y_unit="accuracy")


def confusion() -> str:
    return draw_confusion([[90, 10], [4, 196]], ["no", "yes"], title="cola: student")


@pytest.mark.parametrize("draw", [curves, dots, tradeoff, confusion], ids=lambda draw: draw.__name__)
def test_a_figure_is_well_formed_named_and_the_same_each_time(draw):
    svg = draw()
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") in texts_of(svg)
    assert svg == draw()


@pytest.mark.parametrize("draw", [curves, dots, tradeoff, confusion], ids=lambda draw: draw.__name__)
def test_the_ink_is_the_pages_and_nothing_else_is_black(draw):
    svg = draw()
    assert "currentColor" in svg
    assert not colours_of(svg) & {"#010203", "#000000"}


def test_axes_carry_their_units():
    assert {"epoch", "loss"} <= set(texts_of(curves()))
    assert "share (%)" in texts_of(dots())
    assert {"one text (ms)", "accuracy"} <= set(texts_of(tradeoff()))
    assert {"predicted", "true"} <= set(texts_of(confusion()))


def test_the_best_epoch_is_marked():
    assert "best epoch (1)" in texts_of(curves())


def test_an_arm_has_one_colour_in_every_figure():
    # oracle: the student is second in ARMS, and second in the palette is vermilion
    assert "#d55e00" in colours_of(dots())
    assert {"#0072b2", "#d55e00"} <= colours_of(tradeoff())
    assert "#0072b2" not in colours_of(dots())


def test_counts_are_written_in_for_twenty_classes_and_not_for_more():
    def drawn(n_labels: int) -> list[str]:
        counts = np.full((n_labels, n_labels), 7) + 1000 * np.eye(n_labels, dtype=int)
        return texts_of(draw_confusion(counts.tolist(), [f"label {i}" for i in range(n_labels)], title="many"))

    assert drawn(20).count("1007") == 20
    assert drawn(21).count("1007") == 0
    assert "label 20" in drawn(21)


def test_a_label_nobody_has_does_not_divide_by_nothing():
    assert "0" in texts_of(draw_confusion([[3, 1], [0, 0]], ["a", "b"], title="empty row"))


@pytest.mark.parametrize("name", ["$x$ & <b>", "50 $_ off $^", "日本語", 'a "b"'])
def test_any_label_is_drawn_as_it_is_written(name, recwarn):
    svg = draw_confusion([[3, 1], [1, 3]], [name, "other"], title=name)
    assert texts_of(svg).count(name) == 3
    assert not recwarn.list


def test_two_figures_share_no_id():
    def ids(svg: str) -> set[str]:
        return set(re.findall(r'\sid="([^"]+)"', svg))

    assert not ids(curves()) & ids(dots())
    used = set(re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', curves()))
    assert used <= ids(curves())


def test_a_saved_figure_stands_alone(tmp_path):
    save_svg(curves(), tmp_path / "loss.svg")
    root = ElementTree.parse(tmp_path / "loss.svg").getroot()
    assert "background:#fff" in (root.get("style") or "")
