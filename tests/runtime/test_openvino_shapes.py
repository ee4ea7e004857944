"""A bounded number of shapes for OpenVINO. Oracle: the mean over attended tokens, by numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from potstill.bundle import Graph
from potstill.runtime import openvino_engine as engines
from potstill.runtime.engine import for_one_batch

N_SHAPES = engines.EXACT_SHAPES


def batch_of(n_rows: int, length: int) -> dict[str, np.ndarray]:
    ids = np.arange(n_rows * length).reshape(n_rows, length) % 7 + 1
    return {"input_ids": ids, "attention_mask": (np.arange(length) < max(1, length - 1)).astype(np.int64) * (ids > 0)}


@pytest.fixture
def engine(tmp_path: Path) -> object:
    """The mean id of the tokens that the mask shows, by a graph."""
    ints, floats = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
    make, shown = onnx.helper.make_node, ["n", "length"]
    nodes = [
        make("Mul", ["input_ids", "attention_mask"], ["kept"]),
        make("Cast", ["kept"], ["values"], to=floats),
        make("Cast", ["attention_mask"], ["weights"], to=floats),
        make("ReduceSum", ["values", "axes"], ["sum"], keepdims=1),
        make("ReduceSum", ["weights", "axes"], ["count"], keepdims=1),
        make("Div", ["sum", "count"], ["logits"]),
    ]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "mean",
        [value("input_ids", ints, shown), value("attention_mask", ints, shown)],
        [value("logits", floats, ["n", 1])],
        [onnx.helper.make_tensor("axes", ints, [1], [1])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "model.onnx")
    told = Graph("model.onnx", "fp32", ("input_ids", "attention_mask"), "logits", 18, ())
    return engines.OpenVinoEngine(tmp_path / "model.onnx", told, for_one_batch(1))


def test_answers_are_the_same_before_and_after_the_ladder(engine):
    for length in range(2, N_SHAPES + 40):
        batch = batch_of(1 + length % 3, length)
        expected = (batch["input_ids"] * batch["attention_mask"]).sum(1) / batch["attention_mask"].sum(1)
        assert engine.run(batch)[:, 0] == pytest.approx(expected, rel=1e-5)


def test_shapes_are_exact_first_and_then_on_the_ladder():
    widths = engines.Widths()
    assert [widths.of(1, length) for length in range(1, N_SHAPES + 1)] == [*range(1, N_SHAPES + 1)]
    assert [widths.of(1, length) for length in (5, 17, N_SHAPES)] == [5, 17, N_SHAPES], "those are known"
    assert [widths.of(2, length) for length in (5, 16, 17)] == [16, 16, 32]


def test_no_batch_is_longer_than_one_that_was_asked_for():
    # a graph of 100 positions fails on 112
    widths = engines.Widths()
    for length in [*range(1, 101)] * 3:
        for n_rows in (1, 2, 3):
            assert length <= widths.of(n_rows, length) <= 100


def test_a_server_meets_a_bounded_number_of_shapes():
    widths = engines.Widths()
    drawn = np.random.default_rng(0).integers([1, 1], [9, 513], (20_000, 2))
    shapes = {(n_rows, widths.of(n_rows, length)) for n_rows, length in drawn.tolist()}
    assert len({tuple(shape) for shape in drawn.tolist()}) > 4000
    odd = 8 * engines.LADDER  # while the longest so far is none of the ladder
    assert len(shapes) <= N_SHAPES + 8 * (512 // engines.LADDER) + odd
