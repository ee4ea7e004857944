"""A file that grows piece by piece, and a journal of how far it is: after a kill it goes on behind the last piece.

Beside ``rows.csv`` lies ``rows.csv.unfinished/`` with what was written so far and ``journal.json``; when all is there
the file takes its name and the folder goes. No row is written twice and none is lost: what was written behind the last
entry of the journal is cut off.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from potstill.errors import StorageError, UsageError
from potstill.lock import take_lock
from potstill.runs import read_json, storage_errors, write_json

BAD_SUFFIX = ".bad.jsonl"
_JOURNAL, _ROWS, _BAD, _LOCK = "journal.json", "rows", "bad", "lock"
_READ_AT_ONCE = 2**20


@dataclass(frozen=True)
class Counts:
    """Rows: read, of those predicted, of those cut to the maximum length, and bad."""

    read: int = 0
    predicted: int = 0
    truncated: int = 0
    bad: int = 0

    def plus(self, *, predicted: int, truncated: int, bad: int) -> Counts:
        """With more rows."""
        return Counts(
            self.read + predicted + bad, self.predicted + predicted, self.truncated + truncated, self.bad + bad
        )


@dataclass(frozen=True)
class State:
    """How far the work is: the number of the input file, and the place in it (offset and rows) behind what was written.

    rows_bytes, bad_bytes: how much was written; rows_crc, bad_crc: its CRC-32. whole: nothing is missing but the names.
    """

    file: int = 0
    offset: int = 0
    rows: int = 0
    counts: Counts = field(default_factory=Counts)
    rows_bytes: int = 0
    bad_bytes: int = 0
    rows_crc: int = 0
    bad_crc: int = 0
    whole: bool = False


class UnfinishedFile:
    """The file ``out`` on its way; ``state`` is that of the last commit, ``resumed`` whether there was one."""

    def __init__(self, out: Path, work: str) -> None:
        """Begin, or go on where the same ``work`` (a fingerprint) was stopped.

        Raises UsageError where ``out`` is there already or another work is unfinished beside it, RunFolderError while
        another process is at it.
        """
        self.out, self.folder = out, out.with_name(f"{out.name}.unfinished")
        self.bad_out = out.with_name(out.name + BAD_SUFFIX)
        self._work = work
        self._checked()
        with storage_errors(out):
            self._lock = take_lock(self.folder / _LOCK, out)
        try:
            found = self._checked()  # as another process may have left it until now
        except BaseException:
            self._lock.close()
            raise
        self.resumed = found is not None
        self.state = found or State()
        self._files: list[IO[bytes]] = []

    def _checked(self) -> State | None:
        """What was found, where nothing forbids going on."""
        found = self._found()
        if found is None or not found.whole:
            self._require_free()
        return found

    def _found(self) -> State | None:
        """What the journal says of this work; None where there is none."""
        try:
            content = read_json(self.folder / _JOURNAL)
            if content is None:
                return None
            if content["work"] != self._work:
                raise self._other("of another bundle, other files or other options")
            return _state(content["state"])
        except (KeyError, TypeError, ValueError) as broken:
            raise self._other(f"and its journal is damaged ({broken})") from broken

    def _other(self, what: str) -> UsageError:
        return UsageError(f"{self.folder} holds unfinished work, {what}", do="remove that folder, or choose another -o")

    def _require_free(self) -> None:
        for file in (self.out, self.bad_out):
            if file.exists():
                raise UsageError(f"{file} is there already", do="choose another -o, or move that file away")
        if self.folder.exists() and not (self.folder / _LOCK).is_file() and any(self.folder.iterdir()):
            raise UsageError(f"{self.folder} was not made by potstill", do="choose another -o")

    def write_begin(self, begin: bytes) -> None:
        """Open the files, cut off what was written behind the last commit, and write ``begin`` where there was none.

        Raises StorageError where what was written before is not there, or is not what was written.
        """
        state = self.state
        with storage_errors(self.out):
            self._files = [_opened(self.folder / _ROWS), _opened(self.folder / _BAD)]
            _cut(self._files[0], state.rows_bytes, state.rows_crc)
            _cut(self._files[1], state.bad_bytes, state.bad_crc)
        if not self.resumed:
            self.commit(begin, b"", self.state)

    def commit(self, rows: bytes, bad: bytes, state: State) -> None:
        """Write more, and then that it was written; ``state`` says how far that is, its sizes are filled in here."""
        before = self.state
        with storage_errors(self.out):
            for file, content in zip(self._files, (rows, bad), strict=True):
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            self._enter(
                replace(
                    state,
                    rows_bytes=before.rows_bytes + len(rows),
                    bad_bytes=before.bad_bytes + len(bad),
                    rows_crc=zlib.crc32(rows, before.rows_crc),
                    bad_crc=zlib.crc32(bad, before.bad_crc),
                )
            )

    def finish(self, assemble: Callable[[Path, Path], None]) -> None:
        """Give the file its name, and that of the bad rows where there are any; after a kill this can be done again.

        ``assemble(written, target)`` makes the file of what was written.
        """
        self._close()
        self._enter(replace(self.state, whole=True))
        rows, bad = self.folder / _ROWS, self.folder / _BAD
        with storage_errors(self.out):
            if bad.exists() and self.state.bad_bytes:
                bad.replace(self.bad_out)
            if rows.exists():
                assemble(rows, self.out)
            shutil.rmtree(self.folder)
        self._lock.close()

    def close(self) -> None:
        """Leave it as it is; it can go on later."""
        self._close()
        self._lock.close()

    def _enter(self, state: State) -> None:
        write_json(self.folder / _JOURNAL, {"work": self._work, "state": asdict(state)})
        self.state = state

    def _close(self) -> None:
        while self._files:
            with contextlib.suppress(OSError):  # what a full disk did not take is not entered in the journal either
                self._files.pop().close()


def _state(content: dict[str, Any]) -> State:
    return State(**{**content, "counts": Counts(**content["counts"])})


def _opened(file: Path) -> IO[bytes]:
    file.touch()
    return file.open("r+b")


def _cut(file: IO[bytes], size: int, crc: int) -> None:
    """Leave the first ``size`` bytes, whose CRC-32 has to be ``crc``, and go behind them."""
    start_again = "remove the unfinished folder and start again"
    if file.seek(0, os.SEEK_END) < size:
        raise StorageError(f"{file.name} is shorter than its journal says", do=start_again)
    file.truncate(size)
    file.seek(0)
    found = 0
    while part := file.read(_READ_AT_ONCE):
        found = zlib.crc32(part, found)
    if found != crc:
        raise StorageError(f"{file.name} was changed since it was written", do=start_again)
