"""The page of one model's failures: sentences, tables, and every row to browse, in one file."""

from __future__ import annotations

from potstill.report.failures.sentences import Summary
from potstill.report.failures.tables import failures_view
from potstill.report.shell import fill_page

ANCHOR = "failures-1"


def render_failures(summary: Summary) -> str:
    """The page as HTML text, of a summary that holds the list's columns under ``browser``.

    Texts from data are escaped, and put into the document as text.
    """
    return fill_page(
        "failures.html.j2",
        title=f"{summary['task']}: failures of {summary['model']}",
        styles=("failures.css",),
        scripts=("failures.js",),
        created=summary["created"],
        view=failures_view(summary, ANCHOR),
    )
