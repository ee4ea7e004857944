"""The bundle folder: what deployment needs and nothing else. Described by ``bundle.json``, checked whole at opening.

It holds the graph (``model.onnx``), ``tokenizer.json`` and ``bundle.json``, in which stand the labels, the decisions,
how texts are read, the figures it was let out with, and the SHA-256 of every other file. Opening takes no torch.
"""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from potstill.data.catalogue import are_pairs
from potstill.data.cleaning import check_steps
from potstill.data.windows import Windows
from potstill.decisions import Decisions, sha256_of
from potstill.errors import BundleError, DataError, RecipeError
from potstill.records import PROBLEM_TYPES, ProblemType, is_unicode
from potstill.runs import write_json

FILE = "bundle.json"
FORMAT = 1
"""The form of ``bundle.json`` that this version writes, and the newest that it reads."""

MODEL, TOKENIZER = "model.onnx", "tokenizer.json"
GRAPH_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""What a graph may take: each ``(n, length)`` int64."""

LARGEST_DESCRIPTION = 16 * 2**20
"""Bytes of a ``bundle.json`` at most: room for tens of thousands of labels, and little to read of what is none."""

_BROKEN = (AttributeError, KeyError, OverflowError, TypeError, ValueError, DataError, RecipeError)
"""What reading entries of the wrong kind raises."""
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Reading:
    """How a row becomes what the model reads.

    columns: the text columns it was trained on. join: two of them are a ``pair`` of texts, or one text joined by
    ``[SEP]`` (``sep``). cleaning: steps of ``data.cleaning`` that each text went through before training.
    max_length: in tokens, special tokens included. windows: how longer texts are read; None where they are cut.
    """

    columns: tuple[str, ...]
    join: str
    cleaning: tuple[str, ...]
    max_length: int
    windows: Windows | None

    @property
    def takes_pairs(self) -> bool:
        """Whether one input is two texts."""
        return are_pairs(self.columns, self.join)


@dataclass(frozen=True)
class Graph:
    """The model: its file, the arithmetic it is in, its inputs by name, its output, and its opset.

    left_in_float32: parts of a graph in int8 that are not, because the gate let it pass with them only.
    """

    file: str
    arithmetic: str
    inputs: tuple[str, ...]
    output: str
    opset: int
    left_in_float32: tuple[str, ...] = ()


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary that was cut down to ``kept`` of ``of`` pieces: what they cannot spell is the unknown token."""

    kept: int
    of: int


