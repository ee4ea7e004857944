"""Rows of files with their places. Oracles: the csv and json modules on whole files, and files broken in one way."""

from __future__ import annotations

import csv
import gzip
import io
import json
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import DataError
from potstill.runtime import parquet_rows, row_records
from potstill.runtime.answers import Answers
from potstill.runtime.row_reader import BadRow, LineRows, Place, Row, open_rows
from potstill.runtime.row_writer import open_writer


def read(content, kind, start=Place()):  # noqa: B008
    data = content if isinstance(content, bytes) else content.encode()
    return list(LineRows(io.BytesIO(data), kind, "rows").rows(start))


def values(content, kind):
    return [found.values if isinstance(found, Row) else found.reason for found, _ in read(content, kind)]


CONTENTS = {
    "csv": 'text,n\nplain,1\n"two\nlines, ""quoted""",2\n\n5" disk,3\nlast,4',
    "tsv": 'text\tn\nplain\t1\n"tab\there"\t2\n',
    "jsonl": '{"text": "a"}\n\n  \n{"text": "b", "n": [1, {"c": null}]}',
    "txt": "first\n\nthird\r\nlast",
}


def test_csv_is_read_as_the_csv_module_reads_it():
    expected = list(csv.DictReader(io.StringIO(CONTENTS["csv"])))
    assert values(CONTENTS["csv"], "csv") == expected
    assert len(expected) == 4


cells = st.text(alphabet=string.ascii_letters + ' ,"\n\t;é北', max_size=12)


@given(st.lists(st.tuples(cells, cells), max_size=8), st.sampled_from([",", "\t"]))
@settings(max_examples=200, deadline=None)
def test_whatever_the_csv_module_writes_is_read_back_from_any_place(rows, delimiter):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(("a", "b"))
    writer.writerows(rows)
    content = text.getvalue().encode()
    found = read(content, "csv" if delimiter == "," else "tsv")
    assert [tuple(row.values.values()) for row, _ in found] == rows
    for number, (_, place) in enumerate(found, start=1):
        rest = read(content, "csv" if delimiter == "," else "tsv", place)
        assert [row for row, _ in rest] == [row for row, _ in found[number:]]


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("packed", [False, True])
def test_reading_goes_on_behind_any_row(kind, packed, tmp_path):
    path = tmp_path / (f"rows.{kind}.gz" if packed else f"rows.{kind}")
    data = CONTENTS[kind].encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    source = open_rows(path)
    found = list(source.rows(Place()))
    assert source.share_read() == pytest.approx(1)
    for number, (_, place) in enumerate(found, start=1):
        assert place.rows == number
        assert list(open_rows(path).rows(place)) == found[number:]


def test_a_parquet_file_is_read_from_any_place_over_groups_of_rows(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "rows.parquet"
    rows = [{"text": f"row {number}", "n": number, "tags": ["a"] * (number % 3)} for number in range(23)]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=5)
    source = open_rows(path)
    found = list(source.rows(Place()))
    assert [row.values for row, _ in found] == rows
    assert source.columns == ("text", "n", "tags")
    assert source.share_read() == 1
    for number in (0, 1, 5, 7, 22, 23):
        assert list(open_rows(path).rows(Place(number, number))) == found[number:]


def test_a_byte_order_mark_is_no_part_of_the_first_name():
    assert values(b"\xef\xbb\xbftext\na\n", "csv") == [{"text": "a"}]
    assert values(b'\xef\xbb\xbf{"text": "a"}\n', "jsonl") == [{"text": "a"}]
    assert values(b"\xef\xbb\xbfa\n", "txt") == [{"text": "a"}]


def test_empty_lines_are_rows_of_txt_alone():
    assert values("a\n\nb\n", "txt") == [{"text": "a"}, {"text": ""}, {"text": "b"}]
    assert values('{"a": 1}\n\n{"a": 2}\n', "jsonl") == [{"a": 1}, {"a": 2}]
    assert values("a\n1\n\n2\n", "csv") == [{"a": "1"}, {"a": "2"}]


