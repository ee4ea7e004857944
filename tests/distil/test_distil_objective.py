"""The distillation objective against a plain reference, and the properties that make its scale trustworthy."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM

from potstill.distil.objective import (
    ORIGINAL_KL_POSITIONS,
    ORIGINAL_TEMPERATURE,
    ORIGINAL_WEIGHTS,
    DistillationObjective,
)
from potstill.errors import ModelError, RecipeError

VOCABULARY = 40
EVERYTHING = {"kl": 5.0, "mlm": 2.0, "cosine": 1.0, "logit_mse": 0.5, "hidden_mse": 0.1}
PAIRS = [(0, 0), (1, 2)]


@pytest.fixture
def teacher() -> BertForMaskedLM:
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.5,
    )
    return BertForMaskedLM(config)


def build_student(width: int = 16, vocabulary: int = VOCABULARY, dropout: float = 0.0) -> DistilBertForMaskedLM:
    torch.manual_seed(2)
    config = DistilBertConfig(
        vocab_size=vocabulary,
        dim=width,
        n_layers=1,
        n_heads=2,
        hidden_dim=32,
        max_position_embeddings=32,
        dropout=dropout,
        attention_dropout=dropout,
        initializer_range=0.5,
    )
    return DistilBertForMaskedLM(config).train()


@pytest.fixture
def student() -> DistilBertForMaskedLM:
    return build_student()


@pytest.fixture
def batch() -> dict[str, Tensor]:
    """Four pairs of texts of 9, 6, 4 and 9 tokens; the first and the last token are special."""
    generator = torch.Generator().manual_seed(3)
    lengths = torch.tensor([[9], [6], [4], [9]])
    attended = torch.arange(9) < lengths
    input_ids = torch.randint(5, VOCABULARY, (4, 9), generator=generator) * attended
    masked = torch.zeros(4, 9, dtype=torch.bool)
    masked[[0, 0, 1, 3], [2, 5, 3, 7]] = True
    original = torch.randint(5, VOCABULARY, (4, 9), generator=generator)
    return {
        "input_ids": torch.where(masked, 4, input_ids),
        "attention_mask": attended.long(),
        "token_type_ids": ((torch.arange(9) > 2) & attended).long(),
        "labels": torch.where(masked, original, -100),
    }


def inputs_of(batch: Mapping[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: batch[name] for name in ("input_ids", "attention_mask", *names)}


def means(objective: DistillationObjective, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, float]:
    counts = objective.counts(batch)
    return {name: float(total.detach()) / counts[name] for name, total in objective(model, batch).items()}


def gradients(objective: DistillationObjective, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    model.zero_grad()
    terms = objective(model, batch)
    torch.stack([objective.weights[name] * total for name, total in terms.items()]).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def with_more_padding(batch: Mapping[str, Tensor], n: int) -> dict[str, Tensor]:
    """The same texts with ``n`` more positions of padding, filled with tokens that must not matter."""
    noise = {"input_ids": 7, "attention_mask": 0, "token_type_ids": 1, "labels": -100}
    return {name: nn.functional.pad(tensor, (0, n), value=noise[name]) for name, tensor in batch.items()}


@contextmanager
def recorded_calls(module: nn.Module) -> Iterator[list[tuple[tuple[Any, ...], dict[str, Any]]]]:
    """The arguments of every call of ``module`` inside the block."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    handle = module.register_forward_pre_hook(lambda _, args, kw: calls.append((args, kw)), with_kwargs=True)
    yield calls
    handle.remove()


