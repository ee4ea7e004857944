"""Sentences about a data set, computed from its study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from potstill.analyse.data.duplicates import Level
from potstill.analyse.data.english import FEWEST_WORDS, LEAST_LATIN_LETTERS, LEAST_TELLTALE_WORDS
from potstill.analyse.data.length_choice import MOST_TRUNCATED
from potstill.analyse.data.near_duplicates import FUNCTIONS, LEAST_SHARED, RUN_WORDS
from potstill.analyse.data.study import Study
from potstill.report.sentences import percent

IMBALANCED = 10.0
"""From this ratio of the largest to the smallest class on, imbalance is warned of."""

SHIFTED = 0.1
"""From this difference of a label's share between two parts on, a shift is warned of."""


def verdict(study: Study) -> str:
    """What there is, how long it is, and how long a text may be: two or three sentences."""
    return " ".join(sentence for sentence in (_what(study), _how_long(study), _which_length(study)) if sentence)


def warnings(study: Study) -> list[str]:
    """What should be mended or known before training, most harmful first; nothing where there is nothing."""
    return [*_leaks(study), *_contradictions(study), *_repeats(study), *_of_balance(study), *_of_texts(study)]


def length_reason(study: Study) -> str:
    """Why the proposed length is proposed, beside the candidates next to it; empty without a tokenizer."""
    choice = study.length_choice
    if choice is None:
        return ""
    lengths = [row.length for row in choice.rows]
    chosen = choice.row(choice.proposed)
    cut, place = chosen.truncated[study.learnt], lengths.index(choice.proposed)
    if choice.fits:
        rule = (
            f"{chosen.length} tokens is the shortest length that cuts at most {MOST_TRUNCATED:.0%} of the texts"
            f"{of_learnt(study)}: it cuts {percent(cut)} of them, and {percent(chosen.tokens_lost)} of their tokens."
        )
    else:
        rule = (
            f"{chosen.length} tokens is all that the tokenizer's model takes, and it cuts {percent(cut)} of the texts"
            f"{of_learnt(study)} and {percent(chosen.tokens_lost)} of their tokens: no length cuts "
            f"{MOST_TRUNCATED:.0%} or less."
        )
    return " ".join([rule, *_beside(study, place)])


def _beside(study: Study, place: int) -> Iterator[str]:
    choice = study.length_choice
    assert choice is not None
    chosen = choice.rows[place]
    if place:
        shorter = choice.rows[place - 1]
        yield (
            f"{shorter.length} would cut {percent(shorter.truncated[study.learnt])} and take "
            f"{shorter.positions / chosen.positions:.2f} of the positions."
        )
    if place + 1 < len(choice.rows):
        longer = choice.rows[-1]
        yield (
            f"{longer.length} would cut {percent(longer.truncated[study.learnt])} and take "
            f"{longer.positions / chosen.positions:.2f} times the positions."
        )


def method_notes(study: Study) -> list[str]:
    """How things were counted, with every rule, limit and error."""
    return [
        _what_was_read(study),
        "A word is a run of letters and digits with apostrophes inside, in lower case; languages written without "
        "spaces or with combining vowel signs are cut roughly.",
        _how_words_were_counted(study),
        "Identical texts and texts of the same words are told apart by 64-bit digests: among a million different texts "
        "two share one with a probability of 3 in 100 million. Texts are nearly the same when an estimated "
        f"{LEAST_SHARED:.0%} of their runs of {RUN_WORDS} words are shared, by MinHash with {FUNCTIONS} functions "
        "(standard error 5 points at 80%); links are followed, so the ends of a chain can be less alike.",
        f"A text looks like another script when less than {LEAST_LATIN_LETTERS:.0%} of its letters are Latin, and like "
        f"another language (or a table, a list, code) when it has {FEWEST_WORDS} words or more and less than "
        f"{LEAST_TELLTALE_WORDS:.0%} of them are English function words that other languages do not share. Shorter "
        "texts are not judged, and texts partly in another language are overlooked.",
    ]


def _how_words_were_counted(study: Study) -> str:
    words = study.words
    if not words.missed:
        return "Word counts are exact."
    estimated = f"has a standard error of {percent(words.different_error)}" if words.different_error else "is exact"
    return (
        "Rare words were forgotten to bound the table: a word's count of texts can be too low by up to "
        f"{words.missed:,}; the number of different words {estimated}."
    )


def _what_was_read(study: Study) -> str:
    read = "Every row was read and counted; nothing was sampled here."
    if len(study.rows) == 1:
        return read
    return (
        f"{read} Words, classes' words and the length to choose are those of {study.learnt} alone, so that nothing is "
        "chosen by looking at the split that is reported."
    )


def of_learnt(study: Study) -> str:
    """`` of train`` behind "the texts", where there are others too."""
    return f" of {study.learnt}" if len(study.rows) > 1 else ""


