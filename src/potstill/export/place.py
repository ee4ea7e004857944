"""Where a bundle lies while it is written: beside its name, and under it whole or not at all. No torch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from potstill.bundle import FILE, MODEL, TOKENIZER, is_bundle
from potstill.errors import RunFolderError
from potstill.lock import take_lock
from potstill.runs import require_unused, storage_errors


def require_place(out: Path) -> None:
    """Raise RunFolderError unless ``out`` is new or an empty folder."""
    if is_bundle(out):
        raise RunFolderError(f"{out} holds a bundle already", do="choose another --out, or remove that folder first")
    require_unused(out)


@contextmanager
def beside(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` to write into, ours alone; gone at the end, unless it has taken another name.

    What a process that was killed left there is taken away.
    """
    partial, lock_file = (out.with_name(f".{out.name}.{kind}") for kind in ("partial", "lock"))
    with storage_errors(out):
        lock = take_lock(lock_file, out)
    with lock:
        try:
            with storage_errors(out):
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            lock_file.unlink(missing_ok=True)


def let_out(partial: Path, out: Path) -> None:
    """Give the bundle its name at once; a folder that is there is filled, the file that makes it a bundle last."""
    with storage_errors(out):
        require_place(out)
        if not out.is_dir():
            partial.rename(out)
            return
        for name in (MODEL, TOKENIZER, FILE):
            shutil.move(partial / name, out / name)
