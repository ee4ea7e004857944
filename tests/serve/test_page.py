"""The page's files: what is sent with them, and what is not in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from potstill.report.shell import TEMPLATES
from potstill.serve.page_routes import FOLDER

FILES = sorted(FOLDER.iterdir())


def test_the_page_may_speak_to_its_own_server_only(served):
    answer = served.client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_a_browser_that_has_a_file_is_not_sent_it_again(served):
    first = served.client.get("/page/main.js")
    assert first.headers["content-type"] == "text/javascript; charset=utf-8"
    again = served.client.get("/page/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_answers_are_kept_by_no_cache(served):
    assert served.client.post("/predict", json={"inputs": "good"}).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_texts_never_become_markup_and_nothing_is_loaded_from_elsewhere(file: Path):
    text = file.read_text(encoding="utf-8")
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text)
    addresses = set(re.findall(r"https?://[^\s\"'`]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert len(text.splitlines()) <= 400


def test_every_file_the_page_asks_for_is_there(served):
    asked = set(re.findall(r'(?:href|src)="(page/[^"]+)"', (FOLDER / "index.html").read_text(encoding="utf-8")))
    for file in FILES:
        asked |= {f"page/{name}" for name in re.findall(r'from "\./([^"]+)"', file.read_text(encoding="utf-8"))}
    assert len(asked) == len(FILES) - 1
    for path in asked:
        assert served.client.get(f"/{path}").status_code == 200


def test_the_colours_are_those_of_the_report():
    def colours(file: Path) -> list[str]:
        return re.findall(r"--[\w-]+: #[0-9a-f]+", file.read_text(encoding="utf-8"))

    assert colours(FOLDER / "page.css") == colours(TEMPLATES / "page.css")
