"""The page of a data study: classes, lengths, the length to choose, words, duplicates, and texts to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from potstill.analyse.data.study import Study
from potstill.report.data import tables
from potstill.report.data.figures import (
    draw_boxes,
    draw_choice,
    draw_correlation,
    draw_histogram,
    draw_shares,
)
from potstill.report.data.sentences import (
    count_of,
    length_reason,
    method_notes,
    of_learnt,
    share_of,
    verdict,
    warnings,
)
from potstill.report.sentences import percent
from potstill.report.shell import embed_json, fill_page
from potstill.report.tables import Table
from potstill.runs import write_text

PAGE = "explore.html"

MOST_OUTLINES = 6
"""Histograms are drawn class by class up to so many classes; boxes and tables show any number."""

KINDS: Mapping[str, str] = {
    "contradiction": "one text, different labels",
    "shared": "in more than one split",
    "repeated": "repeated",
}


@dataclass(frozen=True)
class _UnitView:
    """What the template shows of one unit of length."""

    unit: str
    table: Table
    figures: Sequence[Markup]


def write_explore_page(study: Study, path: Path, *, made: Mapping[str, Any]) -> None:
    """Write the page to ``path``, atomically. made: when, in how many seconds, and with which versions."""
    write_text(path, render_explore_page(study, made=made))


def render_explore_page(study: Study, *, made: Mapping[str, Any]) -> str:
    """The page as HTML text; texts from data are escaped, what the script reads is JSON that cannot end its element."""
    return fill_page(
        "explore.html.j2",
        title=f"{study.title}: data study",
        styles=("explore.css",),
        scripts=("explore.js",),
        study=study,
        made=made,
        verdict=verdict(study),
        warnings=warnings(study),
        rows=tables.rows_table(study),
        classes=tables.class_table(study),
        class_figures=_class_figures(study),
        scores=_scores(study),
        units=[_unit_view(study, number) for number in reversed(range(len(study.lengths)))],
        choice=tables.choice_table(study),
        choice_figure=_choice_figure(study),
        reason=length_reason(study),
        frequent=tables.frequent_table(study),
        by_class=tables.frequent_by_class(study),
        distinctive=tables.distinctive_tables(study),
        telling=tables.telling_table(study),
        correlation=_correlation(study),
        duplicates=tables.duplicates_table(study),
        kinds=KINDS,
        level_names=tables.LEVEL_NAMES,
        looks=tables.looks_table(study),
        methods=method_notes(study),
        balance_sentence=_balance_sentence(study),
        likeness=_likeness(study),
        vocabulary_sentence=_vocabulary_sentence(study),
        token_sentence=_token_sentence(study),
        count_of=count_of,
        data=embed_json(page_data(study)),
    )


def page_data(study: Study) -> dict[str, Any]:
    """What the page's script reads: the curves of the length to choose, and the words with their classes."""
    choice, words, balance = study.length_choice, study.words, study.balance
    sizes = [] if balance is None else [balance.counts[study.learnt][label] for label in study.label_names]
    return {
        "lengths": None
        if choice is None
        else {
            "at": choice.lengths,
            "truncated": choice.truncated,
            "padded": choice.padded,
            "learnt": study.learnt,
            "proposed": choice.proposed,
        },
        "words": {
            "classes": list(study.label_names),
            "class_texts": sizes,
            "texts": words.texts,
            "listed": [[word.word, word.texts, *word.by_class] for word in words.listed],
        },
    }


def _class_figures(study: Study) -> list[Markup]:
    balance = study.balance
    if balance is None:
        return []
    shares = {
        part: {label: n / balance.rows[part] for label, n in counts.items()}
        for part, counts in balance.counts.items()
        if balance.rows[part]
    }
    figures = [draw_shares(shares, title="Share of each label")]
    if balance.together is not None and len(study.label_names) > 1:
        title = f"Labels that come together ({study.learnt}, correlation)"
        figures.append(draw_correlation(balance.together, study.label_names, title=title))
    return [Markup(figure) for figure in figures]


