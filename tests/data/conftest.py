"""What the tests of the data room share: a cache of their own, and a way to write files in a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import datasets
import pytest

WriteFile = Callable[[str, str | bytes], Path]


@pytest.fixture(autouse=True)
def cache_in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps what ``datasets`` unpacks out of the user's home."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf-cache"))


@pytest.fixture
def write_file(tmp_path: Path) -> WriteFile:
    """Writes a file below ``tmp_path`` from text or bytes, and returns its path."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write
