"""LSTMs as one node each of a graph.

torch's exporter follows the length of an LSTM's texts in some processes, and in others takes it apart step by step and
so fixes their length to that of its example. ONNX has an operator for the whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_GATES = (0, 3, 1, 2)
"""torch has input, forget, cell, output; ONNX input, output, forget, cell."""


class OneNodeLstm(nn.Module):
    """An LSTM of one layer from left to right, batch first, that a trace sees as ONNX's operator of that name."""

    inputs: Tensor
    recurrence: Tensor
    biases: Tensor

    def __init__(self, lstm: nn.LSTM) -> None:
        """Take the weights of ``lstm``, their gates in ONNX's order."""
        super().__init__()
        assert lstm.batch_first
        assert lstm.bias
        assert not lstm.bidirectional
        assert (lstm.num_layers, lstm.proj_size) == (1, 0)
        self.hidden_size = lstm.hidden_size
        own = {name: _in_order(parameter) for name, parameter in lstm.named_parameters()}
        self.register_buffer("inputs", own["weight_ih_l0"][None])
        self.register_buffer("recurrence", own["weight_hh_l0"][None])
        self.register_buffer("biases", torch.cat([own["bias_ih_l0"], own["bias_hh_l0"]])[None])

    def forward(self, states: Tensor) -> tuple[Tensor, None]:
        """From ``(n, length, in)`` to ``(n, length, hidden)``; in a trace alone, outside it the values are empty."""
        steps_first = states.transpose(0, 1)
        length, rows = steps_first.shape[:2]
        outputs = torch.onnx.ops.symbolic(
            "LSTM",
            (steps_first, self.inputs, self.recurrence, self.biases),
            {"hidden_size": self.hidden_size},
            dtype=states.dtype,
            shape=(length, 1, rows, self.hidden_size),
        )
        return outputs.squeeze(1).transpose(0, 1), None


def _in_order(stacked: Tensor) -> Tensor:
    """Four gates one upon another, ``(4 · hidden, …)``, in ONNX's order."""
    gates = stacked.detach().chunk(4)
    return torch.cat([gates[gate] for gate in _GATES])


@contextmanager
def lstms_as_one_node(model: nn.Module) -> Iterator[None]:
    """Meanwhile every LSTM of ``model`` is one that a trace sees as one node, and that computes nothing."""
    found = [
        (parent, name, module)
        for parent in model.modules()
        for name, module in parent.named_children()
        if isinstance(module, nn.LSTM)
    ]
    for parent, name, module in found:
        setattr(parent, name, OneNodeLstm(module))
    try:
        yield
    finally:
        for parent, name, module in found:
            setattr(parent, name, module)
