"""Splitting a masked-language model: the oracle is the whole model's own forward pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from potstill.errors import ModelError
from potstill.models.heads import split_masked_lm

FAMILIES = ["bert", "distilbert", "roberta", "xlm-roberta", "camembert", "mpnet", "electra"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_two_halves_make_the_whole(family, tiny_masked_lm, padded_batch):
    model = tiny_masked_lm(family)
    with torch.inference_mode():
        whole = model(**padded_batch, output_hidden_states=True)
        parts = split_masked_lm(model)
        encoded = parts.encode({**padded_batch, "labels": padded_batch["input_ids"]}, hidden_states=True)
        torch.testing.assert_close(parts.project(encoded.last), whole.logits, atol=1e-6, rtol=1e-6)
    assert encoded.hidden is not None
    assert len(encoded.hidden) == model.config.num_hidden_layers + 1
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(encoded.hidden, whole.hidden_states, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_chosen_positions_are_those_positions_of_all_logits(family, tiny_masked_lm, padded_batch):
    model = tiny_masked_lm(family)
    chosen = padded_batch["attention_mask"].bool()
    chosen[:, ::2] = False
    with torch.inference_mode():
        parts = split_masked_lm(model)
        logits = parts.project(parts.encode(padded_batch).last[chosen])
        torch.testing.assert_close(logits, model(**padded_batch).logits[chosen], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_decoder_is_the_models_own_last_linear_map(family, tiny_masked_lm):
    model = tiny_masked_lm(family)
    decoder = split_masked_lm(model).decoder
    assert decoder is model.get_output_embeddings()
    assert decoder.weight is model.get_input_embeddings().weight
    assert decoder.bias is not None


def test_a_head_that_does_not_end_in_a_linear_map_stays_whole(tiny_masked_lm, padded_batch):
    model = tiny_masked_lm("electra")
    model.generator_lm_head = nn.Sequential(model.generator_lm_head)
    parts = split_masked_lm(model)
    assert parts.decoder is None
    with torch.inference_mode():
        logits = parts.project(parts.encode(padded_batch).last)
        torch.testing.assert_close(logits, model(**padded_batch).logits)


def test_hidden_states_are_kept_only_when_asked_for(tiny_masked_lm, padded_batch):
    assert split_masked_lm(tiny_masked_lm("bert")).encode(padded_batch).hidden is None


def test_gradients_reach_encoder_and_head(tiny_masked_lm, padded_batch):
    model = tiny_masked_lm("distilbert")
    parts = split_masked_lm(model)
    parts.project(parts.encode(padded_batch).last).sum().backward()
    assert model.vocab_transform.weight.grad is not None
    assert model.distilbert.transformer.layer[0].attention.q_lin.weight.grad is not None


def test_a_head_that_does_not_come_apart_is_refused_and_the_training_flag_kept(tiny_masked_lm):
    model = tiny_masked_lm("electra").train()
    model.one_more = nn.Linear(60, 60)
    with pytest.raises(ModelError, match="cannot be applied apart"):
        split_masked_lm(model)
    assert model.training
