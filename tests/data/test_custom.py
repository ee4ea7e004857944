"""A task of one's own: what is inferred, what is said about it, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import datasets
import pytest

from potstill.data.custom import METRICS, custom_task
from potstill.errors import DataError
from potstill.evaluate.metrics import METRICS as KNOWN_METRICS
from potstill.records import PROBLEM_TYPES

WriteFile = Callable[[str, str | bytes], Path]


def test_problem_type_and_label_names_are_inferred_and_said(write_file: WriteFile) -> None:
    task = custom_task("mine", write_file("a.csv", "text,label\nx,sport\ny,news\n"))
    assert task.problem_type == "single_label_classification"
    assert task.label_names == ("news", "sport")
    assert task.report_split == "test"
    assert task.metric == "accuracy"
    assert any("inferred" in note for note in task.notes)
    assert any("2 label names taken from a.csv: news, sport" in note for note in task.notes)


def test_scores_lists_and_several_columns_are_recognised(write_file: WriteFile) -> None:
    scores = custom_task("s", write_file("a.csv", "a,b,y\nx,y,0.5\ny,z,1\n"), ("a", "b"), "y")
    lists = custom_task("l", write_file("a.jsonl", '{"text": "x", "label": ["b", "a"]}\n'))
    flags = custom_task("f", write_file("b.csv", "text,p,q\nx,0,1\n"), label_columns=("p", "q"))
    assert (scores.problem_type, scores.label_names, scores.text_columns) == ("regression", ("score",), ("a", "b"))
    assert (lists.problem_type, lists.label_names) == ("multi_label_classification", ("a", "b"))
    assert (flags.problem_type, flags.label_names) == ("multi_label_classification", ("p", "q"))


def test_what_is_given_is_taken_without_a_word(write_file: WriteFile) -> None:
    path = write_file("a.csv", "text,label\nx,1\ny,0\n")
    task = custom_task("m", path, problem_type="single_label_classification", label_names=("no", "yes"), metric="f1")
    assert (task.label_names, task.metric, task.metrics[0], task.notes) == (("no", "yes"), "f1", "f1", ())


def test_the_report_split_is_the_test_split_or_else_validation(write_file: WriteFile, tmp_path: Path) -> None:
    path = write_file("d/train.csv", "text,label\nx,1\ny,0\n")
    assert custom_task("m", {"train": path, "validation": path}).report_split == "validation"
    assert custom_task("m", {"train": path, "validation": path, "test": path}).report_split == "test"
    write_file("d/test.csv", "text,label\nx,1\n")
    assert set(custom_task("m", tmp_path / "d").sources) == {"train", "test"}


@pytest.mark.parametrize("beside", ["dev.csv", "notes.txt", "images/1.txt"])
def test_data_beside_the_splits_of_a_folder_are_refused(write_file: WriteFile, tmp_path: Path, beside: str) -> None:
    for name in ("train.csv", "test.csv", beside):
        write_file(f"d/{name}", "text,label\nx,1\ny,0\n")
    found = beside.partition("/")[0]
    with pytest.raises(DataError, match=f"data beside its splits; found '{found}'; allowed: train, validation, test"):
        custom_task("m", tmp_path / "d")


def test_a_split_that_a_folder_holds_twice_is_refused(write_file: WriteFile, tmp_path: Path) -> None:
    for name in ("train.csv", "train.tsv"):
        write_file(f"d/{name}", "text,label\nx,1\ny,0\n")
    with pytest.raises(DataError, match=r"the split train of .* is there twice; found 'train.csv, train.tsv'"):
        custom_task("m", tmp_path / "d")


def test_other_files_beside_the_splits_are_counted(write_file: WriteFile, tmp_path: Path) -> None:
    for name in ("train.csv", "test.csv", "README.md", "LICENSE", ".gitignore"):
        write_file(f"d/{name}", "text,label\nx,1\ny,0\n")
    notes = custom_task("m", tmp_path / "d").notes
    assert [note for note in notes if "passed over" in note] == ["2 of the files in d passed over, such as LICENSE"]


def test_class_names_of_a_hub_data_set_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["z", "a"])})
    rows = datasets.Dataset.from_dict({"text": ["x", "y"], "label": [0, 1]}, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows)
    assert custom_task("m", "someone/something").label_names == ("z", "a")


def test_metrics_are_those_that_evaluate_knows() -> None:
    assert set(METRICS) == set(PROBLEM_TYPES)
    assert all(name in KNOWN_METRICS[problem_type] for problem_type, names in METRICS.items() for name in names)


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("text,label\nx,1\n", {"text_columns": "texts"}, r"no column 'texts'.*did you mean 'text'"),
        ("text,label\nx,1\n", {"label_columns": "lable"}, r"no column 'lable'.*did you mean 'label'"),
        ("text,label\nx,1\ny,sport\n", {}, r"mixes numbers and names; found .*row 1 and 'sport' in row 2"),
        ("text,label\nx,1\n", {"problem_type": "classification"}, "unknown problem type"),
        ("text,label\nx,1\n", {"label_names": ("a", "a")}, "given twice"),
        ("text,p,q\nx,1,0\n", {"label_columns": ("p", "q"), "label_names": ("a",)}, "one label name per label column"),
        ("text,label\nx,1\n", {"text_columns": ("a", "b", "c")}, "one or two text columns"),
        ("text,label\nx,1\n", {"cleaning": ("line_brakes",)}, "unknown cleaning step"),
    ],
)
def test_a_task_that_does_not_fit_its_file_is_refused(
    write_file: WriteFile, content: str, options: dict, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        custom_task("m", write_file("a.csv", content), **options)


def test_a_task_without_training_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs a split called train"):
        custom_task("m", {"test": tmp_path / "a.csv"})
