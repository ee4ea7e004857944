"""A file that grows piece by piece. The oracle is the file of a work that nothing interrupted."""

from __future__ import annotations

import json
import resource

import pytest

from potstill.errors import RunFolderError, StorageError, UsageError
from potstill.runtime.journal import Counts, State, UnfinishedFile

PIECES = [(b"one\n", b""), (b"two\n", b"bad\n"), (b"three\n", b"")]


def work(out, stop_after=None, garbage=False, fingerprint="work"):
    """Write the pieces that are missing; stop without a word after as many as said."""
    unfinished = UnfinishedFile(out, fingerprint)
    unfinished.write_begin(b"begin\n")
    for number in range(unfinished.state.rows, len(PIECES)):
        if number == stop_after:
            if garbage:
                for name in ("rows", "bad"):
                    with (unfinished.folder / name).open("ab") as file:
                        file.write(b"half a pie")
            unfinished.close()
            return unfinished
        rows, bad = PIECES[number]
        unfinished.commit(rows, bad, State(rows=number + 1, counts=Counts(read=number + 1)))
    unfinished.finish(lambda written, target: written.replace(target))
    return unfinished


@pytest.mark.parametrize("garbage", [False, True])
@pytest.mark.parametrize("stop_after", [0, 1, 2])
def test_a_work_stopped_anywhere_ends_with_the_same_bytes(tmp_path, stop_after, garbage):
    out = tmp_path / "out.txt"
    stopped = work(out, stop_after, garbage)
    assert not out.exists()
    assert stopped.state.rows == stop_after
    resumed = work(out)
    assert resumed.resumed
    assert resumed.state.counts.read == 3
    assert out.read_bytes() == b"begin\none\ntwo\nthree\n"
    assert (tmp_path / "out.txt.bad.jsonl").read_bytes() == b"bad\n"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.txt", "out.txt.bad.jsonl"]


def test_without_bad_rows_there_is_no_file_of_them(tmp_path):
    unfinished = UnfinishedFile(tmp_path / "out", "work")
    unfinished.write_begin(b"")
    unfinished.finish(lambda written, target: written.replace(target))
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("done", ["nothing", "bad", "rows"])
def test_a_kill_while_names_are_given_is_made_good(tmp_path, done):
    out = tmp_path / "out"

    def stop(written, target):
        if done == "rows":
            written.replace(target)
        raise KeyboardInterrupt

    unfinished = UnfinishedFile(out, "work")
    unfinished.write_begin(b"begin\n")
    unfinished.commit(b"one\n", b"bad\n", State(rows=1))
    with pytest.raises(KeyboardInterrupt):
        unfinished.finish(stop)
    if done == "nothing":
        unfinished.bad_out.replace(unfinished.folder / "bad")
    unfinished.close()
    again = UnfinishedFile(out, "work")
    assert again.state.whole
    again.finish(lambda written, target: written.replace(target))
    assert out.read_bytes() == b"begin\none\n"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out", "out.bad.jsonl"]


def test_another_work_is_not_gone_on_with(tmp_path):
    work(tmp_path / "out", stop_after=1)
    with pytest.raises(UsageError, match=r"of another bundle, other files or other options.*remove that folder"):
        UnfinishedFile(tmp_path / "out", "another")


@pytest.mark.parametrize("name", ["out", "out.bad.jsonl"])
def test_what_is_there_is_not_written_over(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        UnfinishedFile(tmp_path / "out", "work")
    assert (tmp_path / name).read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_folder_of_others_is_left_alone(tmp_path):
    (tmp_path / "out.unfinished").mkdir()
    (tmp_path / "out.unfinished" / "mine").write_text("mine")
    with pytest.raises(UsageError, match="was not made by potstill"):
        UnfinishedFile(tmp_path / "out", "work")


def test_one_process_at_a_time(tmp_path):
    unfinished = UnfinishedFile(tmp_path / "out", "work")
    with pytest.raises(RunFolderError, match="another process is working"):
        UnfinishedFile(tmp_path / "out", "work")
    unfinished.close()
    UnfinishedFile(tmp_path / "out", "work").close()


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"work": "work"}'])
def test_a_damaged_journal_is_no_traceback(tmp_path, content):
    work(tmp_path / "out", stop_after=1)
    (tmp_path / "out.unfinished" / "journal.json").write_text(content)
    with pytest.raises(UsageError, match="journal is damaged"):
        UnfinishedFile(tmp_path / "out", "work")


def test_a_file_shorter_than_its_journal_is_noticed(tmp_path):
    stopped = work(tmp_path / "out", stop_after=2)
    (stopped.folder / "rows").write_bytes(b"beg")
    unfinished = UnfinishedFile(tmp_path / "out", "work")
    with pytest.raises(StorageError, match="shorter than its journal"):
        unfinished.write_begin(b"begin\n")


def test_the_journal_says_what_was_written(tmp_path):
    stopped = work(tmp_path / "out", stop_after=2)
    state = json.loads((stopped.folder / "journal.json").read_text())["state"]
    assert (state["rows_bytes"], state["bad_bytes"], state["rows"]) == (len("begin\none\ntwo\n"), len("bad\n"), 2)


@pytest.mark.parametrize("name", ["rows", "bad"])
def test_what_was_written_and_then_edited_is_not_gone_on_with(tmp_path, name):
    stopped = work(tmp_path / "out", stop_after=2)
    file = stopped.folder / name
    file.write_bytes(file.read_bytes()[:-2] + b"!\n")
    unfinished = UnfinishedFile(tmp_path / "out", "work")
    with pytest.raises(StorageError, match="was changed since it was written"):
        unfinished.write_begin(b"begin\n")


def test_a_disk_that_is_full_is_one_sentence_and_the_work_goes_on_when_there_is_room(tmp_path):
    piece, out = b"x" * 3000, tmp_path / "out"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # what stands for a full disk: no file may be longer
    try:
        unfinished = UnfinishedFile(out, "work")
        unfinished.write_begin(b"")
        unfinished.commit(piece, b"", State(rows=1))
        with pytest.raises(StorageError, match="no space left"):
            unfinished.commit(piece, b"", State(rows=2))
        unfinished.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    again = UnfinishedFile(out, "work")
    assert again.state.rows == 1
    again.write_begin(b"")
    again.commit(piece, b"", State(rows=2))
    again.finish(lambda written, target: written.replace(target))
    assert out.read_bytes() == 2 * piece
