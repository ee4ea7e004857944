"""Bundles and runs beside one another: every figure from a process of its own, one repeat of each after another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from potstill.bench.texts import DISTRIBUTIONS
from potstill.bundle import is_bundle
from potstill.errors import PotstillError, UsageError
from potstill.machine import available_cores, machine, versions
from potstill.runs import files_of_model


@dataclass(frozen=True)
class BenchSettings:
    """What is measured.

    lengths: tokens of single texts, ascending; the last is the longest of all texts. texts_a_call: sizes of calls whose
    throughput is measured, for each of ``distributions``. threads: cores a subject may use, one column of figures each.
    seconds: of each measurement within a repeat. price: of a core for an hour, in any currency; None where no cost is
    told. engine: of bundles.
    """

    lengths: tuple[int, ...] = (8, 16, 32, 64, 128, 256, 512)
    texts_a_call: tuple[int, ...] = (1, 16, 256)
    distributions: tuple[str, ...] = tuple(DISTRIBUTIONS)
    threads: tuple[int, ...] = ()
    repeats: int = 3
    seconds: float = 1.0
    price: float | None = None
    engine: str | None = None

    def checked(self) -> BenchSettings:
        """Itself with the threads filled in; UsageError for what cannot be measured."""
        positive = (*self.lengths, *self.texts_a_call, *self.threads, self.repeats)
        if not self.lengths or not self.texts_a_call or min(positive) < 1 or self.seconds < 0:
            raise UsageError("lengths, texts a call, threads and repeats are numbers from 1", found=str(asdict(self)))
        if unknown := sorted(set(self.distributions) - set(DISTRIBUTIONS)):
            raise UsageError("there is no such distribution of lengths", found=unknown, allowed=sorted(DISTRIBUTIONS))
        threads = self.threads or tuple(sorted({1, available_cores()}))
        values = {**asdict(self), "lengths": tuple(sorted(self.lengths)), "threads": threads}
        return BenchSettings(**values)


def bench(
    subjects: Sequence[Path], settings: BenchSettings = BenchSettings(), tell: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Every subject with every number of threads, taking turns within each repeat; plain JSON values.

    Raises UsageError for a folder that is not there, and what a subject's process says where it fails.
    """
    settings = settings.checked()
    names = _names(subjects)
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for repeat in range(settings.repeats):
        for name, subject in names.items():
            for threads in settings.threads:
                tell(f"repeat {repeat + 1} of {settings.repeats}: {name}, {threads} threads")
                found.setdefault((name, threads), []).append(_measured(subject, threads, settings))
    return {
        "machine": {**machine(), **versions()},
        "settings": asdict(settings),
        "subjects": [
            subject_figures(name, names[name], threads, repeats, settings.price)
            for (name, threads), repeats in found.items()
        ],
    }


def _names(subjects: Sequence[Path]) -> dict[str, Path]:
    if not subjects:
        raise UsageError("there is nothing to measure", do="name bundles or runs")
    if missing := [str(path) for path in subjects if not path.is_dir()]:
        raise UsageError("there is no such folder", found=", ".join(missing))
    if len({path.resolve() for path in subjects}) < len(subjects):
        raise UsageError("a folder is named twice")
    return {str(path): path for path in subjects}


def _measured(subject: Path, threads: int, settings: BenchSettings) -> dict[str, Any]:
    """What one process answers, with the seconds from its start to its first prediction."""
    asked = json.dumps({**asdict(settings), "subject": str(subject), "threads": threads})
    command = [sys.executable, "-m", "potstill.bench.worker"]
    started = time.perf_counter()
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env={**os.environ, "RAYON_NUM_THREADS": str(threads)},  # tokenizers has threads of its own
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(asked.encode())
        process.stdin.close()
        first = process.stdout.readline()
        cold_start_s = time.perf_counter() - started
        rest = process.stdout.read()
        if process.wait() != 0:
            said.seek(0)
            raise PotstillError(f"{subject} could not be measured", found=_last_line(said.read()))
    return {**json.loads(first), **json.loads(rest), "cold_start_s": cold_start_s}


def _last_line(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"


def subject_figures(
    name: str, folder: Path, threads: int, repeats: Sequence[Mapping[str, Any]], price: float | None
) -> dict[str, Any]:
    """What the repeats of one subject measured, put together: medians, quantiles over all calls, the largest memory."""
    return {
        "name": name,
        "kind": repeats[0]["kind"],
        "threads": threads,
        "bytes": sum(file.stat().st_size for file in _needed(folder)),
        "cold_start_s": _median(repeat["cold_start_s"] for repeat in repeats),
        "peak_mib": max(repeat["peak_mib"] for repeat in repeats),
        "latency": [
            _latency([repeat["latency"][place] for repeat in repeats]) for place in _places(repeats, "latency")
        ],
        "throughput": [
            _throughput([repeat["throughput"][place] for repeat in repeats], threads, price)
            for place in _places(repeats, "throughput")
        ],
    }


def _needed(folder: Path) -> list[Path]:
    """What has to be there to predict: all of a bundle; of a run its model, without pages and predictions."""
    everything = sorted(file for file in folder.iterdir() if file.is_file())
    return everything if is_bundle(folder) else files_of_model(folder) or everything


def _places(repeats: Sequence[Mapping[str, Any]], kind: str) -> range:
    return range(len(repeats[0][kind]))


def _latency(repeats: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Quantiles over all calls of all repeats, and the range of the repeats' medians."""
    calls = np.concatenate([repeat["ms"] for repeat in repeats])
    p50, p95, p99 = (float(value) for value in np.quantile(calls, [0.5, 0.95, 0.99]))
    medians = [float(np.median(repeat["ms"])) for repeat in repeats]
    return {
        "tokens": repeats[0]["tokens"],
        "calls": len(calls),
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "medians_ms": [min(medians), max(medians)],
    }


def _throughput(repeats: Sequence[Mapping[str, Any]], threads: int, price: float | None) -> dict[str, Any]:
    rates = [repeat["texts_per_s"] for repeat in repeats]
    rate = _median(rates)
    return {
        "lengths": repeats[0]["lengths"],
        "texts_a_call": repeats[0]["texts_a_call"],
        "texts_per_s": rate,
        "range": [min(rates), max(rates)],
        "cost_per_million": None if price is None else 1e6 / rate / 3600 * threads * price,
    }


def _median(values: Any) -> float:
    return float(np.median(list(values)))
