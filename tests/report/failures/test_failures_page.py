"""The page of failures as a file: its tables and data are those of the summary, and nothing in it is markup."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs

import pytest

from potstill.report.failures.page import ANCHOR, render_failures
from potstill.report.failures.tables import agreement_table, confusions_table, failures_view, labels_table

KINDS = ("single_label_classification", "multi_label_classification", "regression")
ATTACK = '</script><script>alert("x")</script><!--'


class Tags(HTMLParser):
    """Every tag of a page with its attributes, and the content of its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.scripts[-1] += data


@pytest.fixture(params=KINDS)
def summary(request: Any, make_failures: Any) -> dict[str, Any]:
    """A summary of each kind of task, with a teacher."""
    return make_failures(request.param, 60).summary


def test_the_data_of_the_page_are_the_columns(summary):
    page = Tags(render_failures(summary))
    assert len(page.scripts) == 2
    assert json.loads(page.scripts[0]) == json.loads(json.dumps(summary["browser"]))


def test_the_page_asks_nothing_of_the_network(summary):
    page = render_failures(summary)
    links = [given[name] or "" for _, given in Tags(page).tags for name in ("href", "src") if name in given]
    assert [link for link in links if not link.startswith(("#", "data:"))] == []
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|<iframe|innerHTML", page)


def test_links_into_the_list_set_filters_that_are_there(summary):
    page = Tags(render_failures(summary))
    fields = {given["name"] for _, given in page.tags if given.get("name") and _ not in ("meta",)}
    links = [given["href"] or "" for tag, given in page.tags if tag == "a"]
    browsing = [link for link in links if "?" in link]
    assert browsing
    values = re.findall(r'<option value="([^"]*)"', render_failures(summary))
    for link in browsing:
        anchor, query = link[1:].split("?")
        assert anchor == ANCHOR
        for name, (value,) in parse_qs(query).items():
            assert name in fields
            assert value in values


def test_texts_and_names_from_data_are_never_markup(make_failures):
    made = make_failures("single_label_classification", 40, text=ATTACK, label_names=(ATTACK, "b", "c"))
    page = render_failures(made.summary | {"task": ATTACK, "model": ATTACK, "teacher_model": ATTACK})
    tags = Tags(page)
    assert len(tags.scripts) == 2
    assert ATTACK in json.loads(tags.scripts[0])["text"][0]
    assert ATTACK in html.unescape(page)


def test_the_page_is_the_same_for_the_same_summary(summary):
    assert render_failures(summary) == render_failures(summary)


def test_the_four_groups_of_the_table_are_all_rows(make_failures):
    summary = make_failures("single_label_classification", 60).summary
    table = agreement_table(summary, "a")
    cells = [cell for row in table.rows for cell in row[1:]]
    assert sum(cell.sort for cell in cells) == 60
    assert {cell.link for cell in cells} == {f"#a?show={group}" for group in summary["teacher"]["counts"]}


def test_tables_fit_the_kind_of_task(make_failures):
    single, many, scores = (make_failures(kind, 60).summary for kind in KINDS)
    assert confusions_table(single, "a").rows[0][1].link.startswith("#a?true=")
    assert labels_table(single, "a") is None
    assert labels_table(many, "a").rows[0][2].link == "#a?label=0&mistake=false_positives"
    assert confusions_table(many, "a") is None
    assert agreement_table(scores, "a") is None
    assert [title for title, _ in failures_view(scores, "a").tables] == []
    assert "doubted" in failures_view(single, "a").shows
    assert "worse" in failures_view(scores, "a").shows
    alone = make_failures("regression", 60, alone=True).summary
    assert "worse" not in failures_view(alone, "a").shows


def test_a_long_list_of_confusions_says_what_it_leaves_out(make_failures):
    summary = make_failures("single_label_classification", 60).summary
    pairs = [{"true": f"l{a}", "predicted": f"l{b}", "rows": 1} for a in range(6) for b in range(6) if a != b]
    changed = summary | {"confusions": pairs, "label_names": [f"l{a}" for a in range(6)], "n_wrong": 30}
    table = confusions_table(changed, "a")
    assert len(table.rows) == 20
    assert table.caption == "The 20 most frequent of 30 pairs."
