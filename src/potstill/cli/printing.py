"""Results on stdout, as tables for people or JSON for machines; progress and news on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def tell(message: str) -> None:
    """A line of news for whoever watches."""
    print(message, file=sys.stderr, flush=True)


def print_json(content: Any) -> None:
    """One JSON document on stdout, nothing else."""
    json.dump(content, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


def print_rows(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table on stdout with the keys of the first row as its header."""
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name, justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    Console().print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
