"""The lock: one holder at a time, also where the file that was locked has been taken away in between."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path
from typing import Any

import pytest

from potstill.errors import RunFolderError
from potstill.lock import take_lock


def test_a_lock_has_one_holder_and_is_free_when_it_is_closed(tmp_path: Path):
    file = tmp_path / "deep" / "lock"
    held = take_lock(file, tmp_path)
    with pytest.raises(RunFolderError, match=f"another process is working on {tmp_path}; wait for it or stop it"):
        take_lock(file, tmp_path)
    held.close()
    take_lock(file, tmp_path).close()


def test_a_lock_on_a_file_that_was_taken_away_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # oracle: whoever comes next finds the lock taken; it would not, were the lock that of the removed file
    file, lock_it, removed = tmp_path / "work" / "lock", fcntl.flock, []

    def flock(opened: Any, how: int) -> None:
        if not removed:
            removed.append(shutil.rmtree(file.parent))
        lock_it(opened, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    held = take_lock(file, tmp_path)
    assert file.is_file()
    with pytest.raises(RunFolderError, match="another process"):
        take_lock(file, tmp_path)
    held.close()
