"""A server on loopback beside the same predictor in a process, under load, while bundles are reloaded, and so on.

    python benchmarks/serving.py --data-dir DATA --bundle BUNDLE [--seconds 300] [--short 60] [--clients 8]
    python benchmarks/serving.py --data-dir DATA --bundle BUNDLE --latency 5 --name serving-latency

BUNDLE is what ``potstill export`` wrote; the texts are those of DBpedia's training split. The arms, one after another:

- ``in process``: texts a second of ``predict`` on ``--texts`` at once, and milliseconds for one text alone, in a
  process of its own just before and just after ``saturated``, the server idle: the speed of a machine drifts;
- ``unloaded``: one client, one text at a time;
- ``saturated``: so many clients, each with its next request as soon as the last is answered, for ``--seconds``;
- ``saturated by single texts``: the same with four times as many clients and one text a request;
- ``half load``: requests of one text at random moments (a Poisson process), half as many a second as the last arm
  answered; milliseconds count from the moment a request was due, so that waiting for a connection counts;
- ``reloaded``: as ``saturated``, while the bundle is asked to be opened anew (SIGHUP) every five seconds; how often it
  was is asked of the server, and where it never was, or could not be, this ends with an error;
- ``hung up on``: as ``saturated``, while other clients ask and leave before they are answered, one after another, at
  most twenty a second; how many they were is told.

With ``--latency`` nothing is measured but ``unloaded``, ``saturated by single texts`` and ``half load``, one after
another and so many times, since a machine that has other work beside hits some of them.

Clients take their share of the same cores. The memory is the resident one, of the server where there is one, mean over
the first and the last fifth of an arm. A request that was refused or whose connection was lost has failed; not so one
on a connection that the server had closed as it went out, which is sent again. The figures are printed and kept in
``docs/measured``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import gc
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path

from inference_texts import texts_of
from potstill.bundle import read_bundle
from potstill.runtime.bundle_predictor import BundlePredictor
from potstill.runtime.engine import choose_engine
from process_memory import resident_mib
from serving_clients import MIB, Server, latency, repeated
from turns import Figures, store, table

COMMAND = "from potstill.cli.main import main; main()"
RELOADED_EVERY_S, HUNG_UP_EVERY_S = 5.0, 0.05
REQUEST, LINES_TOLD = '"event": "request"', 40
LONG = ("saturated", "reloaded", "hung up on")
"""The arms whose memory is looked at."""

ARMS = {
    "in process": "the predictor, all texts at once; milliseconds of one text alone",
    "unloaded": "one client, one text at a time",
    "saturated": "clients that ask again at once, many texts a request",
    "saturated by single texts": "four times as many clients, one text a request",
    "half load": "single texts at random moments, half as many a second",
    "reloaded": f"saturated, asked to open the bundle anew every {RELOADED_EVERY_S:g} s",
    "hung up on": "saturated, other clients leave before their answer",
}


def main() -> None:
    """Measure every arm, print the table and keep it; with ``--in-process``, print that arm's figures as JSON."""
    asked = parsed()
    if asked.in_process:
        print(json.dumps(in_process(asked)))
        return
    texts, bundle = drawn_from(asked), read_bundle(asked.bundle)
    # The clients share the cores with the server: no pauses for what was loaded before.
    gc.collect()
    gc.freeze()
    gc.disable()
    told = f"{bundle.name} ({bundle.graph.arithmetic}, {choose_engine()})"
    with serving(asked.bundle) as (port, pid):
        server = drawing(port, pid, texts)
        if asked.latency:
            repeats = [asyncio.run(latency_arms(server, asked)) for _ in range(asked.latency)]
            title = f"A server of {told} with one text a request; {lateness(repeats)}"
            arms = {arm: ARMS[arm] for arm in repeats[0]}
            print(table(store(asked.name, title=title, arms=arms, repeats=repeats)))
            return
        figures = asyncio.run(load(server, asked))
    title = f"A server of {told}, {asked.clients} clients, {asked.per_request} texts a request; {verdict(figures)}"
    print(table(store(asked.name, title=title, arms=ARMS, repeats=[figures], rate="texts_per_s", peers=["in process"])))


def drawn_from(asked: argparse.Namespace) -> list[str]:
    """The texts of the requests, and of the predictor in process."""
    return texts_of(asked.data_dir, "train", asked.texts)


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
    parser.add_argument("--latency", type=int, default=0, help="measure the arms of single texts alone, so many times")
    parser.add_argument("--name", default="serving", help="of the file in docs/measured")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def verdict(figures: Mapping[str, Figures]) -> str:
    """The figures that are to hold: what is delivered, how late the last of a hundred is, what failed, what grew."""
    delivered, again, left = (_share(figures, arm) for arm in ("saturated", "reloaded", "hung up on"))
    reloads, hang_ups = figures["reloaded"]["reloads"], figures["hung up on"]["hang_ups"]
    late = _lateness(figures)
    failed = sum(found["failed"] for found in figures.values())
    grew = {arm: figures[arm][MIB[1]] - figures[arm][MIB[0]] for arm in LONG}
    most = max(grew, key=lambda arm: grew[arm])
    return (
        f"saturated it delivers {delivered:.0%} of what the predictor does in process, {again:.0%} while reloaded "
        f"{reloads:.0f} times, {left:.0%} while hung up on {hang_ups:.0f} times; at half load the 99th percentile is "
        f"{late:.1f} times the median without load; {failed:.0f} requests failed; from the first to the last fifth of "
        f"an arm memory grew by at most {grew[most]:.0f} MiB ({most})"
    )


