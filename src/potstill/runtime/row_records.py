"""Records out of a stream of bytes: lines, JSON objects, and rows with separators that may run over several lines.

Memory is bounded whatever the stream holds, and a record that cannot be read takes no other with it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, NoReturn

from potstill.data.formats import LONGEST_FIELD_CHARACTERS
from potstill.errors import DataError
from potstill.records import is_unicode

LONGEST_ROW = 2**24
"""In bytes, unpacked: 16 MiB. A longer one is no row, and is not kept in memory."""

DEEPEST = 100
"""Lists and objects of a row that may lie in one another: what is read is to be written again."""

Record = Mapping[str, Any] | str
"""Values by column; or in words, why there are none."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


_TOO_DEEP = "nested too deeply"


def _too_long() -> str:
    return f"longer than {LONGEST_ROW:,} bytes"


class _TooLongError(Exception):
    """A record took more lines than it may."""


class Lines:
    """Lines of a stream; ``offset``, in bytes, is behind the last one that a record was made of."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._given_back = io.BytesIO()
        self.offset = 0

    def go_to(self, offset: int) -> None:
        """Go on behind ``offset``; nothing moves where that is where it stands, as a pipe cannot."""
        if offset != self.offset:
            self._stream.seek(offset)
            self.offset, self._given_back = offset, io.BytesIO()

    def take(self) -> bytes:
        """The next line with its end, nothing at the end of the stream; of one too long its beginning."""
        return self._given_back.readline() or self._stream.readline(LONGEST_ROW + 1)

    def give_back(self, taken: bytes) -> None:
        """What was taken last is to be taken again.

        It is kept as bytes: as lines, a row of nothing but line ends would take eight times its size, and more.
        """
        if self._given_back.tell() < len(self._given_back.getbuffer()):
            self._given_back.seek(-len(taken), io.SEEK_CUR)  # it all came from here
        else:
            self._given_back = io.BytesIO(taken)

    def used(self, n_bytes: int) -> None:
        """A record was made of so many bytes."""
        self.offset += n_bytes

    def pass_over(self, line: bytes) -> None:
        """A line too long was no record: read to its end, and forget it."""
        self.used(len(line))
        while line and not line.endswith(b"\n"):
            line = self.take()
            self.used(len(line))

    def without_mark(self, line: bytes) -> bytes:
        """``line`` without the byte-order mark that the first one may have."""
        return line.removeprefix(_BYTE_ORDER_MARK) if self.offset == 0 else line


def line_row(lines: Lines, parse: Callable[[str], Mapping[str, Any]], *, skip_empty: bool) -> Record | None:
    """The next line as ``parse`` reads it; None at the end. ``skip_empty``: lines of white space are no rows."""
    while line := lines.take():
        if len(line) > LONGEST_ROW:
            lines.pass_over(line)
            return _too_long()
        content = lines.without_mark(line).rstrip(b"\r\n")
        lines.used(len(line))
        if content.strip() or not skip_empty:
            return _read(content, parse)
    return None


def _read(content: bytes, parse: Callable[[str], Mapping[str, Any]]) -> Record:
    try:
        return parse(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        return _not_utf8(error)
    except (TypeError, ValueError) as error:
        return str(error)
    except RecursionError:
        return _TOO_DEEP


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"not UTF-8: byte 0x{error.object[error.start]:02x} at {error.start}"


def text_values(line: str) -> Mapping[str, Any]:
    """A line of text under the column ``text``."""
    return {"text": line}


def json_values(line: str) -> Mapping[str, Any]:
    """The object in a line of JSON; ValueError or TypeError for anything else."""
    try:
        row = json.loads(line, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at {error.pos}") from error
    if not isinstance(row, dict):
        raise TypeError(f"no object, but {type(row).__name__}")
    if "\\u" in line and not is_unicode(json.dumps(row, ensure_ascii=False)):
        raise ValueError("holds half of a surrogate pair, which is no character")
    if line.count("[") + line.count("{") > DEEPEST and _is_deep(row):
        raise ValueError(_TOO_DEEP)
    return row


def _is_deep(value: Any) -> bool:
    """Whether more than ``DEEPEST`` lists and objects lie in one another."""
    level = [value]
    for _ in range(DEEPEST):
        inside = [outer.values() if isinstance(outer, dict) else outer for outer in level]
        level = [inner for values in inside for inner in values if isinstance(inner, list | dict)]
    return bool(level)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"not JSON: {name}")


class SeparatedRecords:
    """Records of csv or tsv as the csv module reads them, a line at a time so that each one's place is known.

    It is the iterator of lines that the csv module reads from, and has to go on after it said that there is none:
    lines that a broken record had taken are given back, and its first line alone is bad.
    """

    def __init__(self, lines: Lines, delimiter: str) -> None:
        csv.field_size_limit(LONGEST_FIELD_CHARACTERS)
        self._lines = lines
        self._taken = bytearray()
        self._first = b""
        self._reader = csv.reader(self, delimiter=delimiter, strict=True)

    def __iter__(self) -> SeparatedRecords:
        """Itself."""
        return self

    def __next__(self) -> str:
        """The next line for the csv module; bytes that are not UTF-8 are kept apart until the record is whole."""
        line = self._lines.take()
        if not line:
            raise StopIteration
        if first := not self._taken:
            self._first = line
        self._taken += line
        if len(self._taken) > LONGEST_ROW:
            raise _TooLongError
        return (self._lines.without_mark(line) if first else line).decode("utf-8", "surrogateescape")

    def fields(self) -> list[str] | str | None:
        """The fields of the next record that is not empty; why it has none; None at the end."""
        while True:
            self._taken = bytearray()
            try:
                found = next(self._reader)
                self._taken.decode("utf-8")
            except StopIteration:
                return None
            except UnicodeDecodeError as error:
                self._lines.used(len(self._taken))
                return _not_utf8(error)
            except (csv.Error, _TooLongError) as error:
                return self._give_up(str(error))
            self._lines.used(len(self._taken))
            if found:
                return found

    def row(self, columns: Sequence[str]) -> Record | None:
        """The next record as values by column; None at the end."""
        found = self.fields()
        if not isinstance(found, list):
            return found
        if len(found) != len(columns):
            return f"{len(found)} fields, where the header has {len(columns)}"
        return dict(zip(columns, found, strict=True))

    def _give_up(self, reason: str) -> str:
        if len(self._first) > LONGEST_ROW:
            self._lines.pass_over(self._first)
            return _too_long()
        others = bytes(memoryview(self._taken)[len(self._first) :])
        self._lines.give_back(others)
        self._lines.used(len(self._first))
        return "a quote that is never closed" if others else reason


def header(title: str, records: SeparatedRecords) -> tuple[str, ...]:
    """The names of the columns, those without one numbered; DataError where there are none, or two alike."""
    found = records.fields()
    if not isinstance(found, list):
        raise DataError(f"{title} has no header", found=found, allowed="the names of the columns in its first line")
    names = [name.strip() or f"unnamed_{position}" for position, name in enumerate(found)]
    require_different(title, names)
    return tuple(names)


def require_different(title: str, names: Sequence[str]) -> None:
    """Raise DataError where two columns have one name: of the two, a row could keep one alone."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"{title} has two columns of one name", found=", ".join(repeated), do="rename one")
