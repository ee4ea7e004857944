"""The tables of a data study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from potstill.analyse.data.distinctive import Word
from potstill.analyse.data.duplicates import LEVELS, Level
from potstill.analyse.data.english import LOOKS
from potstill.analyse.data.lengths import Summary, UnitLengths
from potstill.analyse.data.study import Study
from potstill.report.data.sentences import share_of
from potstill.report.sentences import percent
from potstill.report.tables import NOTHING, Cell, Table

LEVEL_NAMES: Mapping[str, str] = {"identical": "identical", "normalised": "same words", "near": "nearly the same"}

LISTED_WORDS = 30


def rows_table(study: Study) -> Table:
    """Parts down: their rows and their share of all."""
    total = sum(study.rows.values())
    rows = [
        [Cell(part), Cell(f"{n:,}", sort=n), Cell(percent(n / total if total else None), sort=n)]
        for part, n in study.rows.items()
    ]
    return Table(["split", "rows", "share"], rows)


def class_table(study: Study) -> Table | None:
    """Labels down, parts across: texts that carry the label and their share of the part; None without labels."""
    balance = study.balance
    if balance is None:
        return None
    rows = [
        [Cell(label), *(_count_cell(counts[label], balance.rows[part]) for part, counts in balance.counts.items())]
        for label in study.label_names
    ]
    if balance.unlabelled is not None:
        none = balance.unlabelled
        rows.append([Cell("no label"), *(_count_cell(none[part], balance.rows[part]) for part in balance.counts)])
    total = sum(balance.rows.values())
    rows.append([Cell("all texts"), *(_count_cell(balance.rows[part], total) for part in balance.counts)])
    return Table(["label", *balance.counts], rows, last_is_summary=True)


def lengths_table(unit: UnitLengths) -> Table:
    """Parts down, then classes: mean, deviation, quartiles and percentiles of one unit."""
    named = [(name, "", summary) for name, summary in unit.parts.items()]
    named += [(name, "class", summary) for name, summary in unit.classes.items()]
    return summary_table(named)


def summary_table(named: Sequence[tuple[str, str, Summary]]) -> Table:
    """A row for each (name, detail, summary)."""
    columns = ["", "texts", "mean", "deviation", "least", "5%", "25%", "median", "75%", "95%", "99%", "most"]
    fields = ("mean", "deviation", "minimum", "p5", "q1", "median", "q3", "p95", "p99", "maximum")
    rows = [
        [
            Cell(name, detail),
            Cell(f"{summary.texts:,}", sort=summary.texts),
            *(Cell(_figure(value), sort=value) for value in (getattr(summary, field) for field in fields)),
        ]
        for name, detail, summary in named
    ]
    return Table(columns, rows)


def choice_table(study: Study) -> Table | None:
    """Candidate lengths down: what each cuts and pads; None without a tokenizer."""
    choice = study.length_choice
    if choice is None:
        return None
    parts = list(choice.truncated)
    columns = ["tokens", *(f"{part} cut" for part in parts), "tokens lost"]
    columns += ["padding to it", "padding as they arrive", "padding in potstill's batches", "positions"]
    proposed = choice.row(choice.proposed)
    rows = []
    for row in choice.rows:
        shares = [*(row.truncated[part] for part in parts), row.tokens_lost]
        shares += [row.padding_to_maximum, row.padding_as_they_arrive, row.padding_in_batches]
        mark = "proposed" if row.length == choice.proposed else ""
        positions = Cell(f"{row.positions / proposed.positions:.2f}×", sort=row.positions)
        rows.append([Cell(f"{row.length:,}", mark, row.length), *(_share_cell(share) for share in shares), positions])
    return Table(columns, rows)


def frequent_table(study: Study) -> Table:
    """The words in most texts: occurrences, texts and their share."""
    words = study.words
    rows = [
        [
            Cell(word.word),
            Cell(f"{word.texts:,}", share_of(word.texts, words.texts), word.texts),
            Cell(f"{word.occurrences:,}", sort=word.occurrences),
        ]
        for word in words.listed[:LISTED_WORDS]
    ]
    return Table(["word", "texts", "occurrences"], rows)


def distinctive_tables(study: Study) -> list[tuple[str, Table]]:
    """For each class its distinctive words, with their shares here and elsewhere."""
    found = []
    for name, words in study.words.distinctive.items():
        rows = [
            [
                Cell(word.word),
                Cell(f"{word.z:.1f}", sort=word.z),
                Cell(percent(word.share), sort=word.share),
                Cell(percent(word.share_elsewhere), sort=word.share_elsewhere),
            ]
            for word in words[:15]
        ]
        found.append((name, Table(["word", "z", "here", "elsewhere"], rows)))
    return found


def frequent_by_class(study: Study) -> Table | None:
    """Classes down: different words, and the words in most of their texts; None without classes."""
    words = study.words
    if not words.frequent_by_class:
        return None
    different = words.different_by_class or {}
    rows = [
        [
            Cell(name),
            Cell(f"{different[name]:,}" if name in different else NOTHING, sort=different.get(name)),
            Cell(", ".join(of_class[:12])),
        ]
        for name, of_class in words.frequent_by_class.items()
    ]
    return Table(["label", "different words", "in most texts, without function words"], rows)


def telling_table(study: Study) -> Table | None:
    """Words by falling χ²; None where there are none."""
    listed: dict[str, Word] = {word.word: word for word in study.words.listed}
    rows = [
        [
            Cell(word.word),
            Cell(f"{word.chi2:,.0f}", sort=word.chi2),
            Cell(_p_value(word.p_value), sort=word.p_value),
            Cell(f"{word.texts:,}", sort=word.texts),
            Cell(_most_in(study, listed[word.word])),
        ]
        for word in study.words.telling[:LISTED_WORDS]
    ]
    caption = (
        "The texts of each class that hold a word against those that equal shares would give. Each p is that of one "
        "word alone: it is not corrected for all the words that were looked at."
    )
    return Table(["word", "χ²", "p", "texts", "most often in"], rows, caption) if rows else None


def duplicates_table(study: Study) -> Table:
    """What is repeated, shared and contradicted, at each level."""
    levels = study.duplicates
    rows = [
        [
            Cell(f"{part}: repeated", "texts that came before"),
            *(_count_cell(level.repeated[part], n) for level in levels),
        ]
        for part, n in study.rows.items()
    ]
    for part, n in study.rows.items():
        for other in study.rows:
            if part != other:
                cells = [_overlap_cell(study, level, part, other, n) for level in levels]
                rows.append([Cell(f"{part}: also in {other}"), *cells])
    if study.balance is not None or study.scores is not None:
        texts = [Cell(f"{level.contradicting_texts:,}", sort=level.contradicting_texts) for level in levels]
        n = study.rows[study.learnt]
        learnt = [_count_cell(level.contradicting_rows, n) for level in levels]
        rows.append([Cell("texts with different labels", "anywhere"), *texts])
        rows.append([Cell(f"{study.learnt}: rows of such texts"), *learnt])
    return Table(["rows", *(LEVEL_NAMES[level] for level in LEVELS)], rows)


def looks_table(study: Study) -> Table:
    """Parts across, looks down."""
    parts = list(study.looks)
    rows = [[Cell(look), *(_count_cell(study.looks[part][look], study.rows[part]) for part in parts)] for look in LOOKS]
    return Table(["looks", *parts], rows)


def _overlap_cell(study: Study, level: Level, part: str, other: str, n_rows: int) -> Cell:
    found = level.shared[part][other]
    differing = f"\n{found.with_other_label:,} labelled otherwise" if found.with_other_label else ""
    return Cell(f"{found.rows:,}", share_of(found.rows, n_rows) + differing, found.rows)


def _most_in(study: Study, word: Word) -> str:
    """The class of whose texts the largest share holds the word."""
    balance = study.balance
    assert balance is not None
    sizes = [balance.counts[study.learnt][label] for label in study.label_names]
    shares = [held / size if size else 0.0 for held, size in zip(word.by_class, sizes, strict=True)]
    return study.label_names[shares.index(max(shares))]


def _count_cell(n: int, total: int) -> Cell:
    return Cell(f"{n:,}", share_of(n, total) if n else "", n)


def _share_cell(share: float) -> Cell:
    return Cell(percent(share), sort=share)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 100 else f"{value:,.1f}"


def _p_value(p: float) -> str:
    return "<1e-300" if p < 1e-300 else f"{p:.0e}" if p < 0.001 else f"{p:.3f}"
