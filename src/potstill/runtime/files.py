"""Predictions over files of any size: rows in, the same rows with what was predicted out; memory stays bounded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from potstill.bundle import Bundle
from potstill.data.formats import format_of
from potstill.errors import DataError
from potstill.records import Predictions, Predictor, Text
from potstill.runs import fingerprint
from potstill.runtime.answers import Answers
from potstill.runtime.journal import Counts, State, UnfinishedFile
from potstill.runtime.lookahead import ahead
from potstill.runtime.progress import Progress
from potstill.runtime.row_reader import BadRow, LineRows, Place, Row, RowSource, open_rows
from potstill.runtime.row_texts import RowTexts
from potstill.runtime.row_writer import RowWriter, open_writer, written_format

CHUNK_ROWS, CHUNK_BYTES = 2048, 2**23
"""Rows are predicted and written so many at a time, or as many as have so many bytes; a kill loses one part."""


@dataclass(frozen=True)
class Wanted:
    """What is to be added to rows, and which of their columns are read.

    text_columns: by default those that the bundle was trained on. top_k: how many of the likeliest labels, None for the
    probability of each. prefix: before the names of the new columns. kind: the format of the input, None for that which
    the files' names announce.
    """

    text_columns: tuple[str, ...] = ()
    top_k: int | None = None
    prefix: str = ""
    kind: str | None = None


@dataclass(frozen=True)
class _Chunk:
    """Rows to predict, bad rows among them, and how far the reading is behind them."""

    rows: list[Row]
    texts: list[Text]
    bad: list[tuple[str, BadRow]]
    file: int
    place: Place


class _Inputs:
    """The sources one after another as chunks; which rows share a chunk depends on the rows alone."""

    def __init__(self, sources: Sequence[tuple[str, RowSource]], texts: RowTexts, added: Sequence[str]) -> None:
        self._sources, self._texts, self._added = sources, texts, frozenset(added)
        self._sizes = [source.n_bytes or 0 for _, source in sources]
        self._now = 0

    def chunks(self, file: int, start: Place) -> Iterator[_Chunk]:
        """What lies behind ``start`` of the source numbered ``file``; a chunk ends with its file at the latest."""
        for number in range(file, len(self._sources)):
            self._now = number
            name, source = self._sources[number]
            yield from self._of_one(name, source, number, start if number == file else Place())

    def share_read(self) -> float | None:
        """How much of all the sources was read, in bytes as they lie on disk; None where one does not know."""
        now, whole = self._now, sum(self._sizes)
        share = self._sources[now][1].share_read()
        return None if share is None or not whole else (sum(self._sizes[:now]) + share * self._sizes[now]) / whole

    def _of_one(self, name: str, source: RowSource, number: int, start: Place) -> Iterator[_Chunk]:
        chunk, n_bytes = _Chunk([], [], [], number, start), 0
        for found, place in source.rows(start):
            text = self._text_of(found)
            if isinstance(text, BadRow):
                chunk.bad.append((name, text))
            elif isinstance(found, Row):
                chunk.rows.append(found)
                chunk.texts.append(text)
                n_bytes += found.n_bytes
            chunk = replace(chunk, place=place)
            if len(chunk.rows) + len(chunk.bad) >= CHUNK_ROWS or n_bytes >= CHUNK_BYTES:
                yield chunk
                chunk, n_bytes = _Chunk([], [], [], number, place), 0
        if chunk.rows or chunk.bad:
            yield chunk

    def _text_of(self, found: Row | BadRow) -> Text | BadRow:
        if isinstance(found, BadRow):
            return found
        if twice := self._added & found.values.keys():
            return BadRow(found.number, f"already has a field {min(twice)!r}")
        try:
            return self._texts.text_of(found.values)
        except (TypeError, ValueError) as error:
            return BadRow(found.number, str(error))


def predict_files(
    predictor: Predictor,
    bundle: Bundle,
    files: Sequence[Path],
    out: Path,
    wanted: Wanted = Wanted(),
    *,
    tell: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Rows of ``files`` with predictions into ``out``, whose name says the format; what was counted.

    A work that was stopped goes on behind its last commit, and ends with the same bytes. Bad rows are in
    ``<out>.bad.jsonl`` with file, number and reason. Raises DataError for files or columns that do not fit, before
    anything is written.
    """
    kind, packed = written_format(out)
    texts = RowTexts(bundle.reading, wanted.text_columns)
    answers = Answers(predictor.label_names, predictor.problem_type, wanted.top_k, wanted.prefix)
    sources = [(str(path), open_rows(path, wanted.kind)) for path in files]
    try:
        columns, schema = _checked(sources, texts, txt=_all_txt(files, wanted.kind))
        writer = open_writer(kind, columns, answers, packed=packed, schema=schema)
        work = fingerprint(
            "predict", _work_of(bundle, files, wanted), kind, packed, getattr(predictor, "setting", None)
        )
        with closing(UnfinishedFile(out, work)) as unfinished:
            _write_all(predictor, _Inputs(sources, texts, answers.columns), answers, writer, unfinished, tell)
            unfinished.finish(writer.assemble)
    finally:
        for _, source in sources:
            source.close()
    return _summary(unfinished.state.counts, out, unfinished.bad_out)


