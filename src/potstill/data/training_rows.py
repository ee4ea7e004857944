"""The rows a classifier trains on: a task's texts tokenised once, long ones cut or read in windows. No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from potstill.data.tasks import Split
from potstill.data.token_files import encode_once
from potstill.data.tokens import EncodedTexts, TextTokenizer
from potstill.data.training_batches import truncated_sentence
from potstill.data.windows import UNCUT, Windows, cut_windows, single_texts


@dataclass(frozen=True)
class TrainingRows:
    """encoded: n rows. targets: theirs. told: which texts were cut or split; kept: what is on disk; both in words."""

    encoded: EncodedTexts
    targets: np.ndarray
    told: tuple[str, ...]
    kept: tuple[str, ...]


def training_rows(
    train: Split, tokenizer: TextTokenizer, max_length: int, windows: Windows | None, *, key: str
) -> TrainingRows:
    """The texts of ``train`` as rows of at most ``max_length`` tokens, kept in the cache folder under ``key``.

    Without ``windows`` a text is one row, cut at its end. With them a long text is several, each with its targets.
    Raises what ``encode_once`` and ``cut_windows`` raise.
    """
    if windows is None:
        encoded = encode_once(train.texts, tokenizer, max_length, key=key)
        told = truncated_sentence(int(encoded.truncated.sum()), len(encoded), max_length, "train")
        return TrainingRows(encoded, train.targets, tuple(told), encoded.notes)
    whole = encode_once(single_texts(train.texts), tokenizer, UNCUT, key=key)
    cut = cut_windows(whole, tokenizer, max_length, windows.overlap)
    sentence = (
        f"train: {cut.n_long:,} of {len(whole):,} texts are longer than {max_length} tokens and are read in windows, "
        f"{len(cut.owners):,} rows in all"
    )
    return TrainingRows(cut.rows, train.targets[cut.owners], (sentence,), cut.rows.notes)
