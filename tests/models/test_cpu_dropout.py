"""Dropout drawn in bulk and attention with dropout: against torch's own with the same draws, and against counts."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel

from potstill.models import cpu_dropout
from potstill.models.cpu_dropout import ATTENTION, BulkDropout, attend, draw_kept, kept_scale, use_bulk_dropout


def tiny_bert(**changes: object) -> BertModel:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return BertModel(BertConfig(vocab_size=50, **shape, **changes)).train()


class BothWays(nn.Module):
    """What transformers hands to an attention function besides tensors: the layer."""

    is_causal = False


def heads(*shape: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Query, key and value as a model hands them over: transposed views."""
    batch, n_heads, length, width = shape
    return [torch.randn(batch, length, n_heads, width, dtype=dtype).transpose(1, 2) for _ in range(3)]


def plain_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, kept: Tensor, p: float, scale: float
) -> Tensor:
    scores = query @ key.transpose(-1, -2) * scale
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return (torch.softmax(scores, -1) * kept * kept_scale(p)) @ value


@pytest.mark.parametrize("p", [0.1, 0.5, 1 / 65536, 0.9])
def test_entries_are_dropped_as_often_as_asked(p: float):
    # oracle: the binomial distribution; a deviation of 5 standard deviations is met once in 1.7 million draws
    torch.manual_seed(1)
    n = 400_000
    dropped = n - int(draw_kept((n,), p).sum(dtype=torch.int64))
    assert abs(dropped - p * n) <= 5 * math.sqrt(p * (1 - p) * n)


def test_draws_are_independent_of_their_neighbours():
    # oracle: of independent draws a pair is dropped with probability p²; four share one number of the generator
    torch.manual_seed(2)
    gone = draw_kept((500_000,), 0.3) == 0
    for distance in (1, 2, 3, 4, 5):
        both = float((gone[distance:] & gone[:-distance]).double().mean())
        assert both == pytest.approx(0.09, abs=5 * math.sqrt(0.09 * 0.91 / 500_000))


def test_the_same_seed_draws_the_same_and_the_next_draw_differs():
    torch.manual_seed(3)
    first, second = draw_kept((7, 9), 0.5), draw_kept((7, 9), 0.5)
    torch.manual_seed(3)
    assert torch.equal(first, draw_kept((7, 9), 0.5))
    assert not torch.equal(first, second)


def test_dropout_zeroes_or_scales_and_so_does_its_gradient():
    # oracle: nn.Dropout's definition, entry by entry
    torch.manual_seed(4)
    entries = torch.randn(50, 40, requires_grad=True)
    out = BulkDropout(0.25)(entries)
    out.sum().backward()
    gone = out == 0
    assert 0.2 < float(gone.float().mean()) < 0.3
    assert torch.allclose(out[~gone], entries[~gone] / 0.75)
    assert torch.allclose(entries.grad, torch.where(gone, 0.0, 1 / 0.75))


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_probabilities_0_and_1_are_exact(p: float):
    entries = torch.randn(30)
    assert torch.equal(BulkDropout(p)(entries), nn.Dropout(p)(entries))


def test_evaluation_drops_nothing():
    entries = torch.randn(30)
    assert torch.equal(BulkDropout(0.5).eval()(entries), entries)


