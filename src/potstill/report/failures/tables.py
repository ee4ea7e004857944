"""Tables and figure of failures from a summary of them; what can be browsed leads to the list of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup

from potstill.report.failures.sentences import EXPECTED, Summary, failure_sentences, shown_sentences, slices_method
from potstill.report.figures import Dot, draw_dots
from potstill.report.sentences import percent
from potstill.report.shell import embed_json
from potstill.report.tables import NOTHING, Cell, Table

MOST_PAIRS = 20
"""Confusions in the table; the list of rows knows all."""
MOST_DRAWN = 12
"""Slices in the figure."""

_SHOW = {
    "both_wrong": "both wrong",
    "only_student_wrong": "only the student wrong",
    "only_teacher_wrong": "only the teacher wrong",
    "both_right": "both right",
}


@dataclass(frozen=True)
class FailuresView:
    """What the template shows of the failures of one model; ``anchor`` is the id of its section.

    shows, sorts: value → name, of the choices that fit the kind of task. presets: a link and its words.
    """

    anchor: str
    summary: Summary
    sentences: Sequence[str]
    notes: Sequence[str]
    tables: Sequence[tuple[str, Table]]
    method: str
    slices: Table | None
    lost: Table | None
    figure: Markup | None
    shows: Mapping[str, str]
    sorts: Mapping[str, str]
    presets: Sequence[tuple[str, str]]
    columns: Markup


def failures_view(summary: Summary, anchor: str) -> FailuresView:
    """Everything the section shows of ``summary``, which holds the list's columns under ``browser``."""
    teacher = summary["teacher"]
    against = teacher is not None and teacher["counts"] is not None
    return FailuresView(
        anchor=anchor,
        summary=summary,
        sentences=failure_sentences(summary),
        notes=shown_sentences(summary["browser"]),
        tables=_tables(summary, anchor),
        method=slices_method(summary),
        slices=slices_table(summary, summary["slices"], anchor),
        lost=slices_table(summary, teacher["lost"], anchor, show="only_student_wrong") if against else None,
        figure=_draw_slices(summary),
        shows=_shows(summary),
        sorts=_sorts(summary),
        presets=_presets(summary, anchor),
        columns=embed_json(summary["browser"]),
    )


def _tables(summary: Summary, anchor: str) -> list[tuple[str, Table]]:
    tables = {
        "Student and teacher": agreement_table(summary, anchor),
        "Confusions": confusions_table(summary, anchor),
        "By label": labels_table(summary, anchor),
    }
    return [(title, table) for title, table in tables.items() if table is not None]


def agreement_table(summary: Summary, anchor: str) -> Table | None:
    """Student down, teacher across; None without a teacher or right and wrong."""
    if summary["teacher"] is None or summary["teacher"]["counts"] is None:
        return None

    def cell(group: str) -> Cell:
        count = summary["teacher"]["counts"][group]
        return Cell(f"{count:,}", percent(count / summary["n_rows"]), count, _browse(anchor, show=group))

    return Table(
        ["", "teacher right", "teacher wrong"],
        [
            [Cell("student right"), cell("both_right"), cell("only_teacher_wrong")],
            [Cell("student wrong"), cell("only_student_wrong"), cell("both_wrong")],
        ],
    )


def confusions_table(summary: Summary, anchor: str) -> Table | None:
    """The most frequent confusions; None where there is none."""
    pairs = summary["confusions"]
    if not pairs:
        return None
    numbers = {name: number for number, name in enumerate(summary["label_names"])}
    rows = [
        [
            Cell(f"{pair['true']} → {pair['predicted']}"),
            Cell(
                f"{pair['rows']:,}",
                sort=pair["rows"],
                link=_browse(anchor, true=numbers[pair["true"]], predicted=numbers[pair["predicted"]]),
            ),
            Cell(percent(pair["rows"] / summary["n_wrong"]), sort=pair["rows"]),
        ]
        for pair in pairs[:MOST_PAIRS]
    ]
    caption = f"The {MOST_PAIRS} most frequent of {len(pairs)} pairs." if len(pairs) > MOST_PAIRS else ""
    return Table(["true → predicted", "rows", "share of mistakes"], rows, caption)


def labels_table(summary: Summary, anchor: str) -> Table | None:
    """Of many labels each: how often it was given wrongly, and missed; None for tasks of another kind."""
    if not summary["per_label"]:
        return None
    rows = [
        [
            Cell(label["label"]),
            Cell(f"{label['rows']:,}", sort=label["rows"]),
            *(
                Cell(f"{label[kind]:,}", sort=label[kind], link=_browse(anchor, label=number, mistake=kind))
                for kind in ("false_positives", "false_negatives")
            ),
        ]
        for number, label in enumerate(summary["per_label"])
    ]
    return Table(["label", "rows that have it", "given wrongly", "missed"], rows)


