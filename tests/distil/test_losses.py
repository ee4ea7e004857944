"""The losses against numbers worked by hand, properties, closed forms, and torchdistill's own code."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from potstill.distil.losses import (
    binary_kl_divergence,
    cosine_distance,
    kl_divergence,
    masked_lm_cross_entropy,
    squared_error,
    top_k_kl_divergence,
    top_k_log_probabilities,
)

LOG3 = math.log(3)
# teacher (3/4, 1/4), student (1/2, 1/2)
KL_FORWARD = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
KL_REVERSE = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)

Pairwise = Callable[[Tensor, Tensor], Tensor]
PAIRWISE: dict[str, Pairwise] = {
    "kl": lambda s, t: kl_divergence(s, t, 2.0),
    "kl_reverse": lambda s, t: kl_divergence(s, t, 2.0, "reverse"),
    "binary_kl": lambda s, t: binary_kl_divergence(s, t, 2.0),
    "cosine": cosine_distance,
    "squared_error": squared_error,
}
pairwise = pytest.mark.parametrize("loss", PAIRWISE.values(), ids=PAIRWISE.keys())


def random_pair(n: int = 6, columns: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, columns, generator=generator) * 3, torch.randn(n, columns, generator=generator) * 3


@pytest.mark.parametrize(("direction", "expected"), [("forward", KL_FORWARD), ("reverse", KL_REVERSE)])
def test_kl_of_two_classes_equals_the_number_worked_by_hand(direction: str, expected: float) -> None:
    # softmax(log 3, 0) = (3/4, 1/4) and softmax(0, 0) = (1/2, 1/2)
    found = kl_divergence(torch.zeros(1, 2), torch.tensor([[LOG3, 0.0]]), 1.0, direction)
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_temperature_softens_both_sides_and_multiplies_by_its_square() -> None:
    # at T = 2 the logits (2 log 3, 0) soften to (3/4, 1/4); the factor is 2² = 4, and there are two such rows
    teacher = torch.tensor([[2 * LOG3, 0.0], [0.0, 2 * LOG3]])
    assert float(kl_divergence(torch.zeros(2, 2), teacher, 2.0)) == pytest.approx(4 * 2 * KL_FORWARD, abs=1e-5)


def test_kl_gradient_is_the_difference_of_the_softened_probabilities_times_t() -> None:
    # Hinton et al. 2015, eq. 2: dKL/dz = (q − p)/T; with the factor T² it is T (q − p)
    student, teacher = random_pair()
    student.requires_grad_()
    kl_divergence(student, teacher, 4.0).backward()
    expected = 4.0 * (torch.softmax(student.detach() / 4, dim=-1) - torch.softmax(teacher / 4, dim=-1))
    torch.testing.assert_close(student.grad, expected, atol=1e-5, rtol=1e-4)


def test_kl_at_high_temperature_is_half_the_mean_squared_difference_of_centred_logits() -> None:
    # second order of the exponential, as in Hinton et al. 2015, §2.1: T²·KL → Σ (s̄ − t̄)² / 2N
    student, teacher = random_pair(n=1)
    difference = (student - student.mean()) - (teacher - teacher.mean())
    found = kl_divergence(student.double(), teacher.double(), 200.0)
    assert float(found) == pytest.approx(float(difference.square().sum()) / (2 * 5), rel=0.02)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 7.5])
def test_kl_and_cross_entropy_equal_torchdistills_kd_loss(temperature: float) -> None:
    # torchdistill's KDLoss: α·CE + β·T²·KL, both means over the rows
    reason = "torchdistill is the oracle: pip install --no-deps torchdistill==1.1.5"
    mid_level = pytest.importorskip("torchdistill.losses.mid_level", reason=reason)
    student, teacher = random_pair(n=8, columns=11)
    targets = torch.arange(8)
    peer = mid_level.KDLoss("s", "output", "t", "output", temperature=temperature, alpha=0.3, beta=0.7)
    theirs = peer({"s": {"output": student}}, {"t": {"output": teacher}}, targets)
    soft, hard = kl_divergence(student, teacher, temperature), masked_lm_cross_entropy(student, targets)
    torch.testing.assert_close((0.3 * hard + 0.7 * soft) / 8, theirs)


def test_binary_kl_equals_the_number_worked_by_hand() -> None:
    # σ(log 3) = 3/4, σ(0) = 1/2; two labels that differ so, one that does not; T = 1
    found = binary_kl_divergence(torch.zeros(1, 3), torch.tensor([[LOG3, -LOG3, 0.0]]))
    assert float(found) == pytest.approx(2 * KL_FORWARD, abs=1e-6)


def test_binary_kl_is_the_kl_of_a_two_class_softmax_for_each_label() -> None:
    student, teacher = random_pair()
    two_classes = [torch.stack([x.flatten(), torch.zeros(x.numel())], dim=1) for x in (student, teacher)]
    torch.testing.assert_close(binary_kl_divergence(student, teacher, 3.0), kl_divergence(*two_classes, 3.0))


def test_masked_lm_cross_entropy_equals_the_number_worked_by_hand() -> None:
    # softmax(0, log 3) = (1/4, 3/4): −log 3/4 where the token is 1, −log 1/4 where it is 0
    logits = torch.tensor([[0.0, LOG3], [0.0, LOG3]])
    found = masked_lm_cross_entropy(logits, torch.tensor([1, 0]))
    assert float(found) == pytest.approx(-math.log(0.75) - math.log(0.25), abs=1e-6)


def test_cosine_distance_equals_the_number_worked_by_hand() -> None:
    # parallel 0, at 45 degrees 1 − 1/√2, at right angles 1, opposite 2
    student = torch.tensor([[2.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    teacher = torch.tensor([[5.0, 0.0], [3.0, 3.0], [0.0, 4.0], [-7.0, 0.0]])
    assert float(cosine_distance(student, teacher)) == pytest.approx(4 - 1 / math.sqrt(2), abs=1e-6)


def test_squared_error_is_a_mean_over_columns_and_a_sum_over_rows() -> None:
    # ((1² + 3²)/2) + ((0² + 2²)/2) = 5 + 2
    found = squared_error(torch.tensor([[1.0, 0.0], [4.0, 2.0]]), torch.tensor([[0.0, 3.0], [4.0, 0.0]]))
    assert float(found) == 7.0


@pairwise
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_every_distance_is_zero_from_itself_and_never_negative(loss: Pairwise, seed: int) -> None:
    student, teacher = random_pair(seed=seed)
    assert float(loss(student, student)) == pytest.approx(0.0, abs=1e-5)
    assert float(loss(student, teacher)) > 0


@pairwise
def test_rows_add_up(loss: Pairwise) -> None:
    student, teacher = random_pair()
    apart = loss(student[:2], teacher[:2]) + loss(student[2:], teacher[2:])
    torch.testing.assert_close(loss(student, teacher), apart)


@pairwise
def test_no_rows_give_zero(loss: Pairwise) -> None:
    assert float(loss(torch.zeros(0, 5), torch.zeros(0, 5))) == 0.0


@pairwise
def test_extreme_values_give_finite_losses_and_gradients(loss: Pairwise) -> None:
    largest = torch.finfo(torch.float16).max
    student = torch.tensor([[largest, -largest, 0.0], [0.0, 0.0, 0.0], [-largest, largest, 1.0]], requires_grad=True)
    teacher = torch.tensor([[-largest, largest, 0.0], [largest, -largest, 0.0], [-largest, largest, 1.0]])
    found = loss(student, teacher)
    found.backward()
    assert torch.isfinite(found)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


@pairwise
def test_bfloat16_goes_in_and_float32_arithmetic_comes_out(loss: Pairwise) -> None:
    student, teacher = (x.bfloat16() for x in random_pair())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(student, teacher)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, loss(student.float(), teacher.float()), atol=0, rtol=0)


def test_masked_lm_cross_entropy_of_bfloat16_and_of_no_rows_is_float32() -> None:
    logits = random_pair()[0].bfloat16()
    found = masked_lm_cross_entropy(logits, torch.arange(5).repeat(2)[:6])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, masked_lm_cross_entropy(logits.float(), torch.arange(5).repeat(2)[:6]))
    assert float(masked_lm_cross_entropy(logits[:0], torch.zeros(0, dtype=torch.long))) == 0.0


def test_kl_does_not_change_when_all_logits_of_a_row_are_shifted() -> None:
    student, teacher = random_pair()
    torch.testing.assert_close(kl_divergence(student + 5, teacher - 3, 2.0), kl_divergence(student, teacher, 2.0))


# KL over the k likeliest classes and the rest ------------------------------------------------------------------------


def top_k_kl(student: Tensor, teacher: Tensor, k: int, temperature: float = 1.0) -> Tensor:
    return top_k_kl_divergence(student, *top_k_log_probabilities(teacher, k, temperature), temperature)


def test_top_k_of_a_softmax_equals_the_numbers_worked_by_hand() -> None:
    # at T = 2 the logits 2 log (1, 5, 2) soften to (1/8, 5/8, 2/8); the last class is the tail
    found = top_k_log_probabilities(2 * torch.tensor([[1.0, 5.0, 2.0]]).log(), 2, 2.0)
    assert found.indices.tolist() == [[1, 2]]
    torch.testing.assert_close(found.log_probabilities.exp(), torch.tensor([[5 / 8, 2 / 8]]))
    torch.testing.assert_close(found.log_tail.exp(), torch.tensor([1 / 8]))


def test_top_k_kl_equals_the_number_worked_by_hand() -> None:
    # teacher (5/8, 2/8, 1/8) is 5/8 and the rest 3/8; student (1/4, 1/2, 1/4) is 1/4 and 3/4; factor 2²
    teacher = 2 * torch.tensor([[5.0, 2.0, 1.0]]).log()
    student = 2 * torch.tensor([[1.0, 2.0, 1.0]]).log()
    expected = 4 * (5 / 8 * math.log((5 / 8) / (1 / 4)) + 3 / 8 * math.log((3 / 8) / (3 / 4)))
    assert float(top_k_kl(student, teacher, 1, 2.0)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("k", [5, 9])
def test_top_k_kl_over_the_whole_vocabulary_is_the_full_kl(k: int) -> None:
    student, teacher = random_pair()
    assert top_k_log_probabilities(teacher, k).log_tail.tolist() == [-math.inf] * 6
    torch.testing.assert_close(top_k_kl(student, teacher, k, 2.0), kl_divergence(student, teacher, 2.0))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), temperature=st.sampled_from([1.0, 2.0, 4.0]))
def test_top_k_kl_grows_with_k_up_to_the_full_kl(seed: int, temperature: float) -> None:
    student, teacher = random_pair(n=3, columns=12, seed=seed)
    found = [float(top_k_kl(student, teacher, k, temperature)) for k in range(1, 13)]
    assert found[0] >= 0
    assert all(less <= more + 1e-4 for less, more in itertools.pairwise(found))
    assert found[-1] == pytest.approx(float(kl_divergence(student, teacher, temperature)), abs=1e-4)


def test_top_k_kl_loses_nothing_where_both_share_out_the_rest_in_the_same_way() -> None:
    teacher = random_pair(n=4, columns=9)[0]
    likeliest = torch.zeros_like(teacher).scatter(-1, teacher.topk(3, dim=-1).indices, 1.0)
    student = teacher + likeliest * torch.randn(4, 9, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(top_k_kl(student, teacher, 3, 2.0), kl_divergence(student, teacher, 2.0))


def test_top_k_kl_gradient_is_that_of_its_definition_and_of_finite_differences() -> None:
    # with q the student's probabilities: T (q − p) on the classes kept, T q (1 − p_rest / q_rest) on the others
    student, teacher = random_pair(n=3, columns=7)
    student.requires_grad_()
    indices, kept, tail = top_k_log_probabilities(teacher, 3, 2.0)
    top_k_kl_divergence(student, indices, kept, tail, 2.0).backward()
    q = torch.softmax(student.detach() / 2, dim=-1)
    rest = 1 - q.gather(-1, indices).sum(dim=-1)
    expected = (q * (1 - tail.exp() / rest).unsqueeze(-1)).scatter(-1, indices, q.gather(-1, indices) - kept.exp())
    torch.testing.assert_close(student.grad, 2 * expected, atol=1e-5, rtol=1e-4)

    def loss(logits: Tensor) -> Tensor:
        return top_k_kl_divergence(logits, indices, kept, tail, 2.0)

    # the arithmetic is float32 whatever comes in, hence the wide steps
    assert torch.autograd.gradcheck(loss, student.detach().double().requires_grad_(), eps=1e-2, atol=1e-3, rtol=1e-3)


def test_top_k_kl_of_what_float16_keeps_is_near_and_never_negative() -> None:
    student, teacher = random_pair(n=50, columns=200)
    indices, kept, tail = top_k_log_probabilities(teacher, 20, 2.0)
    rounded = top_k_kl_divergence(student, indices, kept.half(), tail, 2.0)
    torch.testing.assert_close(rounded, top_k_kl(student, teacher, 20, 2.0), rtol=1e-3, atol=0)
    itself = top_k_kl_divergence(teacher, indices, kept.half(), tail, 2.0)
    assert 0 <= float(itself) < 1e-3


@pytest.mark.parametrize("k", [1, 2, 3])
def test_top_k_kl_of_extreme_logits_is_finite_with_its_gradient(k: int) -> None:
    largest = torch.finfo(torch.float16).max
    student = torch.tensor([[largest, -largest, 0.0], [0.0, 0.0, 0.0], [-largest, largest, 1.0]], requires_grad=True)
    teacher = torch.tensor([[-largest, largest, 0.0], [largest, -largest, 0.0], [-largest, largest, 1.0]])
    found = top_k_kl(student, teacher, k, 2.0)
    found.backward()
    assert torch.isfinite(found)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_top_k_kl_of_bfloat16_and_of_no_rows_is_float32() -> None:
    student, teacher = (x.bfloat16() for x in random_pair())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = top_k_kl(student, teacher, 2)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, top_k_kl(student.float(), teacher.float(), 2), atol=0, rtol=0)
    assert float(top_k_kl(student[:0], teacher[:0], 2)) == 0.0
