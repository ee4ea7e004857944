"""Any source of rows, as a memory-mapped ``datasets.Dataset``: a hub name, a file, or a folder with one class each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.data.formats import SUFFIXES, Row, column_kinds, format_of, read_document, read_rows
from potstill.data.names import suggest
from potstill.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?(:[\w.-]+)?")
"""``owner/name`` or ``name``, with ``:config`` where the data set has several."""


def open_source(source: str | Path, *, split: str | None = None, streaming: bool = False) -> Dataset | IterableDataset:
    """The rows of ``source``, memory-mapped from the disk, or read as they are asked for with ``streaming``.

    ``source`` is a csv, tsv, jsonl, json, parquet or txt file (or its ``.gz``); a folder with one subfolder of ``.txt``
    files per class, or with one file or subfolder per split; or a hub name, ``owner/name`` or ``owner/name:config``.
    ``split`` chooses within a folder or a hub data set; a file has one split only and ignores it.
    ``unread_note`` tells which files of a folder were passed over.
    Columns of csv and tsv files are text; a line of a txt file is a row with the one column ``text``.
    The unpacked rows lie in the cache folder of ``datasets`` and are made anew when the file changes.
    Raises DataError for what is missing, empty, not UTF-8 or of no known format.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return _open_folder(path, split, streaming)
    if path.is_file():
        return _open_file(path, streaming)
    if _names_a_file(str(source)):
        raise _missing(path)
    return _open_hub(str(source), split, streaming)


def require_columns(dataset: Dataset | IterableDataset, columns: tuple[str, ...], source: str | Path) -> None:
    """Raise DataError naming the first of ``columns`` that ``dataset`` lacks, and the nearest that it has."""
    known = list(dataset.column_names or [])
    for column in columns:
        if known and column not in known:
            raise DataError(f"{source} has no column {column!r}", allowed=known, do=suggest(column, known))


def require_text(dataset: Dataset, columns: tuple[str, ...], source: str | Path) -> None:
    """Raise DataError for the first of ``columns`` that is absent or holds something other than text."""
    require_columns(dataset, columns, source)
    for column in columns:
        kind = getattr(dataset.features[column], "dtype", "list")
        if kind not in ("string", "large_string", "null"):
            raise DataError(f"{source}: column {column!r} is no text", found=str(kind), do="name a column of text")


def read_columns(dataset: Dataset, columns: Sequence[str]) -> dict[str, list[object]]:
    """The values of ``columns``, by name, in memory: for labels, which are small."""
    return {column: list(dataset[column]) for column in columns}


def _names_a_file(source: str) -> bool:
    suffix = Path(source.removesuffix(".gz")).suffix.lower()
    return suffix in SUFFIXES or HUB_NAME.fullmatch(source) is None


def _missing(path: Path) -> DataError:
    siblings = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
    where = None if path.parent.is_dir() else f"the folder {path.parent} does not exist either"
    return DataError(f"no such file: {path}", do=suggest(path.name, siblings, otherwise=where))


def _open_file(path: Path, streaming: bool) -> Dataset | IterableDataset:
    # Here and not at the top: importing datasets takes more than a second, which `potstill --help` must not pay.
    from datasets import Dataset

    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    kind = format_of(path)
    if streaming:
        return _streamed(partial(read_rows, str(path)))
    if kind == "parquet" and path.suffix != ".gz":
        with _plain_errors(path):
            dataset = Dataset.from_parquet(str(path))
    else:
        read, features = (read_rows, None) if kind not in ("json", "jsonl") else (_typed_rows, _json_features(path))
        dataset = _memory_mapped(read, {"path": str(path)}, features, [path], name=path)
    if len(dataset) == 0:
        raise DataError(f"{path} has no rows")
    return dataset


