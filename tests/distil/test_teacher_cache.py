"""Stored logits against the teacher run on each row alone; what is found again, what is computed again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from potstill.data.batches import BatchKey
from potstill.data.tokens import EncodedTexts
from potstill.distil.teacher_cache import StoredLogits, classify_once, teacher_fingerprint
from potstill.training.settings import Precision

PAD = 0
Store = Callable[..., StoredLogits]


def build_teacher(**changes: Any) -> BertForSequenceClassification:
    torch.manual_seed(1)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(
        vocab_size=40, max_position_embeddings=32, initializer_range=0.5, num_labels=3, **{**shape, **changes}
    )
    return BertForSequenceClassification(config).eval()


def build_texts(n_rows: int = 23) -> EncodedTexts:
    """Pairs of 4 to 29 tokens; the second text of each has type 1."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(4, 30, n_rows)
    offsets = np.r_[0, np.cumsum(lengths)].astype(np.int64)
    types = np.concatenate([(np.arange(length) >= length // 2) for length in lengths]).astype(np.int8)
    ids = draw.integers(5, 40, offsets[-1]).astype(np.int32)
    return EncodedTexts(ids, offsets, types, lengths.astype(np.int32), lengths > 99, fingerprint="texts")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    def run(
        teacher: BertForSequenceClassification, texts: EncodedTexts, batch_size: int = 4, precision: Precision = "fp32"
    ) -> StoredLogits:
        return classify_once(teacher, texts, PAD, batch_size=batch_size, precision=precision, cache_dir=tmp_path)

    return run


def alone(teacher: BertForSequenceClassification, texts: EncodedTexts) -> np.ndarray:
    """The oracle: each row by itself, without padding."""
    rows = []
    for start, end in zip(texts.offsets, texts.offsets[1:], strict=False):
        assert texts.token_types is not None
        row = (part[start:end].astype(np.int64) for part in (texts.input_ids, texts.token_types))
        ids, types = (torch.from_numpy(part)[None] for part in row)
        with torch.no_grad():
            rows.append(teacher(input_ids=ids, token_type_ids=types).logits.numpy())
    return np.concatenate(rows)


def logits_of(stored: StoredLogits, rows: list[int]) -> np.ndarray:
    return stored.of(BatchKey(0, 0, np.array(rows)))["teacher_logits"]


def counted_calls(teacher: BertForSequenceClassification) -> list[int]:
    """The rows of every call of ``teacher`` from now on."""
    calls: list[int] = []
    teacher.register_forward_hook(
        lambda module, args, kwargs, output: calls.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    return calls


@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_stored_logits_are_those_of_each_row_alone(store: Store, batch_size: int) -> None:
    teacher, texts = build_teacher(), build_texts()
    stored = store(teacher, texts, batch_size)
    expected = alone(teacher, texts)
    found = logits_of(stored, list(range(23)))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(logits_of(stored, [7, 2, 22]), expected[[7, 2, 22]], atol=1e-5)


def test_the_teacher_runs_once_on_every_row_and_never_again(store: Store) -> None:
    teacher, texts = build_teacher(), build_texts()
    calls = counted_calls(teacher)
    first = store(teacher, texts)
    assert (sum(calls), len(calls)) == (23, 6)
    again = store(teacher, texts)
    assert len(calls) == 6
    assert (first.kept.written, again.kept.written) == (True, False)
    np.testing.assert_array_equal(logits_of(again, [3, 1]), logits_of(first, [3, 1]))


def test_the_longest_rows_come_first_and_rows_of_like_length_together(store: Store) -> None:
    teacher, texts, widths = build_teacher(), build_texts(), []
    teacher.register_forward_hook(
        lambda module, args, kwargs, output: widths.append(kwargs["attention_mask"].sum(dim=1)), with_kwargs=True
    )
    store(teacher, texts)
    assert torch.cat(widths).tolist() == sorted(texts.lengths.tolist(), reverse=True)


def test_a_teacher_in_training_mode_is_evaluated_without_gradient_and_left_as_it_was(store: Store) -> None:
    teacher, texts = build_teacher(hidden_dropout_prob=0.5), build_texts()
    expected = alone(teacher, texts)
    teacher.train()
    np.testing.assert_allclose(logits_of(store(teacher, texts), list(range(23))), expected, atol=1e-5)
    assert teacher.training
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_weights_configuration_texts_and_arithmetic_are_each_part_of_the_key(store: Store) -> None:
    texts, other_texts = build_texts(), replace(build_texts(), fingerprint="texts cut at another length")
    nudged = build_teacher()
    with torch.no_grad():
        nudged.classifier.bias[0] += 1e-6
    stored = [
        store(build_teacher(), texts),
        store(nudged, texts),
        store(build_teacher(layer_norm_eps=1e-6), texts),
        store(build_teacher(), other_texts),
        store(build_teacher(), texts, precision="bf16"),
        store(build_teacher(), texts, batch_size=5),
    ]
    assert all(one.kept.written for one in stored)
    assert len({one.kept.name for one in stored}) == 6


def test_a_teacher_keeps_its_fingerprint_wherever_it_lies(tmp_path: Path) -> None:
    teacher = build_teacher()
    found = []
    for name in ("here", "there"):
        teacher.save_pretrained(tmp_path / name)
        found.append(teacher_fingerprint(BertForSequenceClassification.from_pretrained(tmp_path / name)))
    assert found[0] == found[1]


def test_logits_computed_in_bf16_are_bf16_numbers_near_the_exact_ones(store: Store) -> None:
    teacher, texts = build_teacher(), build_texts()
    found = logits_of(store(teacher, texts, precision="bf16"), list(range(23)))
    np.testing.assert_array_equal(found, torch.from_numpy(found).bfloat16().float().numpy())
    np.testing.assert_allclose(found, alone(teacher, texts), atol=0.3, rtol=0.1)


@pytest.mark.parametrize("part", ["logits", "places"])
def test_a_damaged_file_is_computed_again(store: Store, tmp_path: Path, part: str) -> None:
    teacher, texts = build_teacher(), build_texts()
    expected = logits_of(store(teacher, texts), list(range(23)))
    (path,) = tmp_path.glob(f"logits-*.{part}.npy")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    again = store(teacher, texts)
    assert again.kept.written
    np.testing.assert_array_equal(logits_of(again, list(range(23))), expected)


def test_an_interrupted_computation_leaves_nothing_and_starts_again(store: Store, tmp_path: Path) -> None:
    teacher, texts = build_teacher(), build_texts()
    calls = counted_calls(teacher)

    def interrupt(*_: object) -> None:
        if len(calls) == 3:
            raise KeyboardInterrupt

    handle = teacher.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        store(teacher, texts)
    assert list(tmp_path.iterdir()) == []
    handle.remove()
    assert store(teacher, texts).kept.written


def test_texts_without_a_fingerprint_are_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="no fingerprint"):
        store(build_teacher(), replace(build_texts(), fingerprint=None))


def test_the_sentence_counts_the_passes_that_the_teacher_did_not_run(store: Store) -> None:
    teacher, texts = build_teacher(), build_texts()
    first, again = (replace(store(teacher, texts), teacher_s=2.0) for _ in range(2))
    assert "computed in 2 s; in 3 passes over the rows that saves about 4 s" in first.sentence(3.0)
    assert "the teacher did not run; in 3 passes over the rows that saves about 6 s" in again.sentence(3.0)
    assert f"logits of 23 rows kept in the cache folder as {first.kept.name}, " in first.sentence(3.0)
