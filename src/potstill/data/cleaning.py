"""Cleaning of texts before anything reads them: steps by name, in the order given, with what each one did counted."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from potstill.data.names import suggest
from potstill.data.texts import CleanedTexts, select_texts
from potstill.errors import DataError
from potstill.records import Text

HEADER_LINE = re.compile(r"[A-Za-z][A-Za-z0-9-]*:(\s|$)")
ATTRIBUTIONS = ("writes in", "writes:", "wrote:", "says:", "said:")
QUOTE_OPENINGS = (">", "|", "In article", "Quoted from")
HTML_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)

TOO_SHORT_CHARACTERS = 50
MAX_WORDS = 400


def remove_newsgroup_headers(text: str) -> str:
    """``text`` without its first block, if that block opens with a header line such as ``From: …``.

    As in scikit-learn's 20 Newsgroups loader, except that a text without headers keeps its first paragraph: the copy
    on the hub has none left.
    """
    return text.partition("\n\n")[2] if HEADER_LINE.match(text) else text


def remove_newsgroup_quotes(text: str) -> str:
    """``text`` without the lines that quote somebody or announce a quotation, as scikit-learn's loader takes them."""
    return "\n".join(line for line in text.split("\n") if not _quotes(line))


def _quotes(line: str) -> bool:
    return line.startswith(QUOTE_OPENINGS) or any(phrase in line for phrase in ATTRIBUTIONS)


def remove_newsgroup_signature(text: str) -> str:
    """``text`` up to its last empty or dashed line, taken for the start of a signature, as in scikit-learn's loader.

    The rule is crude, and the last paragraph of an unsigned text goes with it; it is kept because the published figures
    on 20 Newsgroups were made with it.
    """
    lines = text.strip().split("\n")
    breaks = [number for number, line in enumerate(lines) if not line.strip().strip("-")]
    return "\n".join(lines[: breaks[-1]]) if breaks and breaks[-1] > 0 else text


def join_lines(text: str) -> str:
    """``text`` on one line: every run of line breaks, ``<br />`` among them, becomes one space."""
    lines = HTML_BREAK.sub("\n", text).splitlines()
    return " ".join(line.strip() for line in lines if line.strip())


def keep_words(text: str, max_words: int) -> str:
    """The first ``max_words`` words of ``text`` with the white space between them as it was."""
    end = 0
    for number, word in enumerate(re.finditer(r"\S+", text)):
        if number == max_words:
            return text[:end]
        end = word.end()
    return text


def drop_short(text: str, min_characters: int) -> str:
    """``text``, or nothing where it has fewer than ``min_characters`` characters around which there is no space."""
    return text if len(text.strip()) >= min_characters else ""


@dataclass(frozen=True)
class Cleaner:
    """One step: what it does to a text, and the unit and default of the number that may follow its name."""

    apply: Callable[..., str]
    default: int | None = None

    def bound(self, number: int | None) -> Callable[[str], str]:
        """The step as a function of the text alone."""
        return self.apply if self.default is None else partial(_swap, self.apply, number or self.default)


def _swap(apply: Callable[..., str], number: int, text: str) -> str:
    return apply(text, number)


CLEANERS: Mapping[str, Cleaner] = {
    "newsgroup_headers": Cleaner(remove_newsgroup_headers),
    "newsgroup_quotes": Cleaner(remove_newsgroup_quotes),
    "newsgroup_signatures": Cleaner(remove_newsgroup_signature),
    "too_short": Cleaner(drop_short, default=TOO_SHORT_CHARACTERS),
    "max_words": Cleaner(keep_words, default=MAX_WORDS),
    "line_breaks": Cleaner(join_lines),
}
"""Every step by name; ``too_short`` (characters) and ``max_words`` take a number, as in ``max_words:300``."""


@dataclass(frozen=True)
class Cleaned:
    """What is left after cleaning.

    texts: the cleaned texts, none of them empty, cleaned anew whenever they are read.
    kept_indices: ``(n,)`` int64, for each of them the row it came from.
    counts: for each step, how many texts it changed; and under ``dropped`` how many were left with no text.
    """

    texts: Sequence[Text]
    kept_indices: np.ndarray
    counts: dict[str, int]


def check_steps(steps: Sequence[str]) -> list[tuple[str, Callable[[str], str]]]:
    """``steps`` as functions; DataError for a step nobody knows, naming the nearest, and for a number that is none."""
    return [(step, _step(step)) for step in steps]


def _step(step: str) -> Callable[[str], str]:
    name, _, number = step.partition(":")
    if name not in CLEANERS:
        raise DataError("unknown cleaning step", found=name, allowed=list(CLEANERS), do=suggest(name, CLEANERS))
    takes_number = CLEANERS[name].default is not None
    if number and not (takes_number and number.isdigit() and int(number) > 0):
        allowed = "a whole number above 0" if takes_number else "no number"
        raise DataError(f"cleaning step {name} has a number that it does not take", found=number, allowed=allowed)
    return CLEANERS[name].bound(int(number) if number else None)


def clean(texts: Sequence[Text], steps: Sequence[str]) -> Cleaned:
    """``texts`` after ``steps``, in order; texts that a step leaves empty are dropped and counted.

    Both texts of a pair are cleaned, and the pair is dropped when either is left empty. Every step looks at one text
    alone, so nothing is kept of the others: texts that are on disk stay there.
    """
    functions = check_steps(steps)
    counts = dict.fromkeys([*steps, "dropped"], 0)
    kept = array("q")
    for row, text in enumerate(texts):
        cleaned = _clean_one(text, functions, counts)
        if _filled(cleaned):
            kept.append(row)
        else:
            counts["dropped"] += 1
    indices = np.array(kept, dtype=np.int64)
    cleaner = partial(_clean_one, functions=functions, counts=None)
    return Cleaned(CleanedTexts(select_texts(texts, indices), cleaner), indices, counts)


def _clean_one(text: Text, functions: list[tuple[str, Callable[[str], str]]], counts: dict[str, int] | None) -> Text:
    parts = [text] if isinstance(text, str) else list(text)
    for step, function in functions:
        cleaned = [function(part) for part in parts]
        if counts is not None:
            counts[step] += cleaned != parts
        parts = cleaned
    return parts[0] if isinstance(text, str) else (parts[0], parts[1])


def _filled(text: Text) -> bool:
    return all(part.strip() for part in ((text,) if isinstance(text, str) else text))
