"""Text tokenised once: a corpus as blocks, a task's texts row by row, memory-mapped from the cache folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from potstill.data.array_files import ArrayFiles, ArraySet, ArrayWriter
from potstill.data.cache import cache_folder
from potstill.data.tokens import EncodedTexts, TextTokenizer, checked_chunks
from potstill.errors import DataError
from potstill.records import Text


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


def encode_once(
    texts: Iterable[Text],
    tokenizer: TextTokenizer,
    max_length: int,
    cache_dir: str | Path | None = None,
    *,
    key: str,
) -> EncodedTexts:
    """What ``tokenizer.encode`` gives, written once in the cache folder and re-opened when asked for again.

    key: identity of the texts and their order, such as a fingerprint; tokenizer and maximum length are added to it
    here. Memory stays bounded, and texts that are on disk already are not read. Raises what ``encode`` raises, and
    StorageError when the disk does not take the files.
    """
    fingerprint = _fingerprint("texts", tokenizer, key, max_length)

    def write(writer: ArrayWriter) -> None:
        _write_texts(tokenizer.encode_chunks(texts, max_length), tokenizer.uses_token_types, writer)

    kept = ArrayFiles(cache_folder(cache_dir), "texts", fingerprint).open_or_write(write)
    arrays = kept.arrays
    return EncodedTexts(
        input_ids=arrays["tokens"],
        offsets=np.asarray(arrays["offsets"]),
        token_types=arrays.get("types"),
        n_tokens=np.asarray(arrays["n_tokens"]),
        truncated=np.asarray(arrays["truncated"]),
        fingerprint=fingerprint,
        notes=(f"{len(arrays['tokens']):,} tokens of {len(arrays['n_tokens']):,} texts {kept.kept}",),
    )


def _write_texts(chunks: Iterable[EncodedTexts], with_types: bool, writer: ArrayWriter) -> None:
    n_tokens = 0
    writer.append("tokens", np.empty(0, dtype=np.int32))
    writer.append("offsets", np.zeros(1, dtype=np.int64))
    writer.append("n_tokens", np.empty(0, dtype=np.int32))
    writer.append("truncated", np.empty(0, dtype=np.bool_))
    if with_types:
        writer.append("types", np.empty(0, dtype=np.int8))
    for chunk in chunks:
        writer.append("tokens", chunk.input_ids)
        writer.append("offsets", n_tokens + chunk.offsets[1:])
        writer.append("n_tokens", chunk.n_tokens)
        writer.append("truncated", chunk.truncated)
        if chunk.token_types is not None:
            writer.append("types", chunk.token_types)
        n_tokens += len(chunk.input_ids)


def build_blocks(
    texts: Iterable[str],
    tokenizer: TextTokenizer,
    block_length: int,
    cache_dir: str | Path | None = None,
    *,
    key: str,
) -> Blocks:
    """The corpus packed into blocks, built once in the cache folder and re-opened when asked for again.

    Texts are laid end to end with [SEP] between them and cut every ``block_length`` - 2 tokens; each piece is wrapped
    in [CLS] … [SEP], and a separator on the rim of a piece is left out. The last piece is kept however short.
    key: identity of the corpus, such as its fingerprint; tokenizer and block length are added to it here.
    Memory stays bounded. Raises DataError for a corpus without a single token, StorageError when the disk does not take
    the files; nothing half-written is ever opened.
    """
    if not 8 <= block_length <= tokenizer.max_length:
        raise DataError(
            "the block length is out of range", found=block_length, allowed=f"8 to {tokenizer.max_length} tokens"
        )
    fingerprint = _fingerprint("blocks", tokenizer, key, block_length)

    def write(writer: ArrayWriter) -> None:
        _write_blocks(_stream_blocks(texts, tokenizer, block_length), tokenizer.vocab_size, writer)

    kept = ArrayFiles(cache_folder(cache_dir), "blocks", fingerprint).open_or_write(write)
    return _opened_blocks(kept, block_length, tokenizer.uses_token_types, fingerprint)


def _fingerprint(kind: str, tokenizer: TextTokenizer, key: str, length: int) -> str:
    return hashlib.sha256(f"{kind}\n{tokenizer.fingerprint}\n{key}\n{length}\n".encode()).hexdigest()


def _opened_blocks(kept: ArraySet, block_length: int, uses_token_types: bool, fingerprint: str) -> Blocks:
    return Blocks(
        input_ids=kept.arrays["tokens"],
        offsets=np.asarray(kept.arrays["offsets"]),
        token_counts=np.array(kept.arrays["counts"]),
        block_length=block_length,
        uses_token_types=uses_token_types,
        n_texts=kept.facts["n_texts"],
        notes=tuple(kept.facts["notes"]),
        fingerprint=fingerprint,
    )


@dataclass
class _Packed:
    """Blocks on their way to disk, and how many texts with and without tokens were read for them."""

    input_ids: np.ndarray
    lengths: np.ndarray
    n_texts: int
    n_empty: int


def _write_blocks(stream: Iterable[_Packed], vocab_size: int, writer: ArrayWriter) -> None:
    """Tokens and offsets as they come, then the counts; texts are counted in the facts."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    n_texts = n_empty = n_blocks = n_tokens = 0
    writer.append("offsets", np.zeros(1, dtype=np.int64))
    for packed in stream:
        writer.append("tokens", packed.input_ids)
        writer.append("offsets", n_tokens + np.cumsum(packed.lengths))
        counts += np.bincount(packed.input_ids, minlength=vocab_size)
        n_tokens += len(packed.input_ids)
        n_blocks += len(packed.lengths)
        n_texts += packed.n_texts
        n_empty += packed.n_empty
    if n_tokens == 0:
        raise DataError("the corpus holds no text", found=f"{n_empty} empty texts", do="check the text column")
    writer.append("counts", counts)
    notes = [f"{n_texts:,} texts packed into {n_blocks:,} blocks of {n_tokens:,} tokens"]
    notes += [f"{n_empty:,} texts without a token skipped"] if n_empty else []
    writer.facts.update(n_texts=n_texts, notes=notes)


