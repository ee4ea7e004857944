"""The page of failures in a real browser: filters filter, sorting sorts, and nothing it shows is markup.

The oracle of what a filter leaves is numpy on the predictions behind the page.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from potstill.report.failures.page import render_failures
from potstill.report.page import render_page

pytestmark = pytest.mark.browser
SINGLE, MULTI, SCORES = "single_label_classification", "multi_label_classification", "regression"
N = 300
ROWS_PER_PAGE = 25
MOST_MS = 200


class Page:
    """One page in the browser, and what a reader would do with it."""

    def __init__(self, driver: Any, file: Path) -> None:
        self.driver = driver
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        driver.set_window_size(1280, 900)
        driver.get("about:blank")
        driver.get_log("browser")
        self.address = file.as_uri()
        driver.get(self.address)

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def set(self, **filters: object) -> None:
        """Fill in the form as a user does, each field with its event."""
        for name, value in filters.items():
            self.run(
                "const field = document.querySelector('form').elements[arguments[0]]; field.value = arguments[1];"
                "field.dispatchEvent(new Event('input', {bubbles: true}));",
                name,
                str(value),
            )

    def follow(self, anchor: str) -> None:
        self.run("location.hash = arguments[0]", anchor)
        self.driver.execute_async_script("setTimeout(arguments[0], 50)")

    def clear(self) -> None:
        self.run("document.querySelector('form [type=reset]').click()")
        self.driver.execute_async_script("setTimeout(arguments[0], 50)")

    @property
    def count(self) -> str:
        return self.run("return document.querySelector('.count').textContent")

    @property
    def shown(self) -> list[str]:
        """The ids of the rows that are in the document."""
        return self.texts(".rows li .facts > p:last-child")

    def texts(self, selector: str) -> list[str]:
        """The words of all elements that ``selector`` finds."""
        return self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)

    def all_shown(self) -> list[str]:
        """The ids of all rows that the filters leave, page by page."""
        ids = list(self.shown)
        while not self.run("return document.querySelector('[data-step=\"1\"]').disabled"):
            self.run("document.querySelector('[data-step=\"1\"]').click()")
            ids += self.shown
        return ids


@pytest.fixture(scope="module")
def open_page(chromium: Any, tmp_path_factory: Any) -> Callable[[str], Page]:
    def opened(text: str) -> Page:
        file = tmp_path_factory.mktemp("page") / "page.html"
        file.write_text(text, encoding="utf-8")
        return Page(chromium, file)

    return opened


@pytest.fixture(scope="module")
def made(make_failures: Any) -> Any:
    return make_failures(SINGLE, N)


@pytest.fixture
def page(open_page: Any, made: Any) -> Page:
    return open_page(render_failures(made.summary))


@pytest.mark.parametrize("kind", [SINGLE, MULTI, SCORES])
@pytest.mark.parametrize("alone", [False, True])
def test_a_page_opens_without_complaint_and_lists_its_first_rows(kind, alone, open_page, make_failures):
    page = open_page(render_failures(make_failures(kind, N, alone=alone).summary))
    assert page.complaints() == []
    assert len(page.shown) == ROWS_PER_PAGE
    assert page.run("return document.querySelectorAll('.rows li').length") == ROWS_PER_PAGE


def test_wrong_rows_come_first_with_the_highest_loss_on_top(page, made):
    wrong = made.study.rows.ranked(made.study.rows.loss, made.study.rows.wrong)
    assert page.all_shown() == made.student.ids[wrong].tolist()
    assert len(wrong) > 2 * ROWS_PER_PAGE


def outcomes(made: Any) -> tuple[np.ndarray, np.ndarray]:
    return made.student.predicted != made.student.targets, made.teacher.predicted != made.teacher.targets


FILTERS: dict[str, tuple[dict[str, object], Callable[[Any], np.ndarray]]] = {
    "right": ({"show": "right"}, lambda m: ~outcomes(m)[0]),
    "both wrong": ({"show": "both_wrong"}, lambda m: outcomes(m)[0] & outcomes(m)[1]),
    "student": ({"show": "only_student_wrong"}, lambda m: outcomes(m)[0] & ~outcomes(m)[1]),
    "teacher": ({"show": "only_teacher_wrong"}, lambda m: ~outcomes(m)[0] & outcomes(m)[1]),
    "both right": ({"show": "both_right"}, lambda m: ~outcomes(m)[0] & ~outcomes(m)[1]),
    "doubted": ({"show": "doubted"}, lambda m: np.isin(np.arange(N), m.study.suspicions.rows)),
    "pair": (
        {"true": 0, "predicted": 2},
        lambda m: (m.student.targets == 0) & (m.student.predicted == 2),
    ),
    "class": ({"show": "all", "true": 1}, lambda m: m.student.targets == 1),
    "sure": ({"least": 60, "most": 80}, lambda m: outcomes(m)[0] & between(100 * m.study.rows.confidence, 60, 80)),
    "long": ({"show": "all", "shortest": 20}, lambda m: m.study.marks.n_words >= 20),
    "short": ({"longest": 10}, lambda m: outcomes(m)[0] & (m.study.marks.n_words <= 10)),
    "negated": ({"negation": 1}, lambda m: outcomes(m)[0] & m.study.marks.negation),
    "plain": ({"show": "all", "negation": 0}, lambda m: ~m.study.marks.negation),
    "slice": ({"show": "all", "slice": 3}, lambda m: m.study.findings.findings[3].slice.rows),
    "search": (
        {"show": "all", "search": " Good FILM "},
        lambda m: np.array(["good film" in text.lower() for text in m.texts]),
    ),
    "two": (
        {"search": "never", "true": 2},
        lambda m: outcomes(m)[0] & (m.student.targets == 2) & np.array(["never" in text for text in m.texts]),
    ),
}


def between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    shown = np.rint(100 * values) / 100  # the page has confidences in 1/10,000
    return (shown >= low) & (shown <= high)


@pytest.mark.parametrize("name", FILTERS)
def test_filters_leave_what_numpy_leaves(name, page, made):
    filters, expected = FILTERS[name]
    rows = expected(made)
    page.set(**filters)
    assert set(page.all_shown()) == set(made.student.ids[rows].tolist())
    assert rows.any()
    assert page.complaints() == []


SORTS: dict[str, Callable[[Any], Any]] = {  # as rounded in the page
    "loss": lambda m: [-float(f"{loss:.4g}") for loss in m.study.rows.loss],
    "sure": lambda m: -np.rint(10_000 * m.study.rows.confidence),
    "unsure": lambda m: np.rint(10_000 * m.study.rows.confidence),
    "longest": lambda m: -m.study.marks.n_words,
    "shortest": lambda m: m.study.marks.n_words,
    "id": lambda m: np.zeros(N),
}


@pytest.mark.parametrize("name", SORTS)
def test_sorting_sorts(name, page, made):
    page.set(show="all", sort=name)
    expected = np.lexsort((made.student.ids, SORTS[name](made)))
    assert page.all_shown() == made.student.ids[expected].tolist()


def test_the_likeliest_label_errors_come_first(page, made):
    page.set(show="doubted", sort="doubt")
    assert page.all_shown() == made.student.ids[made.study.suspicions.rows].tolist()


def test_a_count_says_what_is_left(page, made):
    wrong, _ = outcomes(made)
    assert page.count == f"Rows 1 to 25 of {wrong.sum()}."
    page.set(show="all")
    assert page.count == f"Rows 1 to 25 of {N}, {wrong.sum()} of them wrong."
    page.set(search="no such words")
    assert page.count == "No row fits these filters."
    assert page.shown == []
    page.clear()
    assert page.count == f"Rows 1 to 25 of {wrong.sum()}."


def test_a_count_in_a_table_leads_to_its_rows_and_the_address_keeps_them(page, made):
    wrong, teacher_wrong = outcomes(made)
    page.run("document.querySelector('a[href$=\"show=only_teacher_wrong\"]').click()")
    page.driver.execute_async_script("setTimeout(arguments[0], 50)")
    assert set(page.all_shown()) == set(made.student.ids[~wrong & teacher_wrong].tolist())
    page.set(negation=1)
    address = page.driver.current_url
    assert address.endswith("#failures-1?show=only_teacher_wrong&negation=1")
    page.driver.get("about:blank")
    page.driver.get(address)
    expected = ~wrong & teacher_wrong & made.study.marks.negation
    assert set(page.all_shown()) == set(made.student.ids[expected].tolist())


def test_a_page_can_be_turned_to(page, made):
    page.set(show="all", sort="id")
    page.run(
        "const field = document.querySelector('.pager input'); field.value = 12;"
        "field.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    assert page.shown == made.student.ids[275:300].tolist()
    assert page.count.startswith("Rows 276 to 300 of 300")


def test_everything_is_reached_by_keyboard(page):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    fields = page.driver.find_elements(
        By.CSS_SELECTOR, "form select, form input, form button, .pager button, .presets a"
    )
    assert all(field.get_attribute("tabindex") in (None, "", "0") for field in fields)
    show = page.driver.find_element(By.NAME, "show")
    show.send_keys(Keys.ARROW_DOWN)
    assert show.get_attribute("value") == "right"
    before = page.shown
    page.driver.find_element(By.CSS_SELECTOR, "[data-step='1']").send_keys(Keys.ENTER)
    assert page.shown != before
    search = page.driver.find_element(By.NAME, "search")
    search.send_keys("never", Keys.ENTER)
    assert "search=never" in page.driver.current_url, "Enter sends no form away"
    head = page.driver.find_element(By.CSS_SELECTOR, "thead th")
    head.send_keys(Keys.ENTER)
    assert head.get_attribute("aria-sort") == "descending"


def test_what_was_searched_for_is_marked_and_texts_stay_text(open_page, make_failures):
    attack = '<img src=x onerror="document.title=1"> & </script><b>never</b>'
    made = make_failures(SINGLE, 60, text=attack)
    page = open_page(render_failures(made.summary))
    title = page.driver.title
    page.set(show="all", search="</script>", sort="id")
    assert len(page.all_shown()) == 60
    page.set(search="</script>")
    assert page.texts(".rows .text > p:first-child") == made.texts[:ROWS_PER_PAGE]
    assert set(page.texts(".rows mark")) == {"</script>"}
    assert page.run("return document.querySelectorAll('.rows img, .rows .text b').length") == 0
    assert page.driver.title == title
    assert page.complaints() == []


def test_a_long_text_unfolds(open_page, make_failures):
    page = open_page(render_failures(make_failures(SINGLE, 60, text="word " * 400).summary))
    first = "const text = document.querySelector('.rows .text'); "
    folded = page.run(first + "return text.clientHeight")
    page.run(first + "text.querySelector('button').click()")
    assert page.run(first + "return text.clientHeight") > 2 * folded
    assert page.run(first + "return text.querySelector('button').getAttribute('aria-expanded')") == "true"


def test_the_two_texts_of_a_pair_are_both_shown(open_page, make_failures):
    made = make_failures(SINGLE, 40, pairs=True)
    page = open_page(render_failures(made.summary))
    page.set(show="all", sort="id")
    texts = page.texts(".rows .text > p")
    assert list(zip(texts[::2], texts[1::2], strict=True)) == made.texts[:ROWS_PER_PAGE]


def test_many_labels_are_filtered_one_by_one(open_page, make_failures):
    made = make_failures(MULTI, N)
    page = open_page(render_failures(made.summary))
    truth, given = made.student.targets[:, 1] == 1, made.student.predicted[:, 1] == 1
    expected = {
        "false_positives": ~truth & given,
        "false_negatives": truth & ~given,
        "predicted": given,
        "true": truth,
        "": truth != given,
    }
    for mistake, rows in expected.items():
        page.set(show="all", label=1, mistake=mistake)
        assert set(page.all_shown()) == set(made.student.ids[rows].tolist()), mistake
    assert page.complaints() == []


def test_of_many_labels_both_models_tell_their_probabilities(open_page, make_failures):
    made = make_failures(MULTI, 60)
    page = open_page(render_failures(made.summary))
    page.set(show="all", sort="id")
    answers = page.texts(".rows li .facts > .answer")
    for row, drawn in enumerate(zip(answers[::2], answers[1::2], strict=True)):
        for model, words in zip((made.student, made.teacher), drawn, strict=True):
            concerned = (model.targets[row] == 1) | (model.predicted[row] == 1)
            told = {name: float(share) for name, share in re.findall(r"(label-\d+) \(([\d.]+)%\)", words)}
            expected = {model.label_names[i]: 100 * model.probabilities[row, i] for i in np.flatnonzero(concerned)}
            assert told == pytest.approx(expected, abs=0.06)
            assert ("no label, rightly" in words) == (not concerned.any())
    assert page.complaints() == []


def test_a_regression_is_browsed_by_its_errors(open_page, make_failures):
    made = make_failures(SCORES, N)
    page = open_page(render_failures(made.summary))
    errors, of_teacher = made.study.rows.errors, made.study.teacher.errors
    assert page.shown == made.student.ids[np.argsort(-np.abs(errors))][:ROWS_PER_PAGE].tolist()
    for show, rows in {"high": errors > 0, "low": errors < 0, "worse": np.abs(errors) > np.abs(of_teacher)}.items():
        page.set(show=show)
        assert set(page.all_shown()) == set(made.student.ids[rows].tolist()), show
    page.set(show="all", least=0.5)
    assert set(page.all_shown()) == set(made.student.ids[np.abs(errors) >= 0.5].tolist())


def test_a_report_of_two_tasks_has_a_list_for_each(open_page, make_failures, small_report):
    first, second = make_failures(SINGLE, 60), make_failures(MULTI, 60)
    task = small_report.tasks[0]
    tasks = [replace(task, failures=first.summary), replace(task, name="tags", failures=second.summary)]
    page = open_page(render_page(replace(small_report, tasks=tasks)))
    assert page.complaints() == []
    assert page.run("return document.querySelectorAll('.rows').length") == 2
    page.follow("failures-2?show=right")
    counts = page.texts(".count")
    n_wrong, n_right = first.study.rows.wrong.sum(), 60 - second.study.rows.wrong.sum()
    assert str(n_wrong) in counts[0]
    assert str(n_right) in counts[1]


def test_on_a_phone_nothing_is_wider_than_the_screen(page):
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    page.driver.get(page.address)
    assert page.run("return document.documentElement.scrollWidth") <= 390
    assert page.run("return document.querySelector('.more').open") is False, "filters leave room for the rows"
    assert page.complaints() == []


def test_the_dark_is_dark(page):
    def paper() -> str:
        return page.run("return getComputedStyle(document.body).backgroundColor")

    light = paper()
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    assert paper() != light
    assert page.run("return getComputedStyle(document.querySelector('form select')).color") != "rgb(29, 33, 37)"


@pytest.mark.slow
def test_25000_rows_answer_at_once(open_page, make_failures):
    made = make_failures(SINGLE, 25_000, text="a text of some length " * 12)
    page = open_page(render_failures(made.summary))
    assert page.complaints() == []
    set_field = (
        "const field = document.querySelector('form').elements[arguments[0]]; const start = performance.now();"
        "field.value = arguments[1]; field.dispatchEvent(new Event('input', {bubbles: true}));"
        "document.body.offsetHeight; return performance.now() - start;"
    )
    page.set(search="warm")  # the first search puts all texts into lower case
    page.clear()
    asked = [
        ("show", "all"),
        ("search", "never good"),
        ("search", ""),
        ("sort", "longest"),
        ("sort", "sure"),
        ("true", 1),
    ]
    for name, value in asked:
        took = min(page.run(set_field, name, str(value)) for _ in range(3))
        assert took < MOST_MS, f"{name} took {took:.0f} ms"
    assert page.run("return document.querySelectorAll('.rows li').length") == ROWS_PER_PAGE
