"""Where a bundle is written. Oracle: what is on disk."""

from __future__ import annotations

import shutil

import pytest

from potstill.bundle import is_bundle
from potstill.errors import RunFolderError
from potstill.export.place import beside, let_out


def fill(folder):
    for name in ("bundle.json", "tokenizer.json", "model.onnx"):
        (folder / name).write_text("{}")


def test_what_was_written_beside_takes_the_name_and_leaves_nothing_else(tmp_path):
    with beside(tmp_path / "deep" / "out") as partial:
        fill(partial)
        let_out(partial, tmp_path / "deep" / "out")
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["out"]
    assert len(list((tmp_path / "deep" / "out").iterdir())) == 3


def test_what_was_not_let_out_is_gone(tmp_path):
    with beside(tmp_path / "out") as partial:
        fill(partial)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RunFolderError, match="not empty"), beside(tmp_path / "out") as partial:
        let_out_into_a_folder_in_use(partial, tmp_path / "in-use")
    shutil.rmtree(tmp_path / "in-use")
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_is_cleared_away(tmp_path):
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "model.onnx").write_text("half")
    (tmp_path / ".out.lock").write_text("")
    with beside(tmp_path / "out") as partial:
        assert list(partial.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_one_process_at_a_time_writes_one_bundle(tmp_path):
    busy = pytest.raises(RunFolderError, match=r"another process is working on .*out")
    with beside(tmp_path / "out") as partial:
        fill(partial)
        with busy, beside(tmp_path / "out"):
            pass
        assert is_bundle(partial)


def let_out_into_a_folder_in_use(partial, out):
    fill(partial)
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    let_out(partial, out)


def test_what_came_there_meanwhile_is_not_touched(tmp_path):
    with pytest.raises(RunFolderError, match="not empty"), beside(tmp_path / "out") as partial:
        let_out_into_a_folder_in_use(partial, tmp_path / "out")
    assert [entry.name for entry in tmp_path.rglob("*.*")] == ["mine.txt"]


def test_a_folder_that_is_there_becomes_a_bundle_with_its_last_file(tmp_path, monkeypatch):
    out, partial = tmp_path / "out", tmp_path / "partial"
    out.mkdir()
    partial.mkdir()
    fill(partial)
    there, moved = [], shutil.move

    def move(source, target):
        there.append(is_bundle(out))
        moved(source, target)

    monkeypatch.setattr(shutil, "move", move)
    let_out(partial, out)
    assert there == [False, False, False]
    assert is_bundle(out)
