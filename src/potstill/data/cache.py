"""Where data that can be made again is kept between runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def cache_folder(chosen: str | Path | None = None) -> Path:
    """The folder chosen, else that of the environment variable POTSTILL_CACHE, else ``~/.cache/potstill``."""
    named = chosen or os.environ.get("POTSTILL_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "potstill"


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, empty where the file is absent or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
