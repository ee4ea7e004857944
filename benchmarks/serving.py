"""A server on loopback beside the same predictor in this process, under load, while bundles are reloaded, and so on.

    python benchmarks/serving.py BUNDLE TEXTS.txt [--seconds 60] [--clients 8] [--per-request 32] [--name serving]

BUNDLE is what ``potstill export`` wrote, TEXTS.txt holds one text a line. The arms, one after another:

- ``in process``: texts a second of ``predict`` on 4,096 texts at once, and milliseconds for one text alone;
- ``unloaded``: one client, one text at a time;
- ``saturated``: so many clients, each with its next request as soon as the last is answered;
- ``saturated by single texts``: the same with four times as many clients and one text a request;
- ``half load``: requests of one text at random moments (a Poisson process), half as many a second as the last arm
  answered; milliseconds count from the moment a request was due, so that waiting for a connection counts;
- ``reloaded``: as ``saturated``, while the bundle is opened anew (SIGHUP) every five seconds;
- ``hung up on``: as ``saturated``, while twenty more clients a second ask and leave before they are answered.

Clients take their share of the same cores. The memory is the server's resident one, mean over the first and the last
fifth of an arm. With ``--name`` the figures are kept in ``docs/measured``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from potstill.runtime.bundle_predictor import BundlePredictor
from turns import Figures, store, table

COMMAND = "from potstill.cli.main import main; main()"
BULK = 4096
RELOADED_EVERY_S, HUNG_UP_EVERY_S = 5.0, 0.05
ARMS = {
    "in process": f"the predictor, {BULK:,} texts at once; milliseconds of one text alone",
    "unloaded": "one client, one text at a time",
    "saturated": "clients that ask again at once, many texts a request",
    "saturated by single texts": "four times as many clients, one text a request",
    "half load": "single texts at random moments, half as many a second",
    "reloaded": f"saturated, the bundle opened anew every {RELOADED_EVERY_S:g} s",
    "hung up on": f"saturated, {1 / HUNG_UP_EVERY_S:g} clients a second leave before their answer",
}
Draw = Callable[[int], list[str]]


def main() -> None:
    """Measure, print the table, and keep it where it has a name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--seconds", type=float, default=60, help="of each arm")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--per-request", type=int, default=32)
    parser.add_argument("--name")
    asked = parser.parse_args()
    texts = [line for line in asked.texts.read_text(encoding="utf-8").splitlines() if line.strip()]
    with BundlePredictor.open(asked.bundle) as predictor:
        title = (
            f"A server of {predictor.bundle.name} ({predictor.bundle.graph.arithmetic}, {predictor.engine}), "
            f"{asked.clients} clients, {asked.per_request} texts a request, {asked.seconds:g} s an arm"
        )
        figures = {"in process": in_process(predictor, texts)}
    with serving(asked.bundle) as (port, pid):
        figures |= asyncio.run(load(port, pid, texts, asked))
    if asked.name:
        measured = store(
            asked.name, title=title, arms=ARMS, repeats=[figures], rate="texts_per_s", peers=["in process"]
        )
        print(table(measured))
    else:
        print(json.dumps(figures, indent=2))


def in_process(predictor: BundlePredictor, texts: Sequence[str]) -> Figures:
    """The predictor itself: median of three runs over many texts, and of a hundred over one."""
    draw = random.Random(0)
    many = draw.choices(texts, k=BULK)
    predictor.predict(many[:256])
    rate = BULK / statistics.median(predictor.predict(many).elapsed_s for _ in range(3))
    took_ms = [1000 * predictor.predict([text]).elapsed_s for text in many[:100]]
    return {"texts_per_s": rate, **latency(took_ms), "requests": 103, "failed": 0, **{MIB[0]: 0.0, MIB[1]: 0.0}}


MIB = ("mib_at_first", "mib_at_last")


@contextlib.contextmanager
def serving(bundle: Path) -> Iterator[tuple[int, int]]:
    """A server of the bundle: its port and process. Its log is read and thrown away."""
    command = [sys.executable, "-c", COMMAND, "serve", str(bundle), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        port = int(json.loads(server.stderr.readline())["addresses"][0].rpartition(":")[2])
        with subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL):
            yield port, server.pid
            server.send_signal(signal.SIGTERM)
            server.wait(60)


