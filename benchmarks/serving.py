"""A server on loopback beside the same predictor in this process.

    python benchmarks/serving.py FOLDER TEXTS.txt [--seconds 20] [--clients 8] [--per-request 32]

FOLDER is what ``potstill serve`` takes, TEXTS one text a line. Measured are, in this order:

- ``in process``: texts a second of ``predict`` on all texts at once, median of three runs;
- ``unloaded``: one client, one text at a time, milliseconds;
- ``saturated``: so many clients, each with its next request as soon as the last is answered, texts a second and its
  share of ``in process``;
- ``half load``: requests of one text at random moments (a Poisson process), half as many a second as one-text requests
  were answered when saturated by them; milliseconds from the moment a request was due, so that waiting for a
  connection counts.

The clients take their share of the same cores. Errors and the server's resident memory before and after are told too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from potstill.cli.serve import open_predictor

COMMAND = "from potstill.cli.main import main; main()"


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--per-request", type=int, default=32)
    asked = parser.parse_args()
    texts = [line for line in asked.texts.read_text(encoding="utf-8").splitlines() if line.strip()]
    in_process = bulk_rate(asked.folder, texts)
    command = [sys.executable, "-c", COMMAND, "serve", str(asked.folder), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        port = int(json.loads(server.stderr.readline())["addresses"][0].rpartition(":")[2])
        drained = subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)
        before = resident_mib(server.pid)
        found = asyncio.run(load(port, texts, asked))
        memory = {"before_mib": before, "after_mib": resident_mib(server.pid)}
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        drained.wait(60)
    share = found["saturated"]["texts_per_s"] / in_process
    print(json.dumps({"in_process_texts_per_s": in_process, "share": share, **found, **memory}, indent=2))


def bulk_rate(folder: Path, texts: Sequence[str]) -> float:
    """Texts a second of the predictor itself."""
    predictor = open_predictor(folder)
    predictor.predict(texts[:64])
    return len(texts) / statistics.median(predictor.predict(texts).elapsed_s for _ in range(3))


class Client:
    """One connection that is kept, with as little between it and the socket as can be."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, texts: Sequence[str]) -> int:
        """The status of one request for predictions."""
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        body = json.dumps({"inputs": [[text] for text in texts], "truncate": True}).encode()
        head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
        writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
        said = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(said.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        return int(said.split(b" ", 2)[1])


async def load(port: int, texts: Sequence[str], asked: argparse.Namespace) -> dict[str, Any]:
    """Every measurement against a running server."""
    draw = random.Random(1)

    def some(n: int) -> list[str]:
        return draw.choices(texts, k=n)

    unloaded = await closed_loop(port, lambda: some(1), 1, asked.seconds / 2)
    saturated = await closed_loop(port, lambda: some(asked.per_request), asked.clients, asked.seconds)
    singles = await closed_loop(port, lambda: some(1), 4 * asked.clients, asked.seconds / 2)
    half = await open_loop(port, lambda: some(1), singles["texts_per_s"] / 2, asked.seconds, draw)
    return {"unloaded": unloaded, "saturated": saturated, "saturated_by_single_texts": singles, "half_load": half}


async def closed_loop(port: int, draw: Callable[[], list[str]], n_clients: int, seconds: float) -> dict[str, Any]:
    """Clients that ask again as soon as they are answered."""
    took_ms: list[float] = []
    statuses: list[int] = []
    n_texts = 0
    began = time.perf_counter()

    async def go_on() -> None:
        nonlocal n_texts
        client = Client(port)
        while time.perf_counter() - began < seconds:
            texts, asked_at = draw(), time.perf_counter()
            statuses.append(await client.ask(texts))
            took_ms.append(1000 * (time.perf_counter() - asked_at))
            n_texts += len(texts)

    await asyncio.gather(*(go_on() for _ in range(n_clients)))
    return {"texts_per_s": n_texts / (time.perf_counter() - began), **told(took_ms, statuses)}


async def open_loop(
    port: int, draw: Callable[[], list[str]], per_s: float, seconds: float, randomness: random.Random
) -> dict[str, Any]:
    """Requests at moments that do not depend on how the last ones fared."""
    idle = [Client(port) for _ in range(64)]
    took_ms: list[float] = []
    statuses: list[int] = []

    async def one(due: float) -> None:
        client = idle.pop() if idle else Client(port)
        statuses.append(await client.ask(draw()))
        took_ms.append(1000 * (time.perf_counter() - due))
        idle.append(client)

    due, under_way, began = time.perf_counter(), set[Awaitable[None]](), time.perf_counter()
    while due - began < seconds:
        await asyncio.sleep(max(0, due - time.perf_counter()))
        under_way.add(asyncio.ensure_future(one(due)))
        due += randomness.expovariate(per_s)
    await asyncio.gather(*under_way)
    return {"requests_per_s": per_s, **told(took_ms, statuses)}


def told(took_ms: Sequence[float], statuses: Sequence[int]) -> dict[str, Any]:
    """Percentiles in milliseconds, requests, and those that were not answered with 200."""
    p50, p95, p99 = np.percentile(took_ms, [50, 95, 99]).tolist()
    failed = sum(status != 200 for status in statuses)
    return {"requests": len(statuses), "failed": failed, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99}


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