def test_a_bad_row_takes_no_other_with_it():
    content = b'text,n\ngood,1\ntoo,many,fields\n"a"b,2\nb\xff,3\nfew\n"open,4\nlast,5\n'
    found = [found for found, _ in read(content, "csv")]
    assert [found[0].values, found[-1].values] == [{"text": "good", "n": "1"}, {"text": "last", "n": "5"}]
    reasons = [bad.reason for bad in found[1:-1]]
    assert [bad.number for bad in found[1:-1]] == [2, 3, 4, 5, 6]
    assert reasons[0] == "3 fields, where the header has 2"
    assert "expected after" in reasons[1]
    assert reasons[2].startswith("not UTF-8: byte 0xff")
    assert reasons[3] == "1 fields, where the header has 2"
    assert reasons[4] == "a quote that is never closed"


def test_lines_that_are_no_objects_are_bad_rows():
    lines = ["{", "[1]", "3", '"a"', '{"a": NaN}', "[" * 100_000, r'{"a": "\ud800"}', '{"a": 1} 2']
    found = values("\n".join(lines) + "\n" + '{"a": "fine"}\n', "jsonl")
    assert found.pop() == {"a": "fine"}
    assert all(isinstance(reason, str) for reason in found)
    assert found[0].startswith("not JSON: ")
    assert found[1:4] == ["no object, but list", "no object, but int", "no object, but str"]
    assert found[5] == "nested too deeply" or found[5].startswith("not JSON")
    assert "surrogate" in found[6]


def test_a_pair_of_escaped_surrogates_is_a_character():
    assert values(r'{"a": "\ud83d\ude00"}', "jsonl") == [{"a": "😀"}]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "txt"])
def test_a_row_longer_than_the_bound_is_bad_and_reading_goes_on(kind, monkeypatch):
    monkeypatch.setattr(row_records, "LONGEST_ROW", 100)
    rows = {"csv": ("text\n", "{}\n"), "jsonl": ("", '{{"text": "{}"}}\n'), "txt": ("", "{}\n")}
    header, line = rows[kind]
    content = header + "".join(line.format(text) for text in ("a", "b" * 500, "c"))
    assert values(content, kind) == [{"text": "a"}, "longer than 100 bytes", {"text": "c"}]


@pytest.mark.parametrize("depth", [100, 101, 900])
@pytest.mark.parametrize("inner", ["1", "1e999"])
def test_what_is_read_can_be_written_however_deep_it_is(depth, inner):
    lists = "[" * (depth - 1) + inner + "]" * (depth - 1)  # in an object, which is one level more
    (found,) = values(f'{{"a": {lists}}}\n', "jsonl")
    assert (found == "nested too deeply") is (depth > 100)
    answers = Answers(("a", "b"), "single_label_classification")
    if depth <= 100:
        open_writer("jsonl", None, answers, packed=False, schema=None).write([found], [["a", 0.5, 0.5]])


def test_brackets_in_a_text_are_not_depth():
    assert values(json.dumps({"text": "[" * 5000}) + "\n", "jsonl") == [{"text": "[" * 5000}]
    assert values(json.dumps({"many": [[]] * 5000}) + "\n", "jsonl") == [{"many": [[]] * 5000}]


def test_a_row_says_how_many_bytes_it_takes():
    rows = [found for found, _ in read('text,n\né,1\n\n"two\nlines",2\n', "csv")]
    assert [row.n_bytes for row in rows] == [len("é,1\n".encode()), len('\n"two\nlines",2\n')]
    for _, place in read(CONTENTS["jsonl"], "jsonl"):
        assert sum(row.n_bytes for row, _ in read(CONTENTS["jsonl"], "jsonl", place)) == len(CONTENTS["jsonl"]) - (
            place.offset
        )


