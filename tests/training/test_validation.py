"""Means over a whole set from two numbers a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from potstill.training.validation import mean_diagnostics, perplexity

CPU = torch.device("cpu")


def moments(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, tuple[Tensor | float, Tensor | float]]:
    values = batch["values"]
    return {"mean": (values.sum(), values.numel()), "share": (float((values > 0).sum()), float(values.numel()))}


@settings(deadline=None)
@given(values=st.lists(st.integers(-50, 50), min_size=1, max_size=30), cuts=st.lists(st.integers(0, 30), max_size=4))
def test_means_do_not_depend_on_how_rows_are_batched(values: list[int], cuts: list[int]):
    # oracle: numpy's mean of all the values at once; batches differ in size, and may be empty
    batches = [{"values": part.astype(np.float64)} for part in np.split(np.array(values), sorted(cuts))]
    means = mean_diagnostics(moments, nn.Identity(), batches, device=CPU, precision="fp32")
    assert means == {"mean": pytest.approx(np.mean(values)), "share": pytest.approx(np.mean(np.array(values) > 0))}


def test_what_was_never_counted_is_zero_and_not_a_division_by_zero():
    assert mean_diagnostics(lambda m, b: {"mlm": (0.0, 0)}, nn.Identity(), [{}], device=CPU, precision="fp32") == {
        "mlm": 0.0
    }


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_diagnostics_run_in_the_arithmetic_of_training_and_without_gradients(precision: str, dtype: torch.dtype):
    layer, seen = nn.Linear(2, 2), []

    def look(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, tuple[float, float]]:
        seen.append(model(batch["x"]))
        return {"n": (1.0, 1.0)}

    batches = [{"x": np.ones((1, 2), dtype=np.float32)}]
    mean_diagnostics(look, layer, batches, device=CPU, precision=precision)  # type: ignore[arg-type]
    assert [(output.dtype, output.requires_grad) for output in seen] == [(dtype, False)]


def test_perplexity_of_a_uniform_guess_is_the_size_of_the_vocabulary():
    assert perplexity(math.log(30522)) == pytest.approx(30522)
    assert perplexity(1e6) == math.inf
