"""A float32 graph in the arithmetic that was asked for; of static int8, one attempt after another.

The first attempt has everything in 8 bits, the embeddings of tokens among it. Whoever is not satisfied asks for the
next, in which one part more stays float32: the one whose rounding, alone, changes the logits most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import torch
from transformers import PreTrainedModel

from potstill.bundle import Graph
from potstill.errors import ModelError
from potstill.export.calibration import Batch, record_states
from potstill.export.linear_maps import Group, find_groups, linear_modules
from potstill.export.rewriting import Rewriter
from potstill.export.rounding import Rounding, choose_rounding
from potstill.export.sensitivity import embeddings_error, group_errors

EMBEDDINGS = "embeddings"
"""What the table of the tokens' embeddings is called among the parts that stay float32."""

_MOST_LEFT_OUT = 0.5
"""With more than this share of its parts in float32, a graph is no longer one in int8."""

Roundings = dict[tuple[str, ...], Rounding]


def written_graphs(
    model: PreTrainedModel, file: Path, graph: Graph, arithmetic: str, calibration: Callable[[], Sequence[Batch]]
) -> Iterator[Graph]:
    """The float32 graph in ``file`` rewritten there; what it is now, again for each attempt.

    ``calibration`` gives batches of training texts, and is only called for static int8. Raises ModelError where there
    is nothing that could be in 8 bits.
    """
    if arithmetic == "int8":
        yield from _int8(model, file, graph, calibration())
        return
    if arithmetic != "fp32":
        rewriter = Rewriter(ir.load(file))
        if arithmetic == "int8-dynamic":
            rewriter.dynamic_products(_groups(model, rewriter.model))
            rewriter.int8_embeddings()
        else:
            rewriter.half_weights(arithmetic)
        rewriter.save(file)
    yield replace(graph, arithmetic=arithmetic)


def _groups(model: PreTrainedModel, loaded: ir.Model) -> list[Group]:
    groups = find_groups(loaded.graph, linear_modules(model))
    if not groups:
        raise ModelError(
            "the graph has no product with weights that could be in 8 bits",
            do="write its weights in 16 bits: --format fp16",
        )
    return groups


def _int8(model: PreTrainedModel, file: Path, graph: Graph, batches: Sequence[Batch]) -> Iterator[Graph]:
    whole = ir.load(file)
    roundings = _roundings(model, _groups(model, whole), batches)
    left_out: list[tuple[str, ...]] = []
    yield _write_int8(model, whole, file, graph, roundings, left_out)
    for worst in _worst_first(model, roundings, batches)[: int(_MOST_LEFT_OUT * (len(roundings) + 1))]:
        left_out.append(worst)
        yield _write_int8(model, whole, file, graph, roundings, left_out)


def _roundings(model: PreTrainedModel, groups: Sequence[Group], batches: Sequence[Batch]) -> Roundings:
    """How each group is rounded; all of its maps read the same, so what the first one read is recorded."""
    modules = linear_modules(model)
    states = record_states(model, [group.names[0] for group in groups], batches)
    with torch.no_grad():
        return {
            group.names: choose_rounding(
                states[group.names[0]], {name: modules[name].weight.detach() for name in group.names}
            )
            for group in groups
        }


def _worst_first(model: PreTrainedModel, roundings: Roundings, batches: Sequence[Batch]) -> list[tuple[str, ...]]:
    errors = {**group_errors(model, roundings, batches), (EMBEDDINGS,): embeddings_error(model, batches)}
    return sorted(errors, key=lambda names: errors[names], reverse=True)


def _write_int8(
    model: PreTrainedModel,
    whole: ir.Model,
    file: Path,
    graph: Graph,
    roundings: Roundings,
    left_out: Sequence[tuple[str, ...]],
) -> Graph:
    rewriter = Rewriter(whole.clone())
    groups = [group for group in _groups(model, rewriter.model) if group.names not in left_out]
    rewriter.int8_products(groups, roundings)
    if (EMBEDDINGS,) not in left_out:
        rewriter.int8_embeddings()
    rewriter.save(file)
    return replace(graph, arithmetic="int8", left_in_float32=tuple(name for names in left_out for name in names))
