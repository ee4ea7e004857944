"""Arms of a benchmark, each in a process of its own, taking turns; and what was measured as Markdown.

A process of its own gives an arm its own memory and a fresh start. Taking turns within each repeat lets whatever else
the machine does hit all arms alike, so ratios are formed within a repeat and then their median is taken. Each repeat
begins with the next arm, so that none always comes first.
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy import stats

from potstill.machine import machine, versions
from potstill.runs import write_json

MEASURED = Path(__file__).parents[1] / "docs" / "measured"
"""Where measurements are kept that docs/results.md shows."""

Figures = dict[str, float]


def take_turns(
    script: str,
    arms: Sequence[str],
    options: Sequence[str],
    repeats: int,
    *,
    first: int = 0,
    after: Callable[[dict[str, Figures]], None] = lambda figures: None,
) -> list[dict[str, Figures]]:
    """Run ``script`` with ``--arm`` for each arm, ``repeats`` times; each prints its figures as one JSON object.

    ``first`` is the number of the first repeat, by which the order turns. ``after`` may add to the figures of a repeat.
    """
    done = []
    for number in range(first, first + repeats):
        turned = number % len(arms)
        figures = {arm: _one(script, arm, options) for arm in (*arms[turned:], *arms[:turned])}
        after(figures)
        done.append(figures)
    return done


def _one(script: str, arm: str, options: Sequence[str]) -> Figures:
    done = subprocess.run(
        [sys.executable, script, *options, f"--arm={arm}"], check=True, stdout=subprocess.PIPE, text=True
    )
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    print(arm, figures, file=sys.stderr, flush=True)
    return figures


def store(
    name: str,
    *,
    title: str,
    arms: Mapping[str, str],
    repeats: Sequence[Mapping[str, Figures]],
    rate: str | None = None,
    peers: Sequence[str] = (),
    quality: str | None = None,
) -> dict[str, Any]:
    """Keep what was measured, with the machine, for ``results.py``, and return it.

    ``rate`` names the figure by which arms are so many times as fast as each of ``peers``, ``quality`` the one by which
    they differ from the first arm.
    """
    content = {
        "title": title,
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *_without_paths(sys.argv[1:])]),
        "rate": rate,
        "peers": list(peers),
        "quality": quality,
        "arms": dict(arms),
        "machine": {**machine(), **versions()},
        "repeats": list(repeats),
    }
    MEASURED.mkdir(parents=True, exist_ok=True)
    write_json(MEASURED / f"{name}.json", content)
    return content


_FOLDERS = {"--data-dir": "DATA", "--work": "WORK", "--run": "RUN", "--bundle": "BUNDLE"}
"""Options whose values are folders of one machine, and what they are called on any; named runs are told by name."""


def _without_paths(options: Sequence[str]) -> list[str]:
    """The options as another machine would give them, each folder of this one by a name."""
    following = [None, *options]
    named = [_FOLDERS.get(str(before), option) for before, option in zip(following, options, strict=False)]
    flags = [option.partition("=")[0] for option in named]
    return [
        f"{flag}={_FOLDERS.get(flag, 'RUN')}" if option != flag and (flag in _FOLDERS or os.sep in option) else option
        for flag, option in zip(flags, named, strict=True)
    ]


def table(measured: Mapping[str, Any]) -> str:
    """A row for each arm: the median of each figure, and how it compares with the peers in rate and in quality."""
    repeats, quality, arms = measured["repeats"], measured["quality"], measured["arms"]
    first = next(iter(arms))
    figures = list(dict.fromkeys(figure for arm in arms for figure in repeats[0][arm]))
    header = ["arm", *(figure.replace("_", " ") for figure in figures), *_ratios_header(measured["peers"])]
    header += [f"{quality.replace('_', ' ')} less that of “{first}”"] if quality else []
    rows = [header, ["---"] * len(header)]
    for arm, described in arms.items():
        medians = [_median(repeats, arm, figure) for figure in figures]
        differs = ["" if arm == first else _difference(repeats, quality, arm, first)] if quality else []
        rows.append([f"{arm}: {described}", *medians, *_ratios(measured, arm), *differs])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    where = ", ".join(f"{name}: {value}" for name, value in measured["machine"].items())
    title = f"{measured['title']}, {len(repeats)} repeats: `{measured['command']}`\n"
    return "\n".join([title, *lines, f"\nMachine and versions — {where}."])


def _median(repeats: Sequence[Mapping[str, Figures]], arm: str, figure: str) -> str:
    """Over the repeats; a dash where the arm has no such figure."""
    found = [repeat[arm][figure] for repeat in repeats if figure in repeat[arm]]
    return f"{statistics.median(found):,.4g}" if found else "–"


def _ratios_header(peers: Sequence[str]) -> list[str]:
    fastest = ["times as fast as the fastest of them in the same repeat"] if len(peers) > 1 else []
    return [*(f"times as fast as “{peer}”" for peer in peers), *fastest]


def _ratios(measured: Mapping[str, Any], arm: str) -> list[str]:
    """How many times as fast an arm is as each peer, and one that is no peer as the fastest of each repeat."""
    repeats, rate, peers = measured["repeats"], measured["rate"], measured["peers"]
    cells = ["" if arm == peer else _ratio(repeats, rate, arm, [peer]) for peer in peers]
    if len(peers) > 1:
        cells.append("" if arm in peers else _ratio(repeats, rate, arm, peers))
    return cells


def _ratio(repeats: Sequence[Mapping[str, Figures]], rate: str, arm: str, peers: Sequence[str]) -> str:
    """Beside the fastest of ``peers``: the median over the repeats, with its range."""
    ratios = [repeat[arm][rate] / max(repeat[peer][rate] for peer in peers) for repeat in repeats]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _difference(repeats: Sequence[Mapping[str, Figures]], quality: str, arm: str, first: str) -> str:
    """The mean of the differences within repeats, with its 95% interval by Student's t."""
    differences = [repeat[arm][quality] - repeat[first][quality] for repeat in repeats]
    mean, half = statistics.fmean(differences), float(stats.sem(differences) * stats.t.ppf(0.975, len(differences) - 1))
    return f"{mean:+.4f} ({mean - half:+.4f} to {mean + half:+.4f})"
