"""The batches that training asks for, laid out in two ways; the oracle is the other way."""

from __future__ import annotations

import numpy as np
import pytest

from potstill.data.batches import is_packed
from potstill.data.tokens import EncodedTexts
from potstill.data.training_batches import LabelledTexts


@pytest.fixture
def encoded() -> EncodedTexts:
    """Twenty texts of 3 to 22 tokens."""
    lengths = np.arange(3, 23, dtype=np.int32)
    ids = np.random.default_rng(0).integers(5, 99, lengths.sum()).astype(np.int32)
    return EncodedTexts(ids, np.r_[0, np.cumsum(lengths)].astype(np.int64), None, lengths, lengths < 0)


def test_packed_texts_are_the_padded_ones_with_their_labels(encoded):
    targets = np.arange(20)
    packed, padded = (LabelledTexts(encoded, targets, 0, batch_size=8, seed=1, packed=p) for p in (True, False))
    for (one,), (other,) in zip(packed.plan, padded.plan, strict=True):
        assert one == other
        ours, theirs = packed[one], padded[other]
        assert is_packed(ours)
        assert not is_packed(theirs)
        assert ours["labels"].tolist() == theirs["labels"].tolist()
        texts = np.split(ours["input_ids"][0], ours["sequence_starts"][1:-1])
        assert [text.tolist() for text in texts] == [
            ids[attended == 1].tolist()
            for ids, attended in zip(theirs["input_ids"], theirs["attention_mask"], strict=True)
        ]