def reference_triple_loss(teacher: nn.Module, student: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """5·KL at T = 2 + 2·MLM + 1·cosine, written from the published description with torch's own loss modules."""
    with torch.no_grad():
        taught = teacher(**inputs_of(batch, "token_type_ids"), output_hidden_states=True)
    learnt = student(**inputs_of(batch), output_hidden_states=True)
    keep = batch["attention_mask"].bool()
    soft = nn.KLDivLoss(reduction="batchmean")(
        torch.log_softmax(learnt.logits[keep] / 2, dim=-1), torch.softmax(taught.logits[keep] / 2, dim=-1)
    )
    hard = nn.CrossEntropyLoss(ignore_index=-100)(learnt.logits.flatten(0, 1), batch["labels"].flatten())
    ones = torch.ones(int(keep.sum()))
    cosine = nn.CosineEmbeddingLoss()(learnt.hidden_states[-1][keep], taught.hidden_states[-1][keep], ones)
    return 5 * 2**2 * soft + 2 * hard + cosine


def test_triple_loss_and_its_gradient_equal_the_published_description(
    teacher: BertForMaskedLM, student: DistilBertForMaskedLM, batch: dict[str, Tensor]
) -> None:
    teacher.eval()
    expected = reference_triple_loss(teacher, student, batch)
    expected.backward()
    expected_gradients = {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}
    student.zero_grad()

    objective = DistillationObjective(
        teacher, ORIGINAL_WEIGHTS, temperature=ORIGINAL_TEMPERATURE, kl_positions=ORIGINAL_KL_POSITIONS
    )
    counts = objective.counts(batch)
    loss = sum(objective.weights[name] * total / counts[name] for name, total in objective(student, batch).items())
    loss.backward()
    torch.testing.assert_close(loss, expected)
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(student.get_parameter(name).grad, gradient, atol=1e-5, rtol=1e-4)


def test_counts_are_attended_tokens_and_masked_tokens(teacher: BertForMaskedLM, batch: dict[str, Tensor]) -> None:
    # 9 + 6 + 4 + 9 = 28 tokens with the special ones, 4 of them masked
    attended = DistillationObjective(teacher, EVERYTHING, layer_pairs=PAIRS)
    assert attended.counts(batch) == {"kl": 28, "mlm": 4, "cosine": 28, "logit_mse": 28, "hidden_mse": 28}
    masked = DistillationObjective(teacher, EVERYTHING, layer_pairs=PAIRS, kl_positions="masked")
    assert masked.counts(batch) == {"kl": 4, "mlm": 4, "cosine": 28, "logit_mse": 4, "hidden_mse": 28}


@pytest.mark.parametrize("kl_positions", ["attended", "masked"])
def test_padding_changes_nothing(
    teacher: BertForMaskedLM, student: DistilBertForMaskedLM, batch: dict[str, Tensor], kl_positions: Any
) -> None:
    objective = DistillationObjective(teacher, EVERYTHING, layer_pairs=PAIRS, kl_positions=kl_positions)
    padded = with_more_padding(batch, 5)
    assert objective.counts(padded) == objective.counts(batch)
    assert means(objective, student, padded) == pytest.approx(means(objective, student, batch), rel=1e-4)


def test_kl_never_sees_padding(
    teacher: BertForMaskedLM, student: DistilBertForMaskedLM, batch: dict[str, Tensor]
) -> None:
    """Pitfall 6: 28 of 36 positions are text; a KL over all 36 is another number."""
    objective = DistillationObjective(teacher, {"kl": 1.0}, temperature=1.0)
    with torch.no_grad():
        taught = torch.log_softmax(teacher(**inputs_of(batch, "token_type_ids")).logits, dim=-1)
        learnt = torch.log_softmax(student(**inputs_of(batch)).logits, dim=-1)
    per_token = (taught.exp() * (taught - learnt)).sum(dim=-1)
    text = batch["attention_mask"].bool()
    found = float(objective(student, batch)["kl"].detach())
    assert found == pytest.approx(float(per_token[text].sum()), rel=1e-4)
    assert found != pytest.approx(float(per_token.sum()), rel=1e-2)


def test_labels_on_padding_do_not_count(
    teacher: BertForMaskedLM, student: DistilBertForMaskedLM, batch: dict[str, Tensor]
) -> None:
    objective = DistillationObjective(teacher, {"mlm": 1.0, "kl": 1.0}, kl_positions="masked")
    labels = torch.where(batch["attention_mask"].bool(), batch["labels"], 9)
    assert objective.counts({**batch, "labels": labels}) == objective.counts(batch)
    assert means(objective, student, {**batch, "labels": labels}) == means(objective, student, batch)


def test_zero_weight_equals_an_absent_term(
    teacher: BertForMaskedLM, student: DistilBertForMaskedLM, batch: dict[str, Tensor]
) -> None:
    zero = DistillationObjective(teacher, {**EVERYTHING, "kl": 0.0, "hidden_mse": 0.0}, layer_pairs=PAIRS)
    absent = DistillationObjective(teacher, {k: v for k, v in EVERYTHING.items() if k not in ("kl", "hidden_mse")})
    assert zero.counts(batch) == absent.counts(batch)
    assert set(zero(student, batch)) == {"mlm", "cosine", "logit_mse"}
    expected = gradients(absent, student, batch)
    for name, gradient in gradients(zero, student, batch).items():
        torch.testing.assert_close(gradient, expected[name], atol=0, rtol=0)


def test_teacher_is_not_run_when_no_term_asks_for_it(
    teacher: BertForMaskedLM, student: DistilBertForMaskedLM, batch: dict[str, Tensor]
) -> None:
    objective = DistillationObjective(teacher, {"mlm": 1.0})
    with recorded_calls(teacher.bert) as calls:
        objective(student, batch)
    assert calls == []


def test_teacher_stays_frozen_and_in_evaluation_mode(
    teacher: BertForMaskedLM, student: DistilBertForMaskedLM, batch: dict[str, Tensor]
) -> None:
    objective = DistillationObjective(teacher.train(), EVERYTHING, layer_pairs=PAIRS)
    student.train()
    before = means(objective, student, batch)
    teacher.train()  # with dropout 0.1 the terms would move
    student_gradients = gradients(objective, student, batch)
    assert means(objective, student, batch) == before
    assert not any(module.training for module in teacher.modules())
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert any(float(gradient.abs().sum()) > 0 for gradient in student_gradients.values())


def test_teacher_gets_token_types_that_the_student_does_not_take(
    teacher: BertForMaskedLM, student: DistilBertForMaskedLM, batch: dict[str, Tensor]
) -> None:
    objective = DistillationObjective(teacher, {"kl": 1.0, "cosine": 1.0})
    with recorded_calls(teacher.bert) as taught, recorded_calls(student.distilbert) as learnt:
        starved = {name: tensor for name, tensor in batch.items() if name != "token_type_ids"}
        with_types, without = means(objective, student, batch), means(objective, student, starved)
    assert torch.equal(taught[0][1]["token_type_ids"], batch["token_type_ids"])
    assert "token_type_ids" not in learnt[0][1]
    assert with_types != pytest.approx(without, rel=1e-3)


def test_vocabulary_is_projected_only_at_the_tokens_needed(
    teacher: BertForMaskedLM, student: DistilBertForMaskedLM, batch: dict[str, Tensor]
) -> None:
    for kl_positions, n_rows in (("attended", 28), ("masked", 4)):
        objective = DistillationObjective(teacher, ORIGINAL_WEIGHTS, kl_positions=kl_positions)
        with (
            recorded_calls(teacher.cls.predictions.transform) as taught,
            recorded_calls(student.vocab_transform) as learnt,
        ):
            objective(student, batch)
        assert [args[0].shape[0] for args, _ in (*taught, *learnt)] == [n_rows, n_rows]


@pytest.mark.parametrize("kl_positions", ["attended", "masked"])
def test_a_batch_split_in_two_gives_the_same_sums(
    teacher: BertForMaskedLM, student: DistilBertForMaskedLM, batch: dict[str, Tensor], kl_positions: Any
) -> None:
    objective = DistillationObjective(teacher, EVERYTHING, layer_pairs=PAIRS, kl_positions=kl_positions)
    halves = [{name: tensor[rows] for name, tensor in batch.items()} for rows in (slice(0, 1), slice(1, 4))]
    for name, total in objective(student, batch).items():
        torch.testing.assert_close(sum(objective(student, half)[name] for half in halves), total, atol=1e-4, rtol=1e-5)
        assert sum(objective.counts(half)[name] for half in halves) == objective.counts(batch)[name]


@pytest.mark.parametrize("kl_positions", ["attended", "masked"])
def test_batches_divided_by_the_units_of_their_step_add_up_to_the_gradient_of_one_batch(
    teacher: BertForMaskedLM, student: DistilBertForMaskedLM, batch: dict[str, Tensor], kl_positions: Any
) -> None:
    # the share of masked tokens differs between the halves: no batch knows its weights before its step does
    objective = DistillationObjective(teacher, ORIGINAL_WEIGHTS, kl_positions=kl_positions)
    counts = objective.counts(batch)
    found = []
    for parts in ((slice(0, 4),), (slice(0, 1), slice(1, 4))):
        student.zero_grad()
        for rows in parts:
            terms = objective(student, {name: tensor[rows] for name, tensor in batch.items()})
            torch.stack([objective.weights[name] * terms[name] / counts[name] for name in terms]).sum().backward()
        found.append({name: p.grad for name, p in student.named_parameters() if p.grad is not None})
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-4)


