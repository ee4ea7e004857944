"""A corpus as blocks of token ids on disk: written atomically, opened memory-mapped. Knows no tokenizer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from potstill.data.cache import read_json
from potstill.errors import DataError


@dataclass(frozen=True)
class Blocks:
    """A corpus as blocks [CLS] … [SEP] of at most ``block_length`` tokens, memory-mapped from disk.

    input_ids: ``(n_tokens,)`` int32, the blocks end to end; offsets: ``(n + 1,)`` int64, block i lies between its i-th
    and next entry. token_counts: ``(vocab,)`` int64, occurrences of each token in the blocks, special tokens included.
    n_texts: the texts that held tokens. fingerprint: of corpus, tokenizer and block length together.
    """

    input_ids: np.ndarray
    offsets: np.ndarray
    token_counts: np.ndarray
    block_length: int
    uses_token_types: bool
    n_texts: int
    notes: tuple[str, ...]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_tokens(self) -> int:
        """Tokens in all blocks, special tokens included."""
        return len(self.input_ids)

    @cached_property
    def lengths(self) -> np.ndarray:
        """``(n,)`` int64, tokens per block."""
        return np.diff(self.offsets)

    @cached_property
    def token_types(self) -> np.ndarray | None:
        """All zero, without taking memory, where the tokenizer has token types."""
        return np.broadcast_to(np.int8(0), self.input_ids.shape) if self.uses_token_types else None

    def row(self, i: int) -> np.ndarray:
        """The token ids of block ``i``, a view into the file."""
        return self.input_ids[self.offsets[i] : self.offsets[i + 1]]


@dataclass
class PackedBlocks:
    """Blocks on their way to disk, and how many texts with and without tokens were read for them."""

    input_ids: np.ndarray
    lengths: np.ndarray
    n_texts: int
    n_empty: int


class BlockFiles:
    """The files of one set of blocks: tokens, offsets and counts as .npy, and a .json that vouches for them.

    The .json takes its name last, so blocks whose writing was interrupted are not there at all.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder, self.fingerprint = folder, fingerprint
        self.names = {part: f"blocks-{fingerprint[:24]}.{part}.npy" for part in ("tokens", "offsets", "counts")}
        self.summary = folder / f"blocks-{fingerprint[:24]}.json"

    def open(self, block_length: int, uses_token_types: bool) -> Blocks | None:
        """The blocks, or None where they are absent, unfinished or not what the summary says."""
        summary = read_json(self.summary)
        if summary.get("fingerprint") != self.fingerprint:
            return None
        try:
            arrays = {part: np.load(self.folder / name, mmap_mode="r") for part, name in self.names.items()}
        except (OSError, ValueError):
            return None
        if {part: len(array) for part, array in arrays.items()} != summary["sizes"]:
            return None
        return Blocks(
            input_ids=arrays["tokens"],
            offsets=np.asarray(arrays["offsets"]),
            token_counts=np.array(arrays["counts"]),
            block_length=block_length,
            uses_token_types=uses_token_types,
            n_texts=summary["n_texts"],
            notes=tuple(summary["notes"]),
            fingerprint=self.fingerprint,
        )

    def write(self, stream: Iterable[PackedBlocks], vocab_size: int) -> None:
        """Write all files, each complete before it takes its name; what is left of a failed attempt is removed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = {part: self.folder / f"{name}.partial-{os.getpid()}" for part, name in self.names.items()}
        summary = self.folder / f"{self.summary.name}.partial-{os.getpid()}"
        try:
            described = _write_arrays(stream, partial, vocab_size)
            summary.write_text(json.dumps({"fingerprint": self.fingerprint, **described}), encoding="utf-8")
            for part, name in self.names.items():
                partial[part].replace(self.folder / name)
            summary.replace(self.summary)
        finally:
            for path in (*partial.values(), summary):
                path.unlink(missing_ok=True)


def _write_arrays(stream: Iterable[PackedBlocks], paths: dict[str, Path], vocab_size: int) -> dict[str, Any]:
    """Write tokens as they come, then offsets and counts; returns the summary of sizes and texts."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    lengths = [np.zeros(1, dtype=np.int64)]
    n_texts = n_empty = n_tokens = 0
    with paths["tokens"].open("wb") as file:
        _write_header(file, 0)
        for packed in stream:
            file.write(packed.input_ids.tobytes())
            counts += np.bincount(packed.input_ids, minlength=vocab_size)
            lengths.append(packed.lengths)
            n_tokens += len(packed.input_ids)
            n_texts += packed.n_texts
            n_empty += packed.n_empty
        file.seek(0)
        _write_header(file, n_tokens)
    if n_tokens == 0:
        raise DataError("the corpus holds no text", found=f"{n_empty} empty texts", do="check the text column")
    offsets = np.cumsum(np.concatenate(lengths))
    for part, array in (("offsets", offsets), ("counts", counts)):
        with paths[part].open("wb") as file:
            np.save(file, array, allow_pickle=False)
    notes = [f"{n_texts:,} texts packed into {len(offsets) - 1:,} blocks of {n_tokens:,} tokens"]
    notes += [f"{n_empty:,} texts without a token skipped"] if n_empty else []
    sizes = {"tokens": n_tokens, "offsets": len(offsets), "counts": vocab_size}
    return {"sizes": sizes, "n_texts": n_texts, "notes": notes}


def _write_header(file: BinaryIO, n_tokens: int) -> None:
    """The .npy header of ``n_tokens`` int32; its size does not depend on them, as numpy leaves room for growth."""
    np.lib.format.write_array_header_1_0(
        file, {"descr": np.dtype(np.int32).str, "fortran_order": False, "shape": (n_tokens,)}
    )
