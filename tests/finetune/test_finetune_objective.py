"""Fine-tuning objectives against numbers worked by hand and the models' own losses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from potstill.errors import ModelError, RecipeError
from potstill.finetune.hard_loss import hard_loss
from potstill.finetune.objective import ClassificationObjective, TaskDistillationObjective, soft_loss
from potstill.records import PROBLEM_TYPES, ProblemType

SINGLE, MULTI, REGRESSION = PROBLEM_TYPES
LOG3 = math.log(3)
# the teacher says 3/4 where the student says 1/2
KL = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
every_problem = pytest.mark.parametrize("problem_type", PROBLEM_TYPES)


def n_outputs(problem_type: ProblemType) -> int:
    return 1 if problem_type == REGRESSION else 3


def build_teacher(problem_type: ProblemType, labels: int | None = None) -> BertForSequenceClassification:
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.5,
        num_labels=labels or n_outputs(problem_type),
        problem_type=problem_type,
    )
    return BertForSequenceClassification(config).train()


def build_student(problem_type: ProblemType) -> DistilBertForSequenceClassification:
    torch.manual_seed(2)
    config = DistilBertConfig(
        vocab_size=40,
        dim=16,
        n_layers=1,
        n_heads=2,
        hidden_dim=32,
        max_position_embeddings=32,
        initializer_range=0.5,
        dropout=0.0,
        attention_dropout=0.0,
        seq_classif_dropout=0.0,
        num_labels=n_outputs(problem_type),
        problem_type=problem_type,
    )
    return DistilBertForSequenceClassification(config).train()


def build_batch(problem_type: ProblemType) -> dict[str, Tensor]:
    """Four pairs of texts of 7, 5, 7 and 3 tokens, labelled in the types that ``Predictions.targets`` has."""
    attended = torch.arange(7) < torch.tensor([[7], [5], [7], [3]])
    labels = {
        SINGLE: torch.tensor([0, 2, 1, 2]),
        MULTI: torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]], dtype=torch.int8),
        REGRESSION: torch.tensor([0.5, -1.0, 2.0, 4.5]),
    }
    return {
        "input_ids": torch.randint(5, 40, (4, 7), generator=torch.Generator().manual_seed(3)) * attended,
        "attention_mask": attended.long(),
        "token_type_ids": ((torch.arange(7) > 1) & attended).long(),
        "labels": labels[problem_type],
    }


def logits_of(model: nn.Module, batch: dict[str, Tensor], *names: str) -> Tensor:
    with torch.no_grad():
        return model(**{name: batch[name] for name in ("input_ids", "attention_mask", *names)}).logits


def mean(objective: ClassificationObjective, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    counts = objective.counts(batch)
    terms = objective(model, batch)
    assert set(terms) == set(counts)
    return torch.stack([objective.weights[name] * total / counts[name] for name, total in terms.items()]).sum()


def test_hard_losses_equal_the_numbers_worked_by_hand() -> None:
    # softmax(0, log 3) = (1/4, 3/4)
    single = hard_loss(torch.tensor([[0.0, LOG3], [0.0, LOG3]]), torch.tensor([1, 0]), SINGLE)
    assert float(single) == pytest.approx(-math.log(3 / 4) - math.log(1 / 4), abs=1e-6)
    # σ(log 3) = 3/4 against 1, σ(0) = 1/2 against 0; mean over the two labels
    multi = hard_loss(torch.tensor([[LOG3, 0.0]]), torch.tensor([[1, 0]], dtype=torch.int8), MULTI)
    assert float(multi) == pytest.approx((-math.log(3 / 4) - math.log(1 / 2)) / 2, abs=1e-6)
    # (2 − 1)² + (0 − 3)²
    assert float(hard_loss(torch.tensor([[2.0], [0.0]]), torch.tensor([1.0, 3.0]), REGRESSION)) == 10.0


def test_soft_losses_equal_the_numbers_worked_by_hand() -> None:
    # at T = 2 logits of 2 log 3 soften to a probability of 3/4; the factor is 2²
    single = soft_loss(torch.zeros(1, 2), torch.tensor([[2 * LOG3, 0.0]]), SINGLE, 2.0)
    assert float(single) == pytest.approx(4 * KL, abs=1e-6)
    # two labels, one on which both agree: mean over the labels
    multi = soft_loss(torch.zeros(1, 2), torch.tensor([[2 * LOG3, 0.0]]), MULTI, 2.0)
    assert float(multi) == pytest.approx(4 * KL / 2, abs=1e-6)
    assert float(soft_loss(torch.tensor([[1.0], [0.0]]), torch.tensor([[4.0], [2.0]]), REGRESSION, 2.0)) == 13.0


@every_problem
def test_soft_and_hard_loss_agree_on_a_teacher_that_is_as_sure_as_a_label(problem_type: ProblemType) -> None:
    # a teacher with all its mass on the label has no entropy: its KL at T = 1 is the loss against the label
    batch = build_batch(problem_type)
    sure = {
        SINGLE: nn.functional.one_hot(batch["labels"].long(), 3).float() * 80 if problem_type == SINGLE else None,
        MULTI: batch["labels"].float() * 160 - 80,
        REGRESSION: batch["labels"].reshape(-1, 1).float() if problem_type == REGRESSION else None,
    }[problem_type]
    assert sure is not None
    logits = logits_of(build_student(problem_type), batch)
    expected = hard_loss(logits, batch["labels"], problem_type)
    torch.testing.assert_close(soft_loss(logits, sure, problem_type, 1.0), expected, atol=1e-4, rtol=1e-4)


@every_problem
def test_classification_mean_equals_the_models_own_loss(problem_type: ProblemType) -> None:
    student, batch = build_student(problem_type), build_batch(problem_type)
    labels = batch["labels"].long() if problem_type == SINGLE else batch["labels"].float()
    own = student(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
    torch.testing.assert_close(mean(ClassificationObjective(problem_type), student, batch), own)


@every_problem
def test_distillation_is_the_stated_mixture(problem_type: ProblemType) -> None:
    student, teacher, batch = build_student(problem_type), build_teacher(problem_type), build_batch(problem_type)
    objective = TaskDistillationObjective(teacher, problem_type, alpha=0.3, temperature=2.0)
    learnt = logits_of(student, batch)
    taught = logits_of(teacher, batch, "token_type_ids")
    hard = hard_loss(learnt, batch["labels"], problem_type)
    soft = soft_loss(learnt, taught, problem_type, 2.0)
    torch.testing.assert_close(mean(objective, student, batch).detach(), (0.7 * hard + 0.3 * soft) / 4)


@every_problem
def test_logits_that_a_batch_brings_along_stand_for_the_teacher(problem_type: ProblemType) -> None:
    student, batch = build_student(problem_type), build_batch(problem_type)
    objective = TaskDistillationObjective(build_teacher(problem_type), problem_type, alpha=0.3)
    expected = objective(student, batch)
    brought = {**batch, "teacher_logits": logits_of(build_teacher(problem_type).eval(), batch, "token_type_ids")}
    objective.teacher = None
    torch.testing.assert_close(objective(student, brought), expected)


@every_problem
def test_a_share_of_zero_equals_no_teacher(problem_type: ProblemType) -> None:
    student, batch = build_student(problem_type), build_batch(problem_type)
    without = ClassificationObjective(problem_type)
    objective = TaskDistillationObjective(build_teacher(problem_type), problem_type, alpha=0.0)
    assert objective.counts(batch) == without.counts(batch) == {"hard": 4.0}
    torch.testing.assert_close(objective(student, batch), without(student, batch), atol=0, rtol=0)


def test_a_share_of_one_needs_no_labels() -> None:
    student, batch = build_student(SINGLE), build_batch(SINGLE)
    objective = TaskDistillationObjective(build_teacher(SINGLE), SINGLE, alpha=1.0)
    del batch["labels"]
    assert objective.counts(batch) == {"soft": 4.0}
    assert set(objective(student, batch)) == {"soft"}


@every_problem
def test_examples_add_up(problem_type: ProblemType) -> None:
    student, batch = build_student(problem_type), build_batch(problem_type)
    objective = TaskDistillationObjective(build_teacher(problem_type), problem_type)
    halves = [{name: tensor[rows] for name, tensor in batch.items()} for rows in (slice(0, 1), slice(1, 4))]
    for name, total in objective(student, batch).items():
        torch.testing.assert_close(sum(objective(student, half)[name] for half in halves), total, atol=1e-4, rtol=1e-5)


def test_teacher_stays_frozen_and_in_evaluation_mode() -> None:
    student, teacher, batch = build_student(SINGLE), build_teacher(SINGLE), build_batch(SINGLE)
    objective = TaskDistillationObjective(teacher, SINGLE)
    student.train()
    before = mean(objective, student, batch).item()
    teacher.train()  # with dropout 0.1 the soft term would move
    loss = mean(objective, student, batch)
    loss.backward()
    assert float(loss.detach()) == before
    assert not any(module.training for module in teacher.modules())
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert float(student.classifier.weight.grad.abs().sum()) > 0


def test_teacher_gets_token_types_that_the_student_does_not_take() -> None:
    student, teacher, batch = build_student(SINGLE), build_teacher(SINGLE), build_batch(SINGLE)
    objective = TaskDistillationObjective(teacher, SINGLE, alpha=1.0)
    fed = objective(student, batch)["soft"].item()
    taught = logits_of(teacher, batch, "token_type_ids")
    assert fed == pytest.approx(float(soft_loss(logits_of(student, batch), taught, SINGLE, 2.0)), rel=1e-4)
    starved = {name: tensor for name, tensor in batch.items() if name != "token_type_ids"}
    assert fed != pytest.approx(objective(student, starved)["soft"].item(), rel=1e-3)


@every_problem
def test_bfloat16_autocast_gives_float32_terms(problem_type: ProblemType) -> None:
    student, batch = build_student(problem_type), build_batch(problem_type)
    objective = TaskDistillationObjective(build_teacher(problem_type), problem_type)
    expected = objective(student, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = objective(student, batch)
    assert {total.dtype for total in found.values()} == {torch.float32}
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.1)


def test_diagnostics_are_the_terms_and_their_counts() -> None:
    student, batch = build_student(MULTI), build_batch(MULTI)
    objective = TaskDistillationObjective(build_teacher(MULTI), MULTI)
    terms = objective(student, batch)
    expected = {name: (pytest.approx(total.item()), 4.0) for name, total in terms.items()}
    assert objective.diagnostics(student, batch) == expected


@pytest.mark.parametrize("choices", [{"alpha": -0.1}, {"alpha": 1.1}, {"alpha": float("nan")}, {"temperature": 0.0}])
def test_shares_and_temperatures_that_cannot_be_meant_are_refused(choices: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="not usable"):
        TaskDistillationObjective(build_teacher(SINGLE), SINGLE, **choices)


def test_an_unknown_problem_type_is_refused() -> None:
    with pytest.raises(RecipeError, match="problem type"):
        ClassificationObjective("ranking")  # type: ignore[arg-type]


def test_a_teacher_of_another_task_is_refused() -> None:
    with pytest.raises(ModelError, match="another problem"):
        TaskDistillationObjective(build_teacher(MULTI), SINGLE)
    teacher = build_teacher(SINGLE)
    teacher.config.id2label = {0: "news", 1: "sport", 2: "art"}
    TaskDistillationObjective(teacher, SINGLE, label_names=("news", "sport", "art"))
    with pytest.raises(ModelError, match="in the task's order"):
        TaskDistillationObjective(teacher, SINGLE, label_names=("sport", "news", "art"))
    other_size = TaskDistillationObjective(build_teacher(SINGLE, labels=5), SINGLE)
    with pytest.raises(ModelError, match="different numbers of outputs"):
        other_size(build_student(SINGLE), build_batch(SINGLE))
