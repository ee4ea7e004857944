"""Splitting masked-language models and classifiers: the oracle is the whole model's own forward pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AlbertConfig, AlbertForSequenceClassification

from potstill.errors import ModelError
from potstill.models.heads import split_classifier, split_masked_lm

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


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("training", [False, True])
def test_the_two_halves_of_a_classifier_make_the_whole(family, training, tiny_classifier, padded_batch):
    """In training mode too, with the same draws: no dropout is left out or comes in another place."""
    model = tiny_classifier(family).train(training)
    parts = split_classifier(model)
    assert model.training == training
    torch.manual_seed(0)
    whole = model(**padded_batch).logits
    torch.manual_seed(0)
    states = parts.encode(padded_batch)
    assert states.shape == (3, 1, 32)
    torch.testing.assert_close(parts.classify(states), whole, atol=1e-6, rtol=1e-6)


def test_splitting_a_classifier_draws_nothing(tiny_classifier):
    model = tiny_classifier("bert")
    before = torch.get_rng_state()
    split_classifier(model)
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_in_another_place_is_found_though_evaluation_would_not_show_it(tiny_classifier):
    model = tiny_classifier("bert", classifier_dropout=0.5)
    split_classifier(model)
    dropout = model.dropout
    del model.dropout
    model.dropout = dropout  # now the last of the modules; the model's own forward applies it before the classifier
    with pytest.raises(ModelError, match="other logits"):
        split_classifier(model)


def test_a_classifier_whose_head_does_not_come_apart_is_refused_and_the_training_flag_kept():
    config = AlbertConfig(
        vocab_size=60, embedding_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_labels=3
    )
    model = AlbertForSequenceClassification(config).eval()
    with pytest.raises(ModelError, match="single tokens"):
        split_classifier(model)
    assert not model.training
