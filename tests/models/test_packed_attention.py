"""Packed batches: the oracle is transformers' own model under "sdpa" on the same texts, padded or alone, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoModelForSequenceClassification,
    MobileBertConfig,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedModel,
)

from potstill.data.batches import pack_rows, pad_rows
from potstill.data.tokens import EncodedTexts
from potstill.errors import ModelError
from potstill.models import packed_attention as subject
from potstill.models.cpu_dropout import ATTENTION
from potstill.models.heads import split_classifier, split_masked_lm
from potstill.models.packed_attention import MOST_PADDING, PACKED, Packing, like_lengths, run_packed
from potstill.models.teacher import select_inputs

FAMILIES = ["bert", "distilbert", "roberta", "electra"]
WIDE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 60}
PAD = 1  # RoBERTa counts positions by it
TYPE_COUNTS = {"bert": 2, "distilbert": 0, "roberta": 1, "electra": 2}
every_family = pytest.mark.parametrize("family", FAMILIES)
# Lengths of a text and of its partner, 0 for a text without one; at most RoBERTa's 46 positions together.
texts = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 16)), min_size=1, max_size=9)
few = settings(deadline=None, max_examples=12)
UNEVEN = [(30, 16), (1, 0), (1, 0), (2, 1), (29, 0), (1, 0), (12, 3), (30, 16)]
Batch = dict[str, Tensor]


def encode(lengths: list[tuple[int, int]], seed: int = 3) -> EncodedTexts:
    """Texts of random tokens; the second of a pair has token type 1."""
    rng = np.random.default_rng(seed)
    sizes = np.array([first + second for first, second in lengths], dtype=np.int32)
    ids = rng.integers(5, 60, sizes.sum()).astype(np.int32)
    types = np.concatenate([np.repeat([0, 1], pair) for pair in lengths]).astype(np.int8)
    return EncodedTexts(ids, np.r_[0, np.cumsum(sizes)].astype(np.int64), types, sizes, sizes < 0)


def tensors(arrays: dict[str, np.ndarray]) -> Batch:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def both_batches(lengths: list[tuple[int, int]]) -> tuple[Batch, Batch]:
    """The same texts in the same order, padded and packed."""
    encoded, rows = encode(lengths), np.arange(len(lengths))
    return tensors(pad_rows(encoded, rows, PAD)), tensors(pack_rows(encoded, rows))


def switched(build: Callable[..., PreTrainedModel], family: str, **changes: Any) -> PreTrainedModel:
    model = build(family, **changes).double()
    run_packed(model)
    return model


def gradients(model: PreTrainedModel, logits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss on some labels, and its gradient for every parameter."""
    labels = torch.arange(len(logits)) % 3
    loss = F.cross_entropy(logits, labels)
    names, parameters = zip(*model.named_parameters(), strict=True)
    return loss, dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


@every_family
@few
@given(lengths=texts)
@example(lengths=UNEVEN)
@example(lengths=[(1, 0)])
@example(lengths=[(7, 2)] * 4)
def test_packed_equals_padded_in_logits_loss_and_every_gradient(family, lengths, tiny_classifier):
    padded, packed = both_batches(lengths)
    model, ours = tiny_classifier(family).double(), switched(tiny_classifier, family)
    parts = split_classifier(ours)
    whole, halves = model(**select_inputs(model, padded)).logits, parts.classify(parts.encode(packed))
    torch.testing.assert_close(halves, whole, rtol=1e-9, atol=1e-10)
    expected, found = gradients(model, whole), gradients(ours, halves)
    assert set(found[1]) == set(expected[1])
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-10)


@every_family
def test_token_types_reach_packed_texts(family, tiny_classifier):
    _, packed = both_batches([(4, 5), (3, 3)])
    parts = split_classifier(switched(tiny_classifier, family))
    other = parts.classify(parts.encode({**packed, "token_type_ids": torch.zeros_like(packed["token_type_ids"])}))
    matter = not torch.equal(parts.classify(parts.encode(packed)), other)
    assert matter == (TYPE_COUNTS[family] > 1)