def _json_features(path: Path) -> Any:
    from datasets import Features, List, Value

    kinds = column_kinds(str(path))
    if not kinds:
        raise DataError(f"{path} has no rows")
    plain = {"json": "string"}
    return Features(
        {
            column: List(Value("string")) if kind == "list" else Value(plain.get(kind, kind))
            for column, kind in kinds.items()
        }
    )


def _typed_rows(path: str) -> Iterator[Row]:
    """Rows of a JSON file with nested values as JSON text: columns that no task uses must not stop one."""
    kinds = column_kinds(path)
    for row in read_rows(path):
        yield {
            column: json.dumps(row[column], ensure_ascii=False) if kind == "json" and column in row else row.get(column)
            for column, kind in kinds.items()
        }


def _memory_mapped(read: Any, arguments: Row, features: Any, files: list[Path], *, name: Path) -> Dataset:
    """The rows that ``read(**arguments)`` yields, written once to the cache of ``datasets`` and mapped from there.

    The size and time of ``files`` are part of the cache's key, so that a changed file is read again.
    """
    from datasets import Dataset

    with _plain_errors(name):
        return Dataset.from_generator(
            _generate,
            features=features,
            gen_kwargs={"read": read, "arguments": arguments, "title": str(name), "state": state_of_files(files)},
        )


def _generate(read: Any, arguments: Row, title: str, state: tuple[Any, ...]) -> Iterator[Row]:
    rows = iter(read(**arguments))
    first = next(rows, None)
    if first is None:
        raise DataError(f"{title} has no rows")
    yield first
    yield from rows


def _streamed(read: Any) -> IterableDataset:
    from datasets import IterableDataset

    return IterableDataset.from_generator(read)


@contextmanager
def _plain_errors(source: Path | str) -> Iterator[None]:
    """Turns what ``datasets`` raises into one DataError, and keeps its progress bars off the user's screen."""
    import datasets
    from datasets.exceptions import DatasetGenerationError

    were_disabled = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    except DatasetGenerationError as error:
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, DataError):
            cause = cause.__cause__
        if isinstance(cause, DataError):
            raise cause from None
        raise DataError(f"{source} cannot be read", found=_first_line(cause)) from error
    except ValueError as error:
        # What datasets raises for a configuration or a split that does not exist.
        raise DataError(f"{source} cannot be read", found=_first_line(error)) from error
    finally:
        if not were_disabled:
            datasets.enable_progress_bars()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _open_folder(folder: Path, split: str | None, streaming: bool) -> Dataset | IterableDataset:
    found, documents = data_in(folder), _documents_in(folder)
    if split in found:
        place = only_one(found[split], f"the split {split} of {folder}")
        return _open_folder(place, None, streaming) if place.is_dir() else _open_file(place, streaming)
    if any(documents.values()) and split in (None, "train"):
        return _open_classes(folder, documents, streaming)
    files = _data_files(found)
    if split is None and len(files) == 1:
        return _open_file(files[0], streaming)
    raise DataError(
        f"the folder {folder} has no split {split!r}" if split else f"the folder {folder} does not say what to read",
        found=", ".join(place.name for places in found.values() for place in places) or "an empty folder",
        allowed="one subfolder of .txt files per class, or one file or subfolder per split",
    )


def data_in(folder: Path) -> dict[str, list[Path]]:
    """What may hold rows in ``folder``: files of a known format and subfolders, by name without suffix; none hidden."""
    found: dict[str, list[Path]] = {}
    for item in sorted(folder.iterdir()):
        if not item.name.startswith(".") and (item.is_dir() or _is_data(item)):
            found.setdefault(item.name if item.is_dir() else item.name.split(".")[0], []).append(item)
    return found


def only_one(places: Sequence[Path], what: str) -> Path:
    """The one of ``places``; DataError where there are several, of which none may be passed over."""
    if len(places) > 1:
        raise DataError(
            f"{what} is there twice", found=", ".join(place.name for place in places), do="move all but one away"
        )
    return places[0]


