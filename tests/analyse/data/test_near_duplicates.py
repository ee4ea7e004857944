from __future__ import annotations

import numpy as np
import pytest

from potstill.analyse.data.near_duplicates import (
    FUNCTIONS,
    LEAST_SHARED,
    RUN_WORDS,
    Signatures,
    group_near,
    shared_estimate,
    sign,
)
from potstill.analyse.data.rows import Part, read_chunks, read_words

WORDS = np.array([f"word{i}" for i in range(5000)])


def prose(draw: np.random.Generator, n_words: int) -> list[str]:
    return WORDS[draw.integers(len(WORDS), size=n_words)].tolist()


def changed(draw: np.random.Generator, words: list[str], n_changes: int) -> list[str]:
    """``words`` with so many of them replaced, none near another."""
    other = list(words)
    for place in range(n_changes):
        other[place * (len(words) // max(n_changes, 1))] = f"new{draw.integers(10**9)}"
    return other


def runs(text: str) -> set[tuple[str, ...]]:
    words = read_words(text)
    n = min(RUN_WORDS, len(words))
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def jaccard(left: str, right: str) -> float:
    return len(runs(left) & runs(right)) / len(runs(left) | runs(right))


def signed(texts: list[str], size: int = 3) -> np.ndarray:
    signatures = Signatures()
    for chunk in read_chunks(Part("train", texts), size):
        signatures.add(chunk)
    return signatures.all()


def grouped(texts: list[str]) -> np.ndarray:
    return group_near(signed(texts), np.arange(len(texts)), np.array([bool(read_words(text)) for text in texts], bool))


def test_the_estimate_has_the_error_that_is_told():
    # oracle: the Jaccard index of the sets of runs; the standard error is that of 64 Bernoulli trials
    draw, misses = np.random.default_rng(1), []
    for n_changes in (0, 1, 2, 4, 8, 12) * 10:
        words = prose(draw, 120)
        left, right = " ".join(words), " ".join(changed(draw, words, n_changes))
        truth = jaccard(left, right)
        both = signed([left, right])
        estimate = float(shared_estimate(both[:1], both[1:])[0])
        misses.append((estimate - truth) / max(np.sqrt(truth * (1 - truth) / FUNCTIONS), 1e-9))
        assert truth < 1 or estimate == 1
    assert 0.6 < np.std(misses) < 1.3
    assert abs(np.mean(misses)) < 0.4


def test_what_is_nearly_the_same_is_found_and_nothing_else():
    # oracle: planted copies; of 120 words with one changed 86% of the runs are shared, with eight 33%
    draw = np.random.default_rng(2)
    originals = [prose(draw, 120) for _ in range(50)]
    copies = [changed(draw, words, 1) for words in originals]
    distant = [changed(draw, words, 8) for words in originals]
    texts = [" ".join(words) for words in (*originals, *copies, *distant)]
    groups = grouped(texts)
    assert all(jaccard(texts[i], texts[50 + i]) > 0.9 * LEAST_SHARED for i in range(50))
    assert np.mean(groups[:50] == groups[50:100]) > 0.85
    assert len(np.unique(groups[:50])) == 50
    assert (groups[100:] != groups[:50]).all()


def test_short_texts_are_near_only_when_they_are_the_same():
    groups = grouped(["one two three four", "one two three five", "one two three four", "one two", "one"])
    assert groups.tolist() == [0, 1, 0, 3, 4]


def test_signatures_do_not_depend_on_chunks():
    draw = np.random.default_rng(3)
    texts = ["", *(" ".join(prose(draw, int(n))) for n in draw.integers(0, 20, size=30)), "!"]
    assert (signed(texts, 1) == signed(texts, 1000)).all()


def test_texts_without_words_and_empty_ones_stay_apart():
    has_words = np.array([False, True, True, False])
    groups = group_near(sign(np.ones(2, dtype=np.uint64), np.array([0, 1, 1, 0])), np.array([-1, 4, 5, 9]), has_words)
    assert groups.tolist() == [-1, 4, 4, 9]


@pytest.mark.parametrize("n", [0, 1])
def test_few_texts_are_no_exception(n):
    assert grouped(["a b c"] * n).tolist() == list(range(n))


def test_groups_only_grow():
    # property: texts that are the same already stay together, whatever is near them
    draw = np.random.default_rng(5)
    words = [prose(draw, 40) for _ in range(20)]
    texts = [" ".join(changed(draw, words[i % 20], i // 40)) for i in range(100)]
    numbers = np.unique(texts, return_inverse=True)[1]
    groups = group_near(signed(texts), numbers, np.ones(100, dtype=bool))
    assert all(len(np.unique(groups[numbers == number])) == 1 for number in np.unique(numbers))
    assert len(np.unique(groups)) <= len(np.unique(numbers))