def test_a_student_that_is_its_teacher_has_nothing_to_learn_but_the_tokens(
    teacher: BertForMaskedLM, batch: dict[str, Tensor]
) -> None:
    twin = copy.deepcopy(teacher).eval()
    objective = DistillationObjective(teacher, EVERYTHING, layer_pairs=[(1, 1), (3, 3)])
    found = means(objective, twin, batch)
    assert found.pop("mlm") > 0.1
    assert found == pytest.approx(dict.fromkeys(found, 0.0), abs=1e-5)
    diagnostics = objective.diagnostics(twin, batch)
    assert diagnostics["agreement"] == (4.0, 4.0)


def test_hidden_mse_of_equal_widths_compares_the_named_layers_without_a_projection(
    teacher: BertForMaskedLM, student: DistilBertForMaskedLM, batch: dict[str, Tensor]
) -> None:
    objective = DistillationObjective(teacher, {"hidden_mse": 1.0}, layer_pairs=PAIRS)
    assert objective.modules is None
    taught = teacher(**inputs_of(batch, "token_type_ids"), output_hidden_states=True).hidden_states
    learnt = student(**inputs_of(batch), output_hidden_states=True).hidden_states
    keep = batch["attention_mask"].bool()
    expected = sum(nn.functional.mse_loss(learnt[s][keep], taught[t][keep]).item() for s, t in PAIRS)
    assert means(objective, student, batch)["hidden_mse"] == pytest.approx(expected, rel=1e-4)


