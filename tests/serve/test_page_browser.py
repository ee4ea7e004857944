"""The page in a real browser: what it shows is what the server answers, and texts are never markup.

The oracle is the fake's counting, worked out by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from potstill.serve.keys import Keys

pytestmark = pytest.mark.browser
MULTI = "multi_label_classification"
EVIL = "<img src=x onerror=document.title='pwned'> good"
KEY = "a-key-of-sixteen-or-more"


class Page:
    """The page in the browser, and what a reader would do with it."""

    def __init__(self, driver: Any, running: Any, width: int = 1280) -> None:
        self.driver, self.running = driver, running
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        driver.set_window_size(width, 900)
        driver.get("about:blank")
        driver.get_log("browser")
        driver.get(f"http://127.0.0.1:{running.port}/")

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, script: str, *arguments: object) -> Any:
        from selenium.webdriver.support.wait import WebDriverWait

        return WebDriverWait(self.driver, 15, 0.02).until(lambda _: self.run(script, *arguments))

    def ready(self) -> Page:
        self.until("return !document.querySelector('main').hidden")
        return self

    def fill(self, name: str, text: str) -> None:
        self.run(
            "const field = document.getElementById(arguments[0]); field.value = arguments[1];"
            "field.dispatchEvent(new Event('input', {bubbles: true}));",
            name,
            text,
        )

    def press(self, name: str, key: str, **modifiers: bool) -> None:
        self.run(
            "document.getElementById(arguments[0]).dispatchEvent("
            "new KeyboardEvent('keydown', {key: arguments[1], bubbles: true, ...arguments[2]}))",
            name,
            key,
            modifiers,
        )

    def click(self, selector: str) -> None:
        self.run("document.querySelector(arguments[0]).click()", selector)

    def texts(self, selector: str) -> list[str]:
        return self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)

    def classify(self, text: str) -> None:
        self.run("document.getElementById('answers').replaceChildren()")
        self.fill("first", text)
        self.click("#try-form .main")
        self.until(
            "return document.querySelector('#answers .answer') || !document.getElementById('try-problem').hidden"
        )

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]


@pytest.fixture(scope="module")
def running(fake: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    labels = ("good", "bad")
    decisions = fake.decisions_of(labels, MULTI, 1.5, {"good": 0.9, "bad": 0.4})
    predictors = {
        "teacher": fake.FakePredictor(seconds=0.02),
        "student": fake.FakePredictor(("good", "bad", "dull")),
        "tags": fake.FakePredictor(labels, MULTI, decisions=decisions),
    }
    with fake.running(predictors, tmp_path_factory.mktemp("page")) as running:
        yield running


@pytest.fixture
def page(chromium: Any, running: Any) -> Page:
    return Page(chromium, running).ready()


@pytest.fixture
def only(page: Page) -> Callable[..., None]:
    """Leave only some bundles chosen."""

    def choose(*names: str) -> None:
        page.run(
            "for (const box of document.querySelectorAll('.bundles input'))"
            "  box.checked = arguments[0].includes(box.value)",
            list(names),
        )

    return choose


def test_a_text_gets_labels_bars_and_what_it_took(page, only):
    only("student")
    page.classify("good good film")
    assert page.texts("#answers p.given") == ["good"]
    assert page.texts("#answers dt") == ["good", "bad", "dull"]
    assert page.texts("#answers .number") == ["78.7%", "10.7%", "10.7%"], "softmax of 2, 0, 0"
    facts = page.texts("#answers .facts span")
    assert facts[0] == "5 tokens"
    assert "ms on the server" in facts[1]
    assert page.complaints() == []


def test_thresholds_are_marked_and_obeyed(page, only):
    only("tags")
    page.classify("good good")
    assert page.texts("#answers p.given") == ["bad"], "0.79 is below 0.9, 0.5 above 0.4"
    marks = page.run("return [...document.querySelectorAll('#answers .mark')].map(m => m.getAttribute('x1'))")
    assert marks == ["90.0%", "40.0%"]
    assert "temperature 1.5" in page.texts("#answers .facts span")


def test_bundles_side_by_side_say_whether_they_agree(page, only):
    only("teacher", "student")
    page.classify("bad film")
    assert page.texts("#answers .name") == ["teacher", "student"]
    (verdict,) = page.texts("#try-verdict")
    assert verdict.startswith("The same answer. student was ")
    only("student", "tags")
    page.classify("good")
    assert page.texts("#try-verdict")[0].startswith("Not the same answer.")


def test_measure_asks_often_and_shows_the_middle(page, only):
    only("student")
    page.fill("first", "good")
    before = page.running.metric("te_request_count", method="batch", model="student")
    page.click("#measure")
    page.until("return document.querySelector('#answers .facts')?.textContent.includes('in the middle of 20')")
    assert page.running.metric("te_request_count", method="batch", model="student") == before + 20


def test_a_pair_is_sent_as_one(page, only):
    only("student")
    page.click("#paired")
    page.fill("second", "bad bad bad")
    page.classify("good")
    assert page.texts("#answers p.given") == ["bad"]


def test_the_keyboard_is_enough(page, only):
    only("student")
    page.fill("first", "dull")
    page.press("first", "Enter", ctrlKey=True)
    page.until("return document.querySelector('#answers p.given')?.textContent === 'dull'")


def test_what_is_refused_is_said(page, only):
    only("student")
    page.classify("")
    assert page.texts("#try-problem") == ["input 0 cannot be empty."]
    only()
    page.classify("good")
    assert page.texts("#try-problem") == ["Choose a bundle."]


def test_a_text_is_never_markup(page, only):
    only("student")
    page.classify(EVIL)
    page.fill("pasted", EVIL)
    page.click("#file-form .main")
    page.until("return document.querySelector('#rows tbody tr')")
    assert page.texts("#rows td.text") == [EVIL]
    assert page.run("return document.images.length") == 0
    assert page.driver.title == "potstill"


TABLE = 'id,review,"x, y"\r\n1,"good, really ""good""",a\r\n2,,b\r\n3,"bad\nbad",c\r\n'


