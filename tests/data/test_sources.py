"""Any source as a data set: what it holds is written by the test, so every expectation is known."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest

from potstill.data.sources import open_source, require_columns, require_text, unread_note
from potstill.errors import DataError

WriteFile = Callable[[str, str | bytes], Path]


def test_a_file_is_memory_mapped_with_its_columns_as_text(write_file: WriteFile) -> None:
    dataset = open_source(write_file("a.csv", "text,label\nNA,01\nnull,1\n"))
    assert dataset.to_list() == [{"text": "NA", "label": "01"}, {"text": "null", "label": "1"}]
    assert dataset.cache_files


def test_a_changed_file_is_read_again(write_file: WriteFile) -> None:
    assert list(open_source(write_file("a.txt.gz", gzip.compress(b"old\n")))["text"]) == ["old"]
    assert list(open_source(write_file("a.txt.gz", gzip.compress(b"newer\n")))["text"]) == ["newer"]


def test_json_keeps_numbers_lists_and_nested_values_as_text(write_file: WriteFile) -> None:
    dataset = open_source(
        write_file("a.jsonl", '{"text": "a", "n": 1, "l": ["x"], "m": {"k": 1}}\n{"text": "b", "n": 0.5}\n')
    )
    assert dataset.to_list() == [
        {"text": "a", "n": 1.0, "l": ["x"], "m": '{"k": 1}'},
        {"text": "b", "n": 0.5, "l": None, "m": None},
    ]


def test_parquet_is_opened(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": ["a", "b"]}).to_parquet(tmp_path / "a.parquet")
    assert list(open_source(tmp_path / "a.parquet")["text"]) == ["a", "b"]


def test_streaming_gives_the_same_rows(write_file: WriteFile) -> None:
    path = write_file("a.csv", "text,label\na,1\nb,2\n")
    assert list(open_source(path, streaming=True)) == open_source(path).to_list()


def test_a_folder_per_class_gives_texts_with_the_folders_names(write_file: WriteFile, tmp_path: Path) -> None:
    write_file("reviews/pos/1.txt", "fine\nfilm")
    write_file("reviews/neg/1.txt", "poor film")
    write_file("reviews/neg/2.txt.gz", gzip.compress(b"dull film"))
    rows = open_source(tmp_path / "reviews").to_list()
    assert [(row["text"], row["label"]) for row in rows] == [
        ("poor film", "neg"),
        ("dull film", "neg"),
        ("fine\nfilm", "pos"),
    ]
    assert list(open_source(tmp_path / "reviews", streaming=True)) == rows


def test_a_folder_of_splits_opens_the_split_asked_for(write_file: WriteFile, tmp_path: Path) -> None:
    write_file("d/train.csv", "text\na\n")
    write_file("d/test.csv", "text\nb\n")
    write_file("e/test/pos/1.txt", "c")
    assert open_source(tmp_path / "d", split="test").to_list() == [{"text": "b"}]
    assert open_source(tmp_path / "e", split="test").to_list() == [{"text": "c", "label": "pos"}]
    with pytest.raises(DataError, match="does not say what to read"):
        open_source(tmp_path / "d")
    with pytest.raises(DataError, match="has no split 'dev'"):
        open_source(tmp_path / "d", split="dev")


def test_files_of_a_folder_that_are_not_read_are_counted(write_file: WriteFile, tmp_path: Path) -> None:
    for name in ("pos/1.txt", "neg/1.txt.gz", "neg/2.md", "neg/deep/3.txt", "urls.txt", "pos/.hidden", ".git/config"):
        write_file(f"reviews/{name}", gzip.compress(b"a") if name.endswith("gz") else "a")
    assert len(open_source(tmp_path / "reviews")) == 2
    assert unread_note(tmp_path / "reviews") == ["3 of the files in reviews passed over, such as neg/2.md"]
    (tmp_path / "reviews" / "urls.txt").unlink()
    assert unread_note(tmp_path / "reviews" / "pos") == []


def test_files_beside_the_one_that_holds_the_rows_are_counted(write_file: WriteFile, tmp_path: Path) -> None:
    path = write_file("d/rows.csv", "text\na\n")
    assert unread_note(tmp_path / "d") == unread_note(path) == unread_note("someone/something") == []
    write_file("d/README.md", "about")
    assert open_source(tmp_path / "d").num_rows == 1
    assert unread_note(tmp_path / "d") == ["1 of the files in d passed over, such as README.md"]


def test_a_split_that_is_there_twice_is_refused(write_file: WriteFile, tmp_path: Path) -> None:
    write_file("d/test.csv", "text\na\n")
    write_file("d/test.jsonl", '{"text": "b"}')
    with pytest.raises(DataError, match=r"the split test of .* is there twice; found 'test.csv, test.jsonl'"):
        open_source(tmp_path / "d", split="test")


def test_a_missing_file_is_refused_with_the_nearest_there_is(write_file: WriteFile, tmp_path: Path) -> None:
    write_file("train.csv", "text\na\n")
    with pytest.raises(DataError, match=r"no such file: .*trian\.csv; did you mean 'train\.csv'"):
        open_source(tmp_path / "trian.csv")
    with pytest.raises(DataError, match=r"the folder .*nowhere does not exist"):
        open_source(tmp_path / "nowhere" / "a.csv")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "text,label\n", "has no rows"),
        ("a.jsonl", "\n\n", "has no rows"),
        ("a.json", "[]", "has no rows"),
        ("a.parquet", "nothing", "cannot be read"),
        ("a.csv", b"text\nb\xe4d\n", "not UTF-8 at byte 6, line 2"),
        ("a.jsonl", '{"text": "a"}\n{"text": 1}\n', "row 2, column 'text' is of another kind"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(write_file: WriteFile, name: str, content: str | bytes, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        open_source(write_file(name, content))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_hub_name_is_split_into_name_and_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(name: str, config: str | None, **how: object) -> datasets.Dataset:
        asked.append((name, config, how["split"]))
        return datasets.Dataset.from_dict({"sentence": ["a"]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert open_source("nyu-mll/glue:cola", split="train").num_rows == 1
    assert asked == [("nyu-mll/glue", "cola", "train")]


def test_a_hub_without_a_network_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: object, **__: object) -> None:
        raise ConnectionError("no route\nand more")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match="neither a file here nor a data set that the hub gives; found 'no route'"):
        open_source("someone/something")


def test_a_wrong_column_is_refused_with_the_nearest(write_file: WriteFile) -> None:
    path = write_file("a.csv", "sentence,label\na,1\n")
    with pytest.raises(DataError, match=r"has no column 'sentences'.*did you mean 'sentence'"):
        require_columns(open_source(path), ("sentences",), path)


def test_a_column_of_numbers_is_no_text(write_file: WriteFile) -> None:
    path = write_file("a.jsonl", '{"text": 1}\n')
    with pytest.raises(DataError, match="column 'text' is no text; found 'int64'"):
        require_text(open_source(path), ("text",), path)
