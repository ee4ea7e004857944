"""Predictions over files. Oracles: a predictor whose answer is a function of the text, and uninterrupted work."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from potstill.bundle import Bundle, Graph, Reading
from potstill.errors import DataError, UsageError
from potstill.records import Predictions
from potstill.runtime import files as files_module
from potstill.runtime.files import Wanted, _Inputs, predict_files, predict_stream
from potstill.runtime.row_reader import Place, open_rows
from potstill.runtime.row_texts import RowTexts

NAMES = ("bad", "good")


class HashPredictor:
    """Logits that are a function of the text alone; a text may stop it once."""

    label_names = NAMES
    problem_type = "single_label_classification"

    def __init__(self, stop_at=None):
        self.stop_at, self.most = stop_at, 0

    def predict(self, texts):
        self.most = max(self.most, len(texts))
        if self.stop_at in texts:
            raise KeyboardInterrupt
        logits = [[0.0, logit_of(text)] for text in texts]
        return Predictions(
            ids=np.arange(len(texts)).astype(str),
            logits=np.array(logits, dtype=np.float32).reshape(-1, 2),
            label_names=NAMES,
            problem_type=self.problem_type,
            n_tokens=np.full(len(texts), 3, dtype=np.int32),
            truncated=np.array([len(text) > 30 for text in texts], dtype=bool),
            elapsed_s=0.0,
        )


def logit_of(text):
    return zlib.crc32(repr(text).encode()) % 2000 / 100 - 10


@pytest.fixture
def bundle():
    """What a bundle says of itself; nothing of it is opened here."""
    return Bundle(
        name="reviews",
        problem_type="single_label_classification",
        label_names=NAMES,
        reading=Reading(("text",), "sep", (), 40, None),
        graph=Graph("model.onnx", "fp32", ("input_ids", "attention_mask"), "logits", 18),
        special_tokens={},
        pad_id=0,
        decisions=None,
        gate={},
        forced=False,
        origin={},
        files={"model.onnx": "1" * 64, "tokenizer.json": "1" * 64},
        made_by="0",
    )


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(files_module, "CHUNK_ROWS", 7)


def write(path, kind, n_rows, bad=()):
    """A file of rows ``text i``; those in ``bad`` have no text."""
    rows = [{"text": "" if i in bad else f"text {i}", "n": str(i)} for i in range(n_rows)]
    if kind.startswith("parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=10)
        return
    if kind.startswith("jsonl"):
        content = "".join(json.dumps(row) + "\n" for row in rows)
    elif kind.startswith("txt"):
        content = "".join(row["text"] + "\n" for row in rows)
    else:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, ("text", "n"), delimiter="\t" if kind.startswith("tsv") else ",")
        writer.writeheader()
        writer.writerows(rows)
        content = text.getvalue()
    path.write_bytes(gzip.compress(content.encode()) if kind.endswith("gz") else content.encode())


def rows_of(path):
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_table(path).to_pylist()
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    name = path.name.removesuffix(".gz")
    if name.endswith("jsonl"):
        return [json.loads(line) for line in text.splitlines()]
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if name.endswith("tsv") else ","))


@given(st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_file_holds_is_predicted_or_told(bundle, data):
    # oracle: a work either ends with every row counted, or with an error that says what is wrong
    kind = data.draw(st.sampled_from(IN))
    with tempfile.TemporaryDirectory() as place:
        path, out = Path(place) / f"rows.{kind}", Path(place) / "out.jsonl"
        n_rows, n_changes = data.draw(st.integers(4, 20)), data.draw(st.integers(0, 3))
        write(path, kind, n_rows, bad=(3,))
        content = bytearray(path.read_bytes())
        for _ in range(n_changes):
            begin = data.draw(st.integers(0, len(content)))
            content[begin : begin + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=40))
        path.write_bytes(content)
        try:
            summary = predict_files(HashPredictor(), bundle, [path], out)
        except (DataError, UsageError):
            assert n_changes
            return
        lines = out.read_text(encoding="utf-8").split("\n")[:-1]
        bad = (
            (Path(place) / "out.jsonl.bad.jsonl").read_text(encoding="utf-8").split("\n")[:-1] if summary["bad"] else []
        )
        assert (summary["predicted"], summary["bad"]) == (len(lines), len(bad))
        assert n_changes or (len(lines), len(bad)) == (n_rows - 1, 1)


IN = ("csv", "csv.gz", "tsv", "jsonl", "jsonl.gz", "txt", "txt.gz", "parquet")
OUT = ("csv", "csv.gz", "tsv.gz", "jsonl", "jsonl.gz", "parquet")


@pytest.mark.parametrize("kind_in", IN)
@pytest.mark.parametrize("kind_out", OUT)
def test_every_row_comes_out_in_its_place_with_its_prediction(bundle, tmp_path, kind_in, kind_out):
    path, out = tmp_path / f"rows.{kind_in}", tmp_path / f"out.{kind_out}"
    write(path, kind_in, 40, bad=(3, 20, 39))
    if kind_in.startswith("jsonl") and not kind_out.startswith("jsonl"):
        with pytest.raises(DataError, match="no fixed columns"):
            predict_files(HashPredictor(), bundle, [path], out)
        return
    summary = predict_files(HashPredictor(), bundle, [path], out)
    rows, expected = rows_of(out), [f"text {i}" for i in range(40) if i not in (3, 20, 39)]
    assert [row["text"] for row in rows] == expected
    assert [row["predicted"] for row in rows] == [NAMES[int(logit_of(text) > 0)] for text in expected]
    probabilities = [1 / (1 + np.exp(-logit_of(text))) for text in expected]
    np.testing.assert_allclose([float(row["probability_good"]) for row in rows], probabilities, atol=1e-6)
    bad = [json.loads(line) for line in (tmp_path / f"out.{kind_out}.bad.jsonl").read_text().splitlines()]
    assert bad == [{"file": str(path), "row": row, "reason": "no text in 'text'"} for row in (4, 21, 40)]
    assert {name: summary[name] for name in ("rows", "predicted", "bad")} == {"rows": 40, "predicted": 37, "bad": 3}


@pytest.mark.parametrize("kind_in", ["csv", "csv.gz", "jsonl", "txt", "parquet"])
@pytest.mark.parametrize("kind_out", ["jsonl", "jsonl.gz", "parquet"])
def test_a_work_that_was_stopped_ends_with_the_same_bytes(bundle, tmp_path, kind_in, kind_out):
    if kind_in == "jsonl" and kind_out == "parquet":
        pytest.skip("rows of jsonl have no fixed columns")
    paths = [tmp_path / f"{part}.{kind_in}" for part in ("a", "b")]
    for path in paths:
        write(path, kind_in, 33, bad=(5, 30))
    whole, out = tmp_path / f"whole.{kind_out}", tmp_path / f"out.{kind_out}"
    expected = predict_files(HashPredictor(), bundle, paths, whole)
    for stop_at in ("text 12", "text 29", "text 31"):
        with pytest.raises(KeyboardInterrupt):
            predict_files(HashPredictor(stop_at), bundle, paths, out)
        assert not out.exists()
        for name in ("rows", "bad"):
            with (tmp_path / f"out.{kind_out}.unfinished" / name).open("ab") as file:
                file.write(b"written but not entered")
    summary = predict_files(HashPredictor(), bundle, paths, out)
    assert out.read_bytes() == whole.read_bytes()
    bad = [(tmp_path / f"{name}.{kind_out}.bad.jsonl").read_bytes() for name in ("out", "whole")]
    assert bad[0] == bad[1]
    assert summary["rows"] == expected["rows"] == 66
    assert {file.name for file in tmp_path.glob("*.unfinished")} == set()


def test_rows_behind_the_last_commit_alone_are_predicted_again(bundle, tmp_path):
    path, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    write(path, "csv", 40)
    with pytest.raises(KeyboardInterrupt):
        predict_files(HashPredictor("text 30"), bundle, [path], out)
    seen = []

    class Watching(HashPredictor):
        def predict(self, texts):
            seen.extend(texts)
            return super().predict(texts)

    told: list[str] = []
    predict_files(Watching(), bundle, [path], out, tell=told.append)
    assert seen == [f"text {i}" for i in range(28, 40)]
    assert told[0] == "going on behind row 28"
    assert told[-1].startswith("40 rows, ")


@pytest.mark.parametrize("change", ["file", "options", "bundle"])
def test_other_work_is_not_gone_on_with(bundle, tmp_path, change):
    path, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    write(path, "csv", 40)
    with pytest.raises(KeyboardInterrupt):
        predict_files(HashPredictor("text 30"), bundle, [path], out)
    wanted = Wanted(top_k=1) if change == "options" else Wanted()
    if change == "file":
        write(path, "csv", 41)
    if change == "bundle":
        bundle = replace(bundle, files={**bundle.files, "model.onnx": "0" * 64})
    with pytest.raises(UsageError, match="of another bundle, other files or other options"):
        predict_files(HashPredictor(), bundle, [path], out, wanted)


def test_parts_are_bounded_in_rows_and_in_bytes(bundle, tmp_path, monkeypatch):
    path = tmp_path / "rows.txt"
    path.write_text("short\n" * 50 + ("long " * 100 + "\n") * 20)
    predictor = HashPredictor()
    predict_files(predictor, bundle, [path], tmp_path / "a.jsonl")
    assert predictor.most == 7
    monkeypatch.setattr(files_module, "CHUNK_ROWS", 1000)
    monkeypatch.setattr(files_module, "CHUNK_BYTES", 900)
    predictor = HashPredictor()
    predict_files(predictor, bundle, [path], tmp_path / "b.jsonl")
    assert predictor.most <= 900 / 5 + 1
    assert [row["text"] for row in rows_of(tmp_path / "a.jsonl")] == [
        row["text"] for row in rows_of(tmp_path / "b.jsonl")
    ]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_columns_that_are_not_read_count_too(bundle, tmp_path, monkeypatch, kind):
    rows, path = [{"text": "short", "page": "x" * 1000}] * 40, tmp_path / f"rows.{kind}"
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "csv":
        path.write_text("text,page\n" + "".join(f"{row['text']},{row['page']}\n" for row in rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(files_module, "CHUNK_ROWS", 1000)
    monkeypatch.setattr(files_module, "CHUNK_BYTES", 5000)
    predictor = HashPredictor()
    assert predict_files(predictor, bundle, [path], tmp_path / "out.jsonl")["predicted"] == 40
    assert predictor.most == 5  # of 1,005 bytes and more, the fifth reaches five thousand


def test_the_share_of_several_files_goes_by_their_bytes(bundle, tmp_path):
    for name, n_rows in (("a.csv", 10), ("b.csv", 90)):
        (tmp_path / name).write_text("text\n" + "word\n" * n_rows)
    sources = [(name, open_rows(tmp_path / name)) for name in ("a.csv", "b.csv")]
    inputs = _Inputs(sources, RowTexts(bundle.reading), ())
    shares = [inputs.share_read() for _ in inputs.chunks(0, Place())]
    assert shares[1] == pytest.approx(0.1, abs=0.01)  # behind the ten rows of the first file: parts of seven and three
    assert shares[-1] == pytest.approx(1)


def test_files_of_other_columns_are_refused_before_anything_is_written(bundle, tmp_path):
    write(tmp_path / "a.csv", "csv", 3)
    (tmp_path / "b.csv").write_text("text,other\na,b\n")
    (tmp_path / "c.csv").write_text("review\na\n")
    with pytest.raises(DataError, match=r"b.csv has other columns"):
        predict_files(HashPredictor(), bundle, [tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "out.csv")
    with pytest.raises(DataError, match=r"c.csv has no column 'text'"):
        predict_files(HashPredictor(), bundle, [tmp_path / "c.csv"], tmp_path / "out.csv")
    assert not list(tmp_path.glob("out*"))
    summary = predict_files(HashPredictor(), bundle, [tmp_path / "c.csv"], tmp_path / "out.csv", Wanted(("review",)))
    assert summary["predicted"] == 1


def test_a_row_that_has_a_field_of_ours_is_bad(bundle, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "predicted": 1}\n{"text": "b"}\n{"other": "c"}\n')
    summary = predict_files(HashPredictor(), bundle, [path], tmp_path / "out.jsonl")
    assert (summary["predicted"], summary["bad"]) == (1, 2)
    reasons = [json.loads(line)["reason"] for line in (tmp_path / "out.jsonl.bad.jsonl").read_text().splitlines()]
    assert reasons == ["already has a field 'predicted'", "no field 'text'"]


def test_a_file_without_rows_comes_out_without_rows(bundle, tmp_path):
    (tmp_path / "rows.csv").write_text("text\n")
    summary = predict_files(HashPredictor(), bundle, [tmp_path / "rows.csv"], tmp_path / "out.csv")
    assert summary["rows"] == 0
    assert (tmp_path / "out.csv").read_text() == "text,predicted,probability_bad,probability_good\n"


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "txt"])
def test_a_stream_goes_through_in_its_order(bundle, tmp_path, kind):
    path = tmp_path / f"rows.{kind}"
    write(path, kind, 40, bad=(3,))
    out, bad = io.BytesIO(), io.BytesIO()
    with path.open("rb") as stream:
        summary = predict_stream(HashPredictor(), bundle, stream, out, kind, bad=bad)
    written = tmp_path / f"out.{'jsonl' if kind == 'txt' else kind}"
    written.write_bytes(out.getvalue())
    assert [row["text"] for row in rows_of(written)] == [f"text {i}" for i in range(40) if i != 3]
    assert json.loads(bad.getvalue()) == {"file": "standard input", "row": 4, "reason": "no text in 'text'"}
    assert (summary["rows"], summary["bad"]) == (40, 1)


def test_without_a_file_for_them_the_first_bad_rows_are_told(bundle):
    told: list[str] = []
    summary = predict_stream(
        HashPredictor(), bundle, io.BytesIO(b"\n" * 25 + b"a\n"), io.BytesIO(), "txt", tell=told.append
    )
    assert summary["bad"] == 25
    assert len([line for line in told if line.startswith("bad row ")]) == 10


def test_what_is_cut_is_counted(bundle, tmp_path):
    (tmp_path / "rows.txt").write_text("a\n" + "long " * 20 + "\n")
    assert predict_files(HashPredictor(), bundle, [tmp_path / "rows.txt"], tmp_path / "out.jsonl")["truncated"] == 1