def lateness(repeats: Sequence[Mapping[str, Figures]]) -> str:
    """How late the last of a hundred is at half load: the median over the repeats, with its range."""
    found = [_lateness(figures) for figures in repeats]
    told = f"{statistics.median(found):.1f} ({min(found):.1f} to {max(found):.1f})"
    return f"at half load the 99th percentile is {told} times the median without load"


def _lateness(figures: Mapping[str, Figures]) -> float:
    return figures["half load"]["p99_ms"] / figures["unloaded"]["p50_ms"]


def _share(figures: Mapping[str, Figures], arm: str) -> float:
    return figures[arm]["texts_per_s"] / figures["in process"]["texts_per_s"]


def in_process(asked: argparse.Namespace) -> Figures:
    """The predictor itself: median of three runs over many texts, and of a hundred over one."""
    texts = drawn_from(asked)
    with BundlePredictor.open(asked.bundle) as predictor:
        predictor.predict(texts[:256])
        rate = len(texts) / statistics.median(predictor.predict(texts).elapsed_s for _ in range(3))
        took_ms = [1000 * predictor.predict([text]).elapsed_s for text in texts[:100]]
        memory = resident_mib()
    figures = {"texts_per_s": rate, **latency(took_ms), "requests": 103, "failed": 0, "sent_again": 0}
    return {**figures, **dict.fromkeys(MIB, memory)}


def in_process_apart() -> Figures:
    """The same in a process of its own, which holds nothing while a server is measured."""
    command = [sys.executable, __file__, *sys.argv[1:], "--in-process"]
    figures: Figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return figures


@contextlib.contextmanager
def serving(bundle: Path) -> Iterator[tuple[int, int]]:
    """A server of the bundle: its port and process. Where that ends badly, the last of its log is told."""
    command = [sys.executable, "-X", "faulthandler", "-c", COMMAND, "serve", str(bundle), "--port", "0"]
    with tempfile.NamedTemporaryFile() as file, subprocess.Popen(command, stderr=file) as server:
        log = Path(file.name)
        while b"\n" not in log.read_bytes() and server.poll() is None:
            time.sleep(0.05)
        try:
            yield _port_in(log), server.pid
        finally:
            server.send_signal(signal.SIGTERM)
            if server.wait(60):
                said = [line for line in log.read_text(encoding="utf-8").splitlines() if REQUEST not in line]
                told = "\n".join(said[-LINES_TOLD:])
                raise RuntimeError(f"the server ended with exit code {server.returncode}:\n{told}")


def _port_in(log: Path) -> int:
    first, *_ = log.read_text(encoding="utf-8").splitlines()
    return int(json.loads(first)["addresses"][0].rpartition(":")[2])


def drawing(port: int, pid: int, texts: Sequence[str]) -> Server:
    """A running server that is asked about texts drawn at random, the same in every run of this."""
    randomness = random.Random(1)
    return Server(port, pid, lambda n: randomness.choices(texts, k=n))


async def load(server: Server, asked: argparse.Namespace) -> dict[str, Figures]:
    """Every arm against a running server, and the predictor in process while that server has nothing to do."""
    saturated = functools.partial(server.closed_loop, asked.clients, asked.per_request, asked.seconds)
    found = {"unloaded": await server.closed_loop(1, 1, asked.short)}
    before = in_process_apart()
    found["saturated"] = await saturated()
    after = in_process_apart()
    found["in process"] = {name: statistics.fmean((before[name], after[name])) for name in before}
    found |= await single_texts(server, asked)
    found["reloaded"] = await reloaded(server, saturated)
    async with repeated(HUNG_UP_EVERY_S, lambda: server.hang_up(asked.per_request)) as done:
        found["hung up on"] = await saturated()
    found["hung up on"] |= {"hang_ups": done.times, "hang_ups_per_s": done.times / asked.seconds}
    return found


async def latency_arms(server: Server, asked: argparse.Namespace) -> dict[str, Figures]:
    """The arms of single texts."""
    return {"unloaded": await server.closed_loop(1, 1, asked.short), **await single_texts(server, asked)}


async def single_texts(server: Server, asked: argparse.Namespace) -> dict[str, Figures]:
    """As many single texts as are answered, and half as many."""
    saturated = await server.closed_loop(4 * asked.clients, 1, asked.short)
    half = await server.open_loop(saturated["texts_per_s"] / 2, random.Random(2), asked.short)
    return {"saturated by single texts": saturated, "half load": half}


async def reloaded(server: Server, saturated: Callable[[], Awaitable[Figures]]) -> Figures:
    """As ``saturated`` while the bundle is opened anew; that it was, every time it ended, is asked of the server."""
    before = server.reloads()
    async with repeated(RELOADED_EVERY_S, server.reload) as done:
        figures = await saturated()
    await asyncio.sleep(RELOADED_EVERY_S)  # for the one under way
    opened, failed = (server.reloads()[result] - before[result] for result in ("opened", "failed"))
    if failed or not opened:
        raise RuntimeError(f"asked to reload {done.times} times, the server did {opened} times and failed {failed}")
    return {**figures, "reloads_asked": done.times, "reloads": opened}


if __name__ == "__main__":
    main()
