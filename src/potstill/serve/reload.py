"""Bundles that were replaced on disk, noticed by their description."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from potstill.serve.bundles import DESCRIPTION, Bundles

Stamp = tuple[int, int, int] | None
log = logging.getLogger(__name__)


async def watch(bundles: Bundles, every_s: float) -> None:
    """Reload a bundle once its ``bundle.json`` is another file than before and has stayed so for one look more.

    A bundle that does not open is tried again when its description changes again. Runs until cancelled.
    """
    known = {bundle.name: stamp_of(bundle.folder) for bundle in bundles}
    seen = dict(known)
    while True:
        await asyncio.sleep(every_s)
        now = {bundle.name: stamp_of(bundle.folder) for bundle in bundles}
        settled = [name for name, stamp in now.items() if stamp is not None and stamp == seen[name] != known[name]]
        seen = now
        if settled:
            known.update({name: now[name] for name in settled})
            await bundles.reload(settled)


def stamp_of(folder: Path) -> Stamp:
    """By what a change of a description is noticed: which file it is, when it was written, how large; None of none."""
    try:
        status = (folder / DESCRIPTION).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
