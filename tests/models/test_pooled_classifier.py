"""Heads of ours: the oracle is torch on the states of transformers' own encoders, one text at a time, unpadded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, AutoModelForSequenceClassification, PreTrainedModel

from potstill.errors import ModelError
from potstill.models.heads import split_classifier
from potstill.models.packed_attention import run_packed
from potstill.models.pooled_classifier import HeadShape
from potstill.models.pooling import pool
from potstill.models.teacher import (
    accepted_inputs,
    load_classifier,
    load_encoder,
    load_masked_lm,
    longest_input,
    open_classifier,
)

FAMILIES = ["bert", "distilbert", "roberta", "xlm-roberta", "camembert", "mpnet", "electra"]
POOLINGS = ["cls", "mean", "max"]
LABELS = ("no", "yes", "maybe")
SINGLE = "single_label_classification"
TASK: dict[str, Any] = {"label_names": LABELS, "problem_type": SINGLE, "seed": 5}


@pytest.fixture
def encoder_folder(tiny_masked_lm: Any, tmp_path: Path) -> Any:
    """The folder of a tiny encoder of a family, with its masked-language-model head."""

    def make(family: str = "bert") -> Path:
        tiny_masked_lm(family).save_pretrained(tmp_path / family)
        return tmp_path / family

    return make


def packed(padded: dict[str, Tensor]) -> dict[str, Tensor]:
    """The texts of a padded batch end to end."""
    attended = padded["attention_mask"].bool()
    positions = torch.arange(attended.shape[1]).expand_as(attended)
    ends = attended.sum(dim=1).cumsum(dim=0)
    return {
        "input_ids": padded["input_ids"][attended][None],
        "position_ids": positions[attended][None],
        "sequence_starts": F.pad(ends, (1, 0)).to(torch.int32),
    }


def states_alone(model: PreTrainedModel, batch: dict[str, Tensor]) -> list[Tensor]:
    """``(tokens, width)`` of each text of a padded batch, run alone."""
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    rows = [row[:length][None] for row, length in zip(batch["input_ids"], lengths, strict=True)]
    with torch.inference_mode():
        return [model.base_model(input_ids=row).last_hidden_state[0] for row in rows]


REDUCE = {"cls": lambda states: states[0], "mean": lambda states: states.mean(0), "max": lambda states: states.amax(0)}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_is_not_pooled(family: str, pooling: Any, encoder_folder: Any, padded_batch: dict[str, Tensor]):
    model = load_classifier(encoder_folder(family), head=HeadShape("hidden", pooling, 7, "tanh"), **TASK)
    expected = torch.stack([REDUCE[pooling](states) for states in states_alone(model, padded_batch)])
    dense, out = model.head.dense, model.head.out
    with torch.inference_mode():
        by_hand = F.linear(torch.tanh(F.linear(expected, dense.weight, dense.bias)), out.weight, out.bias)
        torch.testing.assert_close(model(**padded_batch).logits, by_hand, atol=1e-5, rtol=1e-4)


def test_pooled_values_are_those_worked_by_hand():
    states = torch.tensor([[[1.0, -4.0], [3.0, -2.0], [99.0, 99.0]], [[5.0, -6.0], [9.0, 9.0], [9.0, 9.0]]])
    batch = {"attention_mask": torch.tensor([[1, 1, 0], [1, 0, 0]])}
    assert pool(states, batch, "cls").tolist() == [[1.0, -4.0], [5.0, -6.0]]
    assert pool(states, batch, "mean").tolist() == [[2.0, -3.0], [5.0, -6.0]]
    assert pool(states, batch, "max").tolist() == [[3.0, -2.0], [5.0, -6.0]]
    pack = {"position_ids": torch.tensor([[0, 1, 0]]), "sequence_starts": torch.tensor([0, 2, 3], dtype=torch.int32)}
    end_to_end = torch.tensor([[[1.0, -4.0], [3.0, -2.0], [5.0, -6.0]]])
    for pooling in POOLINGS:
        assert torch.equal(pool(end_to_end, pack, pooling), pool(states, batch, pooling))


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_packed_texts_have_the_logits_and_gradients_of_padded_ones(
    family: str, pooling: Any, encoder_folder: Any, padded_batch: dict[str, Tensor]
):
    model = load_classifier(encoder_folder(family), head=HeadShape("linear", pooling), **TASK)
    gradients = {}
    for layout in ("padded", "packed"):
        model.zero_grad()
        if layout == "packed":
            run_packed(model)
            parts = split_classifier(model)
            logits = parts.classify(parts.encode(packed(padded_batch)))
        else:
            logits = model(**padded_batch).logits
        (logits * torch.arange(9.0).view(3, 3)).sum().backward()
        gradients[layout] = [logits.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]
    for ours, expected in zip(gradients["packed"], gradients["padded"], strict=True):
        torch.testing.assert_close(ours, expected, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", ["linear", "hidden"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_two_halves_make_the_whole(
    kind: Any, pooling: Any, training: bool, encoder_folder: Any, padded_batch: dict[str, Tensor]
):
    model = load_classifier(encoder_folder(), head=HeadShape(kind, pooling), dropout=0.5, **TASK).train(training)
    parts = split_classifier(model)
    torch.manual_seed(0)
    whole = model(**padded_batch).logits
    torch.manual_seed(0)
    torch.testing.assert_close(parts.classify(parts.encode(padded_batch)), whole)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", [HeadShape("linear", "mean"), HeadShape("hidden", "max", 5, "gelu")])
def test_save_and_open_change_nothing(
    family: str, shape: HeadShape, encoder_folder: Any, padded_batch: dict[str, Tensor], tmp_path: Path
):
    model = load_classifier(encoder_folder(family), head=shape, **TASK)
    model.save_pretrained(tmp_path / "run")
    opened = open_classifier(tmp_path / "run")
    assert all(torch.equal(tensor, opened.state_dict()[name]) for name, tensor in model.state_dict().items())
    with torch.inference_mode():
        assert torch.equal(opened(**padded_batch).logits, model(**padded_batch).logits)
    assert opened.config.id2label == dict(enumerate(LABELS))
    assert (longest_input(opened), accepted_inputs(opened)) == (longest_input(model), accepted_inputs(model))


def test_the_configuration_says_head_and_pooling_and_no_folder(encoder_folder: Any, tmp_path: Path):
    model = load_classifier(encoder_folder(), head=HeadShape("hidden", "mean", 5), dropout=0.25, **TASK)
    model.save_pretrained(tmp_path / "run")
    text = (tmp_path / "run" / "config.json").read_text()
    config = json.loads(text)
    expected = {
        "head": "hidden", "head_size": 5, "head_activation": "relu", "pooling": "mean", "classifier_dropout": 0.25,
        "model_type": "potstill_classifier", "architectures": ["PooledForSequenceClassification"],
    }  # fmt: skip
    assert {name: config[name] for name in expected} == expected
    assert config["encoder"]["model_type"] == "bert"
    assert str(tmp_path) not in text
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.slow
def test_plain_transformers_refuses_the_folder_and_draws_no_head(encoder_folder: Any, tmp_path: Path):
    # oracle: transformers in a process that does not know potstill
    load_classifier(encoder_folder(), head=HeadShape("linear", "mean"), **TASK).save_pretrained(tmp_path / "run")
    program = "import sys, transformers as t; t.AutoModelForSequenceClassification.from_pretrained(sys.argv[1])"
    command = [sys.executable, "-c", program, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode != 0
    assert "potstill_classifier" in done.stderr


@pytest.mark.parametrize("family", FAMILIES)
def test_the_encoder_is_the_checkpoints_and_the_head_is_drawn_by_the_seed(family: str, encoder_folder: Any):
    folder, shape = encoder_folder(family), HeadShape("hidden", "mean", 5)
    model, again, other = (
        load_classifier(folder, head=shape, **{**TASK, "seed": seed}).state_dict() for seed in (5, 5, 6)
    )
    plain = load_encoder(folder).state_dict()
    in_encoder = {name.removeprefix("encoder.") for name in model if name.startswith("encoder.")}
    assert in_encoder == {name for name in plain if not name.startswith("pooler.")}
    assert all(torch.equal(model[f"encoder.{name}"], plain[name]) for name in in_encoder)
    assert all(torch.equal(model[name], again[name]) for name in model)
    assert not torch.equal(model["head.out.weight"], other["head.out.weight"])
    assert not model["head.out.bias"].any()


def test_the_dropout_is_the_familys_own_unless_it_is_given(encoder_folder: Any):
    rates = {"bert": 0.1, "distilbert": 0.2}
    for family, rate in rates.items():
        folder, shape = encoder_folder(family), HeadShape("hidden")
        assert load_classifier(folder, head=shape, **TASK).head.dropout.p == rate
        assert load_classifier(folder, head=shape, dropout=0.0, **TASK).head.dropout.p == 0.0


def test_a_head_of_the_same_shape_and_labels_is_kept_and_else_drawn(encoder_folder: Any, tmp_path: Path):
    shape = HeadShape("hidden", "mean", 5)
    first = load_classifier(encoder_folder(), head=shape, **TASK)
    with torch.no_grad():
        first.head.out.bias.fill_(3.0)
    first.save_pretrained(tmp_path / "run")

    def opened(head: HeadShape | None, labels: tuple[str, ...] = LABELS) -> PreTrainedModel:
        return load_classifier(tmp_path / "run", head=head, **{**TASK, "label_names": labels})

    for kept in (opened(shape), opened(None)):
        assert all(torch.equal(tensor, kept.state_dict()[name]) for name, tensor in first.state_dict().items())
    for drawn in (opened(HeadShape("hidden", "max", 5)), opened(HeadShape("linear")), opened(shape, ("a", "b"))):
        assert not drawn.head.out.bias.any()
        assert torch.equal(drawn.encoder.embeddings.word_embeddings.weight, _words(first))


def _words(model: PreTrainedModel) -> Tensor:
    return model.base_model.embeddings.word_embeddings.weight


def test_a_classifier_of_transformers_gives_its_encoder(tiny_classifier: Any, tmp_path: Path):
    plain = tiny_classifier("distilbert")
    plain.config.problem_type = SINGLE
    plain.save_pretrained(tmp_path / "plain")
    model = load_classifier(tmp_path / "plain", head=HeadShape("linear", "mean"), **TASK)
    assert torch.equal(_words(model), _words(plain))
    assert isinstance(model.head.out, nn.Linear)


def test_it_is_no_masked_language_model(encoder_folder: Any, tmp_path: Path):
    load_classifier(encoder_folder(), head=HeadShape("linear"), **TASK).save_pretrained(tmp_path / "run")
    with pytest.raises(ModelError, match="cannot be opened as AutoModelForMaskedLM"):
        load_masked_lm(tmp_path / "run")


def test_a_tensor_that_is_not_in_the_file_is_an_error(encoder_folder: Any, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    load_classifier(encoder_folder(), head=HeadShape("linear"), **TASK).save_pretrained(tmp_path / "run")
    file = tmp_path / "run" / "model.safetensors"
    tensors = load_file(file)
    del tensors["head.out.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"does not hold all the tensors.*head\.out\.weight"):
        open_classifier(tmp_path / "run")


def test_attention_maps_and_states_come_through(encoder_folder: Any, padded_batch: dict[str, Tensor], tmp_path: Path):
    # oracle: the encoder's own outputs
    load_classifier(encoder_folder(), head=HeadShape("linear", "mean"), **TASK).save_pretrained(tmp_path / "run")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run", attn_implementation="eager").eval()
    plain = AutoModel.from_pretrained(encoder_folder(), attn_implementation="eager").eval()
    asked = {"output_attentions": True, "output_hidden_states": True}
    with torch.inference_mode():
        ours, expected = model(**padded_batch, **asked), plain(**padded_batch, **asked)
    for name in ("attentions", "hidden_states"):
        assert all(torch.equal(a, b) for a, b in zip(ours[name], expected[name], strict=True))