def predict_stream(
    predictor: Predictor,
    bundle: Bundle,
    stream: IO[bytes],
    out: IO[bytes],
    kind: str,
    wanted: Wanted = Wanted(),
    *,
    title: str = "standard input",
    bad: IO[bytes] | None = None,
    tell: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Rows of ``stream`` with predictions into ``out``, each part as soon as it is there; what was counted.

    ``kind`` is csv, tsv, jsonl or txt; rows of the latter come out as jsonl. ``title`` is what messages call the
    stream. ``bad`` gets the bad rows; without it the first of them are told.
    """
    texts = RowTexts(bundle.reading, wanted.text_columns)
    answers = Answers(predictor.label_names, predictor.problem_type, wanted.top_k, wanted.prefix)
    sources: list[tuple[str, RowSource]] = [(title, LineRows(stream, kind, title))]
    columns, _ = _checked(sources, texts, txt=kind == "txt")
    writer = open_writer("jsonl" if kind == "txt" else kind, columns, answers, packed=False, schema=None)
    out.write(writer.begin())
    counts, progress = Counts(), Progress(tell, lambda: None)
    for chunk in ahead(_Inputs(sources, texts, answers.columns).chunks(0, Place())):
        predictions = predictor.predict(chunk.texts)
        out.write(_written(writer, chunk, answers, predictions))
        out.flush()
        _give_bad(chunk.bad, bad, counts, tell)
        counts = _counted(counts, chunk, predictions)
        progress.show(counts.read)
    progress.end(counts.read)
    return _summary(counts, None, None)


def _write_all(
    predictor: Predictor,
    inputs: _Inputs,
    answers: Answers,
    writer: RowWriter,
    unfinished: UnfinishedFile,
    tell: Callable[[str], None],
) -> None:
    state = unfinished.state
    if state.whole:
        return
    if unfinished.resumed:
        tell(f"going on behind row {state.counts.read:,}")
    unfinished.write_begin(writer.begin())
    progress = Progress(tell, inputs.share_read, state.counts.read)
    for chunk in ahead(inputs.chunks(state.file, Place(state.offset, state.rows))):
        predictions = predictor.predict(chunk.texts)
        state = State(
            file=chunk.file,
            offset=chunk.place.offset,
            rows=chunk.place.rows,
            counts=_counted(state.counts, chunk, predictions),
        )
        unfinished.commit(_written(writer, chunk, answers, predictions), _bad_lines(chunk.bad), state)
        progress.show(state.counts.read)
    progress.end(state.counts.read)


def _checked(
    sources: Sequence[tuple[str, RowSource]], texts: RowTexts, *, txt: bool
) -> tuple[tuple[str, ...] | None, Any]:
    """The columns that all sources have, None where rows name their own; and the schema of parquet, if it is that."""
    if not sources:
        raise DataError("there is no file to read")
    if txt:
        texts.for_lines()
    (first_name, first), *others = sources
    for name, source in sources:
        if source.columns is not None:
            texts.require_in(source.columns, name)
    for name, source in others:
        if source.columns != first.columns or getattr(source, "schema", None) != getattr(first, "schema", None):
            raise DataError(
                f"{name} has other columns than {first_name}",
                found=", ".join(source.columns or ("those of each row",)),
                allowed=", ".join(first.columns or ("those of each row",)),
                do="predict files of different columns one by one",
            )
    return first.columns, getattr(first, "schema", None)


def _all_txt(files: Sequence[Path], kind: str | None) -> bool:
    return bool(files) and all((kind or format_of(path)) == "txt" for path in files)


def _work_of(bundle: Bundle, files: Sequence[Path], wanted: Wanted) -> Mapping[str, Any]:
    """What decides the bytes that are written; whoever changes any of it begins anew."""
    return {
        "bundle": bundle.to_dict(),
        "files": [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files],
        "text_columns": wanted.text_columns,
        "top_k": wanted.top_k,
        "prefix": wanted.prefix,
        "kind": wanted.kind,
        "chunk": (CHUNK_ROWS, CHUNK_BYTES),
    }


def _written(writer: RowWriter, chunk: _Chunk, answers: Answers, predictions: Predictions) -> bytes:
    return writer.write([row.values for row in chunk.rows], answers.of(predictions))


def _counted(counts: Counts, chunk: _Chunk, predictions: Predictions) -> Counts:
    return counts.plus(predicted=len(chunk.rows), truncated=int(np.sum(predictions.truncated)), bad=len(chunk.bad))


def _bad_lines(bad: Sequence[tuple[str, BadRow]]) -> bytes:
    lines = ({"file": name, "row": row.number, "reason": row.reason} for name, row in bad)
    return "".join(json.dumps(line, ensure_ascii=True) + "\n" for line in lines).encode()


_TOLD = 10
"""Bad rows that are told one by one where there is no file for them."""


def _give_bad(
    bad: Sequence[tuple[str, BadRow]], file: IO[bytes] | None, counts: Counts, tell: Callable[[str], None]
) -> None:
    if file is not None:
        file.write(_bad_lines(bad))
        return
    for name, row in bad[: max(0, _TOLD - counts.bad)]:
        tell(f"bad row {row.number} of {name}: {row.reason}")


def _summary(counts: Counts, out: Path | None, bad_out: Path | None) -> dict[str, Any]:
    return {
        "rows": counts.read,
        "predicted": counts.predicted,
        "truncated": counts.truncated,
        "bad": counts.bad,
        "out": None if out is None else str(out),
        "bad_rows": str(bad_out) if counts.bad and bad_out is not None else None,
    }