@few
@given(lengths=texts, seed=st.integers(0, 99))
def test_the_order_of_the_texts_in_a_pack_changes_nothing(lengths, seed, tiny_classifier):
    encoded = encode(lengths)
    order = np.random.default_rng(seed).permutation(len(lengths))
    parts = split_classifier(switched(tiny_classifier, "bert"))
    with torch.inference_mode():
        straight = parts.classify(parts.encode(tensors(pack_rows(encoded, np.arange(len(lengths))))))
        shuffled = parts.classify(parts.encode(tensors(pack_rows(encoded, order))))
    torch.testing.assert_close(shuffled, straight[order], rtol=1e-9, atol=1e-10)


@every_family
def test_a_text_alone_in_its_pack_is_that_text(family, tiny_masked_lm):
    encoded = encode([(9, 4)])
    ids = torch.from_numpy(encoded.input_ids.astype(np.int64))[None]
    types = torch.from_numpy(encoded.token_types.astype(np.int64))[None]
    model = switched(tiny_masked_lm, family)
    inputs = select_inputs(model, {"input_ids": ids, "token_type_ids": types})
    with torch.inference_mode():
        packed = split_masked_lm(model).encode(tensors(pack_rows(encoded, [0]))).last
        torch.testing.assert_close(packed, model.base_model(**inputs).last_hidden_state, rtol=1e-9, atol=1e-10)


def test_other_texts_of_a_pack_are_never_seen(tiny_masked_lm):
    _, packed = both_batches([(5, 0), (7, 0), (5, 0), (20, 0)])
    parts = split_masked_lm(switched(tiny_masked_lm, "bert"))
    changed = packed["input_ids"].clone()
    changed[:, 5:12] = 5 + (changed[:, 5:12] - 4) % 55
    with torch.inference_mode():
        before, after = parts.encode(packed).last, parts.encode({**packed, "input_ids": changed}).last
    same = (before == after).all(dim=-1)[0]
    assert same.tolist() == [True] * 5 + [False] * 7 + [True] * 25


@every_family
@few
@given(lengths=texts)
@example(lengths=UNEVEN)
def test_a_masked_lm_encodes_packed_texts_as_padded_ones(family, lengths, tiny_masked_lm):
    padded, packed = both_batches(lengths)
    attended = padded["attention_mask"].bool()
    parts, ours = split_masked_lm(tiny_masked_lm(family).double()), split_masked_lm(switched(tiny_masked_lm, family))
    with torch.inference_mode():
        expected, found = (half.encode(batch, hidden_states=True) for half, batch in ((parts, padded), (ours, packed)))
        torch.testing.assert_close(found.last[0], expected.last[attended], rtol=1e-9, atol=1e-10)
        for layer, reference in zip(found.hidden, expected.hidden, strict=True):
            torch.testing.assert_close(layer[0], reference[attended], rtol=1e-9, atol=1e-10)


@every_family
@pytest.mark.parametrize(("training", "attention"), [(False, "sdpa"), (True, ATTENTION)])
def test_a_padded_batch_on_a_switched_model_is_the_plain_one_bit_by_bit(family, training, attention, tiny_classifier):
    # oracle: torch's attention, and with dropout on a CPU ours for padded batches alone
    padded, _ = both_batches(UNEVEN)
    model, ours = tiny_classifier(family), tiny_classifier(family)
    model.set_attn_implementation(attention)
    run_packed(ours)
    logits = []
    for either in (model, ours):
        torch.manual_seed(0)
        logits.append(either.train(training)(**select_inputs(either, padded)).logits)
    assert torch.equal(*logits)


def test_a_model_can_be_switched_twice_and_keeps_its_mode(tiny_classifier):
    model = tiny_classifier("bert").train()
    run_packed(model)
    run_packed(model)
    assert model.training
    assert model.config._attn_implementation == PACKED


