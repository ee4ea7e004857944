"""Words that are frequent, words that tell the classes apart, and which classes use the same words.

All of it counts texts that hold a word and not its occurrences, so that one text which repeats a word a thousand times
does not speak for its class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from potstill.analyse.data.english import FUNCTION_WORDS
from potstill.analyse.data.vocabulary import WordCounts

FEWEST_TEXTS = 3
"""A word in fewer texts is not called distinctive of anything."""

LEAST_Z = 2.0
"""Nor is one with a lower score; among many words some reach it by chance."""

PRIOR_TEXTS = 10
"""The prior of the log-odds weighs as much as so many texts of average size."""

LISTED = 1_000
"""Words in most texts that are listed with their classes, so that one can look them up."""

PROFILE_WORDS = 2_000
"""Classes are compared by so many of the words that most texts hold."""


@dataclass(frozen=True)
class Word:
    """A word, its occurrences, the texts that hold it, and those of each class in the order of the classes."""

    word: str
    occurrences: int
    texts: int
    by_class: Sequence[int]


@dataclass(frozen=True)
class Distinctive:
    """A word of one class: texts of the class and others that hold it, as shares, and the z-score of its log-odds."""

    word: str
    z: float
    texts: int
    share: float
    share_elsewhere: float


@dataclass(frozen=True)
class Telling:
    """A word and the χ² of its texts over the classes against those that equal shares would give."""

    word: str
    chi2: float
    p_value: float
    texts: int


@dataclass(frozen=True)
class Words:
    """What a study says of the words of the learnt part.

    different, once, occurrences: words, those that occur once (None where rare ones were forgotten), all together.
    listed: those in most texts, and all that the other lists name. frequent_by_class: of each class those in most
    texts, without English function words.
    distinctive: class → words by falling z. telling: by falling χ², of tasks with one label.
    correlation: of every two classes, by their words; None where there are fewer than two classes or words.
    missed, different_error: bounds of the counts, as in ``WordCounts``.
    """

    texts: int
    occurrences: int
    different: int
    different_error: float
    once: int | None
    missed: int
    listed: Sequence[Word]
    frequent_by_class: Mapping[str, Sequence[str]]
    different_by_class: Mapping[str, int] | None
    distinctive: Mapping[str, Sequence[Distinctive]]
    telling: Sequence[Telling]
    correlation: Sequence[Sequence[float]] | None
    profile_words: int


def study_words(counts: WordCounts, class_names: Sequence[str], *, one_label: bool, most: int = 25) -> Words:
    """Lists of at most ``most`` words; ``one_label`` says that every text belongs to one class exactly."""
    many = len(class_names) > 1 and len(counts.words) > 1
    exact = counts.missed == 0
    frequent = _frequent_by_class(counts, class_names, most)
    distinctive = _distinctive(counts, class_names, most) if many else {}
    telling = _telling(counts, most) if many and one_label else []
    named = {word for words in frequent.values() for word in words} | {found.word for found in telling}
    named |= {found.word for of_class in distinctive.values() for found in of_class}
    return Words(
        texts=counts.n_texts,
        occurrences=counts.n_words,
        different=counts.different,
        different_error=counts.different_error,
        once=int((counts.occurrences == 1).sum()) if exact else None,
        missed=counts.missed,
        listed=[_word(counts, i) for i, word in enumerate(counts.words) if i < LISTED or word in named],
        frequent_by_class=frequent,
        different_by_class=_different_by_class(counts, class_names) if exact else None,
        distinctive=distinctive,
        telling=telling,
        correlation=correlate_classes(counts).tolist() if many else None,
        profile_words=min(PROFILE_WORDS, len(counts.words)),
    )


def log_odds(own: np.ndarray, others: np.ndarray, prior_size: float) -> np.ndarray:
    """z-scores ``(v,)`` of the log-odds of v words in one class against all others.

    own, others: ``(v,)`` counts. The log-odds ratio under an informative Dirichlet prior, which is the words' share of
    both together and ``prior_size`` counts strong, over its approximate standard deviation ("Fightin' Words", Monroe,
    Colaresi and Quinn 2008).
    """
    together = own + others
    prior = prior_size * together / together.sum()
    here, there = own + prior, others + prior
    odds = np.log(here / (here.sum() - here)) - np.log(there / (there.sum() - there))
    return odds / np.sqrt(1 / here + 1 / there)


def correlate_classes(counts: WordCounts) -> np.ndarray:
    """``(k, k)``: Pearson's correlation of the logarithms of the shares of each class's texts that hold a word.

    Over the ``PROFILE_WORDS`` words in most texts; half a text is added to each count, so that none is zero. Classes of
    few texts look less like the others than they are, because their shares are less sure.
    """
    held = counts.by_class[:PROFILE_WORDS]
    rates = (held + 0.5) / (counts.class_texts + 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.corrcoef(np.log(rates), rowvar=False)
    return np.nan_to_num(found, nan=0.0)


def _word(counts: WordCounts, number: int) -> Word:
    return Word(
        counts.words[number],
        int(counts.occurrences[number]),
        int(counts.texts[number]),
        counts.by_class[number].tolist(),
    )


def _frequent_by_class(counts: WordCounts, class_names: Sequence[str], most: int) -> dict[str, list[str]]:
    common = np.array([word in FUNCTION_WORDS for word in counts.words], dtype=bool)
    found = {}
    for number, name in enumerate(class_names):
        texts = np.where(common, 0, counts.by_class[:, number])
        order = np.argsort(-texts, kind="stable")[:most]
        found[name] = [counts.words[place] for place in order.tolist() if texts[place]]
    return found


def _different_by_class(counts: WordCounts, class_names: Sequence[str]) -> dict[str, int]:
    return dict(zip(class_names, (counts.by_class > 0).sum(axis=0).tolist(), strict=True))


def _distinctive(counts: WordCounts, class_names: Sequence[str], most: int) -> dict[str, list[Distinctive]]:
    prior_size = PRIOR_TEXTS * counts.texts.sum() / max(counts.n_texts, 1)
    found: dict[str, list[Distinctive]] = {}
    for number, name in enumerate(class_names):
        own = counts.by_class[:, number]
        others = counts.texts - own
        if not own.sum() or not others.sum():
            found[name] = []
            continue
        z = np.where(counts.texts >= FEWEST_TEXTS, log_odds(own, others, prior_size), -np.inf)
        sizes = int(counts.class_texts[number]), counts.n_texts - int(counts.class_texts[number])
        found[name] = [
            Distinctive(counts.words[i], float(z[i]), int(own[i]), own[i] / sizes[0], others[i] / sizes[1])
            for i in np.argsort(-z, kind="stable")[:most].tolist()
            if z[i] >= LEAST_Z
        ]
    return found


def _telling(counts: WordCounts, most: int) -> list[Telling]:
    """As ``sklearn.feature_selection.chi2`` scores the presence of words, from the counts alone."""
    kept = np.flatnonzero(counts.texts >= FEWEST_TEXTS)
    present = counts.class_texts > 0
    if not len(kept) or present.sum() < 2:
        return []
    shares = counts.class_texts[present] / counts.n_texts
    observed = counts.by_class[kept][:, present]
    expected = observed.sum(axis=1, keepdims=True) * shares
    scores, p_values = stats.chisquare(observed, expected, axis=1)
    return [
        Telling(counts.words[kept[i]], float(scores[i]), float(p_values[i]), int(counts.texts[kept[i]]))
        for i in np.argsort(-scores, kind="stable")[:most].tolist()
    ]
