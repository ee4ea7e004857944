"""Texts that do not look like English prose: a rule with stated limits, for a person to look at what it finds.

The rule knows words and letters, no grammar. It does not judge texts of fewer than ``FEWEST_WORDS`` words in Latin
letters; it takes tables, code, lists of names and headlines for something else than English; and it overlooks a text
that is part English, part another language.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from potstill.analyse.data.rows import Chunk, Part, text_parts
from potstill.records import Text

FEWEST_WORDS = 20
"""Texts of fewer words hold too few function words to judge them by."""

LEAST_TELLTALE_WORDS = 0.05
"""English prose has 0.15 to 0.3 of its words among ``TELLTALE_WORDS`` (the least of 3,124 film reviews had 0.08), prose
of other European languages next to none."""

LEAST_LATIN_LETTERS = 0.5
FEWEST_LETTERS = 5

_ENGLISH_ALONE = """
about after also and any are because been before but can can't could did didn't don't from have his how i'm if into
it's just like more most my now only other our out over she should some such than that the their them then there
these they this those through very what when where which while who with would you your
"""
_SHARED = """
a all an as at be by do does for get had has he her him i in is it its me no not of on one or so to up us was we
well were will
"""

TELLTALE_WORDS = frozenset(_ENGLISH_ALONE.split())
"""Common words that name nothing and that no other language written in Latin letters uses much."""

FUNCTION_WORDS = TELLTALE_WORDS | frozenset(_SHARED.split())
"""The commonest words of English that name nothing."""

_LATIN = re.compile(r"[A-Za-z\u00aa\u00ba\u00c0-\u024f\u1e00-\u1eff]")

LOOKS = ("empty", "no words", "other script", "few English words", "too short to judge", "English")
"""What a text can look like; every text is counted under one of them."""

SHOWN = ("empty", "no words", "other script", "few English words")
"""Those of which examples are kept."""


@dataclass(frozen=True)
class Strange:
    """One text that does not look like English: what it looks like, and the share that decided."""

    look: str
    part: str
    row: int
    share: float


@dataclass(frozen=True)
class Looks:
    """Texts of each part by look, and the first examples of each strange one."""

    counts: Mapping[str, Mapping[str, int]]
    examples: Sequence[Strange]


class LookCounter:
    """Counts looks chunk by chunk, and keeps the first ``most`` examples of each."""

    def __init__(self, parts: Sequence[Part], most: int = 10) -> None:
        self._counts = {part.name: dict.fromkeys(LOOKS, 0) for part in parts}
        self._examples: dict[str, list[Strange]] = {look: [] for look in SHOWN}
        self._most = most

    def add(self, part: str, chunk: Chunk) -> None:
        """Judge the texts of ``chunk``, the next of ``part``."""
        counts = self._counts[part]
        for row, (text, words) in enumerate(zip(chunk.texts, chunk.words, strict=True), start=chunk.start):
            look, share = look_of(text, words)
            counts[look] += 1
            if look in self._examples and len(self._examples[look]) < self._most:
                self._examples[look].append(Strange(look, part, row, share))

    def result(self) -> Looks:
        """What was counted so far."""
        return Looks(self._counts, [example for look in SHOWN for example in self._examples[look]])


def look_of(text: Text, words: Sequence[str]) -> tuple[str, float]:
    """One of ``LOOKS``, and the share that decided: of Latin letters among letters, or of English function words."""
    whole = " ".join(text_parts(text))
    if not whole.strip():
        return "empty", 0.0
    if not words:
        return "no words", 0.0
    if not whole.isascii():
        letters = sum(map(str.isalpha, whole))
        latin = len(_LATIN.findall(whole)) / letters if letters else 1.0
        if letters >= FEWEST_LETTERS and latin < LEAST_LATIN_LETTERS:
            return "other script", latin
    if len(words) < FEWEST_WORDS:
        return "too short to judge", 1.0
    telltale = sum(map(TELLTALE_WORDS.__contains__, words)) / len(words)
    return ("few English words" if telltale < LEAST_TELLTALE_WORDS else "English"), telltale
