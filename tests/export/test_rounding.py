"""Linear maps in 8 bits. Oracles: numbers worked by hand, and the map in float32."""

from __future__ import annotations

import pytest
import torch

from potstill.export.calibration import States
from potstill.export.rounding import RoundedInput, choose_rounding, rounded_weight


def states_of(sample):
    return States(sample.amin(dim=0), sample.amax(dim=0), sample)


def left_of(rounding, name, sample):
    """The outputs that are left, with the shift of the bias."""
    rounded = rounding.weights[name]
    return rounding.read(sample) @ rounded.weight(rounding.read.smoothing).T + rounded.shift


def relative_error(found, expected):
    return float((found - expected).square().sum() / expected.square().sum())


def test_inputs_go_to_the_nearest_level_and_are_cut_at_both_ends():
    read = RoundedInput(None, scale=0.5, zero_point=10)
    states = torch.tensor([0.0, 0.2, 0.3, -5.0, -7.0, 122.5, 200.0])
    torch.testing.assert_close(read(states), torch.tensor([0.0, 0.0, 0.5, -5.0, -5.0, 122.5, 122.5]))


def test_smoothing_is_divided_out_before_rounding_and_multiplied_back_after():
    read = RoundedInput(torch.tensor([1.0, 10.0]), scale=1.0, zero_point=0)
    torch.testing.assert_close(read(torch.tensor([[3.4, 34.0]])), torch.tensor([[3.0, 30.0]]))


def test_weights_have_a_scale_for_each_output_and_zeros_stay():
    levels, scales = rounded_weight(torch.tensor([[1.27, -0.5], [0.0, 0.0], [0.0254, 0.0127]]))
    assert levels.tolist() == [[127, -50], [0, 0], [127, 64]]
    torch.testing.assert_close(scales[[0, 2]], torch.tensor([0.01, 0.0002]))
    assert torch.isfinite(levels * scales[:, None]).all()


def test_even_inputs_lose_next_to_nothing():
    torch.manual_seed(0)
    sample, weight = torch.randn(300, 64), torch.randn(48, 64)
    rounding = choose_rounding(states_of(sample), {"map": weight})
    assert relative_error(left_of(rounding, "map", sample), sample @ weight.T) == pytest.approx(
        rounding.error, rel=1e-3
    )
    assert rounding.error < 1e-3


def test_a_channel_that_takes_the_range_is_smoothed():
    torch.manual_seed(0)
    sample, weights = torch.randn(300, 64), {"q": torch.randn(48, 64), "k": torch.randn(32, 64)}
    sample[:, 5] *= 80
    rounding = choose_rounding(states_of(sample), weights)
    assert rounding.read.smoothing is not None
    assert rounding.read.smoothing[5] == rounding.read.smoothing.max()
    plain = RoundedInput(
        None,
        float((sample.max() - sample.min()) / 255),
        round(float(-sample.min() / ((sample.max() - sample.min()) / 255))),
    )
    for name, weight in weights.items():
        expected = sample @ weight.T
        whole = relative_error(plain(sample) @ weight.T, expected)
        assert relative_error(left_of(rounding, name, sample), expected) < whole / 3


def test_the_mean_of_the_outputs_stays():
    torch.manual_seed(0)
    sample, weight = torch.randn(200, 16).exp(), torch.randn(8, 16)
    rounding = choose_rounding(states_of(sample), {"map": weight})
    torch.testing.assert_close(
        left_of(rounding, "map", sample).mean(dim=0), (sample @ weight.T).mean(dim=0), atol=1e-4, rtol=1e-4
    )


def test_inputs_that_are_all_the_same_are_kept():
    sample, weight = torch.zeros(10, 4), torch.randn(3, 4)
    rounding = choose_rounding(states_of(sample), {"map": weight})
    assert torch.isfinite(left_of(rounding, "map", sample)).all()
    assert rounding.error == 0