@dataclass(frozen=True)
class Bundle:
    """What ``bundle.json`` says.

    name: of the task. special_tokens: spelling by role (cls, sep, pad, mask, unk). gate: the figures it was let out
    with, on held-out rows; forced: it was let out although they were outside the tolerance. origin: fingerprints of run
    and data. files: SHA-256 of every file but this one. made_by: the version of potstill. vocabulary: how much of it is
    left, None where all is.
    """

    name: str
    problem_type: ProblemType
    label_names: tuple[str, ...]
    reading: Reading
    graph: Graph
    special_tokens: Mapping[str, str]
    pad_id: int
    decisions: Decisions | None
    gate: Mapping[str, Any]
    forced: bool
    origin: Mapping[str, Any]
    files: Mapping[str, str]
    made_by: str
    vocabulary: Vocabulary | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, in the form that ``bundle.json`` has."""
        windows = self.reading.windows
        return {
            "format": FORMAT,
            "potstill": self.made_by,
            "name": self.name,
            "problem_type": self.problem_type,
            "label_names": list(self.label_names),
            "text": {
                "columns": list(self.reading.columns),
                "join": self.reading.join,
                "cleaning": list(self.reading.cleaning),
                "max_length": self.reading.max_length,
                "windows": None if windows is None else {"overlap": windows.overlap, "pooling": windows.pooling},
            },
            "graph": {
                "file": self.graph.file,
                "arithmetic": self.graph.arithmetic,
                "inputs": list(self.graph.inputs),
                "output": self.graph.output,
                "opset": self.graph.opset,
                "left_in_float32": list(self.graph.left_in_float32),
            },
            "vocabulary": None if self.vocabulary is None else asdict(self.vocabulary),
            "special_tokens": dict(self.special_tokens),
            "pad_id": self.pad_id,
            "decisions": None if self.decisions is None else self.decisions.to_dict(),
            "gate": dict(self.gate),
            "forced": self.forced,
            "origin": dict(self.origin),
            "files": dict(self.files),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Bundle:
        """What ``to_dict`` gave; one of ``_BROKEN`` for anything else."""
        bundle = cls(
            name=_word(content["name"]),
            problem_type=content["problem_type"],
            label_names=_names(content["label_names"]),
            reading=_reading(content["text"]),
            graph=_graph(content["graph"]),
            special_tokens={role: _word(token) for role, token in content["special_tokens"].items()},
            pad_id=_whole(content["pad_id"], 0, "pad_id"),
            decisions=None if content["decisions"] is None else Decisions.from_dict(content["decisions"]),
            gate=dict(content["gate"]),
            forced=_flag(content["forced"], "forced"),
            origin=dict(content["origin"]),
            files={name: str(digest) for name, digest in content["files"].items()},
            made_by=_word(content["potstill"]),
            vocabulary=None if content["vocabulary"] is None else _vocabulary(content["vocabulary"]),
        )
        bundle._check()
        return bundle

    def _check(self) -> None:
        if self.problem_type not in PROBLEM_TYPES:
            raise ValueError(f"problem_type is none of {', '.join(PROBLEM_TYPES)}")
        n_labels, least = len(self.label_names), 1 if self.problem_type != "single_label_classification" else 2
        if n_labels < least or len(set(self.label_names)) != n_labels:
            raise ValueError(f"{n_labels} label names, all of them different and {least} or more are needed")
        if self.problem_type == "regression" and n_labels != 1:
            raise ValueError(f"a regression with {n_labels} label names")
        decided = self.decisions
        if decided and (decided.label_names, decided.problem_type) != (self.label_names, self.problem_type):
            raise ValueError("its decisions are those of other labels")
        temperature = 1.0 if decided is None else decided.temperature
        if not (0 < temperature < math.inf if self.problem_type != "regression" else temperature == 1):
            raise ValueError(f"a temperature of {temperature}")
        if not self.forced and self.gate.get("passed") is not True:
            raise ValueError("it was neither let out by the gate nor forced")
        unlisted = {self.graph.file, TOKENIZER} - set(self.files)
        if unlisted:
            raise ValueError(f"files lacks {', '.join(sorted(unlisted))}")


def _names(content: Any) -> tuple[str, ...]:
    if not isinstance(content, list):
        raise TypeError("a list of names is needed")
    return tuple(_word(name) for name in content)


def _word(content: Any) -> str:
    if not isinstance(content, str) or not is_unicode(content):
        raise TypeError(f"{content!r:.80} is no text")
    return content


def _flag(content: Any, entry: str) -> bool:
    if not isinstance(content, bool):
        raise TypeError(f"{entry} is neither true nor false")
    return content


def _whole(content: Any, least: int, entry: str) -> int:
    """A whole number from ``least`` to the most that 32 bits hold."""
    if not isinstance(content, int) or isinstance(content, bool) or not least <= content < 2**31:
        raise ValueError(f"{entry} is no whole number of {least} or more: {content!r:.80}")
    return content


def _vocabulary(content: Mapping[str, Any]) -> Vocabulary:
    of = _whole(content["of"], 1, "of")
    kept = _whole(content["kept"], 1, "kept")
    if kept > of:
        raise ValueError(f"a vocabulary of {kept} pieces kept of {of}")
    return Vocabulary(kept, of)


def _reading(content: Mapping[str, Any]) -> Reading:
    windows, columns = content["windows"], _names(content["columns"])
    if content["join"] not in ("pair", "sep") or not 1 <= len(columns) <= 2:
        raise ValueError("text has one column, or two with join pair or sep")
    max_length = _whole(content["max_length"], 4, "max_length")
    cleaning = _names(content["cleaning"])
    check_steps(cleaning)
    if windows is not None:
        overlap = _whole(windows["overlap"], 0, "overlap")
        if windows["pooling"] not in ("mean", "max") or overlap >= max_length:
            raise ValueError("windows overlap by less than max_length and are pooled by mean or max")
        windows = Windows(overlap, windows["pooling"])
    reading = Reading(columns, content["join"], cleaning, max_length, windows)
    if windows is not None and reading.takes_pairs:
        raise ValueError("windows are cut from single texts, and it takes pairs")
    return reading


def _graph(content: Mapping[str, Any]) -> Graph:
    inputs = _names(content["inputs"])
    if "input_ids" not in inputs or set(inputs) - set(GRAPH_INPUTS):
        raise ValueError(f"a graph takes some of {', '.join(GRAPH_INPUTS)}, and input_ids always")
    return Graph(
        file=_word(content["file"]),
        arithmetic=_word(content["arithmetic"]),
        inputs=inputs,
        output=_word(content["output"]),
        opset=_whole(content["opset"], 1, "opset"),
        left_in_float32=_names(content["left_in_float32"]),
    )


def is_bundle(folder: Path) -> bool:
    """Whether there is a ``bundle.json`` in ``folder``, whole or not."""
    return (folder / FILE).is_file()


def write_bundle(folder: Path, bundle: Bundle) -> None:
    """Write ``bundle.json`` beside the files that it lists."""
    write_json(folder / FILE, bundle.to_dict())


def made_by() -> str:
    """The version of potstill that writes."""
    return version("potstill")


def read_bundle(folder: Path | str) -> Bundle:
    """The bundle in ``folder``, every file of it compared with its SHA-256.

    Raises BundleError for a folder without ``bundle.json`` or with one above 16 MiB, a newer form, a file that is
    missing, changed or a link, a name that leads out of the folder, and for entries that contradict one another.
    """
    folder = Path(folder)
    content = _content(folder)
    _refuse_newer(folder, content)
    try:
        bundle = Bundle.from_dict(content)
    except _BROKEN as broken:
        missing = f"it has no {broken}" if isinstance(broken, KeyError) else str(broken)
        raise BundleError(f"{folder / FILE} does not describe a bundle: {missing}", do="export it again") from broken
    for name, digest in bundle.files.items():
        _check_file(folder, name, digest)
    return bundle


def _content(folder: Path) -> Mapping[str, Any]:
    file = folder / FILE
    if not folder.is_dir() or not file.exists():
        raise BundleError(
            f"{folder} is not a bundle (no {FILE} in it)" if folder.exists() else f"there is no bundle at {folder}",
            do="make one from a fine-tuned run: potstill export RUN --out BUNDLE",
        )
    _refuse_link(file)
    try:
        content = json.loads(_description(file).decode("utf-8"))
    except (ValueError, RecursionError) as broken:
        raise BundleError(f"{file} is not JSON ({broken})", do="export it again") from broken
    if not isinstance(content, dict):
        raise BundleError(f"{file} does not describe a bundle", found=type(content).__name__, allowed="an object")
    return content


def _description(file: Path) -> bytes:
    """The bytes of ``bundle.json``, no more of them than it may have."""
    with _readable(file), file.open("rb") as opened:
        content = opened.read(LARGEST_DESCRIPTION + 1)
    if len(content) > LARGEST_DESCRIPTION:
        raise BundleError(f"{file} is too large to be read", allowed=f"at most {LARGEST_DESCRIPTION:,} bytes")
    return content


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        raise BundleError(f"{file} cannot be read ({failure.strerror})") from failure


def _refuse_newer(folder: Path, content: Mapping[str, Any]) -> None:
    form = content.get("format")
    if not isinstance(form, int) or isinstance(form, bool) or form < 1:
        raise BundleError(f"{folder / FILE} does not say its format", found=form, allowed=f"1 to {FORMAT}")
    if form > FORMAT:
        raise BundleError(
            f"{folder} was made by a newer potstill ({content.get('potstill')!s:.40}) in a form this one does not know",
            found=f"format {form}",
            allowed=f"1 to {FORMAT}",
            do="upgrade potstill, or export it again with this one",
        )


def _check_file(folder: Path, name: str, digest: str) -> None:
    if not _FILE_NAME.fullmatch(name) or name == FILE:
        raise BundleError(
            f"{folder / FILE} names a file that is none of the folder's own",
            found=name[:300],
            allowed="letters, digits, dots, dashes and underscores, 255 at most",
        )
    file = folder / name
    if not file.exists() and not file.is_symlink():
        raise BundleError(f"{folder} lacks the file {name}", do="copy the whole folder again, or export it again")
    _refuse_link(file)
    with _readable(file):
        same = _SHA256.fullmatch(digest) is not None and sha256_of(file) == digest
    if not same:
        raise BundleError(
            f"{file} is not the file that the bundle was made with: its SHA-256 is another",
            do="copy the whole folder again, or export it again",
        )


def _refuse_link(file: Path) -> None:
    if not stat.S_ISREG(file.lstat().st_mode):
        raise BundleError(f"{file} is a link or no file at all", allowed="a file inside the folder")
