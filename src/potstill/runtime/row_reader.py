"""Rows out of files of any size, one at a time, with the place of each, so that reading can go on from there.

What cannot be read as a row is given as a :class:`BadRow` with the reason, and reading goes on behind it. Rows count
from 1; the header of a csv or tsv file is not counted. No row takes more than ``row_records.LONGEST_ROW`` bytes.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

from potstill.data.formats import format_of, open_bytes
from potstill.errors import DataError
from potstill.runtime.row_records import Lines, Record, SeparatedRecords, header, json_values, line_row, text_values


@dataclass(frozen=True)
class Row:
    """A row's number in its file, its values by column, text as it stands there, and about how many bytes it has."""

    number: int
    values: Mapping[str, Any]
    n_bytes: int


@dataclass(frozen=True)
class BadRow:
    """The number in its file of what is no row, and why."""

    number: int
    reason: str


@dataclass(frozen=True)
class Place:
    """How far a file was read: the offset in bytes behind it, unpacked (parquet: rows), and how many rows that were."""

    offset: int = 0
    rows: int = 0


class RowSource(Protocol):
    """The rows of one file. columns: their names, None where each row names its own (jsonl). n_bytes: of the file."""

    columns: tuple[str, ...] | None
    n_bytes: int | None

    def rows(self, start: Place) -> Iterator[tuple[Row | BadRow, Place]]:
        """The rows behind ``start``, each with the place behind it."""
        ...

    def share_read(self) -> float | None:
        """How much of the file was read, in [0, 1]; None where that is not known."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


def open_rows(path: Path, kind: str | None = None) -> RowSource:
    """The rows of the file at ``path``, by ``kind`` or by the format that its name announces, ``.gz`` unpacked.

    Raises DataError for a missing or unreadable file, an unknown format, and a header that cannot be read.
    """
    if not path.is_file():
        raise DataError(f"no such file: {path}" if not path.exists() else f"{path} is no file")
    chosen = kind or format_of(path)
    if chosen == "parquet":
        from potstill.runtime.parquet_rows import ParquetRows

        return ParquetRows(path)
    with readable(str(path)):
        return LineRows(open_bytes(path), chosen, str(path), packed=path.suffix == ".gz", n_bytes=path.stat().st_size)


class LineRows:
    """Rows of csv, tsv, jsonl or txt out of a stream of bytes."""

    def __init__(self, stream: IO[bytes], kind: str, title: str, *, packed: bool = False, n_bytes: int | None = None):
        """Read the header, if there is one. ``n_bytes`` is the size of the file behind ``stream``, packed or not."""
        self._stream, self._title, self._packed, self.n_bytes = stream, title, packed, n_bytes
        self._lines = Lines(stream)
        self.columns: tuple[str, ...] | None = ("text",) if kind == "txt" else None
        if kind in ("csv", "tsv"):
            records = SeparatedRecords(self._lines, "\t" if kind == "tsv" else ",")
            with readable(title):
                self.columns = header(title, records)
            self._parsed: Callable[[], Record | None] = partial(records.row, self.columns)
        elif kind in ("jsonl", "txt"):
            parse = json_values if kind == "jsonl" else text_values
            self._parsed = partial(line_row, self._lines, parse, skip_empty=kind == "jsonl")
        else:
            raise DataError(f"{title} cannot be read row by row", found=kind, allowed="csv, tsv, jsonl, txt, parquet")
        self._begin = self._lines.offset

    def rows(self, start: Place) -> Iterator[tuple[Row | BadRow, Place]]:
        """The rows behind ``start``, each with the place behind it; DataError where the file itself is damaged."""
        number, before = start.rows, max(start.offset, self._begin)
        with readable(self._title):
            self._lines.go_to(before)
            while (found := self._parsed()) is not None:
                number, offset = number + 1, self._lines.offset
                row = BadRow(number, found) if isinstance(found, str) else Row(number, found, offset - before)
                yield row, Place(offset, number)
                before = offset

    def share_read(self) -> float | None:
        """How much of the file was read, in [0, 1]; None of a stream of unknown length."""
        if not self.n_bytes:
            return None
        behind = self._stream.fileobj.tell() if self._packed else self._lines.offset  # type: ignore[attr-defined]
        return min(1.0, float(behind) / self.n_bytes)

    def close(self) -> None:
        """Let go of the file."""
        self._stream.close()


@contextmanager
def readable(title: str) -> Iterator[None]:
    """Turn what reading a damaged or unreadable file raises into a DataError that names it."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{title} is not a whole gzip file", found=str(error), do="compress it again") from error
    except OSError as error:
        raise DataError(f"{title} cannot be read", found=error.strerror or str(error)) from error
