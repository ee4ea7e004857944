"""Weighted and focal losses against torch's own weighted losses and numbers worked by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from potstill.errors import RecipeError
from potstill.finetune.hard_loss import HardLoss, hard_loss
from potstill.finetune.objective import ClassificationObjective
from potstill.records import PROBLEM_TYPES

SINGLE, MULTI, REGRESSION = PROBLEM_TYPES


@pytest.fixture
def single() -> tuple[Tensor, Tensor]:
    """Twenty rows of three classes."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(20, 3, generator=generator), torch.randint(0, 3, (20,), generator=generator)


@pytest.fixture
def multi() -> tuple[Tensor, Tensor]:
    """Twenty rows of four labels, as ``Predictions.targets`` has them."""
    generator = torch.Generator().manual_seed(2)
    return torch.randn(20, 4, generator=generator), torch.randint(0, 2, (20, 4), generator=generator).to(torch.int8)


def test_a_focus_of_zero_is_cross_entropy(single: Any, multi: Any):
    # oracle: torch's losses
    logits, targets = single
    assert HardLoss(SINGLE).mean(logits, targets) == pytest.approx(float(F.cross_entropy(logits, targets)))
    logits, targets = multi
    expected = F.binary_cross_entropy_with_logits(logits, targets.float())
    assert HardLoss(MULTI).mean(logits, targets) == pytest.approx(float(expected))


def test_the_focal_loss_is_the_number_worked_by_hand():
    # oracle: p = 0.9 of what is true; 0.1² · −ln 0.9 = 0.0010536, and with γ = 0.5 √0.1 · −ln 0.9
    logits = torch.tensor([[math.log(9.0), 0.0]])
    by_hand = 0.01 * -math.log(0.9)
    assert float(hard_loss(logits, torch.tensor([0]), SINGLE, gamma=2.0)) == pytest.approx(by_hand, rel=1e-5)
    assert by_hand == pytest.approx(0.0010536, rel=1e-4)
    half = float(hard_loss(logits, torch.tensor([0]), SINGLE, gamma=0.5))
    assert half == pytest.approx(math.sqrt(0.1) * -math.log(0.9), rel=1e-5)


def test_the_focal_loss_of_many_labels_is_the_mean_over_them_worked_by_hand():
    # oracle: one label given with p = 0.9, one not given with p = 0.5 of being so
    logits, targets = torch.tensor([[math.log(9.0), 0.0]]), torch.tensor([[1, 0]], dtype=torch.int8)
    by_hand = (0.1**2 * -math.log(0.9) + 0.5**2 * math.log(2.0)) / 2
    assert float(hard_loss(logits, targets, MULTI, gamma=2.0)) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("problem_type", [SINGLE, MULTI])
def test_what_is_decided_for_good_has_a_loss_and_a_gradient_that_are_numbers(problem_type: Any, gamma: float):
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    targets = torch.tensor([0, 0]) if problem_type == SINGLE else torch.tensor([[1, 0], [1, 0]])
    loss = hard_loss(logits, targets, problem_type, gamma=gamma)
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_weights_of_classes_give_torchs_weighted_mean(single: Any):
    # oracle: torch's CrossEntropyLoss with weights, which divides by the sum of the weights that were met
    logits, targets = single
    weights = torch.tensor([0.2, 1.0, 3.5])
    expected = F.cross_entropy(logits, targets, weight=weights)
    assert HardLoss(SINGLE, weights).mean(logits, targets) == pytest.approx(float(expected))


def test_weights_of_labels_give_torchs_mean_with_weights_of_positives(multi: Any):
    # oracle: torch's BCEWithLogitsLoss with pos_weight
    logits, targets = multi
    positive = torch.tensor([0.5, 1.0, 4.0, 9.0])
    expected = F.binary_cross_entropy_with_logits(logits, targets.float(), pos_weight=positive)
    weights = torch.stack([torch.ones(4), positive], dim=1)
    assert HardLoss(MULTI, weights).mean(logits, targets) == pytest.approx(float(expected))


def test_both_sides_of_a_label_are_weighed():
    # oracle: worked by hand, ln 2 at logit 0: 3 · ln 2 of the one that is given, ½ · ln 2 of the one that is not
    weights = torch.tensor([[9.0, 3.0], [0.5, 9.0]])
    found = hard_loss(torch.zeros(1, 2), torch.tensor([[1, 0]]), MULTI, label_weights=weights)
    assert float(found) == pytest.approx((3.0 + 0.5) * math.log(2.0) / 2)


@pytest.mark.parametrize("problem_type", [SINGLE, MULTI])
def test_equal_weights_equal_none(problem_type: Any, single: Any, multi: Any):
    logits, targets = single if problem_type == SINGLE else multi
    shape = (3,) if problem_type == SINGLE else (4, 2)
    weighed = HardLoss(problem_type, torch.full(shape, 1.0), 1.5)
    assert weighed.mean(logits, targets) == pytest.approx(HardLoss(problem_type, None, 1.5).mean(logits, targets))


@pytest.mark.parametrize("problem_type", [SINGLE, MULTI])
def test_a_step_cut_into_batches_has_the_mean_of_the_whole(problem_type: Any, single: Any, multi: Any):
    # oracle: sums and counts of the parts, added up; the second part holds two rows
    logits, targets = single if problem_type == SINGLE else multi
    weights = torch.tensor([0.1, 0.2, 0.4]) if problem_type == SINGLE else torch.rand(4, 2)
    loss = HardLoss(problem_type, weights, 2.0)
    cuts = [slice(0, 18), slice(18, 20)]
    total = sum(float(loss(logits[cut], targets[cut])) for cut in cuts)
    assert total / sum(loss.count(targets[cut]) for cut in cuts) == pytest.approx(loss.mean(logits, targets))


def test_a_class_of_weight_zero_is_not_learnt(single: Any):
    logits, targets = single
    logits = logits.requires_grad_()
    HardLoss(SINGLE, torch.tensor([1.0, 0.0, 1.0]))(logits, targets).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad.abs().sum(dim=1) == 0, targets == 1)
    assert HardLoss(SINGLE, torch.zeros(3)).mean(logits, targets) == 0.0


def test_an_objective_counts_its_examples_by_their_weights():
    # oracle: worked by hand, labels 0, 2, 2 of weights 0.5 and 2
    batch = {"labels": torch.tensor([0, 2, 2]), "input_ids": torch.ones(3, 4, dtype=torch.long)}
    hard = HardLoss(SINGLE, torch.tensor([0.5, 1.0, 2.0]))
    assert ClassificationObjective(SINGLE, hard=hard).counts(batch) == {"hard": 4.5}
    assert ClassificationObjective(SINGLE).counts(batch) == {"hard": 3.0}


@pytest.mark.parametrize("choices", [{"gamma": 2.0}, {"label_weights": torch.ones(1)}])
def test_a_regression_takes_neither(choices: dict[str, Any]):
    with pytest.raises(RecipeError, match="a regression has no labels"):
        HardLoss(REGRESSION, **choices)
