"""The losses in chunks. Oracle: the plain formulas on whole matrices, by autograd, in float64 unless said otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from potstill.distil import losses
from potstill.distil.losses import top_k_kl_divergence, top_k_log_probabilities
from potstill.models.lazy_logits import LazyLogits, TopKLogits
from potstill.models.vocabulary_losses import CPU_STRIP_ROWS, NO_TARGET, vocabulary_losses

TERMS = ("mlm", "kl", "logit_mse")
HALF_MAX = torch.finfo(torch.float16).max


@dataclass
class Scene:
    """Random states and decoders of student and teacher, and targets for about a share ``known`` of the rows."""

    n: int = 23
    width: int = 5
    teacher_width: int = 7
    vocabulary: int = 11
    known: float = 0.4
    bias: bool = True
    seed: int = 0
    dtype: torch.dtype = torch.float64

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(self.dtype)

        self.states = draw(self.n, self.width).requires_grad_()
        self.decoder = self._decoder(draw, self.width)
        self.teacher_states = draw(self.n, self.teacher_width)
        self.teacher_decoder = self._decoder(draw, self.teacher_width).requires_grad_(False)
        targets = torch.randint(0, self.vocabulary, (self.n,), generator=generator)
        self.targets = torch.where(torch.rand(self.n, generator=generator) < self.known, targets, NO_TARGET)

    def _decoder(self, draw: Callable[..., Tensor], width: int) -> nn.Linear:
        decoder = nn.utils.skip_init(nn.Linear, width, self.vocabulary, bias=self.bias, dtype=self.dtype)
        for parameter in decoder.parameters():
            parameter.data = draw(*parameter.shape)
        return decoder

    @property
    def inputs(self) -> list[Tensor]:
        return [self.states, *self.decoder.parameters()]

    def fused(self, wanted: Mapping[str, float] | tuple[str, ...], **how: Any) -> dict[str, Tensor]:
        wanted = wanted if isinstance(wanted, Mapping) else dict.fromkeys(wanted, 1.0)
        student = LazyLogits(self.states, self.decoder)
        teacher = LazyLogits(self.teacher_states, self.teacher_decoder)
        return vocabulary_losses(student, wanted, **{"targets": self.targets, "teacher": teacher, **how})

    def plain(self, temperature: float = 1.0, direction: str = "forward") -> dict[str, Tensor]:
        student, teacher = self.decoder(self.states), self.teacher_decoder(self.teacher_states)
        if self.dtype != torch.float64:
            student, teacher = student.float(), teacher.float()
        known = self.targets != NO_TARGET
        log_q, log_p = (torch.log_softmax(logits / temperature, dim=-1) for logits in (student, teacher))
        pair = (log_q, log_p) if direction == "forward" else (log_p, log_q)
        first = student[known].argmax(dim=-1)
        return {
            "mlm": F.cross_entropy(student[known], self.targets[known], reduction="sum"),
            "kl": temperature**2 * F.kl_div(*pair, reduction="sum", log_target=True),
            "logit_mse": F.mse_loss(student, teacher, reduction="sum") / self.vocabulary,
            "mlm_accuracy": (first == self.targets[known]).sum(),
            "agreement": (first == teacher[known].argmax(dim=-1)).sum(),
        }

    def gradients(self, terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> list[Tensor]:
        loss = torch.stack([weight * terms[name] for name, weight in weights.items()]).sum()
        return list(torch.autograd.grad(loss, self.inputs))


class Seen(TorchDispatchMode):
    """Records the shape and type of whatever torch computes inside the block, by operation."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[tuple[str, torch.Size, torch.dtype]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, list | tuple) else [result]:
            if isinstance(tensor, Tensor):
                self.tensors.append((func.overloadpacket.__name__, tensor.shape, tensor.dtype))
        return result


class CountedRows(LazyLogits):
    """A source that keeps which rows it was asked for."""

    def __init__(self, states: Tensor, decoder: nn.Linear | None) -> None:
        super().__init__(states, decoder)
        self.asked: list[int] = []

    def fill(self, rows: Tensor, out: Tensor, student: Tensor | None = None) -> None:
        self.asked += rows.tolist()
        super().fill(rows, out)


weights = st.floats(1e-3, 1e3)
scenes = st.builds(
    Scene,
    n=st.integers(0, 40),
    width=st.integers(1, 6),
    vocabulary=st.integers(2, 30),
    known=st.sampled_from([0.0, 0.2, 0.7, 1.0]),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)


