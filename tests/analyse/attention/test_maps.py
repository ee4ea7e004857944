"""Maps of attention; the oracle is transformers itself, padded, with ``output_attentions``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModel

from potstill.analyse.attention.maps import attention_shape, open_attention, read_attention, require_same_heads
from potstill.errors import ModelError

FAMILIES = ("bert", "distilbert", "roberta", "electra", "mpnet")
ROWS = [[2, 7, 8, 9, 10, 11, 12, 3], [2, 20, 21, 3], [2, 3]]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_of_a_map_sums_to_one(family, tiny_classifier, rows_of_ids):
    encoder = open_attention(tiny_classifier(family))
    maps = read_attention(encoder, rows_of_ids(ROWS), 0, pad_id=0)
    assert maps.shape == (*attention_shape(encoder), 8, 8) == (3, 4, 8, 8)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps.sum(axis=-1), 1, atol=1e-5)
    assert maps.min() >= 0
    assert np.ptp(maps) > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_maps_equal_those_of_transformers_and_padding_changes_nothing(family, tiny_classifier, rows_of_ids, tmp_path):
    model = tiny_classifier(family)
    model.save_pretrained(tmp_path)
    plain = AutoModel.from_pretrained(tmp_path, attn_implementation="eager").eval()
    pad_id = plain.config.pad_token_id
    padded = torch.tensor([row + [pad_id] * (8 - len(row)) for row in ROWS])
    attended = torch.tensor([[1] * len(row) + [0] * (8 - len(row)) for row in ROWS])
    with torch.inference_mode():
        expected = plain(padded, attention_mask=attended, output_attentions=True).attentions
    encoder, encoded = open_attention(model), rows_of_ids(ROWS)
    for number, row in enumerate(ROWS):
        ours = read_attention(encoder, encoded, number, pad_id=pad_id)
        theirs = torch.stack(expected)[:, number, :, : len(row), : len(row)].numpy()
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_classifier_says_the_same_with_its_attention_open(tiny_classifier):
    model, ids = tiny_classifier("bert"), torch.tensor([ROWS[0]])
    with torch.inference_mode():
        closed = model(ids).logits
        open_attention(model)
        torch.testing.assert_close(model(ids).logits, closed, atol=1e-5, rtol=1e-5)


def test_an_encoder_that_keeps_its_attention_is_refused(tiny_classifier, rows_of_ids):
    encoder = tiny_classifier("bert").base_model  # with transformers' default attention, which returns no weights
    encoder.set_attn_implementation("sdpa")
    with pytest.raises(ModelError, match="does not give its attention weights"):
        read_attention(encoder, rows_of_ids(ROWS), 0, pad_id=0)


def test_models_of_other_heads_are_not_compared(tiny_classifier):
    three, two = tiny_classifier("bert").base_model, tiny_classifier("bert").base_model
    require_same_heads(three, two)
    two.config.num_hidden_layers = 2
    with pytest.raises(ModelError, match="found '2 layers of 4 heads'; allowed: 3 layers of 4 heads"):
        require_same_heads(two, three)
