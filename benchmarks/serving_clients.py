"""Clients of a server on loopback: they ask for some seconds in one way or another, and what they met is counted."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import os
import random
import re
import signal
import statistics
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from process_memory import resident_mib
from turns import Figures

LOST = 0
"""The status of a request whose connection ended without an answer."""

MIB = ("mib_at_first", "mib_at_last")
_RELOADS = re.compile(r'^potstill_reloads_total\{[^}]*result="(\w+)"[^}]*\} (\S+)$', re.MULTILINE)

Draw = Callable[[int], list[str]]


class Reply(NamedTuple):
    """The status of an answer, and whether the request was sent again, as the connection had closed meanwhile."""

    status: int
    again: bool


@dataclass
class Answers:
    """What clients met: seconds, statuses, and how many texts were answered."""

    took_ms: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    n_texts: int = 0
    n_again: int = 0

    def add(self, began: float, reply: Reply, n_texts: int) -> None:
        """One request that was answered now."""
        self.took_ms.append(1000 * (time.perf_counter() - began))
        self.statuses.append(reply.status)
        self.n_texts += n_texts if reply.status == 200 else 0
        self.n_again += reply.again

    def figures(self, seconds: float) -> Figures:
        """Texts a second, percentiles, requests, those that failed and those that were sent again."""
        failed = sum(status != 200 for status in self.statuses)
        counted = {"requests": len(self.statuses), "failed": failed, "sent_again": self.n_again}
        return {"texts_per_s": self.n_texts / seconds, **latency(self.took_ms), **counted}


@dataclass
class Server:
    """A running server and ways to ask it for some seconds."""

    port: int
    pid: int
    draw: Draw

    async def closed_loop(self, n_clients: int, n_texts: int, seconds: float) -> Figures:
        """Clients that ask again as soon as they are answered."""
        answers, began = Answers(), time.perf_counter()

        async def go_on() -> None:
            client = Client(self.port)
            while time.perf_counter() - began < seconds:
                texts, asked_at = self.draw(n_texts), time.perf_counter()
                answers.add(asked_at, await client.ask(texts), n_texts)
            client.close()

        return await self._figures(answers, *(go_on() for _ in range(n_clients)))

    async def open_loop(self, per_s: float, randomness: random.Random, seconds: float) -> Figures:
        """Single texts at moments that do not depend on how the last ones fared."""
        answers, idle = Answers(), [Client(self.port) for _ in range(64)]

        async def one(due: float) -> None:
            client = idle.pop() if idle else Client(self.port)
            answers.add(due, await client.ask(self.draw(1)), 1)
            idle.append(client)

        async def go_on() -> None:
            under_way: set[Awaitable[None]] = set()
            due = began = time.perf_counter()
            while due - began < seconds:
                await asyncio.sleep(max(0, due - time.perf_counter()))
                under_way.add(asyncio.ensure_future(one(due)))
                due += randomness.expovariate(per_s)
            await asyncio.gather(*under_way)
            for client in idle:
                client.close()

        return await self._figures(answers, go_on())

    async def reload(self) -> None:
        """Have every bundle opened anew."""
        os.kill(self.pid, signal.SIGHUP)

    def reloads(self) -> Counter[str]:
        """How often bundles were opened anew until now, ``opened``, and how often that ``failed``."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=60) as answer:
            said = answer.read().decode()
        found = Counter[str]()
        for result, times in _RELOADS.findall(said):
            found[result] += int(float(times))
        return found

    async def hang_up(self, n_texts: int) -> None:
        """Ask and leave after a moment."""
        client = Client(self.port)
        await client.send(self.draw(n_texts))
        await asyncio.sleep(0.02)
        client.close()

    async def _figures(self, answers: Answers, *clients: Awaitable[None]) -> Figures:
        gc.collect()  # it does not run by itself: serving.py
        began, memory = time.perf_counter(), list[float]()

        async def look() -> None:
            memory.append(resident_mib(self.pid))

        async with repeated(0.25, look):
            await asyncio.gather(*clients)
        seconds, fifth = time.perf_counter() - began, max(1, len(memory) // 5)
        at_ends = (statistics.fmean(memory[:fifth]), statistics.fmean(memory[-fifth:]))
        return {**answers.figures(seconds), **dict(zip(MIB, at_ends, strict=True))}


class Client:
    """One connection that is kept, with as little between it and the socket as can be."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.kept = self.answered = False

    async def ask(self, texts: Sequence[str]) -> Reply:
        """One request for predictions, its status LOST where there was none.

        The server closes what was idle for a while, perhaps just as the request goes out: where a connection that was
        kept ends before a byte of the answer, the request is sent once more on a new one.
        """
        status = await self._status_or_lost(texts)
        if status != LOST or not self.kept or self.answered:
            return Reply(status, False)
        return Reply(await self._status_or_lost(texts), True)

    async def _status_or_lost(self, texts: Sequence[str]) -> int:
        try:
            return await self._status(texts)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return LOST

    async def _status(self, texts: Sequence[str]) -> int:
        reader = await self.send(texts)
        begin = await reader.readexactly(1)
        self.answered = True
        said = (begin + await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(said.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        return int(said.split(b" ", 2)[1])

    async def send(self, texts: Sequence[str]) -> asyncio.StreamReader:
        """Ask, and give what the answer can be read from."""
        self.answered, self.kept = False, self.streams is not None and not self.streams[0].at_eof()
        if not self.kept or self.streams is None:
            self.close()
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        body = json.dumps({"inputs": [[text] for text in texts], "truncate": True}).encode()
        head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
        writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        return reader

    def close(self) -> None:
        """Leave."""
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


@dataclass
class Done:
    """How often something was done."""

    times: int = 0


@contextlib.asynccontextmanager
async def repeated(every_s: float, act: Callable[[], Awaitable[None]]) -> AsyncIterator[Done]:
    """Meanwhile ``act`` once in so many seconds, or as often as it can where it takes longer; how often is counted."""
    done = Done()

    async def go_on() -> None:
        began = time.perf_counter()
        for n in itertools.count(1):
            await act()
            done.times += 1
            await asyncio.sleep(max(0, began + n * every_s - time.perf_counter()))

    going_on = asyncio.ensure_future(go_on())
    try:
        yield done
    finally:
        going_on.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await going_on


def latency(took_ms: Sequence[float]) -> Figures:
    """Percentiles in milliseconds."""
    return dict(zip(("p50_ms", "p95_ms", "p99_ms"), np.percentile(took_ms, [50, 95, 99]).tolist(), strict=True))
