"""Heads of ours as transformers' own; the oracle is the model with the head of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from potstill.models.own_head import with_own_head
from potstill.models.pooled_classifier import HeadShape
from potstill.models.teacher import load_classifier

TASK: dict[str, Any] = {
    "label_names": ("no", "yes", "maybe"), "problem_type": "single_label_classification", "seed": 5, "dropout": 0.3,
}  # fmt: skip
ACTIVATIONS = {
    "bert": "tanh", "distilbert": "relu", "roberta": "tanh", "xlm-roberta": "tanh", "camembert": "tanh",
    "electra": "gelu",
}  # fmt: skip


@pytest.fixture
def classifier(tiny_masked_lm: Any, tmp_path: Path) -> Any:
    """A classifier with a head of ours on a tiny encoder 32 wide."""

    def make(family: str, shape: HeadShape) -> Any:
        tiny_masked_lm(family).save_pretrained(tmp_path / family)
        model = load_classifier(tmp_path / family, head=shape, **TASK)
        with torch.no_grad():
            for parameter in model.head.parameters():
                parameter.add_(torch.randn_like(parameter))
        return model

    return make


@pytest.mark.parametrize("size", [5, 32, None])
@pytest.mark.parametrize("family", ACTIVATIONS)
def test_plain_transformers_opens_a_hidden_layer_that_its_own_head_can_hold(
    family: str, size: int | None, classifier: Any, padded_batch: dict[str, Tensor], tmp_path: Path
):
    model = classifier(family, HeadShape("hidden", "cls", size, ACTIVATIONS[family]))
    plain = with_own_head(model)
    plain.save_pretrained(tmp_path / "run")
    opened, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run", output_loading_info=True)
    assert type(opened).__name__ != type(model).__name__
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.inference_mode():
        torch.testing.assert_close(
            opened.eval()(**padded_batch).logits, model(**padded_batch).logits, atol=1e-5, rtol=1e-5
        )
    assert opened.config.id2label == model.config.id2label
    assert opened.config.problem_type == model.config.problem_type
    assert {m.p for n, m in opened.named_modules() if n in ("dropout", "classifier.dropout")} == {0.3}


@pytest.mark.parametrize(
    ("family", "shape"),
    [
        ("distilbert", HeadShape("linear")),
        ("distilbert", HeadShape("hidden", "mean")),
        ("distilbert", HeadShape("hidden", "cls", 33)),
        ("distilbert", HeadShape("hidden", "cls", 5, "tanh")),
        ("mpnet", HeadShape("hidden", "cls", 5, "tanh")),
    ],
)
def test_any_other_head_stays_as_it_is(family: str, shape: HeadShape, classifier: Any):
    model = classifier(family, shape)
    assert with_own_head(model) is model


def test_a_model_of_transformers_stays_as_it_is(tiny_classifier: Any):
    model = tiny_classifier("bert")
    assert with_own_head(model) is model
