"""Results on stdout, as tables for people or JSON for machines; progress and news on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def tell(message: str) -> None:
    """A line of news for whoever watches."""
    print(message, file=sys.stderr, flush=True)


def print_json(content: Any) -> None:
    """One JSON document on stdout, nothing else; a number that is none, such as an undefined metric, is null."""
    sys.stdout.write(json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n")


def print_rows(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table on stdout with the keys of the first row as its header; brackets are text, never rich's markup."""
    table = Table(title=escape(title), title_justify="left")
    for name in rows[0]:
        table.add_column(escape(name), justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(*(escape(_cell(value)) for value in row.values()))
    Console().print(table)


def comparison_rows(compared: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per arm: median, interval, retention with its interval, p-value and agreement of the primary metric."""
    rows = []
    for name, arm in compared["arms"].items():
        summary, change = arm["metrics"][compared["metric"]], arm["changes"].get(compared["metric"])
        retained = change["retention"] if change else None
        rows.append(
            {
                "arm": name,
                "median": summary["median"],
                "95% interval": _span(summary["interval"]),
                "seeds": _span({"low": summary["minimum"], "high": summary["maximum"]}),
                "retention": retained["value"] if retained else None,
                "its interval": _span(retained) if retained else "–",
                "p": change["p_value"] if change else None,
                "agreement": arm["rows"]["agreement"] if arm["rows"] else None,
            }
        )
    return rows


def cost_rows(compared: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per arm: parameters, bytes, training time, and speed where it was measured."""
    return [{"arm": name, **costs} for name, costs in compared["costs"].items()]


def _span(interval: Mapping[str, float | None]) -> str:
    low, high = interval["low"], interval["high"]
    return "undefined" if low is None or high is None else f"{low:.4f} – {high:.4f}"


def _plain(value: Any) -> Any:
    """``value`` in JSON's words, which has none for NaN and infinity."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