def unread_note(source: str | Path) -> list[str]:
    """The files of a folder that ``open_source`` does not read (no ``.txt`` of a class, beside the data), in words.

    Nothing where it reads all, and for a file or a name on the hub.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return []
    documents = [file for files in _documents_in(folder).values() for file in files]
    return passed_over(folder, documents or _data_files(data_in(folder)))


def passed_over(folder: Path, read: Sequence[Path]) -> list[str]:
    """The files below ``folder``, none hidden, that are neither in ``read`` nor below one of it: counted, in words."""
    taken = set(read)
    rest = [file for file in sorted(folder.rglob("*")) if file.is_file() and taken.isdisjoint((file, *file.parents))]
    names = [file.relative_to(folder) for file in rest]
    shown = [name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts)]
    if not shown:
        return []
    return [f"{len(shown):,} of the files in {folder.name} passed over, such as {shown[0]}"]


def _data_files(found: dict[str, list[Path]]) -> list[Path]:
    return [place for places in found.values() for place in places if place.is_file()]


def _documents_in(folder: Path) -> dict[str, list[Path]]:
    """The ``.txt`` files of each subfolder, by its name."""
    classes = [item for item in sorted(folder.iterdir()) if item.is_dir() and not item.name.startswith(".")]
    return {item.name: sorted({*item.glob("*.txt"), *item.glob("*.txt.gz")}) for item in classes}


def _is_data(path: Path) -> bool:
    return Path(path.name.removesuffix(".gz")).suffix.lower() in SUFFIXES


def _open_classes(folder: Path, documents: dict[str, list[Path]], streaming: bool) -> Dataset | IterableDataset:
    empty = [name for name, files in documents.items() if not files]
    if empty:
        raise DataError(f"a class folder below {folder} holds no .txt file", found=", ".join(empty), do="remove it")
    labelled = [(str(file), name) for name, files in documents.items() for file in files]
    if streaming:
        return _streamed(partial(_read_classes, labelled))
    files = [Path(file) for file, _ in labelled]
    return _memory_mapped(_read_classes, {"labelled": labelled}, None, files, name=folder)


def _read_classes(labelled: list[tuple[str, str]]) -> Iterator[Row]:
    for file, label in labelled:
        yield {"text": read_document(Path(file)), "label": label}


def state_of(source: str | Path) -> tuple[object, ...]:
    """What tells the present content of ``source`` from another without reading it; DataError where the hub is silent.

    The state of its files, those of subfolders included; of a name on the hub the commit that it is at.
    """
    path = Path(source).expanduser()
    if path.exists():
        return state_of_files([path])
    import datasets

    name, _, config = str(source).partition(":")
    with _hub_errors(str(source)):
        return (datasets.load_dataset_builder(name, config or None).hash,)


def state_of_files(paths: Iterable[Path]) -> tuple[tuple[str, int, int], ...]:
    """Place, bytes and time (nanoseconds) of every file of ``paths`` and below the folders among them, in order."""
    files = sorted({file.resolve() for path in paths for file in (path, *path.rglob("*")) if file.is_file()})
    return tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def _open_hub(source: str, split: str | None, streaming: bool) -> Dataset | IterableDataset:
    import datasets

    name, _, config = source.partition(":")
    with _hub_errors(source):
        found = datasets.load_dataset(name, config or None, split=split, streaming=streaming)
    if not isinstance(found, dict):
        return found
    if len(found) > 1:
        raise DataError(f"{source!r} has several splits", allowed=sorted(map(str, found)), do="name one")
    return next(iter(found.values()))


@contextmanager
def _hub_errors(source: str) -> Iterator[None]:
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    try:
        with _plain_errors(source):
            yield
    except (DatasetsError, OSError, HfHubHTTPError) as error:
        raise DataError(
            f"{source!r} is neither a file here nor a data set that the hub gives",
            found=_first_line(error),
            do="check the name and the network, or give local copies with --data-dir",
        ) from error
