"""The bundles of a server by name: opened together, replaced one by one without losing a request."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from potstill.errors import UsageError
from potstill.serve.metrics import BundleMetrics, Metrics
from potstill.serve.predictor import OpenPredictor, ServedPredictor
from potstill.serve.refusals import RefusedError
from potstill.serve.settings import Limits
from potstill.serve.worker import Worker, warm_up

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
DESCRIPTION = "bundle.json"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NamedFolder:
    """A bundle's folder and the name it is asked for by."""

    name: str
    folder: Path


def named_folders(given: Sequence[str]) -> tuple[NamedFolder, ...]:
    """``folder`` or ``name=folder`` as they stand on the command line; a folder alone is called what it is called.

    Raises UsageError for names that cannot stand in an address, for one name twice, and for what is no folder.
    """
    found: list[NamedFolder] = []
    for argument in given:
        name, equals, path = argument.partition("=")
        folder = Path(path) if equals else Path(argument)
        name = name if equals else folder.resolve().name
        if not NAME.fullmatch(name):
            raise UsageError(
                "a bundle cannot be called this",
                found=name,
                allowed="letters, digits, dot, dash and underscore, 64 at most",
                do=f"give it a name: name={folder}",
            )
        if name in (other.name for other in found):
            raise UsageError("two bundles have the same name", found=name, do=f"give one another name: other={folder}")
        if not folder.is_dir():
            raise UsageError("there is no such bundle folder", found=str(folder))
        found.append(NamedFolder(name, folder))
    return tuple(found)


class ServedBundle:
    """One bundle: its folder, and the worker that answers for it now."""

    def __init__(self, named: NamedFolder, predictor: ServedPredictor, metrics: BundleMetrics, limits: Limits) -> None:
        self.name, self.folder = named.name, named.folder
        self.metrics, self._limits = metrics, limits
        self.worker = Worker(predictor, metrics, limits)
        self.sha256 = sha256_of_description(self.folder)
        self._leaving: set[asyncio.Task[None]] = set()
        self._reloading = asyncio.Lock()

    async def reload(self, open_predictor: OpenPredictor) -> bool:
        """Open the folder anew and answer from it; False, and nothing has changed, where that fails.

        Requests that were accepted before are answered by the bundle that accepted them: for a while both are in
        memory.
        """
        async with self._reloading:
            opened = asyncio.get_running_loop().run_in_executor(None, _open_warm, open_predictor, self.folder)
            await asyncio.wait({opened})
            error = opened.exception()
            if error is not None:
                self.metrics.count_reload("failed")
                log.error(
                    "the bundle was not reloaded; the old one goes on", extra={"bundle": self.name}, exc_info=error
                )
                return False
            left, self.worker = self.worker, Worker(opened.result(), self.metrics, self._limits)
            self.sha256 = sha256_of_description(self.folder)
            leaving = asyncio.get_running_loop().create_task(left.finish())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
            self.metrics.count_reload("opened")
            log.info("the bundle was reloaded", extra={"bundle": self.name})
            return True

    async def finish(self) -> None:
        """End once everything accepted is answered."""
        await asyncio.gather(self.worker.finish(), *self._leaving)


class Bundles:
    """All bundles of a server. The first is the one that is meant where none is named."""

    def __init__(self, folders: Sequence[NamedFolder], open_predictor: OpenPredictor) -> None:
        """Open every bundle; raises what ``open_predictor`` raises for the first that does not open."""
        if not folders:
            raise UsageError("there is no bundle to serve")
        self._open = open_predictor
        self._opened = [(named, _open_warm(open_predictor, named.folder)) for named in folders]
        self._by_name: dict[str, ServedBundle] = {}

    def start(self, metrics: Metrics, limits: Limits) -> None:
        """Begin to answer. Called once, inside the event loop."""
        for named, predictor in self._opened:
            self._by_name[named.name] = ServedBundle(named, predictor, metrics.of(named.name), limits)
        self._opened.clear()

    def __iter__(self) -> Iterator[ServedBundle]:
        return iter(self._by_name.values())

    def named(self, name: str | None) -> ServedBundle:
        """The bundle of that name, the first for None; RefusedError (404) where there is none."""
        if name is None:
            return next(iter(self))
        if name not in self._by_name:
            raise RefusedError(
                404,
                "there is no such bundle",
                found=name[:80],
                allowed=list(self._by_name),
                counted_as="unknown_bundle",
            )
        return self._by_name[name]

    async def reload(self, names: Sequence[str] | None = None) -> None:
        """Open bundles anew, one after the other; all of them where none is named."""
        for bundle in list(self):
            if names is None or bundle.name in names:
                await bundle.reload(self._open)

    async def finish(self) -> None:
        """End once everything accepted is answered."""
        await asyncio.gather(*(bundle.finish() for bundle in self))


def sha256_of_description(folder: Path) -> str | None:
    """By what a bundle is known, which names the hash of its every file; None for a folder without a description."""
    file = folder / DESCRIPTION
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def _open_warm(open_predictor: OpenPredictor, folder: Path) -> ServedPredictor:
    return warm_up(open_predictor(folder))
