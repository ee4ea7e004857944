"""What a bench measured as figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from potstill.report.figures import MARKERS, OKABE_ITO, as_svg, figure_on_page, legend_below


def draw_latency(measured: Mapping[str, Any]) -> str:
    """Milliseconds of one text by its tokens, both on logarithmic axes: the median as a line, to the 95% as a band."""
    title = "One text at a time"
    with figure_on_page(3.2) as (figure, axes):
        for index, subject in enumerate(measured["subjects"]):
            colour, points = OKABE_ITO[index % 7], subject["latency"]
            tokens = [point["tokens"] for point in points]
            medians = [point["p50_ms"] for point in points]
            axes.plot(tokens, medians, MARKERS[index % 7], linestyle="-", color=colour, label=_named(subject))
            axes.fill_between(tokens, medians, [point["p95_ms"] for point in points], color=colour, alpha=0.15)
        axes.set(title=title, xlabel="tokens of the text", ylabel="milliseconds, median and 95%")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.grid()
        legend_below(figure, axes, most_columns=2)
        return as_svg(figure, title)


def draw_throughput(measured: Mapping[str, Any], lengths: str) -> str:
    """Texts per second by the texts of a call, for one distribution of lengths."""
    title = f"Texts per second, {lengths}"
    with figure_on_page(3.2) as (figure, axes):
        for index, subject in enumerate(measured["subjects"]):
            points = [point for point in subject["throughput"] if point["lengths"] == lengths]
            axes.plot(
                [point["texts_a_call"] for point in points],
                [point["texts_per_s"] for point in points],
                MARKERS[index % 7],
                linestyle="-",
                color=OKABE_ITO[index % 7],
                label=_named(subject),
            )
        axes.set(title=title, xlabel="texts a call", ylabel="texts per second")
        axes.set_xscale("log", base=2)
        axes.set_ylim(bottom=0)
        axes.grid()
        legend_below(figure, axes, most_columns=2)
        return as_svg(figure, title)


def _named(subject: Mapping[str, Any]) -> str:
    return f"{subject['name']}, {subject['threads']} threads"
