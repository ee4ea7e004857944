"""Sets of arrays on disk that vouch for themselves: written piece by piece, opened memory-mapped; no tokenizer."""

from __future__ import annotations

import contextlib
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from potstill.data.cache import read_json
from potstill.errors import StorageError

_PARTIAL = ".partial-"
_ABANDONED_S = 24 * 3600.0
"""Half-written files that nothing was added to for so long are what a killed process left."""

_SAMPLES, _SAMPLE_BYTES = 64, 1 << 20
"""A file's checksum is taken over so many pieces of it, the first and the last among them: all of a file up to 64 MiB.

Opening a set therefore takes a fraction of a second, however large it is.
"""


@dataclass(frozen=True)
class ArraySet:
    """A set as opened: its arrays by name, memory-mapped, what its writer noted, and its size on disk.

    name: what its files begin with. written: whether this very call wrote it, and did not find it.
    """

    arrays: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]
    n_bytes: int
    name: str
    written: bool = False

    @property
    def kept(self) -> str:
        """Where in the cache folder the set is and how large, in words without a path."""
        return f"kept in the cache folder as {self.name}, {megabytes(self.n_bytes)}"


class ArrayWriter:
    """Takes arrays piece by piece; ``facts`` are kept beside them, and have to fit into JSON."""

    def __init__(self, path_of: Callable[[str], Path]) -> None:
        self._path_of = path_of
        self._files: dict[str, BinaryIO] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._dtypes: dict[str, np.dtype[Any]] = {}
        self.facts: dict[str, Any] = {}

    @property
    def parts(self) -> tuple[str, ...]:
        """The arrays that were begun."""
        return tuple(self._files)

    def append(self, part: str, piece: np.ndarray) -> None:
        """Add ``piece`` to the array ``part`` along its first axis; the other axes and the type are the first piece's.

        An empty first piece makes an array that may stay empty. Raises StorageError when the disk does not take it.
        """
        if part not in self._files:
            self._shapes[part], self._dtypes[part] = (0, *piece.shape[1:]), piece.dtype
            with _disk_errors(self._path_of(part)):
                self._files[part] = self._path_of(part).open("wb")
                self._write_header(part)
        length, *rest = self._shapes[part]
        if list(piece.shape[1:]) != rest or piece.dtype != self._dtypes[part]:
            raise ValueError(f"{part}: {piece.dtype} {piece.shape} does not go on with {self._shapes[part]}")
        with _disk_errors(self._path_of(part)):
            self._files[part].write(piece.tobytes())
        self._shapes[part] = (length + len(piece), *rest)

    def complete(self) -> None:
        """State the lengths that were reached, and see everything onto the disk."""
        for part, file in self._files.items():
            with _disk_errors(self._path_of(part)):
                file.seek(0)
                self._write_header(part)
                file.flush()
                os.fsync(file.fileno())

    def abandon(self) -> None:
        """Close and remove what is still under its partial name; nothing after a set was completed."""
        for part, file in self._files.items():
            with contextlib.suppress(OSError):  # closing writes what is left, on a disk that may be full
                file.close()
            self._path_of(part).unlink(missing_ok=True)

    def _write_header(self, part: str) -> None:
        """The .npy header; its size does not depend on the length, as numpy leaves room for growth."""
        described = {"descr": self._dtypes[part].str, "fortran_order": False, "shape": self._shapes[part]}
        np.lib.format.write_array_header_1_0(self._files[part], described)


class ArrayFiles:
    """The files of one set: an .npy for each array, and a .json that vouches for them.

    They are called ``<kind>-<fingerprint>…``, and the fingerprint stands for everything that decides their content. The
    .json takes its name last, so a set whose writing was interrupted is not there at all. It states the size and a
    checksum of every file: a set that is not what it says is not there either.
    """

    def __init__(self, folder: Path, kind: str, fingerprint: str) -> None:
        self.folder, self.kind, self.fingerprint = folder, kind, fingerprint
        self.name = f"{kind}-{fingerprint[:24]}"
        self.summary = folder / f"{self.name}.json"

    def open(self) -> ArraySet | None:
        """The set, or None where it is absent, unfinished, of another fingerprint or damaged."""
        summary = read_json(self.summary)
        described = summary.get("files")
        if summary.get("fingerprint") != self.fingerprint or not isinstance(described, dict):
            return None
        try:
            if described != {part: _describe(self._path(part)) for part in described}:
                return None
            arrays = {part: np.load(self._path(part), mmap_mode="r", allow_pickle=False) for part in described}
        except (OSError, ValueError):
            return None
        n_bytes = self.summary.stat().st_size + sum(file["bytes"] for file in described.values())
        return ArraySet(arrays, summary["facts"], n_bytes, self.name)

    def open_or_write(self, write: Callable[[ArrayWriter], None]) -> ArraySet:
        """The set as found, or else as ``write`` gives it piece by piece; after a failure nothing is left behind.

        Raises StorageError when the disk does not take the files or gives back others.
        """
        found = self.open()
        if found is not None:
            return found
        with self._writing() as writer:
            write(writer)
        written = self.open()
        if written is None:
            raise StorageError(f"{self.name}, just written to {self.folder}, cannot be read back", do="check the disk")
        return ArraySet(written.arrays, written.facts, written.n_bytes, self.name, written=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[ArrayWriter]:
        with _disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(self.folder, self.kind)
        writer = ArrayWriter(lambda part: _partial(self._path(part)))
        try:
            yield writer
            writer.complete()
            with _disk_errors(self.folder):
                self._publish(writer)
        finally:
            writer.abandon()
            _partial(self.summary).unlink(missing_ok=True)

    def _publish(self, writer: ArrayWriter) -> None:
        """Give every file its name, the .json last."""
        described = {part: _describe(_partial(self._path(part))) for part in writer.parts}
        summary = {"fingerprint": self.fingerprint, "files": described, "facts": writer.facts}
        _partial(self.summary).write_text(json.dumps(summary), encoding="utf-8")
        for path in (*map(self._path, writer.parts), self.summary):
            _partial(path).replace(path)

    def _path(self, part: str) -> Path:
        return self.folder / f"{self.name}.{part}.npy"


def megabytes(n_bytes: float) -> str:
    """A size in words: 0.02 MB, 3.1 MB, 12,345 MB."""
    size = n_bytes / 1e6
    return f"{size:,.0f} MB" if size >= 100 else f"{size:.2g} MB"


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}{_PARTIAL}{os.getpid()}")


def _remove_abandoned(folder: Path, kind: str) -> None:
    for path in folder.glob(f"{kind}-*{_PARTIAL}*"):
        with contextlib.suppress(FileNotFoundError):  # another process swept, or finished
            if time.time() - path.stat().st_mtime > _ABANDONED_S:
                path.unlink()


def _describe(path: Path) -> dict[str, int]:
    """What the .json says of a file: its size, and a checksum over pieces spread evenly from its start to its end."""
    size = path.stat().st_size
    last = max(0, size - _SAMPLE_BYTES)
    n_samples = min(_SAMPLES, -(-size // _SAMPLE_BYTES))
    checksum = 0
    with path.open("rb") as file:
        for sample in range(n_samples):
            file.seek(last * sample // max(1, n_samples - 1))
            checksum = zlib.crc32(file.read(_SAMPLE_BYTES), checksum)
    return {"bytes": size, "crc32": checksum}


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path} could not be written: {error.strerror or error}",
            do="free some space, or name another folder in POTSTILL_CACHE",
        ) from error