def slices_table(summary: Summary, slices: Summary, anchor: str, **query: str) -> Table | None:
    """Every slice that was looked at, the surest difference first; None where there was none.

    A slice links to its rows in the list, of which ``query`` asks for some.
    """
    if not slices["findings"]:
        return None
    regression = summary["problem_type"] == "regression"
    measure = "median error" if regression else "wrong"
    places = {(found["family"], found["name"]): place for place, found in enumerate(summary["slices"]["findings"])}
    rows = [
        [
            Cell(f"{found['family']}: {found['name']}", link=_slice_link(places, found, anchor, query)),
            Cell(f"{found['rows']:,}", sort=found["rows"]),
            _rate_cell(found["inside"], regression),
            _rate_cell(found["outside"], regression),
            Cell(_p_value(found["q_value"]), "differs" if found["differs"] else "", found["q_value"]),
        ]
        for found in slices["findings"]
    ]
    caption = f"{slices['n_too_small']} slices with too few rows inside or outside were not looked at. "
    return Table(
        ["slice", "rows", measure, "the rest", "corrected p"],
        rows,
        (caption if slices["n_too_small"] else "") + f"Intervals are at {summary['level']:.0%}.",
    )


def _slice_link(places: Mapping[tuple[str, str], int], found: Summary, anchor: str, query: Mapping[str, str]) -> str:
    place = places.get((found["family"], found["name"]))
    return "" if place is None else _browse(anchor, **query, slice=place)


def _rate_cell(rate: Summary, regression: bool) -> Cell:
    def show(value: float | None) -> str:
        return NOTHING if value is None else f"{value:.3g}" if regression else percent(value)

    return Cell(show(rate["value"]), f"{show(rate['low'])} to {show(rate['high'])}", rate["value"])


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _draw_slices(summary: Summary) -> Markup | None:
    """The surest differences with their intervals, beside the figure of all rows."""
    regression = summary["problem_type"] == "regression"
    factor = 1 if regression else 100
    differing = [found for found in summary["slices"]["findings"] if found["differs"]]
    drawn = [found for found in differing if found["family"] != EXPECTED][:MOST_DRAWN]
    if not drawn:
        return None
    arm = "median absolute error" if regression else "wrong rows (%)"
    dots = [
        Dot(f"{found['family']}: {found['name']}", arm, factor * rate["value"], _bounds(rate, factor))
        for found in drawn
        for rate in (found["inside"],)
    ]
    title = f"Slices that differ: {summary['model']}, {summary['task']}"
    reference = factor * summary["error"]["value"]
    return Markup(
        draw_dots(dots, arms=[arm], title=title, unit=f"{arm}; dotted: all rows", reference=reference, legend=False)
    )


def _bounds(rate: Summary, factor: float) -> tuple[float, float] | None:
    return None if rate["low"] is None else (factor * rate["low"], factor * rate["high"])


def _shows(summary: Summary) -> dict[str, str]:
    """Which rows can be asked for, by the kind of task and what is known."""
    teacher = summary["teacher"]
    if summary["problem_type"] == "regression":
        nearer = {"worse": "further off than the teacher", "better": "nearer than the teacher"}
        return {"all": "all", "high": "answer too high", "low": "answer too low", **(nearer if teacher else {})}
    shows = {"wrong": "wrong", "right": "right", "all": "all"}
    shows |= _SHOW if teacher is not None else {}
    return shows | ({"doubted": "label in doubt"} if summary["label_errors"] is not None else {})


def _sorts(summary: Summary) -> dict[str, str]:
    lengths = {"longest": "longest first", "shortest": "shortest first", "id": "by id"}
    if summary["problem_type"] == "regression":
        return {"loss": "largest error first", "least_loss": "smallest error first", **lengths}
    sure = {"sure": "most confident first", "unsure": "least confident first"}
    doubted = {"doubt": "likeliest label errors first"} if summary["label_errors"] is not None else {}
    return {"loss": "hardest first (loss)", **sure, **doubted, **lengths}


def _presets(summary: Summary, anchor: str) -> list[tuple[str, str]]:
    if summary["problem_type"] == "regression":
        return [(_browse(anchor), "Largest errors")]
    presets: dict[str, dict[str, str]] = {
        "All wrong rows": {},
        "Hardest": {"show": "all"},
        "Most confidently wrong": {"sort": "sure"},
    }
    if summary["teacher"] is not None:
        presets |= {
            "Only the student wrong": {"show": "only_student_wrong"},
            "Both wrong": {"show": "both_wrong", "sort": "sure"},
        }
    if summary["label_errors"] is not None:
        presets["Labels in doubt"] = {"show": "doubted", "sort": "doubt"}
    return [(_browse(anchor, **query), words) for words, query in presets.items()]


def _browse(anchor: str, **query: Any) -> str:
    """A link that sets the filters of the section's list."""
    return f"#{anchor}?{urlencode(query)}"
