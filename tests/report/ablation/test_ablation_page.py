"""The page of an ablation and its drawings, from a study of scores that were made up."""

from __future__ import annotations

import csv
import io
import itertools
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from potstill.analyse.ablation.budget import ArmBudget
from potstill.analyse.ablation.study import ArmFacts, Study, study_arms
from potstill.records import Predictions
from potstill.report.ablation import page as ablation_page
from potstill.report.ablation.figures import draw_study, short_names
from potstill.report.ablation.page import AblationReport, arm_table, render_ablation, write_ablation

VOID = {"meta", "link", "br", "hr", "img", "input", "wbr"}
FIELDS = {"student.layers": (1, 2, 3), "student.heads": (4, 12)}


def predictions(rate: float, seed: int) -> Predictions:
    """Two labels on 120 rows, right at about this rate."""
    rng = np.random.default_rng([seed, int(1000 * rate)])
    targets = np.arange(120) % 2
    chosen = np.where(rng.random(120) < rate, targets, 1 - targets)
    return Predictions(
        ids=np.array([f"test-{row:04d}" for row in range(120)]),
        logits=np.eye(2, dtype=np.float32)[chosen],
        label_names=("no", "yes"),
        problem_type="single_label_classification",
        n_tokens=np.full(120, 9, dtype=np.int32),
        truncated=np.zeros(120, dtype=bool),
        elapsed_s=1.0,
        targets=targets,
    )


def facts(name: str, settings: Mapping[str, Any], number: int, tokens: int = 1000) -> ArmFacts:
    budget = ArmBudget(
        name, {"train": 500}, "same", (1, 2), (tokens, tokens), (20, 20), {"distillation": 900}, ("fp32",)
    )
    return ArmFacts(
        name, settings, True, budget, {"accuracy": [0.5, 0.6]}, 1_000_000 * (number + 1), 4_000_000, (3.0, 4.0), 9.0,
        latency_ms=2.0 + number, texts_per_s=100.0 / (number + 1),
    )  # fmt: skip


def make_study(task: str = "reviews", unequal: bool = False) -> Study:
    settings = [dict(zip(FIELDS, values, strict=True)) for values in itertools.product(*FIELDS.values())]
    names = [f"layers={arm['student.layers']},heads={arm['student.heads']}" for arm in settings]
    names[0] = "<b>layers & heads</b>"
    rates = [0.55 + 0.1 * arm["student.layers"] + 0.005 * arm["student.heads"] for arm in settings]
    arms = [
        facts(name, arm, number, 1000 if number or not unequal else 100)
        for number, (name, arm) in enumerate(zip(names, settings, strict=True))
    ]
    return study_arms(
        arms,
        {name: [predictions(rate, seed) for seed in (1, 2)] for name, rate in zip(names, rates, strict=True)},
        task=task,
        split="test",
        metric="accuracy",
        baseline=names[-1],
        fields=list(FIELDS),
        grid_fields=list(FIELDS),
        unequal=["finetune.epochs"] if unequal else [],
        encoders_once=True,
        n_resamples=60,
    )


@pytest.fixture(scope="module")
def study() -> Study:
    return make_study()


@pytest.fixture(scope="module")
def report(study: Study) -> AblationReport:
    return AblationReport(
        title="shapes", created="2026-03-14", n_arms=7, studies=[study], failed={"<i>x</i>": "it broke"},
        commands=["potstill ablate shapes"], grid_yaml="grid: {}", notes=["12 stages."],
    )  # fmt: skip


