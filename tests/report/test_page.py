from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from potstill.errors import CheckError
from potstill.report.page import curve_names, read_curves, render_page, write_page
from potstill.report.sentences import verdict

VOID = {"meta", "link", "br", "hr", "img", "input", "wbr"}


class Reader(HTMLParser):
    """Collects a page's text, tags, ids and links, and notes tags that do not close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given[name] or "" for name in ("href", "src", "xlink:href") if name in given]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def test_the_page_is_balanced_html_without_a_doubled_id(page):
    reader = read(page)
    assert reader.unbalanced == []
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))


def test_the_page_asks_nothing_of_the_network(page):
    allowed = ("#", "data:")
    assert [link for link in read(page).links if not link.startswith(allowed)] == []
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|<iframe|<script src", page)


def test_every_section_is_there_and_the_navigation_reaches_it(page):
    reader = read(page)
    wanted = {
        "verdict",
        "retention",
        "size",
        "distillation",
        "task-1",
        "task-2",
        "task-3",
        "data",
        "layers",
        "reproduce",
    }
    assert wanted <= set(reader.ids)
    assert {link[1:] for link in reader.links if link.startswith("#")} <= set(reader.ids)


def test_the_page_says_the_computed_verdict_and_what_was_left_out(page, report):
    text = read(page).text
    assert verdict(report) in text
    assert "3 of 23,767 paragraphs of the corpus" in text
    assert "2 of 8,551 rows of train were left out" in text
    assert "2.1% of the texts of validation were cut" in text


@pytest.mark.slow
def test_the_learning_rate_is_drawn_where_a_training_has_one(small_report, change_arm):
    title = f"{small_report.tasks[0].name}, student: learning rate"
    rates = [{"epoch": epoch, "learning_rate": 2e-5 / epoch} for epoch in (1, 2, 3)]
    assert title in render_page(change_arm(small_report, "student", history=rates))
    for history in ([], [{"epoch": 1, "learning_rate": 2e-5}], [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.5}]):
        assert title not in render_page(change_arm(small_report, "student", history=history))


def test_rising_validation_loss_is_warned_of_at_the_top_and_beside_its_curves(page):
    text = read(page).text
    assert text.count("Validation loss rose from 0.350 (epoch 2)") == 2
    assert "cola, teacher. Validation loss rose" in text


def test_many_warnings_are_counted_at_the_top(small_report, change_arm):
    rising = [{"epoch": 1, "eval_loss": 0.3}, {"epoch": 2, "eval_loss": 0.5}]
    changed = small_report
    for name in small_report.arm_names:
        changed = change_arm(changed, name, history=rising)
    assert "Validation loss rose in 4 of 4 trainings" in read(render_page(changed)).text


def test_a_page_for_the_dark_a_phone_and_a_desk_is_one_page(page):
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_text_from_data_is_never_markup(small_report):
    attack = '<script>alert("x")</script>'
    task = replace(
        small_report.tasks[0],
        name=attack,
        notes=[attack],
        label_names=[attack, "b"],
        arms=[replace(arm, name=arm.name + attack) for arm in small_report.tasks[0].arms],
    )
    changed = replace(
        small_report,
        tasks=[task],
        title=attack,
        recipe_yaml=f"title: {attack}",
        commands=[attack],
        layer_map=[{attack: attack}],
        versions={attack: attack},
    )
    page = render_page(changed)
    assert read(page).tags.count("script") == 1
    assert attack in read(page).text


def test_a_report_of_nothing_is_still_a_page(report):
    empty = replace(report, tasks=[], distillations=[], layer_map=[], commands=[], recipe_yaml="", notes=[])
    reader = read(render_page(empty))
    assert reader.unbalanced == []
    assert "No student was measured yet" in reader.text


def test_the_same_evidence_gives_the_same_page(small_report, tmp_path):
    write_page(small_report, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render_page(small_report)


def test_contradicting_evidence_leaves_no_page(small_report, change_arm, tmp_path):
    with pytest.raises(CheckError):
        write_page(change_arm(small_report, "student", metrics={"accuracy": [0.99] * 3}), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_terms_of_a_history_are_paired_with_their_validation(report):
    history = report.distillations[0].history
    assert curve_names(history) == ["loss", "kl", "mlm", "cos", "perplexity", "agreement"]
    training, validation = read_curves(history, "kl")
    assert (len(training.x), len(validation.x)) == (30, 3)
    assert (training.validation, validation.validation) == (False, True)
    assert read_curves(history[:1], "loss") == []  # one point is no line


def test_epochs_the_choice_and_rates_are_on_the_page(small_report, change_arm):
    epochs = [{"epoch": 1, "step": 6, "training_loss": 0.9, "loss": 0.7, "accuracy": 0.8, "kept": True}]
    rates = [
        {"part": "embeddings", "parameters": 11, "learning_rate": None, "from_step": None},
        {"part": "head", "parameters": 4, "learning_rate": 5e-5, "from_step": 0},
    ]
    said = "Epoch 1 of 1 is kept: its <accuracy> is the best."
    page = render_page(change_arm(small_report, "student", epochs=epochs, rates=rates, choice=said))
    text = read(page).text
    assert said in text
    assert "loss in training" in text
    assert "peak learning rate" in text
    assert "<accuracy>" not in page