def _stream_blocks(texts: Iterable[str], tokenizer: TextTokenizer, block_length: int) -> Iterator[_Packed]:
    """Blocks in the order of the corpus, a chunk of texts at a time."""
    content = block_length - 2
    separator = np.array([tokenizer.sep_id], dtype=np.int32)
    pending: list[np.ndarray] = []
    started = False
    for chunk in checked_chunks(texts, pairs=False):
        encodings = tokenizer.backend.encode_batch_fast(chunk, add_special_tokens=False)
        filled = [np.array(encoding.ids, dtype=np.int32) for encoding in encodings if len(encoding)]
        for ids in filled:
            pending += [separator, ids] if started else [ids]
            started = True
        stream = np.concatenate(pending) if pending else np.empty(0, dtype=np.int32)
        whole = len(stream) // content * content
        pending = [stream[whole:]]
        wrapped = _wrap(stream[:whole].reshape(-1, content), tokenizer)
        yield _Packed(*wrapped, n_texts=len(filled), n_empty=len(chunk) - len(filled))
    rest = np.concatenate(pending) if pending else np.empty(0, dtype=np.int32)
    if len(rest):
        yield _Packed(*_wrap(rest[None, :], tokenizer), n_texts=0, n_empty=0)


def _wrap(pieces: np.ndarray, tokenizer: TextTokenizer) -> tuple[np.ndarray, np.ndarray]:
    """Pieces ``(n, content)`` as blocks laid end to end, and the blocks' lengths; separators on the rims left out."""
    blocks = np.pad(pieces, ((0, 0), (1, 1)))
    blocks[:, 0], blocks[:, -1] = tokenizer.cls_id, tokenizer.sep_id
    kept = np.ones(blocks.shape, dtype=bool)
    if pieces.shape[1] > 1:
        kept[:, 1] = pieces[:, 0] != tokenizer.sep_id
        kept[:, -2] = pieces[:, -1] != tokenizer.sep_id
    return blocks[kept], kept.sum(axis=1, dtype=np.int64)
