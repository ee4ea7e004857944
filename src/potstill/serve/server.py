"""A server from its start to its end: the address, the signals, and a shutdown that answers what was accepted."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import uvicorn

from potstill.errors import UsageError
from potstill.serve.app import build_app
from potstill.serve.bundles import Bundles, named_folders
from potstill.serve.connections import connections
from potstill.serve.keys import read_keys
from potstill.serve.predictor import OpenPredictor
from potstill.serve.request_log import log_as_json
from potstill.serve.service import Service
from potstill.serve.settings import LOOPBACK, Settings

SWITCH_S = 0.001
"""After how many seconds a thread that runs Python lets another one go on."""
log = logging.getLogger(__name__)


def run_server(
    bundles: Sequence[str],
    *,
    open_predictor: OpenPredictor,
    settings: Settings,
    api_keys: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8080,
) -> None:
    """Serve ``folder`` or ``name=folder`` until SIGTERM or SIGINT. SIGHUP opens every bundle anew.

    ``api_keys`` is a file of keys; $POTSTILL_API_KEYS is read without one. Raises UsageError where the
    address cannot be had, and whatever ``open_predictor`` raises, before anything is served.
    """
    folders = named_folders(bundles)
    settings = replace(settings, keys=read_keys(api_keys))
    settle_in()
    reloads = remembered_reloads()
    with bind(host, port) as listening:
        log_as_json()
        service = Service(Bundles(folders, open_predictor), settings)
        if host not in LOOPBACK and settings.keys is None:
            log.warning("the server is reachable from other machines and asks for no API key", extra={"host": host})
        server = Server(service, reloads)
        keep_what_is_there()
        asyncio.run(server.serve([listening]))


def settle_in() -> None:
    """Make the process one in which short things do not wait for long ones.

    A request is tokenised on one thread: several would take the cores from the batch that is being computed. A thread
    that runs Python lets the event loop go on after a millisecond instead of five.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.setswitchinterval(SWITCH_S)


def remembered_reloads() -> list[int]:
    """Where SIGHUPs are noted that come before the server is there to obey them; by themselves they end a process."""
    asked: list[int] = []
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, lambda number, _: asked.append(number))
    return asked


def keep_what_is_there() -> None:
    """Have modules, bundles and application not looked through for garbage again and again.

    That would hold up everything for tens of milliseconds.
    """
    gc.collect()
    gc.freeze()


def bind(host: str, port: int) -> socket.socket:
    """A socket at an address, taken before the bundles are opened; UsageError where it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise UsageError(
            "the server cannot listen there",
            found=f"{host}:{port} ({error.strerror})",
            do="name another --host or --port, or stop what listens there",
        ) from error
    return listening


class Server(uvicorn.Server):
    """uvicorn, leaving with exit code 0 once everything accepted is answered, and reloading on SIGHUP."""

    def __init__(self, service: Service, reloads: Sequence[int] = ()) -> None:
        """A server of ``service``; where ``reloads`` holds a signal when it begins, it opens every bundle anew."""
        super().__init__(
            uvicorn.Config(
                build_app(service),
                http=connections(service.settings.limits.head_s),
                ws="none",
                lifespan="on",
                proxy_headers=False,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=service.settings.drain_s,
            )
        )
        self.service = service
        self._reloading: asyncio.Task[None] | None = None
        self._reload_asked, self._reloads = False, reloads

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin, and say where."""
        await super().startup(sockets)
        addresses = [":".join(map(str, given.getsockname()[:2])) for given in sockets or []]
        bundles = [bundle.name for bundle in self.service.bundles]
        log.info("serving", extra={"addresses": addresses, "bundles": bundles, "pid": os.getpid()})
        if self._reloads:
            self.reload()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take signals in the event loop, where they come between two steps; outside the main thread there are none."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        taken: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGTERM: self.leave,
            signal.SIGINT: self.leave,
            signal.SIGHUP: self.reload,
        }
        for number, act in taken.items():
            loop.add_signal_handler(number, act)
        try:
            yield
        finally:
            for number in taken:
                loop.remove_signal_handler(number)

    def leave(self) -> None:
        """Take nothing new and end once the rest is answered; asked twice, end at once."""
        if self.should_exit:
            self.force_exit = True
            return
        log.info("leaving: what was accepted is answered, nothing new is taken")
        self.service.leave()
        self.should_exit = True

    def reload(self) -> None:
        """Open every bundle anew; asked while that is done, once more after it, however often it was asked."""
        self._reload_asked = True
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.get_running_loop().create_task(self._reload_while_asked())

    async def _reload_while_asked(self) -> None:
        while self._reload_asked:
            self._reload_asked = False
            await self.service.bundles.reload()