def drop(page: Page, name: str, content: str) -> None:
    page.run(
        "const carried = new DataTransfer(); carried.items.add(new File([arguments[1]], arguments[0]));"
        "document.getElementById('drop').dispatchEvent(new DragEvent('drop', {dataTransfer: carried, bubbles: true}));",
        name,
        content,
    )
    page.until(
        "return !document.getElementById('file-choices').hidden || !document.getElementById('file-problem').hidden"
    )


def saved(page: Page) -> str:
    """The csv, caught where the page would hand it to the browser."""
    return page.driver.execute_async_script(
        "const done = arguments[0]; const make = URL.createObjectURL;"
        "URL.createObjectURL = (blob) => { blob.text().then(done); URL.createObjectURL = make; return 'data:,'; };"
        "document.getElementById('save').click();"
    )


def test_a_dropped_table_comes_back_with_its_columns_and_the_answers(page, only):
    only("student", "tags")
    drop(page, "reviews.csv", TABLE)
    assert page.texts("#file-says") == ["reviews.csv: 3 rows, 3 columns"]
    assert page.run("return document.getElementById('text-column').selectedOptions[0].textContent") == "review"
    page.click("#file-form .main")
    page.until("return !document.getElementById('file-verdict').hidden")
    verdict = page.texts("#file-verdict")[0]
    assert verdict.startswith("The same answer on 50.0% of 2 rows.")
    assert "1 row could not be classified" in verdict
    lines = saved(page).split("\r\n")
    head = lines[0].split(",")
    assert head[0] == "id"
    assert '"x, y"' in lines[0]
    assert "student p(good)" in lines[0]
    assert "tags label" in lines[0]
    assert lines[1].startswith('1,"good, really ""good""",a,good,')
    assert lines[2].startswith("2,,b,,")
    assert lines[2].endswith(",empty")
    assert lines[3].startswith('3,"bad\nbad",c,bad,')


