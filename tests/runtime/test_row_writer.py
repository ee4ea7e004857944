"""Rows with answers as bytes. Oracles: the csv and json modules, pyarrow, and numbers worked by hand."""

from __future__ import annotations

import csv
import gzip
import io
import json

import numpy as np
import pytest

from potstill.errors import DataError, UsageError
from potstill.runtime.answers import Answers
from potstill.runtime.row_writer import open_writer, written_format

NAMES = ("bad", "good")
ROWS = [{"text": 'a, "b"\n', "n": "1"}, {"text": "é", "n": ""}]


@pytest.fixture
def said(make_rows):
    return make_rows([[2.0, 0.0], [0.0, 0.0]], [0, 1], label_names=NAMES)


def file_of(kind, answers, given, tmp_path, *, packed=False, columns=("text", "n"), schema=None, rows=ROWS):
    writer = open_writer(kind, columns, answers, packed=packed, schema=schema)
    content = writer.begin() + b"".join(writer.write([row], [added]) for row, added in zip(rows, given, strict=True))
    (tmp_path / "written").write_bytes(content)
    writer.assemble(tmp_path / "written", tmp_path / "out")
    return tmp_path / "out"


def test_one_label_has_a_probability_each(said):
    answers = Answers(NAMES, "single_label_classification")
    assert answers.columns == ("predicted", "probability_bad", "probability_good")
    assert answers.of(said) == [["bad", 0.880797, 0.119203], ["bad", 0.5, 0.5]]


def test_the_likeliest_labels_come_first(make_rows):
    answers = Answers(("a", "b", "c"), "single_label_classification", top_k=2, prefix="p_")
    assert answers.columns == ("p_predicted", "p_label_1", "p_probability_1", "p_label_2", "p_probability_2")
    said = make_rows([[0.0, np.log(3), np.log(6)]], [0], label_names=("a", "b", "c"))
    assert answers.of(said) == [["c", "c", 0.6, "b", 0.3]]


def test_many_labels_are_a_list(make_rows):
    kind = "multi_label_classification"
    said = make_rows([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]], [[0, 0]] * 3, kind, NAMES)
    assert [row[0] for row in Answers(NAMES, kind).of(said)] == [["bad", "good"], ["good"], []]


def test_a_regression_is_a_number(make_rows):
    answers = Answers(("score",), "regression")
    assert (answers.columns, answers.kinds) == (("predicted",), ("number",))
    assert answers.of(make_rows([[1.23456789]], [0], "regression", ("score",))) == [[1.234568]]


@pytest.mark.parametrize("top_k", [0, 3])
def test_there_are_not_more_likeliest_labels_than_labels(top_k):
    with pytest.raises(UsageError, match="1 to 2"):
        Answers(NAMES, "single_label_classification", top_k=top_k)
    with pytest.raises(UsageError, match="has no labels"):
        Answers(("score",), "regression", top_k=1)


@pytest.mark.parametrize("kind", ["csv", "tsv"])
@pytest.mark.parametrize("packed", [False, True])
def test_separated_rows_are_read_back_by_the_csv_module(kind, packed, said, tmp_path):
    answers = Answers(NAMES, "single_label_classification")
    content = file_of(kind, answers, answers.of(said), tmp_path, packed=packed).read_bytes()
    text = (gzip.decompress(content) if packed else content).decode()
    rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if kind == "tsv" else ","))
    assert [{name: row[name] for name in ("text", "n")} for row in rows] == ROWS
    assert [row["predicted"] for row in rows] == ["bad", "bad"]
    assert [row["probability_good"] for row in rows] == ["0.119203", "0.5"]


def test_json_lines_keep_what_the_rows_had(said, tmp_path):
    answers = Answers(NAMES, "single_label_classification")
    rows = [{"text": "a", "more": {"x": [1, None]}}, {"text": "b", "nothing": None, "gap": float("nan")}]
    content = file_of("jsonl", answers, answers.of(said), tmp_path, columns=None, rows=rows).read_text()
    read = [json.loads(line, parse_constant=pytest.fail) for line in content.splitlines()]
    assert read[0] == {**rows[0], "predicted": "bad", "probability_bad": 0.880797, "probability_good": 0.119203}
    assert read[1]["gap"] is None


def test_parquet_keeps_the_kinds_of_the_columns(make_rows, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = "multi_label_classification"
    rows = [{"text": "a", "n": 3, "kind": "x"}, {"text": None, "n": None, "kind": "y"}]
    schema = pa.schema([("text", pa.string()), ("n", pa.int16()), ("kind", pa.dictionary(pa.int8(), pa.string()))])
    answers = Answers(NAMES, kind)
    given = answers.of(make_rows([[1.0, 1.0], [-1.0, -1.0]], [[0, 0]] * 2, kind, NAMES))
    columns = ("text", "n", "kind")
    table = pq.read_table(file_of("parquet", answers, given, tmp_path, columns=columns, schema=schema, rows=rows))
    assert table.schema.field("n").type == pa.int16()
    assert table.select(["text", "n", "kind"]).to_pylist() == rows
    assert table["predicted"].to_pylist() == [["bad", "good"], []]
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_packed_pieces_hold_no_time(said):
    answers = Answers(NAMES, "single_label_classification")
    pieces = [
        open_writer("csv", ("text", "n"), answers, packed=True, schema=None).write(ROWS, answers.of(said))
        for _ in range(2)
    ]
    assert pieces[0] == pieces[1]


def test_columns_are_not_written_over():
    answers = Answers(NAMES, "single_label_classification")
    with pytest.raises(DataError, match=r"found 'predicted'.*--prefix"):
        open_writer("csv", ("text", "predicted"), answers, packed=False, schema=None)


def test_rows_without_fixed_columns_are_written_as_jsonl_alone():
    answers = Answers(NAMES, "single_label_classification")
    with pytest.raises(DataError, match="no fixed columns"):
        open_writer("csv", None, answers, packed=False, schema=None)


@pytest.mark.parametrize("name", ["out.txt", "out.json", "out.parquet.gz", "out.doc", "out"])
def test_names_of_other_formats_are_refused(name, tmp_path):
    with pytest.raises(DataError):
        written_format(tmp_path / name)
    assert written_format(tmp_path / "out.jsonl.gz") == ("jsonl", True)


@pytest.mark.parametrize("text", ["a\rb", "a\r\nb", "\r", 'a "quoted"\r', "a\x00b", "a\u2028b"])
@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_whatever_a_text_holds_it_stays_one_row_to_the_csv_module(said, tmp_path, kind, text):
    answers = Answers(NAMES, "single_label_classification")
    out = file_of(kind, answers, answers.of(said), tmp_path, rows=[{"text": text, "n": "1"}, {"text": "b", "n": "2"}])
    with out.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t" if kind == "tsv" else ",", strict=True))
    assert [(row["text"], row["n"]) for row in rows] == [(text, "1"), ("b", "2")]
    assert out.read_bytes().endswith(b"\n")
    assert not out.read_bytes().endswith(b"\r\n")
