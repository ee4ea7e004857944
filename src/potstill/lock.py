"""One process at a time in a folder; a process that ends, however it ends, lets go."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from potstill.errors import RunFolderError


def take_lock(file: Path, holder: Path) -> IO[str]:
    """``file``, made with its folders, opened and locked until it is closed or the process ends.

    Raises RunFolderError, saying that another process works on ``holder``, where one has it.
    """
    while True:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = file.open("w")
        except FileNotFoundError:  # whoever had it is just taking it away
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as busy:
            lock.close()
            raise RunFolderError(f"another process is working on {holder}", do="wait for it or stop it") from busy
        if _is_still(file, lock):
            return lock
        lock.close()


def _is_still(file: Path, opened: IO[str]) -> bool:
    """Whether ``file`` is what was opened: a lock on a file that was moved or removed since then keeps nobody out."""
    try:
        return os.path.samestat(file.stat(), os.fstat(opened.fileno()))
    except FileNotFoundError:
        return False
