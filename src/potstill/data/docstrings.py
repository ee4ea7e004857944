"""The built-in corpus and task: English prose from the docstrings of the packages installed with potstill.

Nothing is downloaded and no text is shipped. The packages' source is parsed, never imported. The same versions give the
same paragraphs in the same order.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import json
import logging
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from potstill.data.cache import cache_folder
from potstill.data.prose import paragraphs
from potstill.errors import DataError

logger = logging.getLogger(__name__)

LIBRARIES = {
    "accelerate": "accelerate",
    "datasets": "datasets",
    "fsspec": "fsspec",
    "huggingface_hub": "huggingface_hub",
    "jinja2": "Jinja2",
    "matplotlib": "matplotlib",
    "networkx": "networkx",
    "numpy": "numpy",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "pydantic": "pydantic",
    "rich": "rich",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "sympy": "sympy",
    "tensorboard": "tensorboard",
    "tokenizers": "tokenizers",
    "torch": "torch",
    "transformers": "transformers",
    "typer": "typer",
}
"""The packages that come with potstill, its dependencies and theirs: import name to distribution name."""

MASKED = "library"
"""What stands in the built-in task where a library was named."""

_EXTRACTION = 2
"""Counts up when the rules of extraction change, so that caches made by older rules are not read."""

_SKIPPED_FOLDERS = frozenset(
    {"tests", "test", "testing", "_vendor", "_vendored", "vendored", "vendor", "externals", "extern", "__pycache__"}
)

TASK_WORDS = 12
"""Words that a paragraph must hold to be a row of the built-in task; below that even a reader could not tell."""

_STEMS = (
    "torch|sklearn|scikit|scipy|numpy|pandas|matplotlib|pyplot|pylab|networkx|sympy|pyarrow|pydantic|fsspec|tensorboard"
    "|jinja|hugging|safetensors|transformers|tokenizers|datasets|accelerate"
)
_NAMED_INSIDE = re.compile(rf"[\w.]*(?:{_STEMS})(?:[ _-]?face)?(?:[-_]learn|[-_ ]hub)?\w*", re.IGNORECASE)
_NAMED_WHOLE = re.compile(r"\b(?:(?:np|pd|plt|mpl|nx|pa)(?=\.\w)|HF|Hub|hub|Typer|typer|Rich|rich|Arrow)\b")


_SKIPPED_FILES = ("test_", "conftest", "modular_")
"""Tests, and the templates of transformers, whose text stands again in the files made from them."""


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of prose and its source: the import name of the library that it documents."""

    text: str
    source: str


def versions_key() -> str:
    """A hash of the installed libraries' versions and of the rules of extraction: equal keys, equal corpora."""
    return _key(_installed(None))


def read_paragraphs(libraries: Sequence[str] | None = None, cache_dir: str | Path | None = None) -> list[Paragraph]:
    """The paragraphs of the installed libraries' docstrings, each text once, in the order of libraries and files.

    libraries: import names; None for all that come with potstill. Kept in the cache folder under the libraries'
    versions; the first reading takes about a minute. Raises DataError for a library that is not installed.
    """
    versions = _installed(libraries)
    path = cache_folder(cache_dir) / f"docstrings-{_key(versions)[:24]}.jsonl"
    cached = _read_cache(path)
    if cached is not None:
        return cached
    with _collector_paused():
        found = list(_distinct(versions))
    if not found:
        raise DataError("no prose was found in the docstrings of the libraries", found=", ".join(versions))
    _write_cache(path, found)
    return found


def docstring_task_rows(limit_per_library: int = 1500, seed: int = 0) -> tuple[list[str], list[str]]:
    """The built-in task, which library a paragraph documents: the texts and their libraries' import names.

    Libraries' names and the usual abbreviations of them are replaced by "library", texts that are then equal are
    taken once, and of each library at most ``limit_per_library`` are drawn; a library with less than a third of that
    is left out, as is a text of fewer than 12 words. Shuffled by ``seed``.
    """
    by_library: dict[str, list[str]] = {}
    seen: set[str] = set()
    for paragraph in read_paragraphs():
        text = mask_names(paragraph.text)
        if text not in seen and len(text.split()) >= TASK_WORDS:
            seen.add(text)
            by_library.setdefault(paragraph.source, []).append(text)
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, str]] = []
    for library, texts in sorted(by_library.items()):
        if 3 * len(texts) >= limit_per_library:
            chosen = rng.permutation(len(texts))[:limit_per_library]
            rows += [(texts[i], library) for i in np.sort(chosen)]
    rows = [rows[i] for i in rng.permutation(len(rows))]
    return [text for text, _ in rows], [library for _, library in rows]