def test_a_narrower_student_learns_through_projections_that_learn_too(
    teacher: BertForMaskedLM, batch: dict[str, Tensor]
) -> None:
    narrow = build_student(width=8)
    objective = DistillationObjective(teacher, {"hidden_mse": 1.0}, layer_pairs=PAIRS, student_width=8)
    assert objective.modules is not None
    objective(narrow, batch)["hidden_mse"].backward()
    weights = dict(objective.modules.named_parameters())
    assert {tuple(weight.shape) for weight in weights.values()} == {(16, 8)}
    assert len(weights) == len(PAIRS)
    assert all(weight.grad is not None and float(weight.grad.abs().sum()) > 0 for weight in weights.values())
    assert float(narrow.distilbert.embeddings.word_embeddings.weight.grad.abs().sum()) > 0


def test_projections_depend_on_their_seed_alone_and_disturb_no_other_draw(teacher: BertForMaskedLM) -> None:
    def draw(seed: int) -> Tensor:
        objective = DistillationObjective(teacher, {"hidden_mse": 1.0}, layer_pairs=PAIRS, student_width=8, seed=seed)
        assert objective.modules is not None
        return torch.cat([p.detach().flatten() for p in objective.modules.parameters()])

    torch.manual_seed(11)
    state = torch.get_rng_state()
    first = draw(5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(12)
    assert torch.equal(draw(5), first)
    assert not torch.equal(draw(6), first)


def test_one_objective_serves_several_students(
    teacher: BertForMaskedLM, student: DistilBertForMaskedLM, batch: dict[str, Tensor]
) -> None:
    objective = DistillationObjective(teacher, {"kl": 1.0, "mlm": 1.0})
    other = copy.deepcopy(teacher)
    first, second = means(objective, student, batch), means(objective, other, batch)
    assert second == means(DistillationObjective(teacher, {"kl": 1.0, "mlm": 1.0}), other, batch)
    assert second["kl"] == pytest.approx(0.0, abs=1e-5)
    assert first["kl"] > 0.1


def test_diagnostics_equal_what_the_whole_models_say(
    teacher: BertForMaskedLM, student: DistilBertForMaskedLM, batch: dict[str, Tensor]
) -> None:
    objective = DistillationObjective(teacher, {"cosine": 1.0})
    found = objective.diagnostics(student.eval(), batch)
    masked = batch["labels"] != -100
    taught = teacher(**inputs_of(batch, "token_type_ids")).logits[masked].argmax(dim=-1)
    learnt = student(**inputs_of(batch), labels=batch["labels"])
    first_choice = learnt.logits[masked].argmax(dim=-1)
    assert set(found) == {"cosine", "mlm", "mlm_accuracy", "agreement"}
    assert found["mlm"] == (pytest.approx(4 * learnt.loss.item(), rel=1e-4), 4.0)
    assert found["agreement"] == (float((first_choice == taught).sum()), 4.0)
    assert found["mlm_accuracy"] == (float((first_choice == batch["labels"][masked]).sum()), 4.0)
    assert found["cosine"] == (pytest.approx(objective(student, batch)["cosine"].item(), rel=1e-5), 28.0)


@pytest.mark.parametrize("kl_positions", ["attended", "masked"])
def test_a_batch_without_masked_tokens_adds_zero(
    teacher: BertForMaskedLM, student: DistilBertForMaskedLM, batch: dict[str, Tensor], kl_positions: Any
) -> None:
    objective = DistillationObjective(teacher, {"kl": 1.0, "mlm": 1.0}, kl_positions=kl_positions)
    unmasked = {**batch, "labels": torch.full_like(batch["labels"], -100)}
    assert objective.counts(unmasked)["mlm"] == 0
    assert objective(student, unmasked)["mlm"].item() == 0.0
    assert all(torch.isfinite(gradient).all() for gradient in gradients(objective, student, unmasked).values())


def test_bfloat16_autocast_stays_close_to_float32(teacher: BertForMaskedLM, batch: dict[str, Tensor]) -> None:
    narrow = build_student(width=8)
    weights = {"kl": 5.0, "mlm": 2.0, "logit_mse": 1.0, "hidden_mse": 1.0}
    objective = DistillationObjective(teacher, weights, layer_pairs=PAIRS, student_width=8)
    expected = means(objective, narrow, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = objective(narrow, batch)
    assert {total.dtype for total in terms.values()} == {torch.float32}
    torch.stack(list(terms.values())).sum().backward()
    counts = objective.counts(batch)
    found = {name: total.item() / counts[name] for name, total in terms.items()}
    assert found == pytest.approx(expected, rel=0.05)


def test_reverse_kl_is_another_number(
    teacher: BertForMaskedLM, student: DistilBertForMaskedLM, batch: dict[str, Tensor]
) -> None:
    forward = DistillationObjective(teacher, {"kl": 1.0}, temperature=1.0)
    reverse = DistillationObjective(teacher, {"kl": 1.0}, temperature=1.0, kl_direction="reverse")
    keep = batch["attention_mask"].bool()
    taught = torch.log_softmax(teacher(**inputs_of(batch, "token_type_ids")).logits[keep], dim=-1)
    learnt = torch.log_softmax(student(**inputs_of(batch)).logits[keep], dim=-1)
    expected = (learnt.exp() * (learnt - taught)).sum().item()
    assert reverse(student, batch)["kl"].item() == pytest.approx(expected, rel=1e-4)
    assert forward(student, batch)["kl"].item() != pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"weights": {"ce": 1.0}}, "no such distillation term"),
        ({"weights": {"kl": -1.0}}, "not usable"),
        ({"weights": {"kl": float("nan")}}, "not usable"),
        ({"weights": {"kl": 0.0}}, "every weight"),
        ({"temperature": 0.0}, "temperature"),
        ({"kl_positions": "all"}, "kl_positions"),
        ({"kl_direction": "sideways"}, "kl_direction"),
        ({"weights": {"hidden_mse": 1.0}}, "no layer pairs"),
        ({"weights": {"hidden_mse": 1.0}, "layer_pairs": [(1, 4)]}, "not there"),
        ({"weights": {"hidden_mse": 1.0}, "layer_pairs": [(-1, 1)]}, "not there"),
        ({"weights": {"hidden_mse": 1.0}, "layer_pairs": [(1, 1), (1, 1)]}, "twice"),
    ],
)
def test_choices_that_cannot_be_meant_are_refused(
    teacher: BertForMaskedLM, choices: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        DistillationObjective(teacher, **{"weights": {"kl": 1.0}, **choices})


def test_shapes_that_do_not_allow_a_term_are_refused(teacher: BertForMaskedLM, batch: dict[str, Tensor]) -> None:
    with pytest.raises(ModelError, match="as wide as its teacher"):
        DistillationObjective(teacher, {"cosine": 1.0}, student_width=8)
    with pytest.raises(ModelError, match="the term cosine"):
        DistillationObjective(teacher, {"cosine": 1.0})(build_student(width=8), batch)
    with pytest.raises(ModelError, match="the term kl"):
        DistillationObjective(teacher, {"kl": 1.0})(build_student(vocabulary=VOCABULARY + 8), batch)
    with pytest.raises(ModelError, match="layer that is not there"):
        DistillationObjective(teacher, {"hidden_mse": 1.0}, layer_pairs=[(2, 2)])(build_student(), batch)
