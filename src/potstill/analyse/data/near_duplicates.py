"""Texts that are nearly the same: MinHash over runs of words (Broder 1997), candidates by bands of equal minima.

Two texts count as nearly the same when an estimated ``LEAST_SHARED`` of their runs are shared (Jaccard). The estimate
has a standard error of sqrt(J (1 - J) / 64), 0.05 where the truth is 0.8; candidates that truly share so much are met
with a probability of 0.9998. What is found does not depend on the order in which chunks were cut.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from potstill.analyse.data.distinct import distinct
from potstill.analyse.data.rows import Chunk

RUN_WORDS = 5
"""Words of a run; a text of fewer words is one run, so that short texts are nearly the same when they are the same."""

LEAST_SHARED = 0.8

FUNCTIONS, BAND = 64, 4
"""Hash functions, of which every ``BAND`` form a band: 16 bits each, a band is one 64-bit number."""

_AT_ONCE = 100_000

_GENERATOR = np.random.default_rng(20_080_101)
_FACTORS = _GENERATOR.integers(2**63, size=FUNCTIONS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_OFFSETS = _GENERATOR.integers(2**63, size=FUNCTIONS, dtype=np.uint64)
_RUN_FACTOR = np.uint64(0x9E3779B97F4A7C15)


class Signatures:
    """The minima of every text's runs under each hash function: 128 bytes a row."""

    def __init__(self) -> None:
        self._found: list[np.ndarray] = []

    def add(self, chunk: Chunk) -> None:
        """Take the next texts in."""
        self._found.append(sign(chunk.word_hashes, chunk.n_words))

    def all(self) -> np.ndarray:
        """``(n, FUNCTIONS)`` uint16, in the order in which the texts came."""
        self._found = [np.concatenate([np.zeros((0, FUNCTIONS), dtype=np.uint16), *self._found])]
        return self._found[0]


def sign(word_hashes: np.ndarray, n_words: np.ndarray) -> np.ndarray:
    """``(n, FUNCTIONS)`` uint16 signatures of n texts whose words' hashes lie end to end; zeros where there is no word.

    The lowest 16 bits of each minimum are kept (b-bit minwise hashing, Li and König 2010): runs that differ agree in
    them once in 65,536 times.
    """
    runs, n_runs = _hash_runs(word_hashes, n_words)
    signatures = np.zeros((len(n_words), FUNCTIONS), dtype=np.uint16)
    filled = n_runs > 0
    if not filled.any():
        return signatures
    starts = np.concatenate([[0], np.cumsum(n_runs[filled])[:-1]])
    for function in range(FUNCTIONS):
        # Multiply-shift: the upper half of the product is what is random.
        minima = np.minimum.reduceat((runs * _FACTORS[function] + _OFFSETS[function]) >> np.uint64(32), starts)
        signatures[filled, function] = minima & np.uint64(0xFFFF)
    return signatures


def _hash_runs(word_hashes: np.ndarray, n_words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of all runs end to end, and how many each text has: one where it is shorter than a run."""
    n_runs = np.where(n_words > 0, np.maximum(n_words - RUN_WORDS + 1, 1), 0)
    first_words = np.concatenate([[0], np.cumsum(n_words)])[:-1]
    within = np.arange(n_runs.sum()) - np.repeat(np.cumsum(n_runs) - n_runs, n_runs)
    starts = np.repeat(first_words, n_runs) + within
    sizes = np.repeat(np.minimum(n_words, RUN_WORDS), n_runs)
    runs = np.zeros(len(starts), dtype=np.uint64)
    padded = np.concatenate([word_hashes, np.zeros(RUN_WORDS, dtype=np.uint64)])
    for place in range(RUN_WORDS):
        runs = runs * _RUN_FACTOR + np.where(sizes > place, padded[starts + place], np.uint64(0))
    return _mixed(runs), n_runs


def _mixed(values: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014): every bit of the input moves every bit of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def group_near(signatures: np.ndarray, groups: np.ndarray, has_words: np.ndarray) -> np.ndarray:
    """``(n,)`` group numbers, coarser than ``groups``: texts linked by near equality are in one group.

    groups: ``(n,)`` int64 of texts that are the same already; below 0 is no text and stays so. has_words: ``(n,)``
    bool. Links are followed, so that the ends of a chain can share less than ``LEAST_SHARED``.
    """
    judged = np.flatnonzero(has_words & (groups >= 0))
    numbers, firsts = np.unique(groups[judged], return_index=True)
    representatives = judged[firsts]
    left, right = _links(signatures[representatives])
    n = len(representatives)
    graph = sparse.coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(n, n))
    components = connected_components(graph, directed=False)[1] if n else np.zeros(0, dtype=np.int64)
    # Every component is called by the first group in it, so that groups without a link keep their number.
    first_of = np.full(components.max(initial=-1) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first_of, components, numbers)
    renamed = groups.copy()
    renamed[judged] = first_of[components[np.searchsorted(numbers, groups[judged])]]
    return renamed


def _links(signatures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows that are nearly the same, as two arrays of row numbers: in each band a row meets the first of its bucket."""
    bands = np.ascontiguousarray(signatures).view(np.uint64)
    found = []
    for band in range(bands.shape[1]):
        _, firsts, buckets = np.unique(bands[:, band], return_index=True, return_inverse=True)
        first = firsts[buckets]
        others = np.flatnonzero(first != np.arange(len(first)))
        found.append(first[others] * len(first) + others)
    left, right = np.divmod(distinct(np.concatenate(found)), max(len(signatures), 1))
    near = np.zeros(len(left), dtype=bool)
    for start in range(0, len(left), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        near[some] = shared_estimate(signatures[left[some]], signatures[right[some]]) >= LEAST_SHARED
    return left[near], right[near]


def shared_estimate(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``(n,)`` share of runs that two texts share, estimated from ``(n, FUNCTIONS)`` signatures of each."""
    return np.asarray((left == right).mean(axis=1))