def mask_names(text: str) -> str:
    """The text with every library's names and aliases, and words made from them, replaced by "library"."""
    lowered = text.lower()
    if any(stem in lowered for stem in _STEMS.split("|")):  # the pattern alone would take ten times as long
        text = _NAMED_INSIDE.sub(MASKED, text)
    return _NAMED_WHOLE.sub(MASKED, text)


def _installed(libraries: Sequence[str] | None) -> dict[str, str]:
    """Version by import name, sorted; of the libraries that come with potstill those absent are passed over."""
    versions: dict[str, str] = {}
    for name in sorted(LIBRARIES if libraries is None else set(libraries)):
        try:
            versions[name] = version(LIBRARIES.get(name, name))
        except PackageNotFoundError as error:
            if libraries is not None:
                raise DataError("the library is not installed", found=name, allowed=sorted(LIBRARIES)) from error
    return versions


def _key(versions: dict[str, str]) -> str:
    lines = [f"extraction {_EXTRACTION}", *(f"{name} {number}" for name, number in versions.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Syntax trees hold no circles, and looking for some in each of thousands doubles the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _distinct(libraries: Iterable[str]) -> Iterator[Paragraph]:
    """Each paragraph once, letter case and punctuation disregarded, under the first library that has it."""
    seen: set[str] = set()
    whole: set[str] = set()
    counts: Counter[str] = Counter()
    for library in libraries:
        for docstring in _docstrings(library, counts):
            if docstring in whole:
                continue
            whole.add(docstring)
            for text in paragraphs(docstring):
                identity = re.sub(r"\W+", " ", text).casefold()
                if identity in seen:
                    counts["duplicates"] += 1
                    continue
                seen.add(identity)
                yield Paragraph(text, library)
    logger.info("docstrings: %s", ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items())))


def _docstrings(library: str, counts: Counter[str]) -> Iterator[str]:
    """The strings standing alone in the source of a library, files in sorted order; unparsable files are counted."""
    for path in _source_files(library):
        source = path.read_bytes()
        if b'"""' not in source and b"'''" not in source:
            continue
        try:
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError):
            counts["files that do not parse"] += 1
            continue
        counts["files"] += 1
        yield from _standing_strings(tree)


def _source_files(library: str) -> Iterator[Path]:
    spec = find_spec(library)
    for root in sorted(spec.submodule_search_locations or ()) if spec is not None else ():
        for path in sorted(Path(root).rglob("*.py")):
            if _SKIPPED_FOLDERS.isdisjoint(path.relative_to(root).parts) and not path.name.startswith(_SKIPPED_FILES):
                yield path


def _standing_strings(tree: ast.Module) -> Iterator[str]:
    """Docstrings of modules, classes and functions, and the strings under attributes, in the order of the source."""
    pending: list[ast.stmt] = tree.body[::-1]
    while pending:
        statement = pending.pop()
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            if isinstance(statement.value.value, str):
                yield statement.value.value
        elif isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            pending += statement.body[::-1]


def _read_cache(path: Path) -> list[Paragraph] | None:
    """The paragraphs in a cache, or None where it is absent, cut short or damaged."""
    try:
        header, *lines = path.read_text(encoding="utf-8").splitlines()
        if json.loads(header) != _header(lines):
            return None
        return [Paragraph(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError):
        return None


def _write_cache(path: Path, found: list[Paragraph]) -> None:
    """Keep the paragraphs for the next time; a disk that does not take them costs time, not the work."""
    lines = [json.dumps({"text": p.text, "source": p.source}, ensure_ascii=False) for p in found]
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text("\n".join([json.dumps(_header(lines)), *lines, ""]), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        logger.warning("the built-in corpus could not be kept in %s and will be read again: %s", path.parent, error)
        with suppress(OSError):
            partial.unlink()


def _header(lines: list[str]) -> dict[str, object]:
    return {"paragraphs": len(lines), "sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest()}
