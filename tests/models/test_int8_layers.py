"""Linear layers in int8. Oracle: the quantised product in NumPy, integers multiplied as integers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM

from potstill.distil.teacher_cache import teacher_fingerprint
from potstill.models.int8_layers import Int8Linear, int8_encoder


def by_hand(inputs: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """8-bit inputs around a zero point, 8-bit weights around 0, one scale for the inputs and one for each output."""
    least, largest = min(inputs.min(), 0.0), max(inputs.max(), 0.0)
    scale = (largest - least) / 255
    zero = np.rint(-least / scale)
    rows = np.clip(np.rint(inputs / scale) + zero, 0, 255) - zero
    scales = np.abs(weight).max(axis=1, keepdims=True) / 127
    columns = np.rint(weight / scales)
    return np.asarray((rows @ columns.T) * scale * scales[:, 0] + bias)


@pytest.mark.parametrize(("rows", "width", "outputs"), [(1, 16, 8), (37, 64, 96), (256, 384, 384)])
def test_the_layer_computes_the_quantised_product(rows: int, width: int, outputs: int):
    generator = torch.Generator().manual_seed(rows)
    linear = nn.Linear(width, outputs)
    nn.init.normal_(linear.weight, generator=generator)
    inputs = torch.randn(rows, width, generator=generator) + 0.3
    expected = by_hand(*(tensor.detach().double().numpy() for tensor in (inputs, linear.weight, linear.bias)))
    # a value half way between two steps may be rounded to either
    np.testing.assert_allclose(Int8Linear(linear)(inputs).numpy(), expected, atol=0.02 * width**0.5, rtol=0)
    assert np.median(np.abs(Int8Linear(linear)(inputs).numpy() - expected)) < 1e-4


def test_a_row_of_zero_weights_gives_its_bias():
    linear = nn.Linear(8, 3)
    nn.init.zeros_(linear.weight)
    torch.testing.assert_close(Int8Linear(linear)(torch.randn(4, 8)), linear.bias.detach().expand(4, 3))


def test_leading_dimensions_are_kept_and_a_layer_may_lack_its_bias():
    assert Int8Linear(nn.Linear(8, 3, bias=False))(torch.randn(2, 5, 8)).shape == (2, 5, 3)


@pytest.fixture
def teacher() -> BertForMaskedLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return BertForMaskedLM(BertConfig(vocab_size=60, max_position_embeddings=40, **shape)).eval()


def test_the_encoder_alone_is_in_int8_and_the_model_it_came_from_is_as_it_was(teacher: BertForMaskedLM):
    ids = torch.randint(0, 60, (3, 12))
    before, logits = copy.deepcopy(teacher.state_dict()), teacher(ids).logits
    twin = int8_encoder(teacher)
    linear = {name for name, module in teacher.named_modules() if isinstance(module, nn.Linear)}
    in_int8 = {name for name, module in twin.named_modules() if isinstance(module, Int8Linear)}
    assert in_int8 == {name for name in linear if name.startswith("bert.encoder")}
    assert twin.cls.predictions.decoder.weight is teacher.cls.predictions.decoder.weight
    assert twin.bert.embeddings.word_embeddings.weight is teacher.bert.embeddings.word_embeddings.weight
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert torch.equal(teacher(ids).logits, logits)
    with torch.no_grad():
        assert nn.functional.cosine_similarity(twin(ids).logits, logits, dim=-1).min() > 0.99


def test_what_is_kept_of_one_teacher_in_int8_is_not_taken_for_anothers(teacher: BertForMaskedLM):
    first = teacher_fingerprint(int8_encoder(teacher))
    assert first == teacher_fingerprint(int8_encoder(teacher))
    assert first != teacher_fingerprint(teacher)
    with torch.no_grad():
        teacher.bert.encoder.layer[1].output.dense.weight[0, 0] += 1.0
    assert first != teacher_fingerprint(int8_encoder(teacher))
