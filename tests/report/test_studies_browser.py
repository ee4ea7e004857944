"""Studies as tabs of the report in a real browser: each is shown whole in a frame, and the way back leads back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from potstill.report.evidence import StudyTab
from potstill.report.page import render_page

pytestmark = pytest.mark.browser

STUDY = """<!doctype html><html><head><title>{name}</title></head><body><nav><a id="go" href="#far">far</a></nav>
<p id="text">{name} &amp; &lt;/script&gt;</p><div style="height: 4000px"></div><h2 id="far">The end</h2>
<script>document.title = "script of {name} ran </scr" + "ipt>"</script></body></html>"""


@pytest.fixture(scope="module")
def written(report: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with two studies."""
    studies = [StudyTab(f"{name}: task", STUDY.format(name=name)) for name in ("Data", "Attention")]
    file = tmp_path_factory.mktemp("studies") / "report.html"
    file.write_text(render_page(replace(report, studies=studies)), encoding="utf-8")
    return file


@pytest.fixture
def page(chromium: Any, written: Path) -> Any:
    """The report, opened anew; whatever a test does, the console stays silent."""
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.set_window_size(1280, 900)
    chromium.get("about:blank")
    chromium.get_log("browser")
    chromium.get(written.as_uri())
    yield chromium
    chromium.switch_to.default_content()
    assert chromium.get_log("browser") == []


def tab(page: Any, title: str) -> Any:
    return page.find_element("link text", title)


def visible(page: Any, selector: str) -> bool:
    return any(found.is_displayed() for found in page.find_elements("css selector", selector))


def wait_for(page: Any, script: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(page, 5).until(lambda driver: driver.execute_script(script))


def test_the_report_opens_first_and_no_study_is_loaded(page):
    assert visible(page, "#retention")
    assert page.find_elements("css selector", "iframe") == []
    assert tab(page, "Report").get_attribute("aria-current") == "page"


def test_a_tab_shows_its_study_alone_and_whole(page):
    tab(page, "Attention: task").click()
    wait_for(page, "return document.querySelectorAll('iframe').length === 1")
    assert not visible(page, "#retention")
    assert tab(page, "Attention: task").get_attribute("aria-current") == "page"
    assert tab(page, "Report").get_attribute("aria-current") is None
    page.switch_to.frame(0)
    wait_for(page, "return document.title.startsWith('script of Attention ran')")
    assert page.find_element("id", "text").text == "Attention & </script>"


def test_a_link_inside_a_study_moves_within_it(page):
    tab(page, "Data: task").click()
    wait_for(page, "return document.querySelectorAll('iframe').length === 1")
    page.switch_to.frame(0)
    wait_for(page, "return document.title.startsWith('script of Data ran')")
    page.find_element("id", "go").click()
    wait_for(page, "return document.scrollingElement.scrollTop > 1000")
    assert page.find_element("id", "far").text == "The end"


def test_the_way_back_leads_to_the_report_and_a_study_stays_as_it_was(page):
    tab(page, "Data: task").click()
    wait_for(page, "return document.querySelectorAll('iframe').length === 1")
    page.switch_to.frame(0)
    page.execute_script("document.body.dataset.seen = 'yes'")
    page.switch_to.default_content()
    tab(page, "Report").click()
    wait_for(page, "return !document.body.classList.contains('in-study')")
    assert visible(page, "#retention")
    page.back()
    wait_for(page, "return document.body.classList.contains('in-study')")
    page.switch_to.frame(0)
    assert page.execute_script("return document.body.dataset.seen") == "yes"


def test_an_address_with_a_study_opens_it_and_one_with_a_section_the_report(page):
    page.execute_script("location.hash = '#study-2'")
    wait_for(page, "return document.body.classList.contains('in-study')")
    page.execute_script("location.hash = '#reproduce'")
    wait_for(page, "return document.scrollingElement.scrollTop > 100")
    assert visible(page, "#reproduce")


def test_on_a_phone_a_study_is_as_wide_as_the_screen(page):
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    page.execute_script("location.hash = '#study-1'")
    wait_for(page, "return document.querySelector('iframe')?.getBoundingClientRect().width === 390")
    assert page.execute_script("return document.documentElement.scrollWidth") <= 390
