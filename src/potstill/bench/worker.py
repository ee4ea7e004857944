"""The process that measures one bundle or run: ``python -m potstill.bench.worker``, what to measure as JSON on stdin.

The first line on stdout says that the first prediction is there, the last one holds the figures. What libraries print
goes to stderr.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from potstill.bench.texts import TextMaker
from potstill.bundle import is_bundle
from potstill.data.catalogue import are_pairs, get_task
from potstill.records import Predictor, Text
from potstill.runs import RunFolder, is_run


def main() -> None:
    """Open, predict once, measure, answer."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    asked = json.load(sys.stdin)
    predictor, kind, pairs = open_subject(Path(asked["subject"]), asked["threads"], asked["engine"])
    predictor.predict([("a text", "another") if pairs else "a text"])
    print(json.dumps({"kind": kind}), file=answers, flush=True)
    figures = measure(predictor, TextMaker(predictor, pairs=pairs), asked)
    print(json.dumps({**figures, "peak_mib": peak_mib()}), file=answers, flush=True)


def open_subject(folder: Path, threads: int, engine: str | None) -> tuple[Predictor, str, bool]:
    """A bundle or a run with so many threads; what it is, in words, and whether it takes pairs."""
    if is_bundle(folder):
        from potstill.runtime.bundle_predictor import BundlePredictor

        bundle = BundlePredictor.open(folder, threads=threads, engine=engine, cleaned=True)
        kind = f"bundle, {bundle.bundle.graph.arithmetic}, {bundle.engine}"
        return bundle, kind, bundle.bundle.reading.takes_pairs
    from potstill.runtime.opening import open_predictor

    predictor = open_predictor(folder)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    return predictor, f"run, {type(predictor).__name__}", _trained_on_pairs(folder)


def _trained_on_pairs(folder: Path) -> bool:
    """Whether a run says so; a classifier of which nothing is known takes single texts too."""
    task = RunFolder.open(folder).manifest.get("task") if is_run(folder) else None
    if task is None:
        return False
    if task["files"] is None:
        return get_task(task["name"]).takes_pairs
    return are_pairs(task["text_columns"] or (), task["join"])


def measure(predictor: Predictor, maker: TextMaker, asked: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds of single texts by length, and texts per second by distribution and texts a call.

    No text is longer than the predictor reads, so that none is cut.
    """
    reads: int = getattr(predictor, "max_length", asked["lengths"][-1])
    latency = []
    for length in [length for length in asked["lengths"] if length <= reads]:
        text = maker.text(length)
        tokens = int(predictor.predict([text]).n_tokens[0])
        latency.append({"tokens": tokens, "ms": single_ms(predictor, text, asked["seconds"])})
    throughput = []
    for name in asked["distributions"]:
        texts = maker.drawn(name, min(reads, asked["lengths"][-1]))
        for n_texts in asked["texts_a_call"]:
            rate = texts_per_s(predictor, texts, n_texts, asked["seconds"])
            throughput.append({"lengths": name, "texts_a_call": n_texts, "texts_per_s": rate})
    return {"latency": latency, "throughput": throughput}


def single_ms(
    predictor: Predictor, text: Text, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Milliseconds of calls with one text, for about so many seconds, ten calls at least; two are made before them."""
    for _ in range(2):
        predictor.predict([text])
    found: list[float] = []
    until = clock() + seconds
    while len(found) < 10 or clock() < until:
        started = clock()
        predictor.predict([text])
        found.append(1000 * (clock() - started))
    return found


def texts_per_s(
    predictor: Predictor,
    texts: Sequence[Text],
    n_texts: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Texts per second in calls of ``n_texts``, for about so many seconds, once at least over all ``texts``.

    The texts are gone through once before that, so that everything an engine makes for new shapes is there.
    """
    calls = [list(texts[start : start + n_texts]) for start in range(0, len(texts), n_texts)]
    for call in calls:
        predictor.predict(call)
    started, done = clock(), 0
    while done == 0 or clock() < started + seconds:
        for call in calls:
            predictor.predict(call)
        done += len(texts)
    return done / (clock() - started)


def peak_mib() -> float:
    """The largest resident memory of this process so far."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    main()