@given(
    batch=st.integers(1, 5), n_heads=st.integers(1, 3), length=st.integers(1, 9), width=st.integers(1, 5),
    p=st.sampled_from([0.1, 0.5]), masked=st.booleans(), chunk=st.sampled_from([1, 40, 10_000]),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_attention_with_dropout_equals_its_formula(
    batch: int, n_heads: int, length: int, width: int, p: float, masked: bool, chunk: int, seed: int
):
    # oracle: the formula in plain torch and its autograd, with the same draws; float64 in, float32 probabilities
    torch.manual_seed(seed)
    tensors = [t.requires_grad_() for t in heads(batch, n_heads, length, width)]
    mask = (torch.rand(batch, 1, 1, length) < 0.7) if masked else None
    if mask is not None:
        mask[..., 0] = True
        mask = mask.expand(batch, 1, length, length)
    gradient = torch.randn(batch, length, n_heads, width, dtype=torch.float64)
    state = torch.get_rng_state()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_dropout, "_CHUNK_SCORES", chunk)
        out, weights = attend(BothWays(), *tensors, mask, dropout=p, scaling=0.3)
        ours = torch.autograd.grad(out, tensors, gradient)
    torch.set_rng_state(state)
    kept = draw_kept((batch, n_heads, length, length), p)
    expected = plain_attention(*tensors, mask, kept, p, 0.3).transpose(1, 2)
    assert weights is None
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    for found, wanted in zip(ours, torch.autograd.grad(expected, tensors, gradient), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_attention_without_dropout_is_torchs_own():
    torch.manual_seed(5)
    query, key, value = heads(2, 2, 6, 4, dtype=torch.float32)
    out, _ = attend(BothWays(), query, key, value, None, dropout=0.0)
    assert torch.equal(out, F.scaled_dot_product_attention(query, key, value).transpose(1, 2))


def test_attention_in_bf16_autocast_stays_near_float32():
    # oracle: the same draws in float32; bf16 keeps 8 bits
    torch.manual_seed(6)
    query, key, value = heads(2, 2, 6, 4, dtype=torch.float32)
    state = torch.get_rng_state()
    exact, _ = attend(BothWays(), query, key, value, None, dropout=0.2)
    torch.set_rng_state(state)
    halves = [t.bfloat16().requires_grad_() for t in (query, key, value)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough, _ = attend(BothWays(), *halves, None, dropout=0.2)
    rough.float().sum().backward()
    assert rough.dtype == torch.bfloat16
    assert torch.allclose(rough.float(), exact, atol=0.05)
    assert all(t.grad is not None and t.grad.isfinite().all() for t in halves)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_model_without_dropout_is_not_changed(family: str):
    # oracle: the model before; padding included
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    distil = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "dropout": 0.0, "attention_dropout": 0.0}
    model = (
        tiny_bert(**rates) if family == "bert" else DistilBertModel(DistilBertConfig(vocab_size=50, **distil)).train()
    )
    batch = {"input_ids": torch.randint(1, 50, (3, 8)), "attention_mask": torch.ones(3, 8, dtype=torch.long)}
    batch["attention_mask"][0, 5:] = 0
    changed = copy.deepcopy(model)
    use_bulk_dropout(changed)
    assert changed.config._attn_implementation == ATTENTION
    torch.testing.assert_close(changed(**batch).last_hidden_state, model(**batch).last_hidden_state)


def test_padding_changes_nothing_with_the_same_draws(monkeypatch: pytest.MonkeyPatch):
    # property: what stands behind the padding mask reaches no other token
    monkeypatch.setattr(cpu_dropout, "draw_kept", lambda shape, p: torch.ones(*shape, dtype=torch.uint8))
    model = tiny_bert()
    use_bulk_dropout(model)
    ids, attended = torch.randint(1, 50, (2, 8)), torch.ones(2, 8, dtype=torch.long)
    attended[0, 5:] = 0
    other = ids.clone()
    other[0, 5:] = 7
    first, second = (model(input_ids=i, attention_mask=attended).last_hidden_state for i in (ids, other))
    torch.testing.assert_close(first[attended.bool()], second[attended.bool()])


def test_dropout_in_attention_reaches_the_output():
    model = tiny_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.5)
    use_bulk_dropout(model)
    ids = torch.randint(1, 50, (2, 8))
    first, second = (model(input_ids=ids).last_hidden_state for _ in range(2))
    assert not torch.allclose(first, second)
    assert torch.equal(model.eval()(input_ids=ids).last_hidden_state, model(input_ids=ids).last_hidden_state)


def test_a_model_keeps_its_parameters_names_and_stored_configuration():
    model = tiny_bert()
    before, config = list(model.state_dict()), model.config.to_json_string()
    use_bulk_dropout(model)
    assert list(model.state_dict()) == before
    assert model.config.to_json_string() == config
    assert not [m for m in model.modules() if type(m) is nn.Dropout]


def test_eager_attention_stays_eager():
    model = tiny_bert(attn_implementation="eager")
    use_bulk_dropout(model)
    assert model.config._attn_implementation == "eager"
    assert model(input_ids=torch.ones(1, 4, dtype=torch.long), output_attentions=True).attentions[0].shape == (
        1,
        4,
        4,
        4,
    )
