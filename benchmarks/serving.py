"""A server on loopback beside the same predictor in this process, under load, while bundles are reloaded, and so on.

    python benchmarks/serving.py --data-dir DATA --bundle BUNDLE [--seconds 300] [--short 60] [--clients 8]

BUNDLE is what ``potstill export`` wrote; the texts are those of DBpedia's test split. The arms, one after another:

- ``in process``: texts a second of ``predict`` on ``--texts`` at once, and milliseconds for one text alone, measured
  before the server and after it, since the speed of a machine drifts;
- ``unloaded``: one client, one text at a time;
- ``saturated``: so many clients, each with its next request as soon as the last is answered, for ``--seconds``;
- ``saturated by single texts``: the same with four times as many clients and one text a request;
- ``half load``: requests of one text at random moments (a Poisson process), half as many a second as the last arm
  answered; milliseconds count from the moment a request was due, so that waiting for a connection counts;
- ``reloaded``: as ``saturated``, while the bundle is opened anew (SIGHUP) every five seconds;
- ``hung up on``: as ``saturated``, while twenty more clients a second ask and leave before they are answered.

Clients take their share of the same cores. The memory is the resident one, of the server where there is one, mean over
the first and the last fifth of an arm. A request that was refused or whose connection was lost has failed. The figures
are printed and kept in ``docs/measured``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from inference import texts_of
from potstill.runtime.bundle_predictor import BundlePredictor
from turns import Figures, store, table

COMMAND = "from potstill.cli.main import main; main()"
RELOADED_EVERY_S, HUNG_UP_EVERY_S = 5.0, 0.05
ARMS = {
    "in process": "the predictor, all texts at once; milliseconds of one text alone",
    "unloaded": "one client, one text at a time",
    "saturated": "clients that ask again at once, many texts a request",
    "saturated by single texts": "four times as many clients, one text a request",
    "half load": "single texts at random moments, half as many a second",
    "reloaded": f"saturated, the bundle opened anew every {RELOADED_EVERY_S:g} s",
    "hung up on": f"saturated, {1 / HUNG_UP_EVERY_S:g} clients a second leave before their answer",
}
LOST = 0
"""The status of a request whose connection ended without an answer."""
Draw = Callable[[int], list[str]]


def main() -> None:
    """Measure every arm, print the table and keep it."""
    asked = parsed()
    texts = texts_of(asked.data_dir, "test", asked.texts)
    with BundlePredictor.open(asked.bundle) as predictor:
        told = f"{predictor.bundle.name} ({predictor.bundle.graph.arithmetic}, {predictor.engine})"
        before = in_process(predictor, texts)
    with serving(asked.bundle) as (port, pid):
        found = asyncio.run(load(port, pid, texts, asked))
    with BundlePredictor.open(asked.bundle) as predictor:
        after = in_process(predictor, texts)
    figures = {"in process": {name: statistics.fmean((before[name], after[name])) for name in before}, **found}
    title = f"A server of {told}, {asked.clients} clients, {asked.per_request} texts a request; {verdict(figures)}"
    print(table(store(asked.name, title=title, arms=ARMS, repeats=[figures], rate="texts_per_s", peers=["in process"])))


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--texts", type=int, default=4096, help="texts to draw from, and of the predictor in process")
    parser.add_argument("--seconds", type=float, default=300, help="of the arms whose memory is looked at")
    parser.add_argument("--short", type=float, default=60, help="seconds of the other arms")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--per-request", type=int, default=32)
    parser.add_argument("--name", default="serving", help="of the file in docs/measured")
    return parser.parse_args()


def verdict(figures: Mapping[str, Figures]) -> str:
    """The figures that are to hold: what is delivered, how late the last of a hundred is, and what failed."""
    delivered = figures["saturated"]["texts_per_s"] / figures["in process"]["texts_per_s"]
    late = figures["half load"]["p99_ms"] / figures["unloaded"]["p50_ms"]
    failed = sum(found["failed"] for found in figures.values())
    return (
        f"saturated it delivers {delivered:.0%} of what the predictor does in process, at half load the 99th "
        f"percentile is {late:.1f} times the median without load, {failed:.0f} requests failed"
    )


def in_process(predictor: BundlePredictor, texts: Sequence[str]) -> Figures:
    """The predictor itself: median of three runs over many texts, and of a hundred over one."""
    predictor.predict(texts[:256])
    rate = len(texts) / statistics.median(predictor.predict(texts).elapsed_s for _ in range(3))
    took_ms = [1000 * predictor.predict([text]).elapsed_s for text in texts[:100]]
    memory = resident_mib(os.getpid())
    return {"texts_per_s": rate, **latency(took_ms), "requests": 103, "failed": 0, **dict.fromkeys(MIB, memory)}


MIB = ("mib_at_first", "mib_at_last")


@contextlib.contextmanager
def serving(bundle: Path) -> Iterator[tuple[int, int]]:
    """A server of the bundle: its port and process. Its log is read and thrown away."""
    command = [sys.executable, "-c", COMMAND, "serve", str(bundle), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        port = int(json.loads(server.stderr.readline())["addresses"][0].rpartition(":")[2])
        with subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL):
            try:
                yield port, server.pid
            finally:
                server.send_signal(signal.SIGTERM)
                if server.wait(60):
                    raise RuntimeError(f"the server ended with exit code {server.returncode}")


async def load(port: int, pid: int, texts: Sequence[str], asked: argparse.Namespace) -> dict[str, Figures]:
    """Every arm against a running server."""
    randomness = random.Random(1)
    server = Server(port, pid, lambda n: randomness.choices(texts, k=n))
    found = {"unloaded": await server.closed_loop(1, 1, asked.short)}
    found["saturated"] = await server.closed_loop(asked.clients, asked.per_request, asked.seconds)
    found["saturated by single texts"] = await server.closed_loop(4 * asked.clients, 1, asked.short)
    rate = found["saturated by single texts"]["texts_per_s"] / 2
    found["half load"] = await server.open_loop(rate, randomness, asked.short)
    async with repeated(RELOADED_EVERY_S, server.reload):
        found["reloaded"] = await server.closed_loop(asked.clients, asked.per_request, asked.seconds)
    async with repeated(HUNG_UP_EVERY_S, lambda: server.hang_up(asked.per_request)):
        found["hung up on"] = await server.closed_loop(asked.clients, asked.per_request, asked.seconds)
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
        """The status of one request for predictions, LOST where there was none."""
        try:
            reader = await self.send(texts)
            said = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(said.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        except (OSError, asyncio.IncompleteReadError):
            self.streams = None
            return LOST
        return int(said.split(b" ", 2)[1])

    async def send(self, texts: Sequence[str]) -> asyncio.StreamReader:
        """Ask, and give what the answer can be read from."""
        # The server closes what was idle for five seconds.
        if self.streams is None or self.streams[0].at_eof():
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
    """Meanwhile ``act`` once in so many seconds, however long it takes."""

    async def go_on() -> None:
        began = time.perf_counter()
        for n in itertools.count(1):
            await act()
            await asyncio.sleep(max(0, began + n * every_s - time.perf_counter()))

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
