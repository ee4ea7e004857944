"""Rows out of files of every format, and the complaint that names the file, the row and the byte."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from potstill.data.formats import column_kinds, format_of, read_rows
from potstill.errors import DataError

WriteFile = Callable[[str, str | bytes], Path]
ROWS = [{"text": "eins, zwei", "label": "a"}, {"text": 'drei "vier"\nfünf', "label": "null"}]
CSV = 'text,label\n"eins, zwei",a\n"drei ""vier""\nfünf",null\n'
JSONL = '{"text": "eins, zwei", "label": "a"}\n\n{"text": "drei \\"vier\\"\\nfünf", "label": "null"}\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", CSV),
        ("rows.tsv", CSV.replace(",label", "\tlabel").replace(",a", "\ta").replace(",null", "\tnull")),
        ("rows.jsonl", JSONL),
        ("rows.json", "[" + JSONL.replace("\n\n", ",") + "]"),
        ("lines.json", JSONL),
    ],
)
def test_every_format_gives_the_same_rows_plain_packed_and_with_a_byte_order_mark(
    write_file: WriteFile, name: str, content: str
) -> None:
    assert list(read_rows(str(write_file(name, content)))) == ROWS
    assert list(read_rows(str(write_file(f"{name}.gz", gzip.compress(content.encode()))))) == ROWS
    assert list(read_rows(str(write_file(f"bom-{name}", b"\xef\xbb\xbf" + content.encode())))) == ROWS


def test_parquet_gives_its_rows(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    (tmp_path / "rows.parquet.gz").write_bytes(gzip.compress((tmp_path / "rows.parquet").read_bytes()))
    assert list(read_rows(str(tmp_path / "rows.parquet"))) == ROWS
    assert list(read_rows(str(tmp_path / "rows.parquet.gz"))) == ROWS


def test_lines_of_a_text_file_are_rows_with_their_empty_ones(write_file: WriteFile) -> None:
    assert [row["text"] for row in read_rows(str(write_file("a.txt", "one\r\n\n two\n")))] == ["one", "", " two"]


@pytest.mark.parametrize(
    ("content", "place"),
    [(b"text,label\ngood,1\nb\xe4d,0\n", "byte 19, line 3"), (b"\xff\xfet\x00", "byte 0, line 1")],
)
def test_a_byte_that_is_not_utf8_is_named_by_place(write_file: WriteFile, content: bytes, place: str) -> None:
    with pytest.raises(DataError, match=f"rows.csv is not UTF-8 at {place}"):
        list(read_rows(str(write_file("rows.csv", content))))


def test_a_byte_that_is_not_utf8_in_a_packed_file_is_named_by_its_unpacked_place(write_file: WriteFile) -> None:
    with pytest.raises(DataError, match="not UTF-8 at byte 5, line 2"):
        list(read_rows(str(write_file("a.txt.gz", gzip.compress(b"good\n\xff")))))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "text,label\nno, quotes,1\n", r"row 1 \(line 2\) has another number of fields.*found 3; allowed: 2"),
        ("a.csv", 'text,label\n"open,1\n', "cannot be read at line 2"),
        ("a.csv", "text,text\na,b\n", "two columns of one name"),
        ("a.jsonl", '{"text": "a"}\n{"text": \n', "row 2 is not JSON"),
        ("a.jsonl", '["a"]\n', "row 1 is not an object"),
        ("a.json", "[{]", "is not JSON"),
        ("a.parquet", "text", "is not a parquet file"),
        ("a.txt.gz", "text", "not a whole gzip file"),
        ("a.txt.gz", gzip.compress(b"text" * 100, mtime=0)[:-9], "not a whole gzip file"),
        ("a.xlsx", "", "has no known format; found '.xlsx'"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(
    write_file: WriteFile, name: str, content: str | bytes, said: str
) -> None:
    with pytest.raises(DataError, match=said) as caught:
        list(read_rows(str(write_file(name, content))))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_field_of_a_megabyte_is_read(write_file: WriteFile) -> None:
    (row,) = read_rows(str(write_file("a.csv", "text\n" + "x" * 1_000_000 + "\n")))
    assert len(row["text"]) == 1_000_000


def test_the_kinds_of_json_columns_widen_from_integers_to_floats(write_file: WriteFile) -> None:
    path = write_file("a.jsonl", '{"a": 1, "b": null, "c": ["x"], "d": {}}\n{"a": 1.5, "b": true, "e": null}\n')
    assert column_kinds(str(path)) == {"a": "float64", "b": "bool", "c": "list", "d": "json", "e": "string"}


@pytest.mark.parametrize(
    ("first", "second"), [('"1"', "1"), ("1", '"1"'), ("true", "1"), ("1.5", '"x"'), ('"x"', "[]")]
)
def test_one_column_of_two_kinds_is_refused_with_its_row(write_file: WriteFile, first: str, second: str) -> None:
    path = write_file("a.jsonl", f'{{"label": {first}}}\n{{"label": {second}}}\n')
    with pytest.raises(DataError, match="row 2, column 'label' is of another kind"):
        column_kinds(str(path))


def test_the_format_is_read_from_the_name() -> None:
    assert format_of(Path("A.CSV")) == "csv"
    assert format_of(Path("a.b.ndjson.gz")) == "jsonl"
