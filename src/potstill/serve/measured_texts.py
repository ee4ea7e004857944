"""How long texts are in tokens, before they wait: for batches by tokens, for refusals, and for cutting at the left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from potstill.data.tokens import TextTokenizer
from potstill.records import Text
from potstill.serve.predictor import ServedPredictor
from potstill.serve.refusals import RefusedError

Direction = Literal["left", "right"]
"""Where a text that is too long loses its tokens."""


@dataclass(frozen=True)
class MeasuredTexts:
    """Texts as they will be predicted, and how long they came.

    n_tokens: ``(n,)`` int64, of the texts as they came, special tokens included. truncated: ``(n,)`` bool, of which
    some are not read. costs: ``(n,)`` int64, the tokens that are computed.
    """

    texts: Sequence[Text]
    n_tokens: np.ndarray
    truncated: np.ndarray
    costs: np.ndarray


def measure_texts(
    texts: Sequence[Text], predictor: ServedPredictor, *, truncate: bool, direction: Direction
) -> MeasuredTexts:
    """Count tokens, and cut at the left what is to be cut there; the predictor itself cuts at the right.

    Without ``truncate`` a text that would be cut is refused. A predictor that reads long texts in windows cuts none.
    """
    if predictor.windows is not None and any(isinstance(text, tuple) for text in texts):
        what = "this bundle reads long texts in windows, which are cut from single texts"
        raise RefusedError(422, what, found="a pair", allowed="single texts", counted_as="validation")
    encodings = predictor.tokenizer.backend.encode_batch_fast(list(texts))
    n_tokens = np.fromiter(map(len, encodings), dtype=np.int64, count=len(encodings))
    if predictor.windows is not None:
        return MeasuredTexts(texts, n_tokens, np.zeros(len(n_tokens), dtype=bool), n_tokens)
    truncated = n_tokens > predictor.max_length
    if truncated.any() and not truncate:
        row = int(truncated.argmax())
        raise RefusedError(
            422,
            f"input {row} is too long: {n_tokens[row]} tokens",
            allowed=f"at most {predictor.max_length}",
            do="shorten it, or send truncate: true",
            counted_as="tokenization",
        )
    if direction == "left" and truncated.any():
        cut = zip(texts, truncated, strict=True)
        texts = [_keep_end(text, predictor.tokenizer, predictor.max_length) if long else text for text, long in cut]
    return MeasuredTexts(texts, n_tokens, truncated, np.minimum(n_tokens, predictor.max_length))


def _keep_end(text: Text, tokenizer: TextTokenizer, max_length: int) -> Text:
    """The end of a text that fits, from the beginning of a word on; of a pair, both ends, the longer cut first."""
    backend = tokenizer.backend
    room = max_length - backend.num_special_tokens_to_add(isinstance(text, tuple))
    if isinstance(text, str):
        return _end_of(text, backend.encode(text, add_special_tokens=False), room)
    first, second = (backend.encode(part, add_special_tokens=False) for part in text)
    of_first, of_second = share_room(len(first), len(second), room)
    return _end_of(text[0], first, of_first), _end_of(text[1], second, of_second)


def share_room(n_first: int, n_second: int, room: int) -> tuple[int, int]:
    """How many tokens each of a pair keeps when tokens are taken from whichever is longer."""
    if n_first + n_second <= room:
        return n_first, n_second
    half = room // 2
    if n_first <= half:
        return n_first, room - n_first
    if n_second <= room - half:
        return room - n_second, n_second
    return half, room - half


def _end_of(text: str, encoding: Any, room: int) -> str:
    """The last words of ``text`` that fit; where one word alone is longer, its end."""
    start = len(encoding) - room
    if start <= 0:
        return text
    words, offsets = encoding.word_ids, encoding.offsets
    begins = (token for token in range(start, len(words)) if words[token] != words[token - 1])
    return text[offsets[next(begins, start)][0] :]