def _what(study: Study) -> str:
    total = sum(study.rows.values())
    if study.problem_type is None:
        return f"{count_of(total, 'unlabelled text')}."
    parts = ", ".join(f"{n:,} {name}" for name, n in study.rows.items())
    kind = {
        "single_label_classification": f"one label of {len(study.label_names)}",
        "multi_label_classification": f"any of {len(study.label_names)} labels",
        "regression": "a score",
    }[study.problem_type]
    return f"{total:,} texts ({parts}), each with {kind}."


def _how_long(study: Study) -> str:
    unit = study.lengths[0] if study.tokens is None else study.lengths[-1]
    summary = unit.parts.get(study.learnt)
    if summary is None:
        return ""
    return (
        f"Half of the texts{of_learnt(study)} have {summary.median:,.0f} {unit.unit} or fewer, "
        f"95% have {summary.p95:,.0f} or fewer."
    )


def _which_length(study: Study) -> str:
    choice = study.length_choice
    if choice is None:
        return ""
    row = choice.row(choice.proposed)
    return (
        f"At {row.length} tokens {percent(row.truncated[study.learnt])} of them are cut, and potstill's batches hold "
        f"{percent(row.padding_in_batches)} padding where padding to {row.length} would hold "
        f"{percent(row.padding_to_maximum)}."
    )


def _leaks(study: Study) -> Iterator[str]:
    """For every part but the learnt one: rows that training has seen; then rows that another part holds as well.

    The second matters too: of selection and test, one chooses what the other measures.
    """
    others = [part for part in study.rows if part != study.learnt]
    pairs = [(part, study.learnt) for part in others]
    pairs += [(part, earlier) for place, part in enumerate(others) for earlier in others[:place]]
    identical, normalised, near = (level.shared for level in study.duplicates)
    for part, elsewhere in pairs:
        found, n_rows = near[part][elsewhere], study.rows[part]
        if not found.rows:
            continue
        other = f"; {found.with_other_label:,} of them with another label" if found.with_other_label else ""
        yield (
            f"Leakage: {found.rows:,} of {n_rows:,} texts of {part} ({share_of(found.rows, n_rows)}) are in "
            f"{elsewhere} too, {identical[part][elsewhere].rows:,} identically and "
            f"{normalised[part][elsewhere].rows:,} in the same words{other}."
        )


def _repeats(study: Study) -> Iterator[str]:
    """For every part: rows whose text it holds already, under another id."""
    identical, normalised, near = (level.repeated for level in study.duplicates)
    for part, n_rows in study.rows.items():
        if near[part]:
            yield (
                f"Repeats: {near[part]:,} of {n_rows:,} texts of {part} ({share_of(near[part], n_rows)}) repeat an "
                f"earlier one, {identical[part]:,} identically and {normalised[part]:,} in the same words."
            )


def _contradictions(study: Study) -> Iterator[str]:
    level: Level = study.duplicates[1]
    if level.contradicting_texts:
        what = "scores" if study.problem_type == "regression" else "labels"
        yield (
            f"Contradictions: {count_of(level.contradicting_texts, 'text')} "
            f"{'occurs' if level.contradicting_texts == 1 else 'occur'} with different {what}; "
            f"{count_of(level.contradicting_rows, 'row')} of {study.learnt} "
            f"{'carries' if level.contradicting_rows == 1 else 'carry'} one of them."
        )


def _of_balance(study: Study) -> Iterator[str]:
    balance = study.balance
    if balance is None:
        return
    for part, counts in balance.counts.items():
        absent = [label for label, n in counts.items() if not n]
        if absent and balance.rows[part]:
            yield f"No text of {part} carries {_listed(absent)}."
    if balance.imbalance is not None and balance.imbalance >= IMBALANCED:
        learnt = balance.counts[study.learnt]
        yield (
            f"Imbalance: {balance.largest} has {balance.imbalance:,.0f} times the texts of {balance.smallest} "
            f"({learnt[balance.largest]:,} and {learnt[balance.smallest]:,})."
        )
    for part, shift in balance.shift.items():
        if shift >= SHIFTED:
            yield f"Shift: the share of a label differs by up to {percent(shift)} between {study.learnt} and {part}."


def _of_texts(study: Study) -> Iterator[str]:
    total = sum(study.rows.values())
    for look, said in (
        ("empty", "without any text"),
        ("no words", "without a word"),
        ("other script", "mostly in another script than Latin"),
        ("few English words", "with few English words: another language, or a table, a list, code"),
    ):
        n = sum(counts[look] for counts in study.looks.values())
        if n:
            yield f"{count_of(n, 'text')} ({share_of(n, total)}) {said}."


def count_of(n: int, noun: str) -> str:
    """``1 text``, ``1,200 texts``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def share_of(n: int, total: int) -> str:
    """A share in percent, in which a few of many never look like none."""
    share = n / total if total else 0.0
    return "<0.1%" if 0 < share < 0.0005 else percent(share)


def _listed(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} other labels"