def test_lines_given_back_are_read_again_in_their_order(monkeypatch):
    monkeypatch.setattr(row_records, "LONGEST_ROW", 30)
    # the first quote runs into the bound, which gives back lines; among them a row over two lines, and a broken one
    lines = ['"open', "a", '"x', 'y"', "b", '"q"r', "c" * 40, "d"]
    found = values("text\n" + "\n".join(lines), "csv")
    assert found[:1] == ["a quote that is never closed"]
    assert [row["text"] for row in found if not isinstance(row, str)] == ["a", "x\ny", "b", "d"]


def test_a_value_that_python_cannot_hold_is_a_bad_row_of_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    days = pa.array([1, 99_999_999], pa.date32())  # the second is in the year 275,760
    pq.write_table(pa.table({"text": ["a", "b"], "day": days}), tmp_path / "rows.parquet")
    good, bad = [found for found, _ in open_rows(tmp_path / "rows.parquet").rows(Place())]
    assert good.values["text"] == "a"
    assert "cannot be read" in bad.reason


def test_two_columns_of_one_name_are_refused_in_parquet_too(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [pa.array(["a"]), pa.array(["b"])]
    pq.write_table(pa.Table.from_arrays(columns, names=["text", "text"]), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match="two columns of one name"):
        open_rows(tmp_path / "rows.parquet")


def test_long_rows_of_parquet_are_unpacked_a_few_at_a_time(tmp_path, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"text": str(number) * 1000} for number in range(50)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet", compression="none", use_dictionary=False)
    monkeypatch.setattr(parquet_rows, "BYTES_AT_ONCE", 10_000)
    source = open_rows(tmp_path / "rows.parquet")
    sizes = [batch.num_rows for batch in source._batches([0])]
    assert sum(sizes) == 50
    assert max(sizes) <= 10
    assert [row.values for row, _ in source.rows(Place())] == rows


def test_a_quote_never_closed_costs_one_row_and_bounded_memory(monkeypatch):
    monkeypatch.setattr(row_records, "LONGEST_ROW", 100)
    content = 'text\na\n"open\n' + "".join(f"row {number}\n" for number in range(50))
    expected = [{"text": "a"}, "a quote that is never closed", *({"text": f"row {number}"} for number in range(50))]
    assert values(content, "csv") == expected


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"", "csv", "has no header"),
        (b"\n\n", "csv", "has no header"),
        (b"a,a\n1,2\n", "csv", "two columns of one name"),
        (b"a\xff,b\n", "csv", "not UTF-8"),
        (b'"a\n', "csv", "has no header"),
    ],
)
def test_a_header_that_cannot_be_read_ends_the_work_before_it_begins(content, kind, message):
    with pytest.raises(DataError, match=message):
        LineRows(io.BytesIO(content), kind, "rows")


def test_files_that_are_damaged_or_not_there_are_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        open_rows(tmp_path / "no.csv")
    with pytest.raises(DataError, match="is no file"):
        open_rows(tmp_path)
    (tmp_path / "rows.doc").write_text("x")
    with pytest.raises(DataError, match="no known format"):
        open_rows(tmp_path / "rows.doc")
    (tmp_path / "rows.json").write_text("[]")
    with pytest.raises(DataError, match="cannot be read row by row"):
        open_rows(tmp_path / "rows.json")
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 but not")
    with pytest.raises(DataError, match="not a parquet file"):
        open_rows(tmp_path / "rows.parquet")
    (tmp_path / "rows.txt.gz").write_bytes(gzip.compress(b"a\n" * 1000)[:-20])
    with pytest.raises(DataError, match="not a whole gzip file"):
        list(open_rows(tmp_path / "rows.txt.gz").rows(Place()))


@given(st.binary(max_size=200), st.sampled_from(["csv", "tsv", "jsonl", "txt"]))
@settings(max_examples=300, deadline=None)
def test_no_bytes_make_it_stumble(content, kind):
    try:
        found = read(content, kind)
    except DataError:
        return
    assert [place.rows for _, place in found] == list(range(1, len(found) + 1))
    assert all(isinstance(row, Row | BadRow) for row, _ in found)
    for row, _ in found:
        if isinstance(row, Row):
            json.dumps(dict(row.values), ensure_ascii=False).encode()