@pytest.fixture(scope="module")
def written(report: AblationReport, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the report was written, once: drawing takes its time."""
    folder = tmp_path_factory.mktemp("written")
    assert write_ablation(report, folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def page(written: Path) -> str:
    return (written / "report.html").read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Tags that do not close in order, ids, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_balanced_html_without_a_doubled_id(page):
    reader = Reader(page)
    assert reader.unbalanced == reader.open == []
    assert len(reader.ids) == len(set(reader.ids))


def test_names_are_text_and_never_tags(page):
    assert "<b>layers & heads</b>" not in page
    assert "<i>x</i>" not in page
    reader = Reader(page)
    assert "<b>layers & heads</b>" in reader.text
    assert "<i>x</i>: it broke" in reader.text


def test_every_insight_and_the_budget_are_on_the_page(page, study):
    text = " ".join(Reader(page).text.split())
    for insight in study.insights:
        assert insight.sentence in text
    assert study.budget.sentence in text


def test_an_unequal_budget_is_a_warning_and_an_equal_one_is_not(page, monkeypatch):
    assert '<div class="budget">' in page
    monkeypatch.setattr(ablation_page, "draw_study", lambda study: [])
    unequal = render_ablation(AblationReport("x", "", 6, [make_study(unequal=True)]))
    assert '<div class="budget">' not in unequal
    assert "not at equal budget" in unequal


def test_the_table_has_a_row_for_every_arm_best_first_with_its_costs(study):
    table = arm_table(study)
    assert [row[1].text for row in table.rows] == [
        str(one.rank) for one in sorted(study.standings, key=lambda s: s.rank)
    ]
    by_name = {row[0].text: row for row in table.rows}
    assert set(by_name) == {arm.name for arm in study.arms}
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert by_name["layers=3,heads=12"][0].detail == "baseline"
    assert "6 M" in [cell.text for cell in by_name["layers=3,heads=12"]]
    for row in table.rows:
        for name, cell in zip(table.columns, row, strict=True):
            assert cell.sort is not None or name == "arm" or cell.text == "–", f"{name} sorts by its number"


def test_the_drawings_are_one_of_standings_and_one_of_each_finding(study):
    drawn = draw_study(study)
    # by hand: standings, two fields, shares, one pair, fronts of parameters and time
    assert len(drawn) == 1 + 2 + 1 + 1 + 2
    for svg in drawn:
        assert ElementTree.fromstring(svg).get("role") == "img"
        assert "currentColor" in svg


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("layers=2,heads=4", "layers=6,heads=4"), ("layers, heads", ["2, 4", "6, 4"])),
        (("layers=2,heads=4", "teacher"), ("", ["layers=2,heads=4", "teacher"])),
        (("layers=2", "heads=4"), ("", ["layers=2", "heads=4"])),
        (("no-cosine",), ("", ["no-cosine"])),
    ],
)
def test_arms_of_the_same_fields_are_called_by_their_values(names, told):
    assert short_names(names) == told


def test_all_panels_are_in_one_drawing(written):
    panels = ElementTree.fromstring((written / "panels-reviews.svg").read_text(encoding="utf-8"))
    axes = [element for element in panels.iter() if (element.get("id") or "").partition("-")[2].startswith("axes_")]
    assert len(axes) == 7, "those drawn for the page"


def test_the_files_are_written_beside_the_page(written, study):
    assert {file.name for file in written.iterdir()} == {"report.html", "runs.csv", "arms.csv", "panels-reviews.svg"}
    arms = list(csv.DictReader(io.StringIO((written / "arms.csv").read_text(encoding="utf-8"))))
    assert [float(row["mean"]) for row in arms] == [one.mean.value for one in study.standings]
    runs = list(csv.DictReader(io.StringIO((written / "runs.csv").read_text(encoding="utf-8"))))
    assert len(runs) == 12
    assert [(row["student.layers"], row["seed"]) for row in runs[:2]] == [("1", "1"), ("1", "2")]


def test_a_number_that_there_is_not_is_an_empty_cell_of_the_csv():
    assert ablation_page._csv([{"mean": float("nan"), "rank": 1}, {"rank": 2}]) == "mean,rank\n,1\n,2\n"


def test_a_report_without_a_study_says_so():
    page = render_ablation(AblationReport("x", "", 2, [], failed={"a": "why", "b": "why"}))
    assert "No arm has a result." in page
    assert "2 of 2 arms failed" in page


def test_a_report_whose_baseline_failed_does_not_say_that_all_did():
    page = render_ablation(AblationReport("x", "", 3, [], failed={"a": "why"}))
    assert "No arm has a result." not in page
    assert "Nothing could be compared: the baseline" in page


@pytest.mark.browser
def test_in_a_browser_the_page_opens_without_complaint_and_its_table_sorts(chromium: Any, written: Path, study: Study):
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.get("about:blank")
    chromium.get_log("browser")
    chromium.get((written / "report.html").as_uri())
    parameters = list(arm_table(study).columns).index("parameters")
    shown = (
        "const column = arguments[0]; document.querySelectorAll('thead th')[column].click();"
        "return [...document.querySelectorAll('tbody tr')].map((row) => Number(row.cells[column].dataset.sort))"
    )
    counts = sorted(float(arm.n_parameters) for arm in study.arms)
    assert chromium.execute_script(shown, parameters) == counts[::-1]
    assert chromium.execute_script(shown, parameters) == counts
    assert chromium.get_log("browser") == []


@pytest.mark.browser
def test_on_a_phone_the_page_is_no_wider_than_the_screen(chromium: Any, written: Path):
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    chromium.get((written / "report.html").as_uri())
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= 390
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
