"""What ``inference.py`` measures of an arm: its speed on fresh texts, and how far its logits lie from another's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from inference_peers import Classify
from inference_texts import Portions
from turns import Figures

REFERENCE, OTHER_CLASSIFIERS = "transformers", ("bert-base",)


def throughput(classify: Classify, portions: Portions) -> tuple[Figures, np.ndarray]:
    """The median over the slices, each classified at once, and all logits; texts that warm up come before."""
    classify(portions.warm_up)
    done = [_timed(classify, texts) for texts in portions.slices]
    rates = [len(texts) / seconds for texts, (seconds, _) in zip(portions.slices, done, strict=True)]
    return {"texts_per_s": statistics.median(rates)}, np.concatenate([logits for _, logits in done])


def latency(classify: Classify, portions: Portions) -> tuple[Figures, np.ndarray]:
    """Quantiles over single texts, and all logits; texts that warm up come before."""
    for text in portions.warm_up:
        classify([text])
    done = [_timed(classify, [text]) for text in portions.texts]
    p50, p95 = np.quantile([1000 * seconds for seconds, _ in done], [0.5, 0.95]).tolist()
    return {"texts_per_s": 1000 / p50, "p50_ms": p50, "p95_ms": p95}, np.concatenate([logits for _, logits in done])


def _timed(classify: Classify, texts: Sequence[str]) -> tuple[float, np.ndarray]:
    started = time.perf_counter()
    logits = classify(texts)
    return time.perf_counter() - started, logits


FIGURES: dict[str, Callable[[Classify, Portions], tuple[Figures, np.ndarray]]] = {
    "bulk": throughput,
    "one": latency,
}
"""How each kind of work is measured."""


def keep_logits(work: Path, kind: str, arm: str, logits: np.ndarray, *, whole: Portions, every: int) -> None:
    """Keep logits of one text in so many of each slice, in the rows of all texts; the other rows are NaN."""
    if not np.isfinite(logits).all():
        raise SystemExit(f"{arm} gave logits that are no numbers")
    sizes = [len(texts) for texts in whole.slices]
    starts = np.cumsum([0, *sizes])
    rows = np.concatenate([start + np.arange(0, size, every) for start, size in zip(starts, sizes, strict=False)])
    found = np.full((starts[-1], logits.shape[1]), np.nan, dtype=np.float32)
    found[rows] = logits
    file = _file(work, kind, arm)
    file.parent.mkdir(exist_ok=True)
    np.save(file, found)


def compare(work: Path, kind: str, turn: dict[str, Figures]) -> None:
    """Add to the figures of a turn how arms of one classifier agree with ``transformers``, on texts both have seen.

    ``label_agreement`` is the share of texts with the same likeliest label.
    """
    if REFERENCE not in turn:
        return
    reference = np.load(_file(work, kind, REFERENCE))
    for arm in [arm for arm in turn if arm not in OTHER_CLASSIFIERS]:
        found = np.load(_file(work, kind, arm))
        both = np.isfinite(found[:, 0]) & np.isfinite(reference[:, 0])
        ours, theirs = found[both], reference[both]
        turn[arm]["texts_compared"] = int(both.sum())
        turn[arm]["label_agreement"] = float(np.mean(ours.argmax(axis=1) == theirs.argmax(axis=1)))
        turn[arm]["largest_logit_difference"] = float(np.abs(ours - theirs).max())


def _file(work: Path, kind: str, arm: str) -> Path:
    return work / f"logits-{kind}" / f"{arm}.npy"
