"""A tokenizer and its embeddings cut down to the pieces that some texts use. No torch.

What the remaining pieces cannot spell becomes ``[UNK]``. Single characters all stay, so a word that the texts did not
hold is as a rule spelt in smaller pieces than before; the gate tells what that changes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from potstill.data.tokens import EncodedTexts
from potstill.errors import ModelError


@dataclass(frozen=True)
class TrimmedVocabulary:
    """kept: ``(n,)`` int64, the ids that stay, ascending; the new id of each is its place. content: tokenizer.json."""

    kept: np.ndarray
    content: str


def used_ids(encoded: Iterable[EncodedTexts], vocab_size: int) -> np.ndarray:
    """``(vocab_size,)`` bool: which ids the texts hold."""
    used = np.zeros(vocab_size, dtype=bool)
    for rows in encoded:
        used[rows.input_ids] = True
    return used


def trim_vocabulary(content: str, used: np.ndarray) -> TrimmedVocabulary:
    """The WordPiece tokenizer in ``content`` (tokenizer.json) with the pieces that are ``used``, and those it needs.

    Special tokens and every piece of one character stay. Raises ModelError for a tokenizer of another kind.
    """
    tokenizer = json.loads(content)
    model = tokenizer["model"]
    if model.get("type") != "WordPiece":
        raise ModelError(
            "only a WordPiece vocabulary can be trimmed", found=str(model.get("type")), do="export it whole"
        )
    prefix = model["continuing_subword_prefix"]
    pieces = sorted(model["vocab"].items(), key=lambda piece: piece[1])
    spelt = {
        number
        for piece, number in pieces
        if (number < len(used) and used[number]) or len(piece.removeprefix(prefix)) == 1
    }
    kept = np.array(sorted(spelt | {token["id"] for token in tokenizer["added_tokens"]}), dtype=np.int64)
    new = {int(old): place for place, old in enumerate(kept)}
    model["vocab"] = {piece: new[number] for piece, number in pieces if number in new}
    for token in tokenizer["added_tokens"]:
        token["id"] = new[token["id"]]
    _renumber(tokenizer.get("post_processor"), new.__getitem__)
    if tokenizer.get("padding"):
        tokenizer["padding"]["pad_id"] = new[tokenizer["padding"]["pad_id"]]
    return TrimmedVocabulary(kept, json.dumps(tokenizer, ensure_ascii=False))


def _renumber(processor: dict[str, Any] | None, new: Callable[[int], int]) -> None:
    """The ids of special tokens in what puts them around a text."""
    if processor is None:
        return
    for inner in processor.get("processors", ()):
        _renumber(inner, new)
    for token in (processor.get("special_tokens") or {}).values():
        token["ids"] = [new(number) for number in token["ids"]]
    for role in ("cls", "sep"):
        if role in processor:
            spelling, number = processor[role]
            processor[role] = [spelling, new(number)]
