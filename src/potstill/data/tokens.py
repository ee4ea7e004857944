"""Texts to token ids: in memory as flat arrays, or as memory-mapped blocks of a whole corpus. No transformers.

The folder conventions are those of Hugging Face: ``tokenizer.json`` holds the tokenizer, ``tokenizer_config.json`` and
``special_tokens_map.json`` name its special tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from potstill.data.block_files import BlockFiles, Blocks, PackedBlocks
from potstill.data.cache import cache_folder, read_json
from potstill.errors import DataError, ModelError, StorageError
from potstill.records import Text

_ROLES = {
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "pad": ("[PAD]", "<pad>"),
    "mask": ("[MASK]", "<mask>"),
    "unk": ("[UNK]", "<unk>"),
}
"""Special tokens a BERT-class tokenizer has, with the spellings tried where its configuration names none."""

_CHUNK_TEXTS, _CHUNK_CHARACTERS = 1024, 1_000_000
"""Texts are encoded in chunks of at most so many, so that memory stays bounded also where each text is a novel."""

_UNLIMITED = 1_000_000
"""Configurations write "no limit" as a huge ``model_max_length``; nothing this long is meant."""

_DEFAULT_MAX_LENGTH = 512

_SHIFTED_POSITIONS = (
    "roberta",
    "xlm-roberta",
    "camembert",
    "xlm-roberta-xl",
    "roberta-prelayernorm",
    "mpnet",
    "longformer",
)
"""Model types that number positions from their padding id + 1, and so take fewer tokens than they have positions."""


@dataclass(frozen=True)
class TextTokenizer:
    """A tokenizer with what the rest of potstill asks of it.

    max_length: the longest input in tokens that its model takes, special tokens included. special_ids: every special
    token, [UNK] and [MASK] included. vocab_size: all ids are below it. uses_token_types: whether the second text of a
    pair gets type 1. fingerprint: sha256 of the tokenizer's content; padding and truncation settings left out.
    """

    backend: Tokenizer = field(compare=False, repr=False)
    max_length: int
    cls_id: int
    sep_id: int
    pad_id: int
    mask_id: int
    unk_id: int
    special_ids: frozenset[int] = field(repr=False)
    vocab_size: int
    uses_token_types: bool
    fingerprint: str

    @classmethod
    def open(cls, folder: str | Path, max_length: int | None = None) -> TextTokenizer:
        """The tokenizer of a model folder; ``max_length`` overrules what the folder's configuration says.

        Raises ModelError where ``tokenizer.json`` is absent or damaged, or lacks a special token.
        """
        folder = Path(folder)
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelError(
                "the model folder has no tokenizer.json",
                found=str(folder),
                do="save its fast tokenizer there with save_pretrained() of transformers",
            )
        try:
            backend = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # the one type that tokenizers raises
            raise ModelError(f"{path} is not a tokenizer: {error}") from error
        configuration = read_json(folder / "tokenizer_config.json")
        named = read_json(folder / "special_tokens_map.json") | configuration
        spellings = {role: named[f"{role}_token"] for role in _ROLES if named.get(f"{role}_token")}
        if max_length is None:
            max_length = _configured_max_length(configuration, read_json(folder / "config.json"))
        return cls.from_backend(backend, max_length=max_length, special_tokens=spellings)

    @classmethod
    def from_backend(
        cls, backend: Tokenizer, *, max_length: int = _DEFAULT_MAX_LENGTH, special_tokens: dict[str, Any] | None = None
    ) -> TextTokenizer:
        """A copy of ``backend`` with its special tokens resolved.

        special_tokens: spelling by role (cls, sep, pad, mask, unk); roles left out are found by their usual spelling.
        """
        own = Tokenizer.from_str(backend.to_str())
        own.no_padding()
        own.no_truncation()
        roles = {role: _special_id(own, role, (special_tokens or {}).get(role)) for role in _ROLES}
        added = (number for number, token in own.get_added_tokens_decoder().items() if token.special)
        content = json.loads(own.to_str())
        return cls(
            backend=own,
            max_length=max_length,
            cls_id=roles["cls"],
            sep_id=roles["sep"],
            pad_id=roles["pad"],
            mask_id=roles["mask"],
            unk_id=roles["unk"],
            special_ids=frozenset([*roles.values(), *added]),
            vocab_size=max(own.get_vocab(with_added_tokens=True).values()) + 1,
            uses_token_types=1 in own.encode("a", "a").type_ids,
            fingerprint=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
        )

    def encode(self, texts: Sequence[Text], max_length: int) -> EncodedTexts:
        """The texts or pairs as token ids with special tokens, none longer than ``max_length``, unpadded.

        Single texts are cut at their end; of a pair, tokens are taken from whichever text is longer. How long each was
        and which were cut is kept. Raises DataError for a row that is neither a text nor a pair of texts.
        """
        limit = self._room(max_length)
        single = self.backend.num_special_tokens_to_add(False)
        prefix = self.backend.encode("a").special_tokens_mask.index(0)
        tail = single - prefix
        shortening = Tokenizer.from_str(self.backend.to_str())
        shortening.enable_truncation(limit, strategy="longest_first")
        parts: list[tuple[Any, ...]] = []
        first = 0
        for chunk in _chunks(texts):
            _check_texts(chunk, first)
            first += len(chunk)
            encodings = self.backend.encode_batch_fast(chunk)
            n_tokens = np.fromiter(map(len, encodings), dtype=np.int32, count=len(encodings))
            pairs = [i for i in np.flatnonzero(n_tokens > limit) if not isinstance(chunk[i], str)]
            for i, shortened in zip(pairs, shortening.encode_batch_fast([chunk[i] for i in pairs]), strict=True):
                encodings[i] = shortened
            parts.append((*_flatten(encodings, limit, tail, self.uses_token_types), n_tokens))
        return _assemble(parts, limit, self.uses_token_types)

    def word_starts(self) -> np.ndarray:
        """``(vocab,)`` bool: true where a token begins a word, read from the vocabulary's own marks.

        WordPiece marks the tokens that go on with a word (``##ing``), byte-level BPE and SentencePiece those that
        begin one (``Ġing``, ``▁ing``).
        """
        vocabulary = self.backend.get_vocab(with_added_tokens=True)
        beginning = any(token.startswith(("Ġ", "▁")) for token in vocabulary)
        starts = np.ones(self.vocab_size, dtype=bool)
        for token, number in vocabulary.items():
            starts[number] = token.startswith(("Ġ", "▁")) if beginning else not token.startswith("##")
        return starts

    def _room(self, max_length: int) -> int:
        least = self.backend.num_special_tokens_to_add(True) + 2
        if max_length < least:
            raise DataError("the maximum length leaves no room for text", found=max_length, allowed=f"{least} or more")
        return max_length


@dataclass(frozen=True)
class EncodedTexts:
    """Token ids of n texts laid end to end.

    input_ids: ``(sum of lengths,)`` int32; offsets: ``(n + 1,)`` int64, row i lies between its i-th and next entry;
    token_types: int8 beside input_ids, None where the tokenizer has none; n_tokens: ``(n,)`` int32, before truncation,
    special tokens included; truncated: ``(n,)`` bool.
    """

    input_ids: np.ndarray
    offsets: np.ndarray
    token_types: np.ndarray | None
    n_tokens: np.ndarray
    truncated: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """``(n,)`` int64, tokens per row after truncation."""
        return np.diff(self.offsets)

    def row(self, i: int) -> np.ndarray:
        """The token ids of row ``i``, a view."""
        return self.input_ids[self.offsets[i] : self.offsets[i + 1]]


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
    fingerprint = hashlib.sha256(f"{tokenizer.fingerprint}\n{key}\n{block_length}\n".encode()).hexdigest()
    files = BlockFiles(cache_folder(cache_dir), fingerprint)
    found = files.open(block_length, tokenizer.uses_token_types)
    if found is not None:
        return found
    try:
        files.write(_stream_blocks(texts, tokenizer, block_length), tokenizer.vocab_size)
    except OSError as error:
        raise StorageError(
            f"the blocks of the corpus could not be written to {files.folder}: {error.strerror or error}",
            do="free some space or choose another cache folder",
        ) from error
    built = files.open(block_length, tokenizer.uses_token_types)
    if built is None:
        raise StorageError(f"the blocks just written to {files.folder} cannot be read back", do="check the disk")
    return built


def _stream_blocks(texts: Iterable[str], tokenizer: TextTokenizer, block_length: int) -> Iterator[PackedBlocks]:
    """Blocks in the order of the corpus, a chunk of texts at a time."""
    content = block_length - 2
    separator = np.array([tokenizer.sep_id], dtype=np.int32)
    pending: list[np.ndarray] = []
    started, first = False, 0
    for chunk in _chunks(texts):
        _check_texts(chunk, first, pairs=False)
        first += len(chunk)
        encodings = tokenizer.backend.encode_batch_fast(chunk, add_special_tokens=False)
        filled = [np.array(encoding.ids, dtype=np.int32) for encoding in encodings if len(encoding)]
        for ids in filled:
            pending += [separator, ids] if started else [ids]
            started = True
        stream = np.concatenate(pending) if pending else np.empty(0, dtype=np.int32)
        whole = len(stream) // content * content
        pending = [stream[whole:]]
        wrapped = _wrap(stream[:whole].reshape(-1, content), tokenizer)
        yield PackedBlocks(*wrapped, n_texts=len(filled), n_empty=len(chunk) - len(filled))
    rest = np.concatenate(pending) if pending else np.empty(0, dtype=np.int32)
    if len(rest):
        yield PackedBlocks(*_wrap(rest[None, :], tokenizer), n_texts=0, n_empty=0)


def _wrap(pieces: np.ndarray, tokenizer: TextTokenizer) -> tuple[np.ndarray, np.ndarray]:
    """Pieces ``(n, content)`` as blocks laid end to end, and the blocks' lengths; separators on the rims left out."""
    blocks = np.pad(pieces, ((0, 0), (1, 1)))
    blocks[:, 0], blocks[:, -1] = tokenizer.cls_id, tokenizer.sep_id
    kept = np.ones(blocks.shape, dtype=bool)
    if pieces.shape[1] > 1:
        kept[:, 1] = pieces[:, 0] != tokenizer.sep_id
        kept[:, -2] = pieces[:, -1] != tokenizer.sep_id
    return blocks[kept], kept.sum(axis=1, dtype=np.int64)


def _chunks(texts: Iterable[Any]) -> Iterator[list[Any]]:
    """The texts in lists, each bounded in number and in characters (or one text alone, where it is longer)."""
    chunk: list[Any] = []
    characters = 0
    for text in texts:
        chunk.append(text)
        characters += len(text) if isinstance(text, str) else _DEFAULT_MAX_LENGTH
        if len(chunk) == _CHUNK_TEXTS or characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _check_texts(chunk: list[Any], first: int, pairs: bool = True) -> None:
    for number, text in enumerate(chunk, start=first):
        if isinstance(text, str):
            continue
        if not pairs or not (
            isinstance(text, tuple) and len(text) == 2 and all(isinstance(part, str) for part in text)
        ):
            raise DataError(
                f"row {number} is not text",
                found=repr(text)[:80],
                allowed="a text, or a pair of texts" if pairs else "a text",
            )


def _flatten(
    encodings: list[Any], limit: int, tail: int, with_types: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Ids, lengths and types of encodings end to end; one longer than ``limit`` keeps its ``tail`` special tokens."""
    ids, types = [], []
    for encoding in encodings:
        row = encoding.ids
        if len(row) > limit:
            row = row[: limit - tail] + row[len(row) - tail :]
        ids.append(row)
        if with_types:
            types.append(encoding.type_ids[: len(row)])
    lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    total = int(lengths.sum())
    flat = np.fromiter(chain.from_iterable(ids), dtype=np.int32, count=total)
    flat_types = np.fromiter(chain.from_iterable(types), dtype=np.int8, count=total) if with_types else None
    return flat, lengths, flat_types


def _assemble(parts: list[tuple[Any, ...]], limit: int, with_types: bool) -> EncodedTexts:
    """One EncodedTexts of the chunks' (ids, lengths, types, n_tokens)."""

    def joined(column: int, dtype: type) -> np.ndarray:
        return np.concatenate([np.empty(0, dtype=dtype), *(part[column] for part in parts)])

    n_tokens = joined(3, np.int32)
    return EncodedTexts(
        input_ids=joined(0, np.int32),
        offsets=np.concatenate([[0], np.cumsum(joined(1, np.int64))]).astype(np.int64),
        token_types=joined(2, np.int8) if with_types else None,
        n_tokens=n_tokens,
        truncated=n_tokens > limit,
    )


def _special_id(backend: Tokenizer, role: str, spelling: Any) -> int:
    """The id of one special token; ``spelling`` is its text, or a mapping with the text under "content"."""
    if isinstance(spelling, dict):
        spelling = spelling["content"]
    for candidate in (spelling,) if spelling else _ROLES[role]:
        number = backend.token_to_id(candidate)
        if number is not None:
            return int(number)
    raise ModelError(
        f"the tokenizer has no {role} token, which a BERT-class model needs",
        found=spelling,
        allowed=None if spelling else _ROLES[role],
    )


def _configured_max_length(tokenizer_configuration: dict[str, Any], model_configuration: dict[str, Any]) -> int:
    """The longest input in tokens that both configurations allow, 512 where neither says."""
    limits = []
    if (stated := tokenizer_configuration.get("model_max_length")) and stated < _UNLIMITED:
        limits.append(int(stated))
    if (positions := model_configuration.get("max_position_embeddings", 0)) > 0:
        shifted = model_configuration.get("model_type") in _SHIFTED_POSITIONS
        limits.append(positions - model_configuration["pad_token_id"] - 1 if shifted else positions)
    return min(limits, default=_DEFAULT_MAX_LENGTH)
