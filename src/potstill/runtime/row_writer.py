"""Rows and what was predicted of them as bytes: csv, tsv, jsonl, each also gzipped, or parquet.

Bytes can be appended piece by piece, and a file that is cut behind a piece is a file of the rows up to there. Parquet
files cannot; their rows are kept as a stream of Arrow until all are there.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from potstill.data.formats import format_of
from potstill.errors import DataError
from potstill.runtime.answers import Answers
from potstill.runtime.parquet_rows import arrow

WRITTEN = ("csv", "tsv", "jsonl", "parquet")
Values = Mapping[str, Any]


class RowWriter(Protocol):
    """Turns rows into bytes."""

    def begin(self) -> bytes:
        """What stands before the first row."""
        ...

    def write(self, rows: Sequence[Values], answers: Sequence[Sequence[Any]]) -> bytes:
        """The rows, each with its answers behind its own values."""
        ...

    def assemble(self, written: Path, target: Path) -> None:
        """Make the file ``target`` of all the bytes, which are in ``written``; both on one disk."""
        ...


def written_format(out: Path) -> tuple[str, bool]:
    """Format and packing that the name of ``out`` announces; DataError for what is not written."""
    kind, packed = format_of(out), out.suffix == ".gz"
    if kind not in WRITTEN or (kind == "parquet" and packed):
        raise DataError(
            f"{out} cannot be written",
            found=kind + " packed by gzip" * packed,
            allowed="csv, tsv, jsonl, parquet, and .csv.gz, .tsv.gz, .jsonl.gz",
        )
    return kind, packed


def open_writer(kind: str, columns: Sequence[str] | None, answers: Answers, *, packed: bool, schema: Any) -> RowWriter:
    """What writes rows of ``columns`` and ``answers``; ``schema`` is that of parquet rows read, else None.

    Raises DataError for rows without fixed columns in a format that needs them, and for a column of the rows that has
    the name of an answer.
    """
    if kind != "jsonl" and columns is None:
        raise DataError(f"rows of jsonl have no fixed columns, which {kind} needs", allowed="jsonl, jsonl.gz")
    if twice := sorted(set(columns or ()) & set(answers.columns)):
        raise DataError(
            "the rows already have a column of this name", found=", ".join(twice), do="put --prefix before the new ones"
        )
    if kind == "parquet":
        return ParquetWriter(columns or (), answers, schema)
    plain = (
        JsonWriter(answers)
        if kind == "jsonl"
        else SeparatedWriter(columns or (), answers, "\t" if kind == "tsv" else ",")
    )
    return PackedWriter(plain) if packed else plain


class SeparatedWriter:
    """Rows of csv or tsv with a header; lists and objects as JSON, nothing as an empty field."""

    def __init__(self, columns: Sequence[str], answers: Answers, delimiter: str) -> None:
        self._columns, self._answers, self._delimiter = tuple(columns), answers, delimiter

    def begin(self) -> bytes:
        """The header."""
        return self._lines([[*self._columns, *self._answers.columns]])

    def write(self, rows: Sequence[Values], answers: Sequence[Sequence[Any]]) -> bytes:
        """A line a row."""
        return self._lines(
            [
                [*(_cell(row[column]) for column in self._columns), *map(_cell, added)]
                for row, added in zip(rows, answers, strict=True)
            ]
        )

    def assemble(self, written: Path, target: Path) -> None:
        """The bytes are the file."""
        written.replace(target)

    def _lines(self, rows: Sequence[Sequence[Any]]) -> bytes:
        lines = _Lines()
        csv.writer(lines, delimiter=self._delimiter, lineterminator=lines.terminator).writerows(rows)
        return "".join(lines.written).encode("utf-8")


class _Lines:
    """What the csv module writes to, a row at a time, each ended by a line feed.

    Up to Python 3.12 the module puts quotes around a carriage return only where that is part of what ends a row.
    """

    terminator = "\r\n"

    def __init__(self) -> None:
        self.written: list[str] = []

    def write(self, row: str) -> None:
        self.written.append(row.removesuffix(self.terminator) + "\n")


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else value


class JsonWriter:
    """An object a line: the row's own fields, then the answers."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def begin(self) -> bytes:
        """Nothing."""
        return b""

    def write(self, rows: Sequence[Values], answers: Sequence[Sequence[Any]]) -> bytes:
        """A line a row; what JSON has no form for, such as a date of parquet, is written as text."""
        lines = (
            _json({**row, **dict(zip(self._answers.columns, added, strict=True))})
            for row, added in zip(rows, answers, strict=True)
        )
        return "".join(f"{line}\n" for line in lines).encode("utf-8")

    def assemble(self, written: Path, target: Path) -> None:
        """The bytes are the file."""
        written.replace(target)


def _json(values: Any) -> str:
    """One line of JSON, which has no NaN and no infinity: null stands for them."""
    try:
        return json.dumps(values, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(values), ensure_ascii=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class PackedWriter:
    """What another writer writes, each piece a gzip member of its own: together they are one gzip file."""

    def __init__(self, plain: RowWriter) -> None:
        self._plain = plain

    def begin(self) -> bytes:
        """What stands before the first row."""
        content = self._plain.begin()
        return gzip.compress(content, mtime=0) if content else b""

    def write(self, rows: Sequence[Values], answers: Sequence[Sequence[Any]]) -> bytes:
        """The rows, packed; no time is in them, so that the same rows are the same bytes."""
        content = self._plain.write(rows, answers)
        return gzip.compress(content, mtime=0) if content else b""

    def assemble(self, written: Path, target: Path) -> None:
        """The bytes are the file."""
        self._plain.assemble(written, target)


class ParquetWriter:
    """Batches of Arrow's stream, a piece each; the file is made of them at the end, a group of rows each."""

    def __init__(self, columns: Sequence[str], answers: Answers, schema: Any) -> None:
        """``schema`` None takes every column of the rows for text."""
        self._arrow = pa = arrow()
        own = (
            [(column, pa.string()) for column in columns] if schema is None else [_plain(pa, field) for field in schema]
        )
        types = {"label": pa.string(), "labels": pa.list_(pa.string()), "number": pa.float64()}
        added = zip(answers.columns, (types[kind] for kind in answers.kinds), strict=True)
        self._schema, self._answers = pa.schema([*own, *added]), answers

    def begin(self) -> bytes:
        """The schema."""
        return bytes(self._schema.serialize())

    def write(self, rows: Sequence[Values], answers: Sequence[Sequence[Any]]) -> bytes:
        """A batch of all the rows."""
        if not rows:
            return b""
        values = [
            {**row, **dict(zip(self._answers.columns, added, strict=True))}
            for row, added in zip(rows, answers, strict=True)
        ]
        return bytes(self._arrow.RecordBatch.from_pylist(values, schema=self._schema).serialize())

    def assemble(self, written: Path, target: Path) -> None:
        """Copy batch by batch into a parquet file, which takes its name when it is whole."""
        partial = written.with_name(f"{written.name}.assembled")
        with written.open("rb") as stream, self._arrow.parquet.ParquetWriter(partial, self._schema) as file:
            for batch in self._arrow.ipc.open_stream(stream):
                file.write_batch(batch)
        partial.replace(target)
        written.unlink()


def _plain(pa: Any, field: Any) -> tuple[str, Any]:
    """Name and type of a column; categories, which come with a table of their own, as what they stand for."""
    return field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type
