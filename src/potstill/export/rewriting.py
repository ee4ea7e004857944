"""A float32 graph rewritten, in place, into another arithmetic that both engines run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass

from potstill.export.linear_maps import Group, Product
from potstill.export.rounding import RoundedWeight, Rounding, rounded_weight

HALVES: Mapping[str, Any] = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}
"""Arithmetic of 16 bits in which weights can be kept."""

_LEAST_HALVED = 1024
"""Constants of fewer numbers stay float32: biases and norms are no gain."""


class Rewriter:
    """Puts nodes and constants into one graph."""

    def __init__(self, model: ir.Model) -> None:
        """Take the model whose main graph is changed."""
        self.model = model
        self.graph = model.graph

    def int8_products(self, groups: Sequence[Group], roundings: Mapping[tuple[str, ...], Rounding]) -> None:
        """The products of ``groups`` on 8 bits, with ``roundings`` by the names of a group.

        Inputs are rounded and spread out again in front of the product, weights are spread out from int8: a form that
        both engines know and run on integers.
        """
        for group in groups:
            rounding = roundings[group.names]
            read = self._rounded(group, rounding)
            for product in group.products:
                self._on_int8(product, read, rounding.weights[product.name])

    def dynamic_products(self, groups: Sequence[Group]) -> None:
        """The products of ``groups`` on 8 bits, their inputs on a scale that is read off each batch."""
        for group in groups:
            first = group.products[0].node
            levels, scale, zero = self._add(first, "DynamicQuantizeLinear", [group.read], n_outputs=3)
            for product in group.products:
                self._on_dynamic_int8(product, levels, scale, zero)

    def int8_embeddings(self) -> None:
        """The table of the tokens' embeddings as int8, with one scale for each token."""
        for node in [node for node in self.graph if _looks_up_tokens(node)]:
            table, ids = node.inputs
            assert table is not None
            levels, scales = rounded_weight(torch.from_numpy(_array(table)))
            rows = self._constant(f"{table.name}_int8", levels.numpy())
            factors = self._constant(f"{table.name}_scales", scales.numpy()[:, None])
            (found,) = self._add(node, "Gather", [rows, ids])
            (factor,) = self._add(node, "Gather", [factors, ids])
            (spread,) = self._add(node, "Cast", [found], {"to": ir.DataType.FLOAT.value})
            self._replace(node, self._add(node, "Mul", [spread, factor])[0])

    def half_weights(self, arithmetic: str) -> None:
        """Constants of float32 kept in 16 bits, and made float32 again when an engine opens the graph."""
        kind = HALVES[arithmetic]
        for value in list(self.graph.initializers.values()):
            tensor = value.const_value
            if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.size < _LEAST_HALVED:
                continue
            half = self._constant(f"{value.name}_{arithmetic}", tensor.numpy().astype(kind))
            cast = ir.node("Cast", [half], {"to": ir.DataType.FLOAT.value})
            self.graph.insert_before(self.graph[0], cast)
            value.replace_all_uses_with(cast.outputs[0])

    def save(self, file: Any) -> None:
        """Write the graph, without what nothing reads any more, in one piece."""
        RemoveUnusedNodesPass()(self.model)
        ir.save(self.model, file)

    def _rounded(self, group: Group, rounding: Rounding) -> ir.Value:
        """What a group reads, on 8 bits and back."""
        first, read, of = group.products[0].node, group.read, rounding.read
        name = group.products[0].name
        if of.smoothing is not None:
            divided = self._constant(f"{name}.smoothing", (1 / of.smoothing).numpy())
            (read,) = self._add(first, "Mul", [read, divided])
        scale = self._constant(f"{name}.input_scale", np.float32(of.scale))
        zero = self._constant(f"{name}.input_zero_point", np.uint8(of.zero_point))
        (levels,) = self._add(first, "QuantizeLinear", [read, scale, zero])
        (spread,) = self._add(first, "DequantizeLinear", [levels, scale, zero])
        return spread

    def _on_int8(self, product: Product, read: ir.Value, rounded: RoundedWeight) -> None:
        levels = self._constant(f"{product.name}.weight_int8", rounded.levels.T.contiguous().numpy())
        scales = self._constant(f"{product.name}.weight_scales", rounded.scales.numpy())
        (weight,) = self._add(product.node, "DequantizeLinear", [levels, scales], {"axis": 1})
        (result,) = self._add(product.node, "MatMul", [read, weight])
        self._finish(product, result, rounded.shift.numpy())

    def _on_dynamic_int8(self, product: Product, levels: ir.Value, scale: ir.Value, zero: ir.Value) -> None:
        rounded, scales = rounded_weight(torch.from_numpy(np.array(product.weight.T)))
        weight = self._constant(f"{product.name}.weight_int8", rounded.T.contiguous().numpy())
        (whole,) = self._add(product.node, "MatMulInteger", [levels, weight, zero])
        (spread,) = self._add(product.node, "Cast", [whole], {"to": ir.DataType.FLOAT.value})
        factors = self._constant(f"{product.name}.weight_scales", scales.numpy())
        (factor,) = self._add(product.node, "Mul", [scale, factors])
        (result,) = self._add(product.node, "Mul", [spread, factor])
        self._finish(product, result, np.zeros(product.weight.shape[1], np.float32))

    def _finish(self, product: Product, result: ir.Value, shift: np.ndarray) -> None:
        """Put ``result`` in the place of a product, and ``shift`` into the bias behind it, where there is one."""
        node = product.node
        if node.op_type == "Gemm":
            if len(node.inputs) > 2 and node.inputs[2] is not None:
                (result,) = self._add(node, "Add", [result, self._shifted(product, node.inputs[2], shift)])
        elif found := _bias_behind(node):
            user, place, bias = found
            user.replace_input_with(place, self._shifted(product, bias, shift))
        self._replace(node, result)

    def _shifted(self, product: Product, bias: ir.Value, shift: np.ndarray) -> ir.Value:
        return self._constant(f"{product.name}.bias_shifted", _array(bias) + shift)

    def _constant(self, name: str, array: Any) -> ir.Value:
        while name in self.graph.initializers:  # a map that is used in several layers
            name += "_"
        value = ir.val(name, const_value=ir.tensor(np.asarray(array), name=name))
        self.graph.register_initializer(value)
        return value

    def _add(
        self,
        before: ir.Node,
        operator: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        n_outputs: int = 1,
    ) -> Sequence[ir.Value]:
        node = ir.node(operator, inputs, attributes, num_outputs=n_outputs)
        self.graph.insert_before(before, node)
        return node.outputs

    def _replace(self, node: ir.Node, result: ir.Value) -> None:
        node.outputs[0].replace_all_uses_with(result)
        self.graph.remove(node, safe=True)


def _array(constant: ir.Value) -> np.ndarray:
    """A copy that may be written to."""
    assert constant.const_value is not None
    return np.array(constant.const_value.numpy())


def _looks_up_tokens(node: ir.Node) -> bool:
    """Whether ``node`` takes rows of a table of float32 by the ids of the tokens."""
    if node.op_type != "Gather" or node.attributes.get_int("axis", 0) != 0:
        return False
    table, ids = node.inputs
    constant = None if table is None else table.const_value
    is_table = constant is not None and constant.dtype == ir.DataType.FLOAT and len(constant.shape) == 2
    return is_table and ids is not None and ids.is_graph_input() and ids.name == "input_ids"


def _bias_behind(node: ir.Node) -> tuple[ir.Node, int, ir.Value] | None:
    """The addition of a constant, one number for each output, that alone reads what ``node`` gives."""
    users = node.outputs[0].uses()
    if len(users) != 1:
        return None
    user, place = next(iter(users))
    other = user.inputs[1 - place] if user.op_type == "Add" else None
    constant = None if other is None else other.const_value
    if constant is None or len(constant.shape) != 1 or constant.dtype != ir.DataType.FLOAT:
        return None
    return user, 1 - place, other
