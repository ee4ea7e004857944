"""Unlabelled prose for masked-language-model training: the built-in corpus, known corpora, and the user's own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from potstill.data.docstrings import read_paragraphs
from potstill.data.formats import read_rows
from potstill.data.names import suggest
from potstill.data.sources import open_source, require_columns, require_text, state_of, unread_note
from potstill.data.texts import TextColumn
from potstill.errors import DataError

BUILT_IN = "docstrings"


@dataclass(frozen=True)
class KnownCorpus:
    """Where a corpus known by name is: a file below the data folder, or a split on the hub; and its language."""

    local_file: str
    hub_name: str | None = None
    hub_split: str = "train"
    language: str = "en"


KNOWN: dict[str, KnownCorpus] = {
    "wikitext-2": KnownCorpus("wikitext-2/train.txt.gz", "Salesforce/wikitext:wikitext-2-v1"),
    "imdb-unsupervised": KnownCorpus("imdb/unsupervised.parquet", "stanfordnlp/imdb", "unsupervised"),
    "novels": KnownCorpus("novels/train.parquet"),
}


@dataclass(frozen=True)
class Corpus:
    """Non-empty texts, read anew from the disk by every iteration.

    fingerprint: sha256 over the texts; for a streamed corpus over where they are and the state of what is there.
    notes: in words, what was skipped or cut.
    n_texts, n_characters: counted; None for a streamed corpus, which has no ``len()``.
    """

    name: str
    read: Callable[[], Iterable[str]] = field(repr=False)
    fingerprint: str
    notes: list[str]
    n_texts: int | None = None
    n_characters: int | None = None

    def __iter__(self) -> Iterator[str]:
        return iter(self.read())

    def __len__(self) -> int:
        if self.n_texts is None:
            raise TypeError("a streamed corpus has no length before it is read")
        return self.n_texts


def language_of(source: str) -> str | None:
    """The language of a corpus known by name, as ISO 639-1 has it; None for a source of one's own."""
    return "en" if source == BUILT_IN else KNOWN[source].language if source in KNOWN else None


def load_corpus(
    source: str | Path,
    *,
    text_column: str = "text",
    data_dir: Path | None = None,
    max_characters: int | None = None,
    streaming: bool = False,
) -> Corpus:
    """The texts of ``source``: ``docstrings``, a known corpus, or what ``open_source`` takes.

    Known corpora come from below ``data_dir``, or from the hub where no ``data_dir`` is given. Lines and rows without
    text are skipped and counted. ``max_characters`` takes the texts from the front until they are that many characters;
    the last one is cut between words. With ``streaming`` only the first text is read ahead, and none is counted; the
    built-in corpus is in memory in any case.
    Raises DataError for a source that is missing, has no such column, or holds no text.
    """
    name = Path(source).name if Path(source).exists() else str(source)
    unread = [] if str(source) in (BUILT_IN, *KNOWN) else unread_note(source)
    if streaming and str(source) != BUILT_IN:
        texts, identity = _streamed_texts(source, text_column, data_dir)
        fingerprint = hashlib.sha256(repr((identity, text_column, max_characters)).encode()).hexdigest()
        read = partial(_taken, texts, max_characters)
        if next(read(), None) is None:
            raise _no_text(name)
        return Corpus(name, read, fingerprint, ["streamed: texts are not counted ahead", *unread])
    counted = _counted(name, resident_texts(source, text_column, data_dir), max_characters)
    return replace(counted, notes=[*counted.notes, *unread])


def _counted(name: str, texts: Sequence[str], max_characters: int | None) -> Corpus:
    read = partial(_taken, texts, max_characters)
    digest, n_texts, n_characters = hashlib.sha256(), 0, 0
    for text in read():
        digest.update(f"{len(text)}:".encode() + text.encode("utf-8", "surrogatepass"))
        n_texts, n_characters = n_texts + 1, n_characters + len(text)
    if not n_texts:
        raise _no_text(name)
    notes = [f"{n_texts:,} texts, {n_characters:,} characters"]
    if max_characters is not None:
        notes.append(f"limited to {max_characters:,} characters from the front")
    elif len(texts) > n_texts:
        notes.append(f"{len(texts) - n_texts:,} empty rows skipped")
    return Corpus(name, read, digest.hexdigest(), notes, n_texts, n_characters)


def _no_text(name: str) -> DataError:
    return DataError(f"the corpus {name} holds no text")


def _taken(texts: Iterable[str], max_characters: int | None) -> Iterator[str]:
    """``texts`` without empty ones and byte-order marks, as far as ``max_characters`` goes."""
    left = max_characters
    for text in texts:
        text = text.removeprefix("\ufeff").strip()
        if not text:
            continue
        if left is not None and len(text) > left:
            if beginning := text[: left + 1].rpartition(" ")[0].strip():
                yield beginning
            return
        yield text
        left = None if left is None else left - len(text)


@dataclass(frozen=True)
class _Streamed:
    """Texts of a source that is read row by row, every time from its start."""

    rows: Callable[[], Iterable[dict[str, Any]]]
    column: str
    title: str

    def __iter__(self) -> Iterator[str]:
        for number, row in enumerate(self.rows(), start=1):
            if self.column not in row:
                raise DataError(
                    f"{self.title}, row {number} has no column {self.column!r}",
                    allowed=sorted(row),
                    do=suggest(self.column, row),
                )
            text = row[self.column]
            if text is not None and not isinstance(text, str):
                raise DataError(f"{self.title}, row {number}: column {self.column!r} is no text", found=repr(text)[:80])
            yield text or ""


def resident_texts(source: str | Path, text_column: str, data_dir: Path | None) -> Sequence[str]:
    """All texts of what ``load_corpus`` takes, empty ones included: those of a file stay on the disk."""
    if str(source) == BUILT_IN:
        return [paragraph.text for paragraph in read_paragraphs()]
    place, split = _place(source, data_dir)
    dataset = open_source(place, split=split)
    require_text(dataset, (text_column,), place)
    return cast("Sequence[str]", TextColumn(dataset, (text_column,)))  # one column gives strings, never pairs


def _streamed_texts(
    source: str | Path, text_column: str, data_dir: Path | None
) -> tuple[Iterable[str], tuple[object, ...]]:
    """All texts, empty ones included, and what tells this source from another without reading it."""
    place, split = _place(source, data_dir)
    path = Path(place).expanduser()
    if path.is_file():
        # Straight from the file: an IterableDataset would import torch.
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty")
        return _Streamed(partial(read_rows, str(path)), text_column, place), state_of(path)
    dataset = open_source(place, split=split, streaming=True)
    require_columns(dataset, (text_column,), place)
    return _Streamed(partial(iter, dataset), text_column, place), (place, split, *state_of(place))


def _place(source: str | Path, data_dir: Path | None) -> tuple[str, str | None]:
    known = KNOWN.get(str(source))
    if known is None:
        return str(source), None if Path(source).expanduser().exists() else "train"
    if data_dir is not None:
        path = data_dir.expanduser() / known.local_file
        if not path.exists():
            raise DataError(f"the corpus {source} has no copy below {data_dir}: {known.local_file} is missing")
        return str(path), None
    if known.hub_name is None:
        raise DataError(f"the hub has no copy of the corpus {source}", do="give local copies with --data-dir")
    return known.hub_name, known.hub_split