def test_a_saved_model_says_nothing_of_our_attention(tiny_classifier, tmp_path):
    model = tiny_classifier("bert")
    run_packed(model)
    model.save_pretrained(tmp_path)
    assert PACKED not in (tmp_path / "config.json").read_text()
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path).config._attn_implementation == "sdpa"


def test_bfloat16_autocast_packs_as_it_pads(tiny_classifier):
    padded, packed = both_batches(UNEVEN)
    model = tiny_classifier("distilbert")
    run_packed(model)
    parts = split_classifier(model)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        expected, found = model(**select_inputs(model, padded)).logits, parts.classify(parts.encode(packed))
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.1)


# -- the function itself ----------------------------------------------------------------------------------------------


def pack_of(lengths: list[int]) -> Packing:
    return Packing.of(torch.tensor(np.r_[0, np.cumsum(lengths)], dtype=torch.int32))


def attend(lengths: list[int], **options: Any) -> tuple[Tensor, ...]:
    """Random query, key and value ``(1, heads, n_tokens, size)`` and what comes out for them."""
    generator = torch.Generator().manual_seed(5)
    inputs = [torch.randn(1, 2, sum(lengths), 8, generator=generator, dtype=torch.float64) for _ in range(3)]
    states, weights = subject.packed_attention(torch.nn.Module(), *inputs, None, pack_of(lengths), **options)
    assert weights is None
    return *inputs, states


def by_hand(query: Tensor, key: Tensor, value: Tensor, lengths: list[int], scaling: float) -> Tensor:
    """softmax(scaling · q kᵀ) v, one text after the other."""
    parts = [states[0].split(lengths, dim=1) for states in (query, key, value)]
    each = [(scaling * q @ k.transpose(1, 2)).softmax(-1) @ v for q, k, v in zip(*parts, strict=True)]
    return torch.cat(each, dim=1).transpose(0, 1)[None]


@pytest.mark.parametrize("scaling", [8**-0.5, 0.7])
def test_attention_is_the_formula_with_the_scaling_that_is_given(scaling):
    lengths = [3, 9, 1, 9, 10, 4]
    *inputs, states = attend(lengths, scaling=scaling, dropout=0.0, is_causal=False)
    torch.testing.assert_close(states, by_hand(*inputs, lengths, scaling), rtol=1e-9, atol=1e-10)


def test_dropout_is_honoured():
    torch.manual_seed(0)
    ones = torch.ones(1, 4, 3000, 2)
    options = {"packing": pack_of([1000, 1000, 1000]), "is_causal": False}
    kept, _ = subject.packed_attention(torch.nn.Module(), ones, ones, ones, None, **options, dropout=0.0)
    dropped, _ = subject.packed_attention(torch.nn.Module(), ones, ones, ones, None, **options, dropout=0.5)
    torch.testing.assert_close(kept, torch.ones_like(kept))
    # Each state is the mean of 1000 weights that are 0 or 2: deviation 1/√1000.
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.01)
    assert float(dropped[..., 0].std()) == pytest.approx(1000**-0.5, rel=0.1)


def test_attention_dropout_is_drawn_in_training_only(tiny_classifier):
    _, packed = both_batches(UNEVEN)
    off = {"hidden_dropout_prob": 0.0, "classifier_dropout": 0.0}
    model = switched(tiny_classifier, "bert", **off, attention_probs_dropout_prob=0.3)
    parts = split_classifier(model)
    evaluated = [parts.classify(parts.encode(packed)) for _ in range(2)]
    model.train()
    drawn = [parts.classify(parts.encode(packed)) for _ in range(2)]
    assert torch.equal(*evaluated)
    assert not torch.allclose(drawn[0], drawn[1])


@given(lengths=st.lists(st.integers(1, 512), max_size=40).map(np.array))
def test_groups_hold_each_row_once_and_little_padding(lengths):
    groups = like_lengths(lengths.astype(np.int64))
    assert sorted(row for rows in groups for row in rows) == list(range(len(lengths)))
    for rows in groups:
        assert 1 - lengths[rows].sum() / (len(rows) * lengths[rows].max()) <= MOST_PADDING + 1e-12


