"""The linear maps of a graph: products with weights, those that read the same states together."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from torch import nn
from transformers import PreTrainedModel


@dataclass(frozen=True)
class Product:
    """One product with weights. name: of the module they belong to. weight: ``(in, out)`` float32."""

    name: str
    node: ir.Node
    weight: np.ndarray


@dataclass(frozen=True)
class Group:
    """Products that read one value of the graph, such as query, key and value; what is read is rounded once."""

    read: ir.Value
    products: tuple[Product, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the modules, in the order of the graph."""
        return tuple(product.name for product in self.products)


def linear_modules(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """The linear maps of a classifier by the name of their module."""
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}


def find_groups(graph: ir.Graph, modules: Mapping[str, nn.Linear]) -> list[Group]:
    """Every product of the graph with the weights of one of ``modules``, but for the one that gives the logits.

    Exporters give weights that they transpose a new name, so a product is known by the bits of its weights. Of several
    modules with the same bits, each is taken once, in the order in which they are computed.
    """
    names: dict[str, deque[str]] = {}
    for name, module in modules.items():
        names.setdefault(_digest(module.weight.detach().float().cpu().numpy()), deque()).append(name)
    found: dict[ir.Value, list[Product]] = {}
    for node in graph:
        weight = _weight_of(node)
        same = () if weight is None or _gives_logits(node) else names.get(_digest(weight.T), ())
        if weight is not None and same:
            name = same.popleft() if len(same) > 1 else same[0]
            found.setdefault(_first_input(node), []).append(Product(name, node, weight))
    return [Group(value, tuple(products)) for value, products in found.items()]


def _first_input(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value


def _weight_of(node: ir.Node) -> np.ndarray | None:
    """``(in, out)``, where ``node`` is a product with a constant on its right."""
    if node.op_type not in ("MatMul", "Gemm") or node.inputs[1] is None:
        return None
    tensor = ir.convenience.get_const_tensor(node.inputs[1])
    if tensor is None or len(tensor.shape) != 2:
        return None
    stored = tensor.numpy()
    turned = node.op_type == "Gemm" and node.attributes.get_int("transB", 0)
    return stored.T if turned else stored


def _gives_logits(node: ir.Node) -> bool:
    """Whether what ``node`` gives, with its bias or without, is an output of the graph."""
    (output,) = node.outputs
    return output.is_graph_output() or any(
        user.op_type == "Add" and user.outputs[0].is_graph_output() for user in output.consumers()
    )


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
