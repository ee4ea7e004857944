"""Masked batches of few draws: what repeats, what does not, and what a teacher adds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from potstill.data.batches import BatchKey
from potstill.data.token_files import Blocks, build_blocks
from potstill.data.tokens import TextTokenizer
from potstill.data.training_batches import MaskedBlocks, Masking


@pytest.fixture
def blocks(bert: TextTokenizer, tmp_path: Path) -> Blocks:
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(["the", "cat", "dog", "mat", "sat"], size=30)) for _ in range(20)]
    return build_blocks(texts, bert, 16, tmp_path, key="k")


def masked(blocks: Blocks, tokenizer: TextTokenizer, **changes: Any) -> MaskedBlocks:
    usual = {"rows": np.arange(len(blocks)), "masking": Masking(), "batch_size": 4, "seed": 1}
    return MaskedBlocks(blocks, blocks.token_counts, tokenizer=tokenizer, **{**usual, **changes})


def epoch_of(batches: MaskedBlocks, epoch: int) -> dict[tuple[int, int], dict[str, np.ndarray]]:
    return {(key.epoch, key.number): batches[key] for key in batches.plan.keys(epoch)}


def test_an_epoch_repeats_the_masks_of_its_draw(blocks: Blocks, bert: TextTokenizer) -> None:
    batches = masked(blocks, bert, mask_draws=2)
    for epoch in (2, 3, 6):
        first, again = epoch_of(batches, epoch % 2), epoch_of(batches, epoch)
        assert list(first) != list(again), "their order is another one"
        assert first.keys() == again.keys()
        for key, batch in first.items():
            assert batch.keys() == again[key].keys()
            assert all(np.array_equal(batch[name], again[key][name]) for name in batch)


def test_two_draws_have_other_masks_and_the_first_round_is_that_without_draws(
    blocks: Blocks, bert: TextTokenizer
) -> None:
    drawn, plain = masked(blocks, bert, mask_draws=2), masked(blocks, bert)
    for epoch in (0, 1):
        expected, found = epoch_of(plain, epoch), epoch_of(drawn, epoch)
        assert list(expected) == list(found)
        assert all(np.array_equal(found[key]["labels"], expected[key]["labels"]) for key in found)
    labels = [np.concatenate([batch["labels"].ravel() for batch in epoch_of(drawn, e).values()]) for e in (0, 1)]
    assert not np.array_equal(*labels)


def test_a_kept_teacher_adds_what_it_said_of_each_batch(blocks: Blocks, bert: TextTokenizer) -> None:
    class Numbered:
        def of(self, key: BatchKey) -> dict[str, np.ndarray]:
            return {"teacher_number": np.array([key.epoch, key.number])}

    batches = masked(blocks, bert, mask_draws=1)
    batches.teacher = Numbered()
    for key in batches.plan.keys(5):
        assert batches[key]["teacher_number"].tolist() == [0, key.number]
        assert "labels" in batches[key]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"batch_size": 5},
        {"shuffle": False},
        {"rows": np.arange(3)},
        {"masking": Masking(share=0.2)},
        {"masking": Masking(whole_word=True)},
    ],
)
def test_whatever_changes_the_batches_changes_their_identity(
    blocks: Blocks, bert: TextTokenizer, change: dict[str, Any]
) -> None:
    assert masked(blocks, bert).identity() == masked(blocks, bert, mask_draws=3).identity()
    assert masked(blocks, bert, **change).identity() != masked(blocks, bert).identity()
