"""Results on stdout, as tables for people or JSON for machines; progress and news on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def tell(message: str) -> None:
    """A line of news for whoever watches."""
    print(message, file=sys.stderr, flush=True)


def print_json(content: Any) -> None:
    """One JSON document on stdout, nothing else; a number that is none, such as an undefined metric, is null."""
    sys.stdout.write(json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n")


def print_rows(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table on stdout with the keys of the first row as its header."""
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name, justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    Console().print(table)


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