async def load(port: int, pid: int, texts: Sequence[str], asked: argparse.Namespace) -> dict[str, Figures]:
    """Every arm against a running server."""
    randomness = random.Random(1)
    server = Server(port, pid, asked.seconds, lambda n: randomness.choices(texts, k=n))
    found = {"unloaded": await server.closed_loop(1, 1)}
    found["saturated"] = await server.closed_loop(asked.clients, asked.per_request)
    found["saturated by single texts"] = await server.closed_loop(4 * asked.clients, 1)
    found["half load"] = await server.open_loop(found["saturated by single texts"]["texts_per_s"] / 2, randomness)
    async with repeated(RELOADED_EVERY_S, server.reload):
        found["reloaded"] = await server.closed_loop(asked.clients, asked.per_request)
    async with repeated(HUNG_UP_EVERY_S, lambda: server.hang_up(asked.per_request)):
        found["hung up on"] = await server.closed_loop(asked.clients, asked.per_request)
    return found


@dataclass
class Answers:
    """What clients met: seconds, statuses, and how many texts were answered."""

    took_ms: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    n_texts: int = 0

    def add(self, began: float, status: int, n_texts: int) -> None:
        """One request that was answered now."""
        self.took_ms.append(1000 * (time.perf_counter() - began))
        self.statuses.append(status)
        self.n_texts += n_texts if status == 200 else 0


@dataclass
class Server:
    """A running server and ways to ask it for ``seconds``."""

    port: int
    pid: int
    seconds: float
    draw: Draw

    async def closed_loop(self, n_clients: int, n_texts: int) -> Figures:
        """Clients that ask again as soon as they are answered."""
        answers, began = Answers(), time.perf_counter()

        async def go_on() -> None:
            client = Client(self.port)
            while time.perf_counter() - began < self.seconds:
                texts, asked_at = self.draw(n_texts), time.perf_counter()
                answers.add(asked_at, await client.ask(texts), n_texts)

        return await self._figures(answers, *(go_on() for _ in range(n_clients)))

    async def open_loop(self, per_s: float, randomness: random.Random) -> Figures:
        """Single texts at moments that do not depend on how the last ones fared."""
        answers, idle = Answers(), [Client(self.port) for _ in range(64)]

        async def one(due: float) -> None:
            client = idle.pop() if idle else Client(self.port)
            answers.add(due, await client.ask(self.draw(1)), 1)
            idle.append(client)

        async def go_on() -> None:
            under_way: set[Awaitable[None]] = set()
            due = began = time.perf_counter()
            while due - began < self.seconds:
                await asyncio.sleep(max(0, due - time.perf_counter()))
                under_way.add(asyncio.ensure_future(one(due)))
                due += randomness.expovariate(per_s)
            await asyncio.gather(*under_way)

        return await self._figures(answers, go_on())

    async def reload(self) -> None:
        """Have every bundle opened anew."""
        subprocess.run(["kill", "-HUP", str(self.pid)], check=True)

    async def hang_up(self, n_texts: int) -> None:
        """Ask and leave after a moment."""
        client = Client(self.port)
        await client.send(self.draw(n_texts))
        await asyncio.sleep(0.02)
        client.close()

    async def _figures(self, answers: Answers, *clients: Awaitable[None]) -> Figures:
        began, memory = time.perf_counter(), list[float]()

        async def look() -> None:
            memory.append(resident_mib(self.pid))

        async with repeated(0.25, look):
            await asyncio.gather(*clients)
        rate = answers.n_texts / (time.perf_counter() - began)
        failed, fifth = sum(status != 200 for status in answers.statuses), max(1, len(memory) // 5)
        return {
            "texts_per_s": rate,
            **latency(answers.took_ms),
            "requests": len(answers.statuses),
            "failed": failed,
            MIB[0]: statistics.fmean(memory[:fifth]),
            MIB[1]: statistics.fmean(memory[-fifth:]),
        }


class Client:
    """One connection that is kept, with as little between it and the socket as can be."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, texts: Sequence[str]) -> int:
        """The status of one request for predictions."""
        reader = await self.send(texts)
        said = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(said.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        return int(said.split(b" ", 2)[1])

    async def send(self, texts: Sequence[str]) -> asyncio.StreamReader:
        """Ask, and give what the answer can be read from."""
        if self.streams is None:
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


@contextlib.asynccontextmanager
async def repeated(every_s: float, act: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Meanwhile ``act`` once in so many seconds."""

    async def go_on() -> None:
        for _ in itertools.count():
            await act()
            await asyncio.sleep(every_s)

    going_on = asyncio.ensure_future(go_on())
    try:
        yield
    finally:
        going_on.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await going_on


def latency(took_ms: Sequence[float]) -> Figures:
    """Percentiles in milliseconds."""
    return dict(zip(("p50_ms", "p95_ms", "p99_ms"), np.percentile(took_ms, [50, 95, 99]).tolist(), strict=True))


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
