"""Arms of a benchmark, each in a process of its own, taking turns; and what was measured as Markdown.

A process of its own gives an arm its own memory and a fresh start. Taking turns within each repeat lets whatever else
the machine does hit all arms alike, so ratios are formed within a repeat and then their median is taken.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from potstill.machine import machine, versions
from potstill.runs import write_json

MEASURED = Path(__file__).parents[1] / "docs" / "measured"
"""Where measurements are kept that docs/results.md shows."""

Figures = dict[str, float]


def take_turns(script: str, arms: Sequence[str], options: Sequence[str], repeats: int) -> list[dict[str, Figures]]:
    """Run ``script`` with ``--arm`` for each arm, ``repeats`` times; each prints its figures as one JSON object."""
    return [{arm: _one(script, arm, options) for arm in arms} for _ in range(repeats)]


def _one(script: str, arm: str, options: Sequence[str]) -> Figures:
    done = subprocess.run(
        [sys.executable, script, *options, f"--arm={arm}"], check=True, stdout=subprocess.PIPE, text=True
    )
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    print(arm, figures, file=sys.stderr, flush=True)
    return figures


def store(
    name: str, *, title: str, rate: str, arms: Mapping[str, str], repeats: Sequence[Mapping[str, Figures]]
) -> None:
    """Keep what was measured, with the machine, for ``results.py``; ``rate`` names the figure of the ratios."""
    where = {**machine(), **versions()}
    content = {"title": title, "rate": rate, "arms": dict(arms), "machine": where, "repeats": list(repeats)}
    MEASURED.mkdir(parents=True, exist_ok=True)
    write_json(MEASURED / f"{name}.json", content)


def table(measured: Mapping[str, Any]) -> str:
    """A row for each arm: the median of each figure, and how many times as fast the last arm is, with its range."""
    repeats, rate = measured["repeats"], measured["rate"]
    *_, last = measured["arms"]
    figures = list(repeats[0][last])
    header = ["arm", *(figure.replace("_", " ") for figure in figures), f"“{last}” is … times as fast"]
    rows = [header, ["---"] * len(header)]
    for arm, described in measured["arms"].items():
        medians = [f"{statistics.median(repeat[arm][figure] for repeat in repeats):,.4g}" for figure in figures]
        ratios = [repeat[last][rate] / repeat[arm][rate] for repeat in repeats]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        rows.append([f"{arm}: {described}", *medians, "" if arm == last else spread])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    where = ", ".join(f"{name}: {value}" for name, value in measured["machine"].items())
    return "\n".join([f"{measured['title']}, {len(repeats)} repeats.\n", *lines, f"\nMachine and versions — {where}."])
