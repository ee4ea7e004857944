"""Counts of a batch against numbers counted by hand."""

from __future__ import annotations

import torch

from potstill.training.objective import count_examples, count_tokens

PADDED = {"input_ids": torch.ones(2, 4), "attention_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])}
PACKED = {"input_ids": torch.ones(1, 5), "sequence_starts": torch.tensor([0, 3, 5])}


def test_padding_is_no_token_and_a_pack_holds_its_texts() -> None:
    assert count_tokens(PADDED) == count_tokens(PACKED) == 5
    assert count_examples(PADDED) == count_examples(PACKED) == 2
