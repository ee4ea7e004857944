"""Graphs in other arithmetic. Oracles: the same rounding in torch, the float32 graph, and the size of the file."""

from __future__ import annotations

import copy
import itertools
import shutil
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

from potstill.data.batches import pad_rows
from potstill.errors import ModelError
from potstill.export.calibration import ROWS, calibration_batches, changed_linear, logits_of, record_states
from potstill.export.graph import write_graph
from potstill.export.linear_maps import find_groups, linear_modules
from potstill.export.quantise import written_graphs
from potstill.export.rewriting import Rewriter
from potstill.export.rounding import choose_rounding
from potstill.export.sensitivity import embeddings_error, group_errors
from potstill.runtime.engine import ThreadPlan, open_graph

PAD = 0
DISTILBERT_PARTS = (("q_lin", "k_lin", "v_lin"), ("out_lin",), ("lin1",), ("lin2",))


@pytest.fixture
def rows(rows_of_tokens):
    return rows_of_tokens()


@pytest.fixture
def batches(rows):
    return calibration_batches(rows, PAD, len(rows))


@pytest.fixture(scope="module")
def exported_once(family, tmp_path_factory):
    """Classifiers and their float32 graphs: torch takes seconds to trace one. Only to be read."""

    @cache
    def make(name):
        model, file = family(name), tmp_path_factory.mktemp(name) / "model.onnx"
        return model, file, write_graph(model, file)

    return make


@pytest.fixture
def exported(exported_once, tmp_path):
    """A classifier and its float32 graph in a file that may be rewritten."""

    def make(name="distilbert"):
        model, file, graph = exported_once(name)
        return copy.deepcopy(model), Path(shutil.copy(file, tmp_path)), graph

    return make


def run(file, graph, rows, engine):
    padded = pad_rows(rows, range(len(rows)), PAD)
    plan = ThreadPlan(1, 1)
    return open_graph(file, graph, plan, engine).compile(plan).run({name: padded[name] for name in graph.inputs})


def in_order(batches, rows):
    """One batch of all rows, as calibration has them but in their own order."""
    return [{name: torch.from_numpy(array) for name, array in pad_rows(rows, range(len(rows)), PAD).items()}]