@settings(max_examples=150, deadline=None)
@given(
    scene=scenes,
    due=st.dictionaries(st.sampled_from(TERMS), weights, min_size=1),
    hint=st.one_of(st.none(), st.fixed_dictionaries(dict.fromkeys(TERMS, st.one_of(st.just(0.0), weights)))),
    chunk_rows=st.one_of(st.none(), st.integers(1, 40)),
    temperature=st.sampled_from([1.0, 2.0, 0.3, 7.5]),
    direction=st.sampled_from(["forward", "reverse"]),
)
def test_sums_and_gradients_are_the_plain_ones_whatever_the_chunks_and_the_expected_weights(
    scene: Scene, due: dict[str, float], hint: dict[str, float] | None, chunk_rows: int | None,
    temperature: float, direction: Any,
) -> None:  # fmt: skip
    expected = scene.plain(temperature, direction)
    wanted = {name: (hint or due)[name] for name in due}
    found = scene.fused(wanted, chunk_rows=chunk_rows, temperature=temperature, direction=direction)
    assert list(found) == list(due)
    for name in due:
        torch.testing.assert_close(found[name], expected[name])
    for one, other in zip(scene.gradients(found, due), scene.gradients(expected, due), strict=True):
        size = float(other.abs().max()) if other.numel() else 0.0
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10 * size)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_the_sums_are_those_of_the_loss_functions_in_float32(direction: Any) -> None:
    # oracle: distil.losses, which the other objectives use
    scene = Scene(n=90, width=16, vocabulary=500, dtype=torch.float32)
    student, teacher = scene.decoder(scene.states), scene.teacher_decoder(scene.teacher_states)
    known = scene.targets != NO_TARGET
    expected = {
        "mlm": losses.masked_lm_cross_entropy(student[known], scene.targets[known]),
        "kl": losses.kl_divergence(student, teacher, 2.0, direction),
        "logit_mse": losses.squared_error(student, teacher),
    }
    found = scene.fused(TERMS, chunk_rows=40, temperature=2.0, direction=direction)
    due = {"mlm": 0.5, "kl": 0.2, "logit_mse": 0.3}
    for name in TERMS:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=0)
    for one, other in zip(scene.gradients(found, due), scene.gradients(expected, due), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_the_gradient_is_the_slope_of_the_sums(direction: Any) -> None:
    # oracle: finite differences
    scene = Scene(n=5, width=3, vocabulary=6, known=0.6)

    def sums(states: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        decoder = nn.Linear(3, 6, dtype=torch.float64)
        del decoder.weight, decoder.bias
        decoder.weight, decoder.bias = weight, bias
        scene.states, scene.decoder = states, decoder
        return tuple(scene.fused(TERMS, temperature=2.0, direction=direction, chunk_rows=2).values())

    assert torch.autograd.gradcheck(sums, scene.inputs)


def test_a_weight_that_is_the_embedding_too_gets_both_gradients() -> None:
    ids = torch.arange(23) % 11
    gradients = []
    for fused in (True, False):
        scene = Scene(teacher_width=5)
        scene.states = torch.tanh(F.embedding(ids, scene.decoder.weight))
        terms = scene.fused(TERMS, chunk_rows=4) if fused else scene.plain()
        torch.stack([terms[name] for name in TERMS]).sum().backward()
        gradients.append(scene.decoder.weight.grad)
    torch.testing.assert_close(*gradients)


def test_logits_without_a_decoder_are_taken_as_they_are() -> None:
    scene, due = Scene(), {"kl": 2.0, "mlm": 1.0}
    student, teacher = scene.decoder(scene.states), scene.teacher_decoder(scene.teacher_states)
    found = vocabulary_losses(
        LazyLogits(student, None), due, targets=scene.targets, teacher=LazyLogits(teacher, None), chunk_rows=4
    )
    torch.testing.assert_close(scene.gradients(found, due), scene.gradients(scene.plain(), due))


def test_first_choices_are_compared_where_there_is_a_target() -> None:
    scene = Scene(n=200, vocabulary=3)
    expected = scene.plain()
    found = scene.fused(("mlm_accuracy", "agreement", "kl"), chunk_rows=30)
    assert 0 < float(expected["agreement"]) < float((scene.targets != NO_TARGET).sum())
    assert {name: float(found[name].detach()) for name in ("mlm_accuracy", "agreement")} == {
        name: float(expected[name]) for name in ("mlm_accuracy", "agreement")
    }


def test_student_equal_to_its_teacher_has_no_divergence_at_all() -> None:
    scene = Scene(n=50, vocabulary=500, dtype=torch.float32)
    twin = LazyLogits(scene.states.detach(), scene.decoder)
    for direction in ("forward", "reverse"):
        found = scene.fused(("kl", "logit_mse"), teacher=twin, direction=direction, temperature=2.0)
        assert [float(total.detach()) for total in found.values()] == [0.0, 0.0]
        assert all(float(gradient.abs().max()) < 1e-5 for gradient in scene.gradients(found, {"kl": 1.0}))


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_the_largest_logits_of_a_float16_give_finite_sums_and_gradients(direction: Any) -> None:
    student = torch.tensor([[HALF_MAX, -HALF_MAX, 0.0], [0.0, 0.0, 0.0], [-HALF_MAX, HALF_MAX, 1.0]])
    teacher = LazyLogits(
        torch.tensor([[-HALF_MAX, HALF_MAX, 0], [HALF_MAX, -HALF_MAX, 0], [-HALF_MAX, HALF_MAX, 1]]), None
    )
    student.requires_grad_()
    found = vocabulary_losses(
        LazyLogits(student, None), dict.fromkeys(TERMS, 1.0), targets=torch.tensor([1, 0, 1]), teacher=teacher,
        direction=direction,
    )  # fmt: skip
    (gradient,) = torch.autograd.grad(torch.stack(list(found.values())).sum(), [student])
    assert all(torch.isfinite(total) for total in found.values())
    assert torch.isfinite(gradient).all()


# -- what is computed, and what is not --------------------------------------------------------------------------------


@pytest.mark.parametrize("hint", [{"mlm": 1.0, "kl": 3.0}, {"mlm": 3.0, "kl": 1.0}])
def test_no_matrix_of_all_logits_is_ever_there(hint: dict[str, float]) -> None:
    scene = Scene(n=60, width=4, teacher_width=4, vocabulary=50)
    largest = {}
    for name, compute in (("fused", lambda: scene.fused(hint, chunk_rows=6)), ("plain", scene.plain)):
        with Seen() as seen:
            scene.gradients(compute(), {"mlm": 1.0, "kl": 3.0})
        largest[name] = max(shape.numel() for _, shape, _ in seen.tensors)
    # two chunks of 6 rows, student's and teacher's
    assert largest == {"fused": 2 * 6 * 50, "plain": 60 * 50}


def test_softmaxes_of_a_large_chunk_are_computed_a_few_rows_at_a_time() -> None:
    with Seen() as seen:
        Scene(n=60).fused(TERMS, chunk_rows=60)
    assert max(shape[0] for name, shape, _ in seen.tensors if name == "exp_") == CPU_STRIP_ROWS


def test_without_a_gradient_none_is_computed() -> None:
    scene = Scene(n=60, width=4, vocabulary=50)
    with torch.no_grad(), Seen() as seen:
        found = scene.fused(TERMS, chunk_rows=6)
    assert not any(total.requires_grad for total in found.values())
    assert scene.decoder.weight.shape not in {shape for name, shape, _ in seen.tensors if name not in ("detach", "t")}
    for name, total in scene.plain().items():
        if name in TERMS:
            torch.testing.assert_close(found[name], total.detach())


@pytest.mark.parametrize("frozen", [{"states"}, {"weight"}, {"weight", "bias"}])
def test_what_is_frozen_gets_no_gradient_and_the_rest_its_own(frozen: set[str]) -> None:
    scene = Scene()
    inputs = dict(zip(("states", "weight", "bias"), scene.inputs, strict=True))
    expected = dict(zip(inputs, scene.gradients(scene.plain(), {"kl": 1.0}), strict=True))
    for name in frozen:
        inputs[name].requires_grad_(False)
    scene.fused(("kl",), chunk_rows=4)["kl"].backward()
    found = {name: tensor.grad for name, tensor in inputs.items() if tensor.grad is not None}
    assert found.keys() == inputs.keys() - frozen
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name])