def test_lines_of_text_are_classified_in_batches_in_their_order(page, only):
    only("student")
    words = ["good", "bad", "dull"]
    drop(page, "lines.txt", "\n".join(f"{words[n % 3]} film" for n in range(300)))
    page.click("#file-form .main")
    page.until("return !document.getElementById('file-verdict').hidden")
    assert page.texts("#file-verdict") == ["300 rows classified."]
    labels = [line.split(",")[1] for line in saved(page).split("\r\n")[1:-1]]
    assert labels == [words[n % 3] for n in range(300)]


def test_a_file_that_is_no_text_is_said(page):
    page.run(
        "const carried = new DataTransfer(); carried.items.add(new File([new Uint8Array([255, 254, 0])], 'x.csv'));"
        "document.getElementById('drop').dispatchEvent(new DragEvent('drop', {dataTransfer: carried, bubbles: true}));"
    )
    page.until("return !document.getElementById('file-problem').hidden")
    assert page.texts("#file-problem") == ["This file is not text in UTF-8."]


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_file_of_no_rows_is_said(page, content):
    drop(page, "none.txt", content)
    assert page.texts("#file-problem") == ["none.txt holds no row."]


@pytest.mark.slow
def test_ten_thousand_rows_come_back_in_their_order_and_a_hundred_are_shown(page, only):
    from selenium.webdriver.support.wait import WebDriverWait

    only("student")
    words = ["good", "bad", "dull"]
    drop(page, "lines.txt", "\n".join(f"{words[n % 3]} film" for n in range(10_000)))
    assert page.texts("#file-says") == ["lines.txt: 10,000 rows, 1 column"]
    page.click("#file-form .main")
    WebDriverWait(page.driver, 300, 0.2).until(
        lambda _: page.run("return !document.getElementById('file-verdict').hidden")
    )
    assert page.texts("#file-verdict") == ["10,000 rows classified."]
    assert len(page.texts("#rows tbody tr")) == 100
    labels = [line.split(",")[1] for line in saved(page).split("\r\n")[1:-1]]
    assert labels == [words[n % 3] for n in range(10_000)]
    assert page.complaints() == []


def test_a_key_is_asked_for_and_used(chromium, fake, tmp_path):
    with fake.running({"words": fake.FakePredictor()}, tmp_path, keys=Keys([KEY])) as running:
        page = Page(chromium, running)
        page.until("return !document.getElementById('key-form').hidden")
        page.fill("key", KEY)
        page.click("#key-form button")
        page.ready()
        page.classify("good")
        assert page.texts("#answers p.given") == ["good"]


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_scrolls_sideways(chromium, running, width):
    page = Page(chromium, running).ready()
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.classify("good " * 200)
    drop(page, "reviews.csv", TABLE + '4,"' + "long" * 300 + '",d\r\n')
    page.click("#file-form .main")
    page.until("return !document.getElementById('file-verdict').hidden")
    wide, inner = page.run("return [document.documentElement.scrollWidth, innerWidth]")
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide <= inner == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_their_ground(chromium, running, scheme, tmp_path: Path):
    # oracle: WCAG 2.1's contrast ratio, 4.5 for text
    chromium.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    page = Page(chromium, running).ready()
    page.classify("good")
    pairs = page.run(
        "const ground = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;"
        "  if (!/, 0\\)$/.test(c)) return c; } };"
        "return [...document.querySelectorAll('p, label, button, dt, dd, h2')]"
        "  .filter(e => e.offsetParent && e.textContent)"
        "  .map(e => [getComputedStyle(e).color, ground(e)]);"
    )
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert len(pairs) > 10
    assert min(contrast(*map(channels, pair)) for pair in pairs) >= 4.5


def channels(colour: str) -> list[float]:
    return [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]


def contrast(ink: list[float], ground: list[float]) -> float:
    def luminance(colour: list[float]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dark = sorted((luminance(ink), luminance(ground)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)
