"""Rows of a parquet file, a bounded number at a time; pyarrow is needed for this and for nothing else here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from potstill.errors import DataError, UsageError
from potstill.runtime.row_reader import BadRow, Place, Row, readable
from potstill.runtime.row_records import require_different

ROWS_AT_ONCE, BYTES_AT_ONCE = 1000, 2**24
"""Rows that are unpacked at a time, at most, and about how many bytes they may have; of a longer row one at a time."""

_BUFFER = 2**20
"""Bytes of a column that are read from disk at a time; without a bound it would be a whole group of rows."""


def arrow() -> Any:
    """pyarrow with its parquet module; UsageError where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as missing:
        raise UsageError("parquet files need pyarrow", do="pip install 'potstill[parquet]'") from missing
    return pyarrow


class ParquetRows:
    """The rows of one parquet file; their place is their number."""

    def __init__(self, path: Path) -> None:
        """Open the file; DataError where it is no parquet file, or is packed a second time."""
        self._arrow = arrow()
        if path.suffix == ".gz":
            raise DataError(f"{path} cannot be read row by row", do="unpack it first: parquet is compressed by itself")
        try:
            with readable(str(path)):
                self._file = self._arrow.parquet.ParquetFile(path, buffer_size=_BUFFER)
        except self._arrow.ArrowException as broken:
            raise DataError(f"{path} is not a parquet file", found=str(broken).splitlines()[0]) from broken
        self._title = str(path)
        self.schema = self._file.schema_arrow
        self.columns: tuple[str, ...] | None = tuple(self.schema.names)
        require_different(self._title, self.schema.names)
        self.n_bytes: int | None = path.stat().st_size
        self._n_read = 0

    def rows(self, start: Place) -> Iterator[tuple[Row | BadRow, Place]]:
        """The rows behind ``start``, each with the place behind it; groups of rows before it are not read."""
        number, groups = self._first_group(start.rows)
        for batch in self._batches(groups):
            n_bytes = batch.nbytes // max(1, batch.num_rows)
            for row in _values(batch):
                number += 1
                self._n_read = number
                if number > start.rows:
                    found = BadRow(number, row) if isinstance(row, str) else Row(number, row, n_bytes)
                    yield found, Place(number, number)

    def share_read(self) -> float | None:
        """How much of the file was read, in [0, 1]."""
        return self._n_read / max(1, self._file.metadata.num_rows)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _first_group(self, n_rows: int) -> tuple[int, list[int]]:
        """How many rows lie before the group that holds the row behind ``n_rows``, and the groups from it on."""
        before, n_groups = 0, self._file.metadata.num_row_groups
        for group in range(n_groups):
            size = self._file.metadata.row_group(group).num_rows
            if before + size > n_rows:
                return before, list(range(group, n_groups))
            before += size
        return before, []

    def _batches(self, groups: list[int]) -> Iterator[Any]:
        """Each group by itself: its rows are cut in the same places wherever the reading began."""
        try:
            for group in groups:
                about = self._file.metadata.row_group(group)
                size = max(1, min(ROWS_AT_ONCE, BYTES_AT_ONCE * about.num_rows // max(1, about.total_byte_size)))
                with readable(self._title):
                    yield from self._file.iter_batches(batch_size=size, row_groups=[group])
        except self._arrow.ArrowException as broken:
            raise DataError(f"{self._title} cannot be read", found=str(broken).splitlines()[0]) from broken


def _values(batch: Any) -> Iterator[dict[str, Any] | str]:
    """Each row as its values by column, or why it has none."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError):
        for number in range(batch.num_rows):
            try:
                (row,) = batch.slice(number, 1).to_pylist()
            except UnicodeDecodeError as error:
                yield f"not UTF-8: byte 0x{error.object[error.start]:02x} at {error.start}"
            except (ValueError, OverflowError) as error:  # such as a date of the year 10,000
                yield f"a value that cannot be read: {error}"
            else:
                yield row
