"""Sets of arrays against what was written, damage of every kind, kills, and disks that take no more."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.data import array_files
from potstill.data.array_files import ArrayFiles, ArrayWriter, megabytes
from potstill.errors import StorageError

FINGERPRINT = "ab" * 32
NUMBERS = np.arange(5000, dtype=np.int32)


def write_some(writer: ArrayWriter) -> None:
    for start in range(0, len(NUMBERS), 700):
        writer.append("numbers", NUMBERS[start : start + 700])
    writer.append("matrix", np.ones((3, 4), dtype=np.float16))
    writer.facts["seconds"] = 1.5


def write_never(writer: ArrayWriter) -> None:
    pytest.fail("the set was written again")


@pytest.fixture
def files(tmp_path: Path) -> ArrayFiles:
    return ArrayFiles(tmp_path / "cache", "things", FINGERPRINT)


@contextmanager
def full_disk(largest_file: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_set_is_written_once_and_opened_memory_mapped(files: ArrayFiles) -> None:
    first, again = files.open_or_write(write_some), files.open_or_write(write_never)
    assert (first.written, again.written) == (True, False)
    assert isinstance(again.arrays["numbers"], np.memmap)
    assert np.array_equal(again.arrays["numbers"], NUMBERS)
    assert np.array_equal(again.arrays["matrix"], np.ones((3, 4), dtype=np.float16))
    assert again.facts == {"seconds": 1.5}


def test_the_size_is_that_of_the_files(files: ArrayFiles) -> None:
    opened = files.open_or_write(write_some)
    assert opened.n_bytes == sum(path.stat().st_size for path in files.folder.iterdir())
    assert opened.kept == f"kept in the cache folder as {opened.name}, {megabytes(opened.n_bytes)}"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.sampled_from(["<i4", "<f2", "|b1", "<i8"]))
def test_pieces_add_up_to_what_numpy_would_have_saved(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], dtype: str
) -> None:
    pieces = [np.random.default_rng(i).integers(0, 2, (length, 3)).astype(dtype) for i, length in enumerate(lengths)]
    files = ArrayFiles(tmp_path_factory.mktemp("cache"), "things", FINGERPRINT)

    def write(writer: ArrayWriter) -> None:
        for piece in pieces:
            writer.append("pieces", piece)

    opened = files.open_or_write(write)
    np.save(files.folder / "whole.npy", np.concatenate(pieces))
    whole = np.load(files.folder / "whole.npy")
    assert (opened.arrays["pieces"].dtype, opened.arrays["pieces"].shape) == (whole.dtype, whole.shape)
    assert np.array_equal(opened.arrays["pieces"], whole)


@pytest.mark.parametrize("piece", [np.ones(3, dtype=np.int64), np.ones((3, 2), dtype=np.int32)])
def test_a_piece_of_another_type_or_width_is_refused(files: ArrayFiles, piece: np.ndarray) -> None:
    def write(writer: ArrayWriter) -> None:
        writer.append("numbers", NUMBERS)
        writer.append("numbers", piece)

    with pytest.raises(ValueError, match="does not go on"):
        files.open_or_write(write)
    assert list(files.folder.iterdir()) == []


def flip_one_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-10]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "one bit": flip_one_byte,
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0" * 64),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("part", ["numbers", "matrix"])
def test_a_damaged_or_missing_file_is_never_opened_and_written_again(files: ArrayFiles, part: str, damage: str) -> None:
    files.open_or_write(write_some)
    DAMAGE[damage](files.folder / f"{files.name}.{part}.npy")
    assert files.open() is None
    again = files.open_or_write(write_some)
    assert again.written
    assert np.array_equal(again.arrays["numbers"], NUMBERS)


@pytest.mark.parametrize("summary", ["", "{", "[]", "{}", json.dumps({"fingerprint": FINGERPRINT, "sizes": {}})])
def test_a_damaged_summary_vouches_for_nothing(files: ArrayFiles, summary: str) -> None:
    files.open_or_write(write_some)
    files.summary.write_text(summary)
    assert files.open() is None
    assert files.open_or_write(write_some).written


def test_a_set_is_opened_under_its_own_fingerprint_only(files: ArrayFiles) -> None:
    files.open_or_write(write_some)
    same_name = ArrayFiles(files.folder, "things", FINGERPRINT[:24] + "0" * 40)
    assert same_name.name == files.name
    assert same_name.open() is None


def test_the_checksum_of_a_large_file_covers_its_ends_and_pieces_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(array_files, "_SAMPLES", 4)
    monkeypatch.setattr(array_files, "_SAMPLE_BYTES", 10)
    path = tmp_path / "large"
    content = bytes(range(100))
    seen = []
    for place in range(100):
        path.write_bytes(content)
        before = array_files._describe(path)
        path.write_bytes(content[:place] + b"\xff" + content[place + 1 :])
        if array_files._describe(path) != before:
            seen.append(place)
    assert seen == [*range(10), *range(30, 40), *range(60, 70), *range(90, 100)]


def test_interrupted_writing_leaves_nothing_behind(files: ArrayFiles) -> None:
    def breaking(writer: ArrayWriter) -> None:
        writer.append("numbers", NUMBERS)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.open_or_write(breaking)
    assert list(files.folder.iterdir()) == []


def test_what_a_killed_process_left_is_not_opened_and_removed_a_day_later(files: ArrayFiles) -> None:
    program = (
        "import os, signal, sys, pathlib, numpy as np\n"
        "from potstill.data.array_files import ArrayFiles\n"
        "def write(writer):\n"
        "    writer.append('numbers', np.arange(5000, dtype=np.int32))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"ArrayFiles(pathlib.Path(sys.argv[1]), 'things', '{FINGERPRINT}').open_or_write(write)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(files.folder)], check=False, timeout=120)
    (left,) = files.folder.iterdir()
    assert files.open() is None
    assert files.open_or_write(write_some).written
    assert left.exists(), "a process that is still writing would own it"
    os.utime(left, (time.time() - 90_000,) * 2)
    files.summary.unlink()
    files.open_or_write(write_some)
    assert not left.exists()


@pytest.mark.parametrize("largest_file", [100, 10_000, 20_200])
def test_a_full_disk_is_told_and_leaves_nothing_behind(files: ArrayFiles, largest_file: int) -> None:
    with full_disk(largest_file), pytest.raises(StorageError, match=r"could not be written.*POTSTILL_CACHE"):
        files.open_or_write(lambda writer: writer.append("numbers", np.arange(5100, dtype=np.int32)))
    assert list(files.folder.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="could not be written"):
        ArrayFiles(tmp_path / "file" / "cache", "things", FINGERPRINT).open_or_write(write_some)


def test_sizes_are_said_in_megabytes() -> None:
    assert [megabytes(size) for size in (1234, 3_140_000, 12_345_678_900)] == ["0.0012 MB", "3.1 MB", "12,346 MB"]