@pytest.mark.parametrize(
    ("hint", "n_student", "n_teacher"),
    [
        # of 23 rows some have a target; the weights due are 2 and 5
        ({"mlm": 2.0, "kl": 5.0}, 0, 0),
        ({"mlm": 2e-4, "kl": 5e-4}, 0, 0),
        ({"mlm": 3.0, "kl": 5.0}, "known", 0),
        ({"mlm": 3e4, "kl": 5.0}, "all", "all"),
        ({"mlm": 0.0, "kl": 0.0}, "all", "all"),
    ],
)
def test_backward_computes_again_only_what_was_not_expected(hint: Any, n_student: Any, n_teacher: Any) -> None:
    scene = Scene()
    rows = {"known": (scene.targets != NO_TARGET).nonzero().squeeze(1).tolist(), "all": list(range(23)), 0: []}
    student = CountedRows(scene.states, scene.decoder)
    teacher = CountedRows(scene.teacher_states, scene.teacher_decoder)
    found = vocabulary_losses(student, hint, targets=scene.targets, teacher=teacher, chunk_rows=4)
    assert sorted(student.asked) == sorted(teacher.asked) == rows["all"]
    student.asked, teacher.asked = [], []
    scene.gradients(found, {"mlm": 2.0, "kl": 5.0})
    assert (sorted(student.asked), sorted(teacher.asked)) == (rows[n_student], rows[n_teacher])


