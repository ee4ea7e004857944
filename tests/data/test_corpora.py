"""Corpora: what they give, skip and cut, worked by hand, and a stream against the same file in memory."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.corpora import KNOWN, _taken, load_corpus, resident_texts
from potstill.data.token_files import build_blocks
from potstill.data.tokens import TextTokenizer
from potstill.errors import DataError

WriteFile = Callable[[str, str | bytes], Path]


def test_empty_lines_are_skipped_and_counted(write_file: WriteFile) -> None:
    corpus = load_corpus(write_file("a.txt", "one\n\n  two \n \n"))
    assert list(corpus) == list(corpus) == ["one", "two"]
    assert (len(corpus), corpus.n_characters, corpus.name) == (2, 6, "a.txt")
    assert "2 empty rows skipped" in corpus.notes


def test_all_texts_are_to_be_had_empty_ones_too(write_file: WriteFile) -> None:
    texts = resident_texts(write_file("a.txt", "one\n\n  two \n"), "text", None)
    assert list(texts) == ["one", "", "  two "]
    assert (len(texts), texts[2]) == (3, "  two ")


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl", "a.csv"])
def test_a_stream_gives_the_texts_of_the_file(write_file: WriteFile, name: str) -> None:
    content = {
        "a.txt": b"one\n\ntwo\n",
        "a.txt.gz": gzip.compress(b"one\n\ntwo\n"),
        "a.jsonl": b'{"text": "one"}\n{"text": null}\n{"text": "two"}\n',
        "a.csv": b'text,x\none,1\n"",2\ntwo,3\n',
    }[name]
    path = write_file(name, content)
    stream = load_corpus(path, streaming=True)
    assert list(stream) == list(stream) == list(load_corpus(path)) == ["one", "two"]
    with pytest.raises(TypeError, match="no length"):
        len(stream)


@pytest.mark.parametrize("streaming", [False, True])
def test_files_of_a_folder_that_are_not_read_are_told(write_file: WriteFile, tmp_path: Path, streaming: bool) -> None:
    write_file("books/old/a.txt", "one")
    write_file("books/old/b.pdf", "two")
    corpus = load_corpus(tmp_path / "books", streaming=streaming)
    assert list(corpus) == ["one"]
    assert corpus.notes[-1] == "1 of the files in books passed over, such as old/b.pdf"


def test_a_stream_needs_memory_for_its_buffers_only(write_file: WriteFile) -> None:
    path = write_file("a.txt", "a line of text to read\n" * 400_000)
    tracemalloc.start()
    n = sum(1 for _ in load_corpus(path, streaming=True))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n == 400_000
    assert peak < path.stat().st_size / 4


@pytest.mark.parametrize("max_characters", [None, 100])
def test_the_blocks_of_a_stream_are_those_of_the_counted_corpus(
    tiny: Any, tmp_path: Path, max_characters: int | None
) -> None:
    tokenizer = TextTokenizer.open(tiny.teacher)
    counted, streamed = (
        build_blocks(corpus, tokenizer, 32, tmp_path / "blocks", key=corpus.fingerprint)
        for corpus in (
            load_corpus(tiny.corpus, max_characters=max_characters, streaming=streaming) for streaming in (False, True)
        )
    )
    assert streamed.fingerprint != counted.fingerprint, "each was built, none found"
    np.testing.assert_array_equal(streamed.input_ids, counted.input_ids)
    np.testing.assert_array_equal(streamed.offsets, counted.offsets)
    np.testing.assert_array_equal(streamed.token_counts, counted.token_counts)


@given(st.lists(st.text(alphabet="ab \n", max_size=20)), st.integers(1, 60))
def test_a_limit_takes_whole_words_from_the_front(texts: list[str], limit: int) -> None:
    taken = list(_taken(texts, limit))
    everything = [text.strip() for text in texts if text.strip()]
    assert sum(map(len, taken)) <= limit
    assert taken[:-1] == everything[: len(taken)][:-1]
    assert all(whole.startswith(part) for part, whole in zip(taken, everything, strict=False))
    if sum(map(len, everything)) <= limit:
        assert taken == everything


def test_the_fingerprint_follows_the_texts_and_not_the_file(write_file: WriteFile) -> None:
    first, same, other = (
        write_file(name, text) for name, text in [("a.txt", "x\n"), ("b.txt", "\nx\n"), ("c.txt", "y\n")]
    )
    assert load_corpus(first).fingerprint == load_corpus(same).fingerprint != load_corpus(other).fingerprint


def test_a_streams_fingerprint_follows_the_state_of_the_file(write_file: WriteFile) -> None:
    path = write_file("a.txt", "x\n")
    before = load_corpus(path, streaming=True).fingerprint
    assert load_corpus(path, streaming=True).fingerprint == before
    write_file("a.txt", "xy\n")
    assert load_corpus(path, streaming=True).fingerprint != before


def test_a_streamed_folders_fingerprint_follows_each_of_its_files(write_file: WriteFile, tmp_path: Path) -> None:
    write_file("books/old/a.txt", "one")
    write_file("books/old/b.txt", "two")
    before = load_corpus(tmp_path / "books", streaming=True).fingerprint
    assert load_corpus(tmp_path / "books", streaming=True).fingerprint == before
    write_file("books/old/b.txt", "three")
    assert load_corpus(tmp_path / "books", streaming=True).fingerprint != before


def test_a_streamed_hub_names_fingerprint_follows_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = SimpleNamespace(hash="abc")
    rows = datasets.IterableDataset.from_generator(lambda: iter([{"text": "one"}]))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows)
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *_: commit)
    before = load_corpus("someone/something", streaming=True).fingerprint
    assert load_corpus("someone/something", streaming=True).fingerprint == before
    commit.hash = "def"
    assert load_corpus("someone/something", streaming=True).fingerprint != before


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "texts\na\n", r"no column 'text'.*did you mean 'texts'"),
        ("a.jsonl", '{"text": 1}\n', r"column 'text' is no text"),
        ("a.txt", b"fine\nb\xe4d\n", r"not UTF-8 at byte 6, line 2"),
        ("a.txt", "", "is empty"),
        ("a.txt", "\n \n", "holds no text"),
    ],
)
def test_a_bad_corpus_is_refused(
    write_file: WriteFile, name: str, content: str | bytes, said: str, streaming: bool
) -> None:
    path = write_file(name, content)
    with pytest.raises(DataError, match=said):
        list(load_corpus(path, streaming=streaming))


def test_a_corpus_without_text_or_without_a_copy_is_refused(write_file: WriteFile, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no text"):
        load_corpus(write_file("a.txt", "\n\n"))
    with pytest.raises(DataError, match=r"wikitext-2 has no copy below .*train.txt.gz is missing"):
        load_corpus("wikitext-2", data_dir=tmp_path)
    with pytest.raises(DataError, match="the hub has no copy of the corpus novels"):
        load_corpus("novels")


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(("name", "n_texts"), [("wikitext-2", 23767), ("imdb-unsupervised", 50_000), ("novels", 100)])
def test_known_corpora_have_their_texts(name: str, n_texts: int, data_dir: Path) -> None:
    """50,000 and 100 from the README; 23,767 counted with ``zcat train.txt.gz | grep -c '[^ ]'``."""
    assert name in KNOWN
    assert len(load_corpus(name, data_dir=data_dir)) == n_texts