def test_rows_of_like_length_share_a_group_without_a_mask():
    assert [rows.tolist() for rows in like_lengths(np.array([5, 5, 5]))] == [[0, 1, 2]]
    assert [rows.tolist() for rows in like_lengths(np.array([9, 100, 10, 95]))] == [[1, 3], [2, 0]]
    assert pack_of([5, 5, 5]).blocks.attended == (None,)


def test_the_layout_of_a_batch_is_worked_out_once_for_all_layers(tiny_masked_lm, monkeypatch):
    _, packed = both_batches(UNEVEN)
    parts, asked = split_masked_lm(switched(tiny_masked_lm, "bert")), []

    def watched(lengths: np.ndarray) -> list[np.ndarray]:
        asked.append(lengths.tolist())
        return like_lengths(lengths)

    monkeypatch.setattr(subject, "like_lengths", watched)
    parts.encode(packed)
    assert asked == [[sum(pair) for pair in UNEVEN]]


# -- the kernel for GPUs ----------------------------------------------------------------------------------------------


def test_the_kernel_for_gpus_is_called_as_it_is_documented(monkeypatch):
    """In its place stands what its documentation says of it: ``(tokens, heads, size)`` and int32 starts."""
    lengths = [3, 9, 1]

    def documented(q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, max_q: int, max_k: int, *, scale: Any):
        assert cu_q.dtype == cu_k.dtype == torch.int32
        assert max_q == max_k == 9
        heads_first = (states.transpose(0, 1)[None] for states in (q, k, v))
        return by_hand(*heads_first, cu_q.diff().tolist(), scale)[0]

    monkeypatch.setattr(subject, "_fits_varlen", lambda query, dropout: True)
    monkeypatch.setattr(subject, "varlen_attn", documented)
    *inputs, states = attend(lengths, scaling=0.7, dropout=0.0)
    torch.testing.assert_close(states, by_hand(*inputs, lengths, 0.7), rtol=1e-9, atol=1e-10)


def test_the_installed_kernel_takes_our_call():
    """On the meta device, where torch checks the call and computes shapes only."""
    states = torch.empty(1, 2, 13, 8, dtype=torch.bfloat16, device="meta")
    found = subject._in_one_kernel(states, states, states, pack_of([3, 9, 1]), 0.7)
    assert found.shape == (1, 13, 2, 8)


def test_the_kernel_for_gpus_is_not_for_a_cpu():
    assert not subject._fits_varlen(torch.empty(1, 2, 13, 8, dtype=torch.bfloat16), dropout=0.0)


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_packed_batch_is_refused_by_a_model_that_is_not_switched(tiny_classifier):
    _, packed = both_batches(UNEVEN)
    with pytest.raises(ModelError, match="attends across its texts"):
        split_classifier(tiny_classifier("bert")).encode(packed)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (MPNetConfig(**WIDE), "registry"),  # a bias by distance, in attention of its own
        (MobileBertConfig(**WIDE), "other states"),  # embeddings that read their neighbours
        (ModernBertConfig(**WIDE, pad_token_id=0), "sliding_window"),
    ],
)
def test_a_family_that_cannot_be_packed_is_refused_and_left_as_it_was(config, reason):
    model = AutoModelForSequenceClassification.from_config(config).train()
    before = model.config._attn_implementation
    with pytest.raises(ModelError, match=reason):
        run_packed(model)
    assert model.config._attn_implementation == before != PACKED
    assert model.training


@pytest.mark.parametrize(
    ("mask", "options"), [(torch.ones(1, 1, 13, 13), {}), (None, {"position_bias": torch.ones(1, 2, 13, 13)})]
)
def test_a_mask_or_a_bias_beside_a_pack_is_refused(mask, options):
    states = torch.ones(1, 2, 13, 8)
    with pytest.raises(ModelError, match="more than attention inside each text"):
        subject.packed_attention(torch.nn.Module(), states, states, states, mask, pack_of([3, 9, 1]), **options)