def test_an_expectation_that_is_nearly_right_is_put_right_all_the_same() -> None:
    scene, due = Scene(), {"mlm": 2.0, "kl": 5.0}
    found = scene.fused({"mlm": 2.0 + 1e-9, "kl": 5.0})
    expected = scene.gradients(scene.plain(), due)
    torch.testing.assert_close(scene.gradients(found, due), expected, rtol=1e-12, atol=1e-12)


def test_an_expectation_under_which_the_gradient_overflows_does_no_harm() -> None:
    scene, due = Scene(dtype=torch.float32), {"mlm": 2.0, "kl": 5.0}
    found = scene.gradients(scene.fused({"mlm": 3e38, "kl": 5.0}), due)
    torch.testing.assert_close(found, scene.gradients(scene.plain(), due))


def test_what_only_counts_has_a_gradient_of_zero() -> None:
    scene = Scene()
    found = scene.gradients(scene.fused(("mlm_accuracy", "agreement")), {"mlm_accuracy": 1.0, "agreement": 1.0})
    assert all(float(gradient.abs().sum()) == 0 for gradient in found)


def test_a_second_backward_pass_gives_the_same_gradient_again() -> None:
    scene, due = Scene(), dict.fromkeys(TERMS, 3.0)
    expected = scene.gradients(scene.plain(), due)
    loss = 3 * torch.stack(list(scene.fused(TERMS, chunk_rows=4).values())).sum()
    for _ in range(2):
        torch.testing.assert_close(list(torch.autograd.grad(loss, scene.inputs, retain_graph=True)), expected)


def test_a_weight_written_to_before_the_backward_pass_is_noticed() -> None:
    scene = Scene()
    total = scene.fused(("kl",))["kl"]
    with torch.no_grad():
        scene.decoder.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


# -- arithmetic -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_products_are_in_its_type_and_softmaxes_in_float32(dtype: torch.dtype) -> None:
    # oracle: the plain formulas under the same autocast, whose sums differ in the order of addition only
    scene = Scene(n=90, width=16, vocabulary=500, dtype=torch.float32)
    due = {"mlm": 2 / 36, "kl": 5 / 90, "logit_mse": 0.3 / 90}
    with torch.autocast("cpu", dtype=dtype):
        expected = scene.plain(2.0)
        with Seen() as seen:
            found = scene.fused(due, chunk_rows=40, temperature=2.0)
    for name in TERMS:
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=0)
    with seen:
        gradients = scene.gradients(found, due)
    assert {kind for name, _, kind in seen.tensors if name in ("mm", "addmm")} == {dtype}
    assert torch.float64 not in {kind for _, _, kind in seen.tensors}
    for one, other in zip(gradients, scene.gradients(expected, due), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0.02 * float(other.abs().max()))


def test_autocast_leaves_float64_alone() -> None:
    scene = Scene()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = scene.fused(TERMS)
    torch.testing.assert_close([found[name] for name in TERMS], [scene.plain()[name] for name in TERMS])


def test_a_scaled_loss_keeps_float16_gradients_above_underflow() -> None:
    # the smallest float16 is 6e-8; a gradient of 1e-9 is there only if the scale is applied before the products
    scene = Scene(n=90, width=16, vocabulary=500, dtype=torch.float32)
    due = {"mlm": 1e-9, "kl": 1e-9}
    expected = scene.gradients(scene.plain(), due)
    with torch.autocast("cpu", dtype=torch.float16):
        found = scene.fused(due)
    scaled = scene.gradients(found, {name: 2**20 * weight for name, weight in due.items()})
    for one, other in zip(scaled, expected, strict=True):
        torch.testing.assert_close(one / 2**20, other, rtol=0, atol=0.01 * float(other.abs().max()))


