"""The attention page in a real browser: it opens without complaint, and every choice changes what is drawn.

The oracle of what the script computes is ``attention.json``, which Python computed from the maps before rounding.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.browser
TEXTS = ("a good film, a lovely day", "the book was dull & <b>cold</b> and the story was nasty")


@pytest.fixture(scope="module")
def written(potstill, classifiers, tmp_path_factory):
    """A page of two texts, and the numbers beside it."""
    out = tmp_path_factory.mktemp("page")
    flags = (part for text in TEXTS for part in ("--text", text))
    called = potstill("attend", classifiers["reviews"], *flags, "--out", out, "--layer", 0, "--head", 1)
    assert called.code == 0, called.err
    return out / "attention.html", json.loads((out / "attention.json").read_text())


@pytest.fixture
def page(chromium, written):
    """The page on a desk, opened anew; whatever a test does with it, the console stays silent."""
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.set_window_size(1280, 1000)
    chromium.get("about:blank")
    chromium.get_log("browser")
    chromium.get(written[0].as_uri())
    yield chromium
    assert chromium.get_log("browser") == []


def found(page: Any, selector: str) -> list[Any]:
    return page.find_elements("css selector", selector)


def choose(page: Any, name: str, value: object) -> None:
    from selenium.webdriver.support.ui import Select

    Select(found(page, f"#pick-{name}")[0]).select_by_value(str(value))


def hands(page: Any) -> Any:
    from selenium.webdriver import ActionChains

    return ActionChains(page)


def press(page: Any, *names: str) -> None:
    from selenium.webdriver import Keys

    hands(page).send_keys(*(getattr(Keys, name) for name in names)).perform()


def drawn(page):
    """Everything that is drawn: the maps' pixels, the markup of bars, layers and tokens."""
    return page.execute_script("""
        const maps = [...document.querySelectorAll("#maps canvas")].map((canvas) => canvas.toDataURL());
        return [maps.join(), ...["bars", "layer-maps", "tokens"].map((id) => document.getElementById(id).innerHTML)];
    """)


def test_the_page_opens_with_the_head_it_was_told_to(page):
    assert [element.text for element in found(page, "#tokens h4")] == ["before: student", "after: reviews"]
    assert found(page, "#pick-layer")[0].get_attribute("value") == "0"
    assert found(page, ".thumb[aria-pressed=true]")[0].get_attribute("data-head") == "1"
    assert len(found(page, ".thumb")) == 2 * 2 * 4


def test_choosing_layer_and_head_changes_the_drawing(page):
    first = drawn(page)
    choose(page, "layer", 1)
    second = drawn(page)
    choose(page, "head", -1)
    third = drawn(page)
    for at in (0, 1, 3):  # maps, bars, tokens
        assert len({first[at], second[at], third[at]}) == 3
    choose(page, "layer", 0)
    choose(page, "head", 1)
    assert drawn(page) == first


def test_choosing_a_model_and_a_text_changes_the_drawing(page):
    choose(page, "models", "after")
    assert len(found(page, "#maps canvas")) == len(found(page, "#tokens .panel")) == 1
    choose(page, "text", 1)
    tokens = [element.text for element in found(page, ".token")]
    assert tokens[:4] == ["[CLS]", "the", "book", "was"]
    assert "Predicted:" in found(page, "#text-notes")[0].text


def test_pointing_at_a_token_tells_what_it_attends_to(page, written):
    token = found(page, "#tokens .panel:last-child .token")[2]
    hands(page).move_to_element(token).perform()
    readout = found(page, "#tokens .panel:last-child .readout")[0]
    assert readout.text.startswith("“good” attends to “")
    shares = [float(share) for share in re.findall(r"([\d.]+)%", readout.text)]
    assert shares == sorted(shares, reverse=True)
    token.click()
    hands(page).move_to_element(found(page, "h1")[0]).perform()
    assert readout.text.startswith("“good” attends to")
    assert token.get_attribute("aria-pressed") == "true"
    press(page, "ESCAPE")
    assert readout.text.startswith("Most is received by")


def test_tokens_and_heads_can_be_reached_by_keyboard(page):
    first = found(page, "#tokens .panel:first-child .token")[0]
    page.execute_script("arguments[0].focus()", first)
    press(page, "ARROW_RIGHT", "ARROW_RIGHT")
    assert page.switch_to.active_element.text == "good"
    assert found(page, "#tokens .readout")[0].text.startswith("“good” attends to")
    page.execute_script("arguments[0].focus()", found(page, ".thumb[aria-pressed=true]")[0])
    press(page, "ARROW_DOWN", "ARROW_RIGHT")
    assert found(page, "#pick-layer")[0].get_attribute("value") == "1"
    assert found(page, "#pick-head")[0].get_attribute("value") == "2"


def test_special_tokens_can_be_hidden_and_what_is_left_is_said(page):
    found(page, "#hide-special")[0].click()
    assert {"[CLS]", "[SEP]"}.isdisjoint(element.text for element in found(page, ".token"))
    assert "[CLS] and [SEP], hidden here, take " in found(page, "#tokens .readout")[0].text
    titles = [element.get_attribute("textContent") for element in found(page, "#layer-maps .panel:first-child title")]
    in_first_layer = [float(re.search(r"([\d.]+)%", title)[1]) for title in titles if title.startswith("layer 0")]
    assert sum(in_first_layer) == pytest.approx(100, abs=1)


def test_what_the_script_computes_is_what_python_computed(page, written):
    for row, told in enumerate(written[1]["texts"]):
        choose(page, "text", row)
        for panel, model in enumerate(("before", "after")):
            titles = [
                element.get_attribute("textContent")
                for element in found(page, f"#layer-maps .panel:nth-of-type({panel + 1}) title")
            ]
            shares = np.array([float(re.search(r"([\d.]+)%$", title)[1]) / 100 for title in titles])
            np.testing.assert_allclose(shares, np.ravel(told["received"][model]), atol=0.004)


def test_a_phone_shows_it_without_scrolling_sideways(page):
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.refresh()
    assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    token = found(page, "#tokens .panel:last-child .token")[2]
    page.execute_script("arguments[0].scrollIntoView({behavior: 'instant', block: 'center'})", token)
    token.click()
    assert "“good” attends to" in found(page, "#tokens .readout")[1].text
