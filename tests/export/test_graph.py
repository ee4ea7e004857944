"""Graphs of every kind of classifier; the oracle is the torch model, one text at a time, unpadded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, RobertaConfig

from potstill.data.batches import pad_rows
from potstill.errors import ModelError
from potstill.export import graph as graph_module
from potstill.export.graph import OPSET, keep_embeddings, write_graph
from potstill.models.bilstm import BilstmConfig, new_bilstm
from potstill.models.pooled_classifier import HeadShape
from potstill.runtime.engine import ThreadPlan, open_graph

SLOW = pytest.mark.slow
SIZES = {"vocab_size": 60, "max_position_embeddings": 40, "initializer_range": 0.3}
WIDE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
HEADS = [
    pytest.param(HeadShape("linear", "mean"), "distilbert", marks=SLOW),
    (HeadShape("linear", "max"), "bert"),
    pytest.param(HeadShape("hidden", "cls", size=12, activation="gelu"), "bert", marks=SLOW),
    pytest.param(HeadShape("hidden", "mean", size=12, activation="tanh"), "roberta", marks=SLOW),
]
PAD = 0


def alone(model, rows, inputs):
    """Logits of each row by torch, on its own, so that nothing is padded."""
    found = []
    for row in range(len(rows)):
        batch = pad_rows(rows, [row], PAD)
        with torch.inference_mode():
            found.append(model(**{name: torch.from_numpy(batch[name]) for name in inputs}).logits[0].numpy())
    return np.stack(found)


@pytest.fixture
def check(rows_of_tokens, tmp_path):
    def compare(model, with_types=True):
        return said_alike(model, rows_of_tokens(with_types), tmp_path)

    return compare


def said_alike(model, rows, tmp_path, pad=PAD):
    """The graph says what torch says: of rows alone, of all of them padded, and of any company between."""
    written = write_graph(model, tmp_path / "model.onnx")
    expected = alone(model, rows, written.inputs)
    assert np.ptp(expected) > 0.1
    for name in ("openvino", "onnxruntime"):
        opened = open_graph(tmp_path / "model.onnx", written, ThreadPlan(1, 1), name)
        engine = opened.compile(ThreadPlan(1, 1))
        assert opened.n_outputs == 3
        for batch in ([0], [2], [1, 2], [5, 3, 0, 1, 4, 2], [4, 5]):
            padded = pad_rows(rows, batch, pad)
            logits = engine.run({name: padded[name] for name in written.inputs})
            assert logits.dtype == np.float32
            np.testing.assert_allclose(logits, expected[batch], atol=1e-4, err_msg=f"{name} {batch}")
    return written


@pytest.mark.parametrize(
    "name", ["bert", *(pytest.param(name, marks=SLOW) for name in ("distilbert", "roberta", "electra"))]
)
def test_a_family_says_in_both_engines_what_torch_says(name, family, check):
    written = check(family(name))
    assert ("token_type_ids" in written.inputs) == (name in ("bert", "electra"))
    assert (written.arithmetic, written.opset, written.output) == ("fp32", OPSET, "logits")


@pytest.mark.parametrize(("shape", "encoder"), HEADS, ids=lambda part: str(part)[:40])
def test_a_head_of_ours_says_what_torch_says(shape, encoder, with_head, check):
    check(with_head(shape, encoder))


@pytest.fixture
def bilstm(labelled):
    """A BiLSTM that weighs its tokens, or not."""

    def make(weighting="none", layers=1):
        sizes = {"vocab_size": 60, "embedding_size": 16, "hidden_size": 12, "num_hidden_layers": layers}
        config = labelled(BilstmConfig(**sizes, token_weighting=weighting))
        vectors = torch.randn(60, 16, generator=torch.Generator().manual_seed(5))
        weights = None if weighting == "none" else torch.linspace(0.1, 3, 60)
        return new_bilstm(config, seed=3, vectors=vectors, token_weights=weights)

    return make


@pytest.mark.parametrize(
    ("weighting", "layers"),
    [("attention", 2), pytest.param("none", 1, marks=SLOW), pytest.param("embeddings", 1, marks=SLOW)],
)
def test_a_bilstm_says_what_torch_says(weighting, layers, bilstm, check):
    assert check(bilstm(weighting, layers), with_types=False).inputs == ("input_ids", "attention_mask")


@pytest.mark.slow
def test_a_bilstm_is_left_as_it_was(bilstm, tmp_path, rows_of_tokens):
    model, rows = bilstm(), rows_of_tokens(False)
    before = alone(model, rows, ("input_ids", "attention_mask"))
    write_graph(model, tmp_path / "model.onnx")
    np.testing.assert_array_equal(alone(model, rows, ("input_ids", "attention_mask")), before)


@pytest.mark.parametrize("weighting", ["attention", "embeddings"])
def test_of_a_vocabulary_that_is_cut_down_each_token_keeps_its_vector_and_its_weight(weighting, bilstm, rows_of_tokens):
    model, rows, names = bilstm(weighting), rows_of_tokens(False), ("input_ids", "attention_mask")
    before = alone(model, rows, names)
    kept = np.array([0, *np.unique(rows.input_ids)])  # the padding stays
    assert keep_embeddings(model, kept) == 60
    assert len(kept) < 60
    renumbered = replace(rows, input_ids=np.searchsorted(kept, rows.input_ids).astype(np.int32))
    np.testing.assert_allclose(alone(model, renumbered, names), before, atol=1e-6)


@pytest.mark.slow
def test_a_family_whose_positions_begin_behind_the_padding_says_what_torch_says(labelled, rows_of_tokens, tmp_path):
    torch.manual_seed(5)
    config = RobertaConfig(**SIZES, **WIDE, pad_token_id=1, type_vocab_size=1)
    model = AutoModelForSequenceClassification.from_config(labelled(config)).eval()
    said_alike(model, rows_of_tokens(), tmp_path, pad=1)


@pytest.mark.slow
def test_the_graph_is_one_file_without_a_path_of_this_machine_and_nothing_is_said(family, tmp_path, capfd):
    write_graph(family("bert"), tmp_path / "model.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    content = (tmp_path / "model.onnx").read_bytes()
    for trace in (b"site-packages", b".py", b"stack_trace", str(tmp_path).encode()):
        assert trace not in content
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


def test_a_model_too_large_for_one_file_is_refused_before_it_is_traced(family, tmp_path, monkeypatch):
    monkeypatch.setattr(graph_module, "LARGEST_BYTES", 1000)
    with pytest.raises(ModelError, match="too large for one ONNX file"):
        write_graph(family("bert"), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