def test_what_maps_read_is_that_of_texts_without_padding(family, rows, batches):
    model = family("distilbert")
    name = "distilbert.transformer.layer.0.ffn.lin1"
    together = record_states(model, [name], batches)[name]
    alone = [record_states(model, [name], [one])[name] for one in (in_rows(rows, row) for row in range(len(rows)))]
    torch.testing.assert_close(
        together.least, torch.stack([one.least for one in alone]).amin(dim=0), atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(
        together.greatest, torch.stack([one.greatest for one in alone]).amax(dim=0), atol=1e-5, rtol=1e-5
    )
    assert len(together.sample) <= ROWS


def in_rows(rows, row):
    return {name: torch.from_numpy(array) for name, array in pad_rows(rows, [row], PAD).items()}


def test_of_the_last_layer_only_the_first_token_is_recorded(family, rows, batches):
    name = "distilbert.transformer.layer.1.ffn.lin1"
    found = record_states(family("distilbert"), [name], batches)[name]
    assert len(found.sample) == len(rows)


@pytest.mark.slow
def test_products_are_found_by_their_weights_and_grouped_by_what_they_read(exported):
    model, file, _ = exported()
    groups = find_groups(ir.load(file).graph, linear_modules(model))
    layers = [
        tuple(
            f"distilbert.transformer.layer.{layer}.{'ffn' if part.startswith('lin') else 'attention'}.{part}"
            for part in parts
        )
        for layer in (0, 1)
        for parts in DISTILBERT_PARTS
    ]
    # of the last layer only the first token has a query, so key and value read something else
    last = [(name,) for name in layers[4][:1]] + [layers[4][1:]]
    found = {frozenset(group.names) for group in groups}
    assert found == {frozenset(names) for names in (*layers[:4], *last, *layers[5:], ("pre_classifier",))}
    for group in groups:
        for product in group.products:
            torch.testing.assert_close(
                torch.from_numpy(product.weight.T.copy()), model.get_submodule(product.name).weight
            )


def rounded_in_torch(model, rows, batches, groups):
    """Logits with every group and the embeddings rounded, as torch computes them."""
    modules = linear_modules(model)
    with ExitStack() as changes, torch.no_grad():
        for names, rounding in groups.items():
            for name in names:
                weight = rounding.weights[name].weight(rounding.read.smoothing)
                changes.enter_context(changed_linear(modules[name], weight, rounding.read))
        return logits_of(model, in_order(batches, rows)).numpy()


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("name", ["distilbert", pytest.param("bert", marks=pytest.mark.slow)])
def test_an_int8_graph_computes_the_rounding_that_was_chosen(name, engine, exported, rows, batches):
    model, file, graph = exported(name)
    whole = ir.load(file)
    modules = linear_modules(model)
    found = find_groups(whole.graph, modules)
    states = record_states(model, [group.names[0] for group in found], batches)
    roundings = {
        group.names: choose_rounding(
            states[group.names[0]], {part: modules[part].weight.detach() for part in group.names}
        )
        for group in found
    }
    for rounding in roundings.values():
        for rounded in rounding.weights.values():
            rounded.shift.zero_()  # torch's maps keep their bias here
    rewriter = Rewriter(whole)
    rewriter.int8_products(found, roundings)
    rewriter.save(file)
    expected, float32 = (
        rounded_in_torch(model, rows, batches, roundings),
        logits_of(model, in_order(batches, rows)).numpy(),
    )
    said = run(file, graph, rows, engine)
    assert np.abs(expected - float32).max() > 1e-3  # rounding is seen at all
    # a state between two levels may go to either side, by the order of sums
    assert np.abs(said - expected).max() < np.abs(expected - float32).max() / 2 + 0.02


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize(
    ("arithmetic", "share", "apart"),
    [("int8", 0.9, 0.3), ("int8-dynamic", 0.9, 0.3), ("fp16", 0.9, 0.01), ("bf16", 0.9, 0.1)],
)
def test_a_graph_says_nearly_what_it_said_and_is_smaller(arithmetic, share, apart, engine, exported, rows, batches):
    model, file, graph = exported()
    size, before = file.stat().st_size, run(file, graph, rows, engine)
    written = next(written_graphs(model, file, graph, arithmetic, lambda: batches))
    assert written.arithmetic == arithmetic
    assert written.left_in_float32 == ()
    assert file.stat().st_size < share * size
    after = run(file, graph, rows, engine)
    assert 0 < np.abs(after - before).max() < apart * np.ptp(before)


def test_float32_is_left_as_it_is(exported):
    model, file, graph = exported()
    before = file.read_bytes()
    assert list(written_graphs(model, file, graph, "fp32", lambda: pytest.fail("nothing is fitted"))) == [graph]
    assert file.read_bytes() == before


def test_what_suffers_most_is_left_out_one_part_after_another(exported, rows, batches):
    model, file, graph = exported()
    attempts, differences = [], []
    before = run(file, graph, rows, "onnxruntime")
    for written in written_graphs(model, file, graph, "int8", lambda: batches):
        attempts.append(written.left_in_float32)
        differences.append(float(np.square(run(file, written, rows, "onnxruntime") - before).mean()))
    assert attempts[0] == ()
    assert all(set(one) < set(other) for one, other in itertools.pairwise(attempts))
    n_parts = 11  # four groups in the first layer, five in the last, one of the head, and the embeddings
    assert len(attempts) == 1 + n_parts // 2
    assert differences[-1] < differences[0]


def test_a_part_that_is_rounded_coarsely_is_found_to_suffer(exported, batches):
    model, file, _ = exported()
    modules = linear_modules(model)
    groups = find_groups(ir.load(file).graph, modules)
    states = record_states(model, [group.names[0] for group in groups], batches)
    roundings = {
        group.names: choose_rounding(
            states[group.names[0]], {part: modules[part].weight.detach() for part in group.names}
        )
        for group in groups
    }
    broken = roundings[("distilbert.transformer.layer.0.ffn.lin2",)]
    next(iter(broken.weights.values())).levels.zero_()
    errors = group_errors(model, roundings, batches)
    assert max(errors, key=errors.get) == ("distilbert.transformer.layer.0.ffn.lin2",)
    assert all(error > 0 for error in errors.values())
    before = model.get_input_embeddings().weight.clone()
    assert 0 < embeddings_error(model, batches) < max(errors.values())
    torch.testing.assert_close(model.get_input_embeddings().weight, before)


def test_a_graph_without_products_has_nothing_to_offer(exported, monkeypatch, batches):
    from potstill.export import quantise

    model, file, graph = exported()
    monkeypatch.setattr(quantise, "linear_modules", lambda model: {})
    with pytest.raises(ModelError, match="no product with weights"):
        next(written_graphs(model, file, graph, "int8", lambda: batches))