def _scores(study: Study) -> Table | None:
    return tables.summary_table([(part, "", of) for part, of in study.scores.items()]) if study.scores else None


def _unit_view(study: Study, number: int) -> _UnitView:
    unit = study.lengths[number]
    figures = [draw_histogram(unit.edges, unit.counts, title=f"{unit.unit.capitalize()} per text", unit=unit.unit)]
    if 1 < len(unit.classes) <= MOST_OUTLINES:
        title = f"{unit.unit.capitalize()} per text by class of {study.learnt}"
        figures.append(draw_histogram(unit.edges, unit.class_counts, title=title, unit=unit.unit))
    boxed = unit.classes or unit.parts
    of = f"by class of {study.learnt}" if unit.classes else "by split"
    figures.append(draw_boxes(boxed, title=f"{unit.unit.capitalize()} {of}", unit=unit.unit))
    return _UnitView(unit.unit, tables.lengths_table(unit), [Markup(figure) for figure in figures])


def _choice_figure(study: Study) -> Markup | None:
    if study.length_choice is None or len(study.length_choice.rows) < 2:
        return None
    return Markup(draw_choice(study.length_choice, study.learnt, title="What each length cuts and pads"))


def _correlation(study: Study) -> Markup | None:
    if study.words.correlation is None or len(study.label_names) < 3:
        return None
    return Markup(draw_correlation(study.words.correlation, study.label_names, title="Classes by their words"))


def _balance_sentence(study: Study) -> str:
    balance = study.balance
    if balance is None:
        return ""
    share = percent(balance.majority)
    often = f"In {study.learnt}, {balance.largest} is the most frequent label ({share} of the texts)"
    if balance.imbalance is None:
        often += f", and no text carries {balance.smallest}."
    elif balance.imbalance == 1:
        often = f"In {study.learnt}, all labels are equally frequent ({share} of the texts)."
    else:
        often += f", {balance.imbalance:.1f} times as frequent as {balance.smallest}."
    if balance.labels_per_text is not None:
        return f"{often} A text carries {balance.labels_per_text[study.learnt]:.2f} labels on average."
    answer = f"Always answering {balance.largest} would be right that often."
    even = "" if balance.evenness is None else f" The evenness of the classes is {balance.evenness:.3f} (1 is equal)."
    return f"{often} {answer}{even}"


def _likeness(study: Study) -> str:
    """Which two classes are most and which least alike by their words."""
    names, table = study.label_names, study.words.correlation
    if table is None:
        return ""
    pairs = [(table[i][j], names[i], names[j]) for i in range(len(names)) for j in range(i)]
    (least, one, other), (most, first, second) = min(pairs), max(pairs)
    if len(pairs) == 1:
        return f"The words of {first} and {second} correlate by {most:.2f}."
    return f"Most alike by their words are {first} and {second} ({most:.2f}), least {one} and {other} ({least:.2f})."


def _vocabulary_sentence(study: Study) -> str:
    words = study.words
    about = "about " if words.different_error else ""
    once = "" if words.once is None else f", of which {words.once:,} occur once"
    return (
        f"{count_of(words.occurrences, 'word')} in {count_of(words.texts, 'text')}{of_learnt(study)}; "
        f"{about}{words.different:,} different ones{once}."
    )


def _token_sentence(study: Study) -> str:
    tokens = study.tokens
    if tokens is None:
        return "No tokenizer was named, so that tokens were not counted."
    per_word = "" if tokens.per_word is None else f" ({tokens.per_word:.2f} a word, special ones included)"
    known = (
        f"{tokens.unknown:,} of them ({share_of(tokens.unknown, tokens.tokens)}) stand for what it does not know"
        if tokens.unknown
        else "none of them stands for something that it does not know"
    )
    return f"{tokens.tokenizer} makes {tokens.tokens:,} tokens of all texts{per_word}; {known}."
