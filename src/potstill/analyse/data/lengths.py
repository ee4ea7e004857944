"""How long the texts are, in words, characters and tokens: by part, and by class of the part that training sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from potstill.analyse.data.rows import Chunk, Part, Rows, text_parts
from potstill.data.tokens import TextTokenizer

BINS = 40
"""Bars of a histogram at most; one more holds what is longer than 99% of all texts."""


@dataclass(frozen=True)
class Summary:
    """What ``texts`` lengths come to: mean, standard deviation (of the rows, not of a sample), quantiles, whiskers.

    Quantiles are interpolated as numpy does by default. Whiskers end at the farthest values within 1.5 interquartile
    ranges of the quartiles (Tukey 1977), never inside the box; ``outliers`` lie beyond that range.
    """

    texts: int
    mean: float
    deviation: float
    minimum: float
    p1: float
    p5: float
    q1: float
    median: float
    q3: float
    p95: float
    p99: float
    maximum: float
    low_whisker: float
    high_whisker: float
    outliers: int


@dataclass(frozen=True)
class UnitLengths:
    """Lengths in one unit. ``counts`` by part and ``class_counts`` by class are texts between neighbouring ``edges``.

    The last two edges bound the texts that are longer than 99% of all; classes are those of the learnt part.
    """

    unit: str
    parts: Mapping[str, Summary]
    classes: Mapping[str, Summary]
    edges: Sequence[int]
    counts: Mapping[str, Sequence[int]]
    class_counts: Mapping[str, Sequence[int]]


class Lengths:
    """Words, characters and tokens of every row, 12 bytes each; and what the tokenizer made of them."""

    def __init__(self, tokenizer: TextTokenizer | None) -> None:
        self._tokenizer = tokenizer
        self.units = ("words", "characters") if tokenizer is None else ("words", "characters", "tokens")
        self._found: dict[tuple[str, str], list[np.ndarray]] = {}
        self.n_tokens = self.n_unknown = self.n_words = 0

    def add(self, part: str, chunk: Chunk) -> None:
        """Count the texts of ``chunk``, the next of ``part``; a pair is as long as both its texts."""
        n_characters = [sum(map(len, text_parts(text))) for text in chunk.texts]
        lengths = {"words": chunk.n_words, "characters": np.array(n_characters)}
        if self._tokenizer is not None:
            lengths["tokens"] = self._count_tokens(self._tokenizer, chunk)
        for unit, values in lengths.items():
            self._found.setdefault((part, unit), []).append(values.astype(np.int32))

    def of(self, part: str, unit: str) -> np.ndarray:
        """``(n,)`` int32, the lengths of a part's rows in order; tokens include special ones, before any cutting."""
        found = self._found.get((part, unit), [])
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int32)

    def _count_tokens(self, tokenizer: TextTokenizer, chunk: Chunk) -> np.ndarray:
        encodings = tokenizer.backend.encode_batch_fast(chunk.texts)
        n_tokens = np.fromiter(map(len, encodings), dtype=np.int64, count=len(encodings))
        self.n_tokens += int(n_tokens.sum())
        self.n_words += int(chunk.n_words.sum())
        self.n_unknown += sum(encoding.ids.count(tokenizer.unk_id) for encoding in encodings)
        return n_tokens


def summarise_lengths(rows: Rows, lengths: Lengths) -> list[UnitLengths]:
    """Every unit's summaries and histograms."""
    return [_unit_lengths(rows, lengths, unit) for unit in lengths.units]


def _unit_lengths(rows: Rows, lengths: Lengths, unit: str) -> UnitLengths:
    by_part = {part.name: lengths.of(part.name, unit) for part in rows.parts}
    by_class = _by_class(rows, rows.part(rows.learnt), by_part[rows.learnt])
    edges = histogram_edges(np.concatenate(list(by_part.values())))
    return UnitLengths(
        unit=unit,
        parts={name: summarise(values) for name, values in by_part.items() if len(values)},
        classes={name: summarise(values) for name, values in by_class.items() if len(values)},
        edges=edges,
        counts={name: _histogram(values, edges) for name, values in by_part.items()},
        class_counts={name: _histogram(values, edges) for name, values in by_class.items()},
    )


def _by_class(rows: Rows, part: Part, values: np.ndarray) -> dict[str, np.ndarray]:
    """The values of each class, and of the rows that have no class where a row may have several."""
    found = {name: values[rows.in_class(part, number)] for number, name in enumerate(rows.label_names)}
    if part.targets is not None and rows.problem_type == "multi_label_classification":
        found["no label"] = values[~part.targets.any(axis=1)]
    return found


def summarise(values: np.ndarray) -> Summary:
    """The summary of ``(n,)`` numbers, n at least 1."""
    p1, p5, q1, median, q3, p95, p99 = np.quantile(values, (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)).tolist()
    reach = 1.5 * (q3 - q1)
    inside = values[(values >= q1 - reach) & (values <= q3 + reach)]
    return Summary(
        texts=len(values),
        mean=float(values.mean(dtype=np.float64)),
        deviation=float(values.std(dtype=np.float64)),
        minimum=values.min().item(),
        p1=p1,
        p5=p5,
        q1=q1,
        median=median,
        q3=q3,
        p95=p95,
        p99=p99,
        maximum=values.max().item(),
        low_whisker=min(inside.min().item(), q1),
        high_whisker=max(inside.max().item(), q3),
        outliers=len(values) - len(inside),
    )


def histogram_edges(values: np.ndarray) -> list[int]:
    """Whole edges of equal steps (1, 2 or 5 times a power of ten) up to the 99th percentile, and one past the end."""
    longest = int(values.max(initial=0))
    usual = int(np.quantile(values, 0.99)) if len(values) else 0
    steps = (factor * 10**power for power in range(12) for factor in (1, 2, 5))
    step = next(step for step in steps if usual < BINS * step)
    edges = list(range(0, usual + step + 1, step))
    return edges if edges[-1] > longest else [*edges, longest + 1]


def _histogram(values: np.ndarray, edges: Sequence[int]) -> list[int]:
    return [int(count) for count in np.histogram(values, bins=np.asarray(edges))[0]]
