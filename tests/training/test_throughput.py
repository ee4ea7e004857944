"""What a training made of its time: figures worked by hand, and operations counted by formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from potstill.training.throughput import flop_counter, measured_throughput

COUNTED: dict[str, Any] = {
    "tokens": 900,
    "positions": 1000,
    "positions_unsorted": 4000,
    "flops": 2e9,
    "rate_flops": 1e9,
    "seconds": {"forward": 3.0, "optimiser": 1.0, "validation": 90.0, "checkpoints": 6.0},
    "precision": "fp32",
}


def test_figures_are_those_worked_by_hand():
    # oracle: 4 s of training; 2e9 operations in them are half of 1e9 a second
    found = measured_throughput(**COUNTED)
    assert found.tokens_per_s == 225.0
    assert found.padding == pytest.approx(0.1)
    assert found.padding_avoided == 0.75
    assert found.of_matrix_rate == 0.5
    assert found.sentence() == (
        "225 tokens/s in fp32, 10.0% padding (75% avoided), 50% of the machine's matrix rate; "
        "time: validation 90%, checkpoints 6%, forward 3%, optimiser 1%"
    )


def test_what_was_not_counted_is_not_told():
    found = measured_throughput(**{**COUNTED, "flops": 0.0})
    assert found.of_matrix_rate is None
    assert "matrix rate" not in found.sentence()


def test_a_linear_layers_operations_are_counted_forward_and_backward():
    # oracle: 2 · n · in · out each for the output, the gradient of the weights and that of the input
    entries, weights = torch.randn(5, 7, requires_grad=True), torch.randn(3, 7, requires_grad=True)
    with flop_counter() as counter:
        F.linear(entries, weights).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 5 * 7 * 3


def test_attention_of_a_cpu_is_counted():
    # oracle: two products of 2 · length² · width for every head, and of the backward pass five (one is repeated)
    query, key, value = (torch.randn(2, 3, 8, 4, requires_grad=True) for _ in range(3))
    with flop_counter() as counter:
        F.scaled_dot_product_attention(query, key, value).sum().backward()
    assert counter.get_total_flops() == 7 * 2 * (2 * 3) * 8 * 8 * 4


def test_an_lstm_of_a_cpu_is_counted():
    # oracle: each of 7 positions times both matrices of four gates, 2 operations a product; twice that going back
    lstm, states = torch.nn.LSTM(5, 3, batch_first=True), torch.randn(1, 7, 5, requires_grad=True)
    with flop_counter() as counter:
        lstm(states)[0].sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 7 * (4 * 3) * (5 + 3)
