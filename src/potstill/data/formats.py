"""Rows out of one local file, one at a time, with the file and the row named in every complaint.

Everything in a csv or tsv file stays text, exactly as written: a headline "null" is a headline, a label "01" is not 1.
Rows count from 1; the header of a csv or tsv file is not counted.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from potstill.errors import DataError

SUFFIXES: dict[str, str] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".txt": "txt",
}

LONGEST_FIELD_CHARACTERS = 2**30
"""The csv module stops at 131,072 characters; longer texts are refused later, by row, with advice."""

Row = dict[str, Any]


def format_of(path: Path) -> str:
    """The format that the name of ``path`` announces, ``.gz`` set aside; DataError for a name that announces none."""
    name = path.name.removesuffix(".gz")
    suffix = Path(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(
            f"{path} has no known format",
            found=suffix or "no suffix",
            allowed=[*SUFFIXES, "each also with .gz"],
            do="rename or convert it",
        )
    return SUFFIXES[suffix]


def read_rows(path: str) -> Iterator[Row]:
    """Rows of the file at ``path`` as dictionaries, without ever holding the whole of a csv, tsv, jsonl or txt file.

    Raises DataError for bytes that are not UTF-8 (with their place), broken compression, and rows that cannot be read.
    """
    readers = {"csv": _read_csv, "tsv": _read_csv, "jsonl": _read_jsonl, "json": _read_json}
    readers |= {"txt": _read_lines, "parquet": _read_parquet}
    with _complaints_name_the_file(Path(path)):
        yield from readers[format_of(Path(path))](Path(path))


def read_document(path: Path) -> str:
    """The whole of one text file; DataError where it is not UTF-8."""
    with _complaints_name_the_file(path), open_text(path) as stream:
        return stream.read()


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a text file with their ends, one at a time; DataError as ``read_rows`` raises it."""
    with _complaints_name_the_file(path), open_text(path) as stream:
        yield from stream


def open_bytes(path: Path) -> IO[bytes]:
    """The bytes of ``path``, unpacked when its name ends in ``.gz``."""
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def open_text(path: Path) -> io.TextIOWrapper:
    """The characters of ``path``: strict UTF-8, a byte-order mark at the front skipped, line ends left as they are."""
    return io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline="")


@contextmanager
def _complaints_name_the_file(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is not a whole gzip file", found=str(error), do="compress it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read", found=error.strerror or str(error)) from error


def not_utf8(path: Path) -> DataError:
    """The complaint about the first byte of ``path`` that is not UTF-8, with its offset and its line, unpacked."""
    n_bytes = 0
    with open_bytes(path) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return DataError(
                    f"{path} is not UTF-8 at byte {n_bytes + error.start}, line {number}",
                    found=f"byte 0x{line[error.start]:02x}",
                    do="convert it first, for example with `iconv -f latin1 -t utf-8`",
                )
            n_bytes += len(line)
    return DataError(f"{path} is not UTF-8", do="convert it first, for example with `iconv -f latin1 -t utf-8`")


def _read_csv(path: Path) -> Iterator[Row]:
    delimiter = "\t" if format_of(path) == "tsv" else ","
    previous_limit = csv.field_size_limit(LONGEST_FIELD_CHARACTERS)
    try:
        with open_text(path) as stream:
            reader = csv.reader(stream, delimiter=delimiter, strict=True)
            header = _csv_header(path, next(reader, []))
            for number, fields in enumerate((fields for fields in reader if fields), start=1):
                if len(fields) != len(header):
                    raise DataError(
                        f"{path}, row {number} (line {reader.line_num}) has another number of fields than the header",
                        found=len(fields),
                        allowed=len(header),
                        do="put quotes around texts that hold the separator",
                    )
                yield dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise DataError(
            f"{path} cannot be read at line {reader.line_num}", found=str(error), do='write a quote in a text as ""'
        ) from error
    finally:
        csv.field_size_limit(previous_limit)


def _csv_header(path: Path, header: list[str]) -> list[str]:
    names = [name.strip() or f"unnamed_{position}" for position, name in enumerate(header)]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"{path} has two columns of one name", found=", ".join(repeated), do="rename one")
    return names


def _read_lines(path: Path) -> Iterator[Row]:
    with open_text(path) as stream:
        for line in stream:
            yield {"text": line.rstrip("\r\n")}


def _read_jsonl(path: Path) -> Iterator[Row]:
    with open_text(path) as stream:
        for number, line in enumerate((line for line in stream if line.strip()), start=1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}, row {number} is not JSON", found=f"{error.msg} at {error.pos}") from error
            yield _json_row(path, number, row)


def _read_json(path: Path) -> Iterator[Row]:
    """A list of objects; a ``.json`` file with one object per line is taken as what it is."""
    with open_text(path) as stream:
        first = stream.read(64).lstrip()[:1]
    if first == "{":
        yield from _read_jsonl(path)
        return
    try:
        rows = json.loads(read_document(path) or "[]")
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON", found=f"{error.msg} at line {error.lineno}") from error
    if not isinstance(rows, list):
        raise DataError(f"{path} holds no rows", found=type(rows).__name__, allowed='a list: [{"text": …}, …]')
    for number, row in enumerate(rows, start=1):
        yield _json_row(path, number, row)


def _json_row(path: Path, number: int, row: object) -> Row:
    if not isinstance(row, dict):
        raise DataError(f"{path}, row {number} is not an object", found=type(row).__name__, allowed='{"text": …, …}')
    return row


def _read_parquet(path: Path) -> Iterator[Row]:
    # Here and not at the top: importing pyarrow costs the start-up of the command line.
    import pyarrow
    from pyarrow import parquet

    source = io.BytesIO(open_bytes(path).read()) if path.suffix == ".gz" else path
    try:
        for batch in parquet.ParquetFile(source).iter_batches(batch_size=1000):
            yield from batch.to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{path} is not a parquet file", found=str(error).splitlines()[0]) from error


def column_kinds(path: str) -> dict[str, str]:
    """For each column of a JSON file its kind: ``string``, ``int64``, ``float64``, ``bool``, ``list`` or ``json``.

    One pass over the file. Integers give way to floats; a column nobody fills is ``string``. Raises DataError at the
    first row whose value is of another kind than those before it, so that "1" and 1 never become one label.
    """
    kinds: dict[str, str] = {}
    for number, row in enumerate(read_rows(path), start=1):
        for column, value in row.items():
            kind, known = _kind(value), kinds.get(column)
            if known in (None, kind) or (known == "int64" and kind == "float64"):
                kinds[column] = kind or known or ""
            elif kind is not None and known and not (known == "float64" and kind == "int64"):
                raise DataError(
                    f"{path}, row {number}, column {column!r} is of another kind than the rows before it",
                    found=f"{kind} ({value!r})"[:80],
                    allowed=known,
                    do="write all values of a column in one way",
                )
            elif kind is not None and not known:
                kinds[column] = kind
    return {column: kind or "string" for column, kind in kinds.items()}


def _kind(value: object) -> str | None:
    if isinstance(value, list):
        return "list" if all(isinstance(item, str) for item in value) else "json"
    kinds = ((bool, "bool"), (int, "int64"), (float, "float64"), (str, "string"), (dict, "json"))
    return next((kind for type_, kind in kinds if isinstance(value, type_)), None)
