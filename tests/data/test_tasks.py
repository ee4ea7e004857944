"""Loaded tasks: roles, counts and ids of rows the test wrote, and the real data sets against their README."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from potstill.data import tasks, texts
from potstill.data.catalogue import CATALOGUE, Task
from potstill.data.custom import custom_task
from potstill.data.tasks import TaskData, load_task
from potstill.data.texts import TextColumn
from potstill.errors import DataError

WriteFile = Callable[[str, str | bytes], Path]


def _csv(n: int, labels: tuple[str, ...] = ("neg", "pos"), prefix: str = "text") -> str:
    return "text,label\n" + "".join(f"{prefix} {row},{labels[row % len(labels)]}\n" for row in range(n))


@pytest.fixture
def task(write_file: WriteFile) -> Task:
    files = {"train": write_file("train.csv", _csv(100)), "test": write_file("test.csv", _csv(20, prefix="other"))}
    return custom_task("mine", files)


def test_one_file_becomes_three_stratified_splits(write_file: WriteFile) -> None:
    data = load_task(custom_task("mine", write_file("a.csv", _csv(100))))
    assert {name: counts.rows for name, counts in data.counts.items()} == {"train": 80, "selection": 10, "test": 10}
    assert data.counts["test"].labels == {"neg": 5, "pos": 5}
    assert any("80/10/10" in note for note in data.notes)


def test_a_tenth_of_the_training_rows_is_carved_for_selection(task: Task) -> None:
    data = load_task(task)
    assert {name: counts.rows for name, counts in data.counts.items()} == {"train": 90, "selection": 10, "test": 20}
    assert sum(counts.share for counts in data.counts.values()) == pytest.approx(1)
    ids = np.concatenate([data.splits["train"].ids, data.splits["selection"].ids])
    assert sorted(ids) == [f"train-{row:06d}" for row in range(100)]


def test_no_more_than_the_stated_rows_are_carved(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tasks.SELECTION_ROWS == 2000
    monkeypatch.setattr(tasks, "SELECTION_ROWS", 4)
    assert load_task(task).counts["selection"].labels == {"neg": 2, "pos": 2}


def test_an_own_validation_split_is_the_selection_split(task: Task, write_file: WriteFile) -> None:
    files = {**task.sources, "validation": write_file("validation.csv", _csv(8, prefix="third"))}
    data = load_task(custom_task("mine", files))
    assert data.splits["selection"].ids[0] == "validation-000000"
    assert data.split("validation") is data.splits["selection"]
    assert len(data.splits["train"]) == 100


def test_a_row_keeps_its_text_and_label_under_its_id(task: Task) -> None:
    split = load_task(task).splits["selection"]
    for row_id, text, target in zip(split.ids, split.texts, split.targets, strict=True):
        row = int(row_id.removeprefix("train-"))
        assert (text, target) == (f"text {row}", row % 2)
    assert split.texts[0] == next(iter(split.texts)) == split.texts[:1][0]


def test_the_same_seed_gives_the_same_fingerprint_and_another_seed_another(task: Task) -> None:
    first, again, other = (load_task(task, seed=seed).fingerprint for seed in (1, 1, 2))
    assert first == again != other


def test_one_changed_letter_changes_the_fingerprint(write_file: WriteFile) -> None:
    before = load_task(custom_task("m", write_file("a.csv", _csv(50)))).fingerprint
    after = load_task(custom_task("m", write_file("a.csv", _csv(50).replace("text 7,", "text 8,")))).fingerprint
    assert before != after


def test_texts_stay_on_disk(task: Task) -> None:
    assert isinstance(load_task(task).splits["train"].texts, TextColumn)


def test_memory_does_not_grow_with_texts_that_are_cleaned(
    write_file: WriteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    # oracle: the size of all texts together, of which a twentieth is read at once
    monkeypatch.setattr(texts, "READ_AT_ONCE", 100)
    n_rows, n_characters = 2_000, 2_000
    rows = "".join(f"{row}<br />{'x' * n_characters},{('neg', 'pos')[row % 2]}\n" for row in range(n_rows))
    described = custom_task("m", write_file("a.csv", f"text,label\n{rows}"), cleaning=("line_breaks",))
    load_task(replace(described, cleaning=()))  # brings the file into the cache of data sets
    tracemalloc.start()
    splits = load_task(described).splits.values()
    assert not any("<" in text for split in splits for text in split.texts)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < n_rows * n_characters / 2


def test_limits_take_a_stratified_sample_and_say_so(task: Task) -> None:
    data = load_task(task, limits={"train": 30, "test": 4})
    assert data.counts["train"].labels == {"neg": 15, "pos": 15}
    assert data.counts["test"].labels == {"neg": 2, "pos": 2}
    assert any(note.startswith("train: 30 of 90 rows, a stratified sample") for note in data.notes)
    with pytest.raises(DataError, match=r"a limit names no split: tset.*did you mean 'test'"):
        load_task(task, limits={"tset": 4})


def test_texts_that_are_also_in_train_are_told(write_file: WriteFile) -> None:
    files = {
        "train": write_file("train.csv", _csv(40)),
        "test": write_file("test.csv", "text,label\ntext 0,neg\nnew,pos\n"),
    }
    data = load_task(custom_task("m", files), selection_fraction=0.1)
    in_train = "train-000000" in data.splits["train"].ids
    assert ("test: 1 of 2 texts also occur in train" in data.notes) == in_train


def test_texts_that_are_also_in_selection_are_told(write_file: WriteFile) -> None:
    """Thresholds and epochs are chosen there: a text of test that is there too was looked at."""
    files = {
        "train": write_file("train.csv", _csv(40)),
        "validation": write_file("validation.csv", _csv(8, prefix="third")),
        "test": write_file("test.csv", "text,label\nthird 0,neg\nthird 1,pos\nnew,pos\n"),
    }
    notes = load_task(custom_task("m", files)).notes
    assert [note for note in notes if "also occur" in note] == ["test: 2 of 3 texts also occur in selection"]


@pytest.mark.parametrize("n_rows", [7, 13, 101])
def test_a_note_on_a_split_tells_the_shares_as_counted(write_file: WriteFile, n_rows: int) -> None:
    """Pitfall 4: "60/20/20" that was really 37.5/12.5/50."""
    data = load_task(custom_task("mine", write_file("a.csv", _csv(n_rows))))
    (told,) = [note for note in data.notes if note.startswith("one file only")]
    for name, split in data.splits.items():
        assert f"{name} {len(split)} ({len(split) / n_rows:.1%})" in told
    files = {"train": write_file("train.csv", _csv(n_rows)), "test": write_file("test.csv", _csv(4, prefix="other"))}
    carved = load_task(custom_task("mine", files))
    n_held_out = len(carved.splits["selection"])
    assert any(
        note.startswith(f"selection: {n_held_out} rows carved from train ({n_held_out / n_rows:.1%})")
        for note in carved.notes
    )


def test_dropped_rows_are_counted_and_ids_keep_their_place(write_file: WriteFile) -> None:
    rows = "text,label\n,pos\n" + "".join(f"a text that is long enough {row},{'pn'[row % 2]}\n" for row in range(20))
    path = write_file("a.csv", rows.replace(",p\n", ",pos\n").replace(",n\n", ",neg\n"))
    data = load_task(custom_task("m", {"train": path, "test": path}, cleaning=("too_short:10",)))
    assert "train-000000" not in np.concatenate([data.splits["train"].ids, data.splits["selection"].ids])
    assert any("1 rows dropped as empty" in note for note in data.notes)
    assert data.counts["test"].rows == 20


def test_pairs_and_joined_columns(write_file: WriteFile) -> None:
    content = "title,content,label\n" + "T,C,0\n,D,1\n" * 10
    pairs = load_task(custom_task("m", write_file("a.csv", content), ("title", "content")))
    joined = load_task(custom_task("m", write_file("a.csv", content), ("title", "content"), join="sep"))
    assert set(pairs.splits["train"].texts) == {("T", "C"), ("", "D")}
    assert set(joined.splits["train"].texts) == {"T [SEP] C", "D"}
    assert any("10 pairs have one empty text" in note for note in pairs.notes)


def test_labels_by_name_in_one_split_and_by_number_in_another(write_file: WriteFile) -> None:
    files = {"train": write_file("train.csv", _csv(40)), "test": write_file("test.csv", _csv(4, ("0", "1"), "other"))}
    assert load_task(custom_task("m", files)).splits["test"].targets.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("  ,neg\n", r"test.csv, row 1 has no text in column 'text'"),
        ("x,\n", r"test.csv, row 1 has no label in column 'label'"),
        ("x,NaN\n", r"test.csv, row 1 has no label in column 'label'"),
        ("x,nge\n", r"test.csv, row 1: the label in column 'label' is not in the list.*did you mean 'neg'"),
        ("a,neg\n" + "y" * 1_000_000 + ",pos\n", r"row 2 has a text of 1,000,000 characters.*max_words"),
        ("x,-1\ny,-1\n", r"test.csv carries no labels: .*hidden"),
    ],
)
def test_a_bad_row_is_refused_in_one_line(write_file: WriteFile, task: Task, rows: str, said: str) -> None:
    write_file("test.csv", "text,label\n" + rows)
    with pytest.raises(DataError, match=said) as caught:
        load_task(task)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_rows_without_text_are_kept_for_whoever_asks_for_them(write_file: WriteFile, task: Task) -> None:
    write_file("test.csv", "text,label\nx,neg\n  ,pos\n,neg\n")
    assert list(load_task(task, keep_empty=True).splits["test"].texts) == ["x", "  ", ""]


def test_a_megabyte_is_taken_when_it_is_shortened(write_file: WriteFile) -> None:
    path = write_file("a.csv", _csv(20) + "y " * 500_000 + ",pos\n")
    data = load_task(custom_task("m", path, cleaning=("max_words:3",)))
    assert max(len(str(text)) for split in data.splits.values() for text in split.texts) < 20


def test_one_class_only_is_refused(write_file: WriteFile) -> None:
    with pytest.raises(DataError, match="one class only: all 10 rows are 'pos'"):
        load_task(custom_task("m", write_file("a.csv", _csv(10, ("pos",)))))


def test_hidden_and_unknown_splits_are_refused_by_name() -> None:
    data = TaskData(CATALOGUE["cola"], {}, {}, [], "")
    with pytest.raises(DataError, match="labels of split test of cola are hidden"):
        data.split("test")
    with pytest.raises(DataError, match="cola has no split 'dev'"):
        data.split("dev")


def test_a_task_that_is_nowhere_says_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cola has no copy below .*glue/cola/train.parquet is missing"):
        load_task(CATALOGUE["cola"], data_dir=tmp_path)
    with pytest.raises(DataError, match="--data-dir"):
        load_task(CATALOGUE["jigsaw_toxicity"])


# rows as the README of the data sets states them; 20_newsgroups before cleaning
ROWS = {
    "cola": {"train": 8551, "validation": 1043},
    "mrpc": {"train": 3668, "validation": 408, "test": 1725},
    "stsb": {"train": 5749, "validation": 1500},
    "rte": {"train": 2490, "validation": 277},
    "wnli": {"train": 635, "validation": 71},
    "dbpedia_14": {"train": 14000},
}


@pytest.mark.data
@pytest.mark.parametrize("name", ["cola", "mrpc", "stsb", "rte", "wnli", "dbpedia_14"])
def test_real_data_has_the_rows_its_readme_states(name: str, data_dir: Path) -> None:
    data = load_task(CATALOGUE[name], data_dir=data_dir)
    origins = np.concatenate([split.ids for split in data.splits.values()])
    names, counts = np.unique([row_id.rpartition("-")[0] for row_id in origins], return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == ROWS[name]
    assert data.task.report_split in data.splits
    assert all(len(np.unique(split.targets)) > 1 for split in data.splits.values())


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "n_rows"),
    [
        ("sst2", 67349 + 872),
        ("imdb", 25000 + 24999),
        ("uci_news_aggregator", 33793),
        ("jigsaw_toxicity", 6255 + 15637),
        ("20_newsgroups", 11314 + 7532),
    ],
)
def test_large_real_data_has_the_rows_its_readme_states(name: str, n_rows: int, data_dir: Path) -> None:
    data = load_task(CATALOGUE[name], data_dir=data_dir)
    dropped = sum(
        int(note.split(" texts; ")[1].split(" rows")[0].replace(",", "")) for note in data.notes if "dropped" in note
    )
    assert sum(counts.rows for counts in data.counts.values()) + dropped == n_rows


@pytest.mark.data
@pytest.mark.slow
def test_unlabelled_reviews_are_refused_as_hidden(data_dir: Path) -> None:
    reviews = data_dir / "imdb" / "unsupervised.parquet"
    with pytest.raises(DataError, match="so they are hidden"):
        load_task(custom_task("m", reviews, label_names=("neg", "pos")))


def test_the_built_in_task_gets_its_labels_from_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(f"paragraph {row}", ("scipy", "pandas")[row % 2]) for row in range(40)]
    monkeypatch.setattr(tasks, "docstring_task_rows", lambda: tuple(zip(*rows, strict=True)))
    data = load_task(CATALOGUE["docstrings"])
    assert data.task.label_names == ("pandas", "scipy")
    assert {name: counts.labels for name, counts in data.counts.items()} == {
        "train": {"pandas": 16, "scipy": 16},
        "selection": {"pandas": 2, "scipy": 2},
        "test": {"pandas": 2, "scipy": 2},
    }


def test_loading_imports_neither_torch_nor_transformers(task: Task, tmp_path: Path) -> None:
    code = (
        "import sys, datasets\n"
        f"datasets.config.HF_DATASETS_CACHE = {str(tmp_path / 'cache')!r}\n"
        "from potstill.data.custom import custom_task\n"
        "from potstill.data.tasks import load_task\n"
        "from potstill.data.corpora import load_corpus\n"
        f"data = load_task(custom_task('m', {dict(task.sources)!r}))\n"
        f"n = len(list(load_corpus({task.sources['train']!r}, streaming=True)))\n"
        "print(n, len(data.splits), [m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "100 3 []"


def test_files_of_a_class_that_are_not_read_are_told(write_file: WriteFile, tmp_path: Path) -> None:
    for number in range(20):
        write_file(f"reviews/{('neg', 'pos')[number % 2]}/{number}.txt", f"text {number}")
    write_file("reviews/neg/more.csv", "text 21")
    data = load_task(custom_task("m", tmp_path / "reviews"))
    assert sum(counts.rows for counts in data.counts.values()) == 20
    assert "train: 1 of the files in reviews passed over, such as neg/more.csv" in data.notes
