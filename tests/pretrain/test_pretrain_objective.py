"""The masked-language-model objective against the whole model's own loss."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, BertConfig, DistilBertConfig, PreTrainedConfig, RobertaConfig

from potstill.pretrain.objective import MaskedLMObjective

SIZES = {"vocab_size": 40, "max_position_embeddings": 32}
WIDE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
CONFIGS = {
    "bert": BertConfig(**SIZES, **WIDE, initializer_range=0.3),
    "roberta": RobertaConfig(**SIZES, **WIDE, initializer_range=0.3),
    "distilbert": DistilBertConfig(**SIZES, dim=16, n_layers=2, n_heads=2, hidden_dim=32, initializer_range=0.3),
}
families = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def build_model(config: PreTrainedConfig) -> nn.Module:
    torch.manual_seed(1)
    return AutoModelForMaskedLM.from_config(config).eval()


@pytest.fixture
def batch() -> dict[str, Tensor]:
    """Texts of 8 and 5 tokens, three of them masked, padded with id 1."""
    attended = torch.arange(8) < torch.tensor([[8], [5]])
    input_ids = torch.randint(5, 40, (2, 8), generator=torch.Generator().manual_seed(2))
    labels = torch.full((2, 8), -100)
    labels[[0, 0, 1], [1, 6, 3]] = torch.tensor([11, 12, 13])
    return {
        "input_ids": torch.where(attended, input_ids, 1),
        "attention_mask": attended.long(),
        "token_type_ids": torch.zeros(2, 8, dtype=torch.long),
        "labels": labels,
    }


@families
def test_mean_and_gradient_equal_the_models_own_loss(config: PreTrainedConfig, batch: dict[str, Tensor]) -> None:
    model, objective = build_model(config), MaskedLMObjective()
    expected = model(**{name: batch[name] for name in ("input_ids", "attention_mask", "labels")}).loss
    expected.backward()
    expected_gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    found = objective(model, batch)["mlm"] / objective.counts(batch)["mlm"]
    found.backward()
    torch.testing.assert_close(found, expected)
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(model.get_parameter(name).grad, gradient, atol=1e-5, rtol=1e-4)


def test_vocabulary_is_projected_at_masked_positions_only(batch: dict[str, Tensor]) -> None:
    model, rows = build_model(CONFIGS["bert"]), []
    model.cls.predictions.transform.register_forward_pre_hook(lambda _, args: rows.append(args[0].shape[0]))
    MaskedLMObjective()(model, batch)
    assert rows == [3]


@families
def test_padding_and_labels_on_it_change_nothing(config: PreTrainedConfig, batch: dict[str, Tensor]) -> None:
    model, objective = build_model(config), MaskedLMObjective()
    filling = {"input_ids": 1, "attention_mask": 0, "token_type_ids": 0, "labels": 17}
    padded = {name: nn.functional.pad(tensor, (0, 4), value=filling[name]) for name, tensor in batch.items()}
    assert objective.counts(padded) == objective.counts(batch) == {"mlm": 3.0}
    torch.testing.assert_close(objective(model, padded), objective(model, batch), atol=1e-4, rtol=1e-5)


def test_texts_add_up(batch: dict[str, Tensor]) -> None:
    model, objective = build_model(CONFIGS["bert"]), MaskedLMObjective()
    apart = [objective(model, {name: tensor[[row]] for name, tensor in batch.items()})["mlm"] for row in (0, 1)]
    torch.testing.assert_close(sum(apart), objective(model, batch)["mlm"], atol=1e-4, rtol=1e-5)


def test_diagnostics_are_the_loss_and_how_often_the_first_choice_is_right(batch: dict[str, Tensor]) -> None:
    model, objective = build_model(CONFIGS["bert"]), MaskedLMObjective()
    masked = batch["labels"] != -100
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    first_choice = model(**inputs).logits.argmax(dim=-1)
    # one of the three labels is made the model's first choice, the others its neighbours
    answers = (first_choice[masked] + torch.tensor([0, 1, 1])) % 40
    answered = {**batch, "labels": batch["labels"].masked_scatter(masked, answers)}
    found = objective.diagnostics(model, answered)
    assert found["mlm_accuracy"] == (1.0, 3.0)
    assert found["mlm"] == (pytest.approx(objective(model, answered)["mlm"].item()), 3.0)


def test_nothing_masked_gives_zero_and_finite_gradients(batch: dict[str, Tensor]) -> None:
    model, objective = build_model(CONFIGS["bert"]), MaskedLMObjective()
    unmasked = {**batch, "labels": torch.full_like(batch["labels"], -100)}
    total = objective(model, unmasked)["mlm"]
    total.backward()
    assert float(total.detach()) == 0.0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_loss_is_float32_whatever_the_model_computes_in(batch: dict[str, Tensor]) -> None:
    model, objective = build_model(CONFIGS["bert"]), MaskedLMObjective()
    expected = objective(model, batch)["mlm"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = objective(model, batch)["mlm"]
    for found in (under_autocast, objective(model.bfloat16(), batch)["mlm"]):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, atol=0, rtol=0.05)


def test_another_model_is_not_mistaken_for_the_last_one(batch: dict[str, Tensor]) -> None:
    objective = MaskedLMObjective()
    first = objective(build_model(CONFIGS["bert"]), batch)["mlm"]
    second = objective(build_model(CONFIGS["distilbert"]), batch)["mlm"]
    torch.testing.assert_close(second, MaskedLMObjective()(build_model(CONFIGS["distilbert"]), batch)["mlm"])
    assert first.item() != pytest.approx(second.item())
