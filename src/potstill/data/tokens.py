"""Texts to token ids as flat arrays. No transformers.

The folder conventions are those of Hugging Face: ``tokenizer.json`` holds the tokenizer, ``tokenizer_config.json`` and
``special_tokens_map.json`` name its special tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tokenizers import Tokenizer

from potstill.data.cache import read_json
from potstill.errors import DataError, ModelError
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

Kept = Literal["start", "end"]
"""Which tokens of a text that is too long are read: those at its start, or those at its end."""

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
    pair gets type 1.
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
    _shortening: dict[tuple[int, Kept], Tokenizer] = field(default_factory=dict, init=False, compare=False, repr=False)

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
        return cls.from_own_backend(backend, max_length=max_length, special_tokens=spellings)

    @classmethod
    def from_backend(
        cls, backend: Tokenizer, *, max_length: int = _DEFAULT_MAX_LENGTH, special_tokens: dict[str, Any] | None = None
    ) -> TextTokenizer:
        """A copy of ``backend`` with its special tokens resolved.

        special_tokens: spelling by role (cls, sep, pad, mask, unk); roles left out are found by their usual spelling.
        """
        own = Tokenizer.from_str(backend.to_str())
        return cls.from_own_backend(own, max_length=max_length, special_tokens=special_tokens)

    @classmethod
    def from_own_backend(
        cls, own: Tokenizer, *, max_length: int = _DEFAULT_MAX_LENGTH, special_tokens: dict[str, Any] | None = None
    ) -> TextTokenizer:
        """What ``from_backend`` gives, of a backend that nobody else uses: it is changed, and not copied."""
        own.no_padding()
        own.no_truncation()
        roles = {role: _special_id(own, role, (special_tokens or {}).get(role)) for role in _ROLES}
        added = (number for number, token in own.get_added_tokens_decoder().items() if token.special)
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
        )

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the tokenizer's content; padding and truncation settings left out."""
        content = json.loads(self.backend.to_str())
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def encode(self, texts: Iterable[Text], max_length: int) -> EncodedTexts:
        """The texts or pairs as token ids with special tokens, none longer than ``max_length``, unpadded.

        Single texts are cut at their end; of a pair, tokens are taken from whichever text is longer. How long each was
        and which were cut is kept. Raises DataError for a row that is neither a text nor a pair of texts.
        """
        return _joined(list(self.encode_chunks(texts, max_length)), self.uses_token_types)

    def encode_chunks(self, texts: Iterable[Text], max_length: int, keep: Kept = "start") -> Iterator[EncodedTexts]:
        """What ``encode`` gives, a bounded number of texts at a time, in their order; their start or end is kept."""
        limit = self._room(max_length)
        prefix, tail = self.special_sides
        head = limit - tail if keep == "start" else prefix
        for chunk in checked_chunks(texts):
            encodings = self.backend.encode_batch_fast(chunk)
            n_tokens = np.fromiter(map(len, encodings), dtype=np.int32, count=len(encodings))
            truncated = n_tokens > limit
            pairs = [i for i in np.flatnonzero(truncated) if not isinstance(chunk[i], str)]
            for i, shortened in zip(pairs, self._shortened([chunk[i] for i in pairs], limit, keep), strict=True):
                encodings[i] = shortened
            ids, lengths, types = _flatten(encodings, limit, head, self.uses_token_types)
            yield EncodedTexts(ids, _offsets(lengths), types, n_tokens, truncated)

    @cached_property
    def special_sides(self) -> tuple[int, int]:
        """How many special tokens stand before and after a single text."""
        prefix = self.backend.encode("a").special_tokens_mask.index(0)
        return prefix, self.backend.num_special_tokens_to_add(False) - prefix

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

    def _shortened(self, pairs: list[Any], limit: int, keep: Kept) -> list[Any]:
        """Encodings of pairs with tokens taken from whichever text is longer.

        The copy of the tokenizer that does so is made when a pair first needs it, and kept: making it takes longer than
        a model's forward pass on one text.
        """
        if not pairs:
            return []
        shortening = self._shortening.get((limit, keep))
        if shortening is None:
            shortening = Tokenizer.from_str(self.backend.to_str())
            shortening.enable_truncation(
                limit, strategy="longest_first", direction="right" if keep == "start" else "left"
            )
            self._shortening[limit, keep] = shortening
        shortened: list[Any] = shortening.encode_batch_fast(pairs)
        return shortened

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
    special tokens included; truncated: ``(n,)`` bool. Where they are kept on disk, fingerprint: of texts, tokenizer and
    maximum length together; notes: in words, where and how large.
    """

    input_ids: np.ndarray
    offsets: np.ndarray
    token_types: np.ndarray | None
    n_tokens: np.ndarray
    truncated: np.ndarray
    fingerprint: str | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """``(n,)`` int64, tokens per row after truncation."""
        return np.diff(self.offsets)

    def row(self, i: int) -> np.ndarray:
        """The token ids of row ``i``, a view."""
        return self.input_ids[self.offsets[i] : self.offsets[i + 1]]


def checked_chunks(texts: Iterable[Any], *, pairs: bool = True) -> Iterator[list[Any]]:
    """The texts in lists, each bounded in number and ended by the text that makes it reach a number of characters.

    Raises DataError for what is not a text, or with ``pairs`` a pair of texts.
    """
    chunk: list[Any] = []
    characters = 0
    for number, text in enumerate(texts):
        _require_text(text, number, pairs)
        chunk.append(text)
        characters += len(text) if isinstance(text, str) else sum(map(len, text))
        if len(chunk) == _CHUNK_TEXTS or characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _require_text(text: Any, number: int, pairs: bool) -> None:
    if isinstance(text, str):
        return
    if not pairs or not (isinstance(text, tuple) and len(text) == 2 and all(isinstance(part, str) for part in text)):
        raise DataError(
            f"row {number} is not text",
            found=repr(text)[:80],
            allowed="a text, or a pair of texts" if pairs else "a text",
        )


def _flatten(
    encodings: list[Any], limit: int, head: int, with_types: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Ids, lengths and types of encodings end to end; of one above ``limit`` the first ``head`` and the last stay."""
    ids, types = [], []
    for encoding in encodings:
        row = encoding.ids
        if len(row) > limit:
            row = row[:head] + row[len(row) - (limit - head) :]
        ids.append(row)
        if with_types:
            types.append(encoding.type_ids[: len(row)])
    lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    total = int(lengths.sum())
    flat = np.fromiter(chain.from_iterable(ids), dtype=np.int32, count=total)
    flat_types = np.fromiter(chain.from_iterable(types), dtype=np.int8, count=total) if with_types else None
    return flat, lengths, flat_types


def _joined(chunks: list[EncodedTexts], with_types: bool) -> EncodedTexts:
    """The chunks end to end, none of them copied where there is one."""
    if len(chunks) == 1:
        return chunks[0]

    def joined(name: str, dtype: type) -> np.ndarray:
        return np.concatenate([np.empty(0, dtype=dtype), *(getattr(chunk, name) for chunk in chunks)])

    return EncodedTexts(
        input_ids=joined("input_ids", np.int32),
        offsets=_offsets(joined("lengths", np.int64)),
        token_types=joined("token_types", np.int8) if with_types else None,
        n_tokens=joined("n_tokens", np.int32),
        truncated=joined("truncated", np.bool_),
    )


def _offsets(lengths: np.ndarray) -> np.ndarray:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


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