def test_a_model_in_bfloat16_gets_float32_sums_and_bfloat16_gradients() -> None:
    scene, half = (Scene(n=90, width=16, vocabulary=500, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    due = {"mlm": 0.1, "kl": 0.2}
    expected, found = scene.fused(due), half.fused(due)
    gradients = half.gradients(found, due)
    assert {total.dtype for total in found.values()} == {torch.float32}
    assert {gradient.dtype for gradient in gradients} == {torch.bfloat16}
    for name in due:
        torch.testing.assert_close(found[name], expected[name], rtol=0.02, atol=0)
    for one, other in zip(gradients, scene.gradients(expected, due), strict=True):
        torch.testing.assert_close(one.float(), other, rtol=0, atol=0.05 * float(other.abs().max()))


def test_what_many_chunks_add_in_bfloat16_is_not_rounded_each_time() -> None:
    # oracle: all rows in one product, whose sum is rounded once
    scene = Scene(n=200, width=16, vocabulary=50, known=1.0, dtype=torch.bfloat16)
    whole, apart = (scene.gradients(scene.fused({"mlm": 1.0}, chunk_rows=rows), {"mlm": 1.0}) for rows in (200, 1))
    for one, other in zip(apart, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0.005 * float(other.abs().max()))


# -- the seam ---------------------------------------------------------------------------------------------------------


class LargestLogits:
    """What a teacher's kept outputs could be: the k largest logits of each row, the others all alike."""

    def __init__(self, logits: Tensor, k: int) -> None:
        self.vocabulary = logits.shape[-1]
        self.values, self.columns = logits.topk(k)
        others = (logits.logsumexp(-1).exp() - self.values.exp().sum(-1)).clamp(min=1e-9)
        self.rest = (others / (self.vocabulary - k)).log()

    def fill(self, rows: Tensor, out: Tensor, student: Tensor | None = None) -> None:
        out.copy_(self.rest[rows].unsqueeze(-1).expand_as(out)).scatter_(-1, self.columns[rows], self.values[rows])


def test_a_teacher_can_be_any_source_of_logits() -> None:
    # oracle: the plain formula on the whole matrix that the source stands for
    scene = Scene()
    source = LargestLogits(scene.teacher_decoder(scene.teacher_states), k=3)
    whole = torch.empty(scene.n, scene.vocabulary, dtype=torch.float64)
    source.fill(torch.arange(scene.n), whole)
    p = torch.softmax(whole / 2, dim=-1)
    expected = 4 * (p * (p.log() - torch.log_softmax(scene.decoder(scene.states) / 2, dim=-1))).sum()
    found = scene.fused(("kl",), teacher=source, temperature=2.0, chunk_rows=4)["kl"]
    torch.testing.assert_close(found, expected)


def test_a_comparison_without_a_teacher_is_refused() -> None:
    with pytest.raises(ValueError, match="no teacher to compare with: kl"):
        Scene().fused(("mlm", "kl"), teacher=None)


# -- a teacher of which only the likeliest classes are known ----------------------------------------------------------


@given(
    n=st.integers(1, 6), vocabulary=st.integers(3, 12), k=st.integers(1, 12), temperature=st.sampled_from([0.7, 1, 2]),
    chunk_rows=st.sampled_from([1, 4, None]), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_kl_against_the_likeliest_classes_equals_its_definition(
    n: int, vocabulary: int, k: int, temperature: float, chunk_rows: int | None, seed: int
):
    # oracle: distil.losses.top_k_kl_divergence over k + 1 outcomes, and its autograd
    torch.manual_seed(seed)
    decoder = nn.Linear(5, vocabulary)
    states = torch.randn(n, 5, requires_grad=True)
    top = top_k_log_probabilities(2 * torch.randn(n, vocabulary), min(k, vocabulary), temperature)
    known = (top.indices, top.log_probabilities, top.log_tail)
    source = TopKLogits(*known, temperature=temperature, vocabulary=vocabulary)
    found = vocabulary_losses(
        LazyLogits(states, decoder), {"kl": 1.0}, teacher=source, temperature=temperature, chunk_rows=chunk_rows
    )["kl"]
    expected = top_k_kl_divergence(decoder(states), *known, temperature)
    inputs = (states, decoder.weight, decoder.bias)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    for ours, theirs in zip(torch.autograd.grad(found, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
