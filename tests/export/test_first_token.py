"""The last layer for the first token alone. Oracle: the whole model, whose logits stay the same."""

from __future__ import annotations

import pytest
import torch

from potstill.data.batches import pad_rows
from potstill.export.first_token import FirstTokenLayer, only_first_token, reads_first_token
from potstill.models.pooled_classifier import HeadShape
from potstill.models.teacher import select_inputs


def layers_of(model):
    encoder = model.base_model
    return (encoder.transformer if hasattr(encoder, "transformer") else encoder.encoder).layer


@pytest.fixture
def batch(rows_of_tokens):
    rows = rows_of_tokens()
    return {name: torch.from_numpy(array) for name, array in pad_rows(rows, range(len(rows)), 0).items()}


@torch.inference_mode()
def logits(model, batch):
    return model(**select_inputs(model, batch)).logits


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta", "electra"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_no_logit_changes(name, attention, family, batch):
    model = family(name)
    model.set_attn_implementation(attention)
    whole = logits(model, batch)
    with only_first_token(model):
        assert isinstance(layers_of(model)[-1], FirstTokenLayer)
        found = logits(model, batch)
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-5)


def test_a_head_of_ours_on_the_first_token_reads_no_other(with_head, batch):
    model = with_head(HeadShape("hidden", "cls", size=12))
    whole = logits(model, batch)
    with only_first_token(model):
        torch.testing.assert_close(logits(model, batch), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_a_head_that_reads_every_token_gets_every_token(pooling, with_head):
    model = with_head(HeadShape("linear", pooling))
    assert not reads_first_token(model)
    with only_first_token(model):
        assert not isinstance(layers_of(model)[-1], FirstTokenLayer)


def test_the_layer_is_put_back_whatever_happens(family):
    model = family("bert")
    last = layers_of(model)[-1]
    with pytest.raises(KeyError), only_first_token(model):
        raise KeyError
    assert layers_of(model)[-1] is last
