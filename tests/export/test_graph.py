"""Graphs of every kind of classifier; the oracle is the torch model, one text at a time, unpadded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    RobertaConfig,
)

from potstill.data.batches import pad_rows
from potstill.data.tokens import EncodedTexts
from potstill.errors import ModelError
from potstill.export import graph as graph_module
from potstill.export.graph import OPSET, write_graph
from potstill.models.bilstm import BilstmConfig, new_bilstm
from potstill.models.pooled_classifier import HeadShape, PooledConfig, PooledForSequenceClassification
from potstill.runtime.engine import ThreadPlan, open_engine

SIZES = {"vocab_size": 60, "max_position_embeddings": 40, "initializer_range": 0.3}
WIDE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
FAMILIES = {
    "bert": lambda: BertConfig(**SIZES, **WIDE),
    "distilbert": lambda: DistilBertConfig(**SIZES, dim=32, n_layers=2, n_heads=4, hidden_dim=64),
    "roberta": lambda: RobertaConfig(**SIZES, **WIDE, pad_token_id=0, type_vocab_size=1),
    "electra": lambda: ElectraConfig(**SIZES, **WIDE, embedding_size=16),
}
SLOW = pytest.mark.slow
HEADS = [
    (HeadShape("linear", "mean"), "distilbert"),
    pytest.param(HeadShape("linear", "max"), "bert", marks=SLOW),
    pytest.param(HeadShape("hidden", "cls", size=12, activation="gelu"), "bert", marks=SLOW),
    pytest.param(HeadShape("hidden", "mean", size=12, activation="tanh"), "roberta", marks=SLOW),
]
LENGTHS = (3, 30, 2, 17, 9, 38)
PAD = 0


def labelled(config, n_labels=3):
    config.id2label = {label: f"label-{label}" for label in range(n_labels)}
    config.label2id = {name: label for label, name in config.id2label.items()}
    config.problem_type = "single_label_classification"
    return config


def family(name, n_labels=3):
    torch.manual_seed(5)
    return AutoModelForSequenceClassification.from_config(labelled(FAMILIES[name](), n_labels)).eval()


def with_head(shape, encoder="bert"):
    torch.manual_seed(5)
    labels = {"id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
    config = PooledConfig.around(FAMILIES[encoder](), shape, None, problem_type="single_label_classification", **labels)
    return PooledForSequenceClassification(config).eval()


def rows_of_tokens(with_types):
    rng = np.random.default_rng(0)
    offsets = np.r_[0, np.cumsum(LENGTHS)].astype(np.int64)
    ids = rng.integers(2, 60, offsets[-1]).astype(np.int32)
    types = rng.integers(0, 2, offsets[-1]).astype(np.int8) if with_types else None
    n_tokens = np.array(LENGTHS, dtype=np.int32)
    return EncodedTexts(ids, offsets, types, n_tokens, np.zeros(len(LENGTHS), dtype=bool))


def alone(model, rows, inputs):
    """Logits of each row by torch, on its own, so that nothing is padded."""
    found = []
    for row in range(len(rows)):
        batch = pad_rows(rows, [row], PAD)
        with torch.inference_mode():
            found.append(model(**{name: torch.from_numpy(batch[name]) for name in inputs}).logits[0].numpy())
    return np.stack(found)


def check(model, tmp_path, with_types=True):
    """The graph says what torch says: of rows alone, of all of them padded, and of any company between."""
    rows = rows_of_tokens(with_types)
    written = write_graph(model, tmp_path / "model.onnx")
    expected = alone(model, rows, written.inputs)
    assert np.ptp(expected) > 0.1
    for name in ("openvino", "onnxruntime"):
        engine = open_engine(tmp_path / "model.onnx", written, ThreadPlan(1, 1), name)
        assert engine.n_outputs == 3
        for batch in ([0], [2], [1, 2], [5, 3, 0, 1, 4, 2], [4, 5]):
            padded = pad_rows(rows, batch, PAD)
            logits = engine.run({name: padded[name] for name in written.inputs})
            assert logits.dtype == np.float32
            np.testing.assert_allclose(logits, expected[batch], atol=1e-4, err_msg=f"{name} {batch}")
    return written


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta", pytest.param("electra", marks=SLOW)])
def test_a_family_says_in_both_engines_what_torch_says(name, tmp_path):
    written = check(family(name), tmp_path)
    assert ("token_type_ids" in written.inputs) == (name in ("bert", "electra"))
    assert (written.arithmetic, written.opset, written.output) == ("fp32", OPSET, "logits")


@pytest.mark.parametrize(("shape", "encoder"), HEADS, ids=lambda part: str(part)[:40])
def test_a_head_of_ours_says_what_torch_says(shape, encoder, tmp_path):
    check(with_head(shape, encoder), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["none", "attention"])
def test_a_bilstm_says_what_torch_says_or_is_refused(weighting, tmp_path):
    # torch's exporter follows an LSTM of free length in some processes and fixes the length in others
    config = labelled(BilstmConfig(vocab_size=60, embedding_size=16, hidden_size=12, token_weighting=weighting))
    vectors = torch.randn(60, 16, generator=torch.Generator().manual_seed(5))
    weights = None if weighting == "none" else torch.linspace(0.1, 3, 60)
    try:
        check(new_bilstm(config, seed=3, vectors=vectors, token_weights=weights), tmp_path, with_types=False)
    except ModelError as refused:
        assert "fixed the length of its texts" in str(refused)
        assert list(tmp_path.iterdir()) == []


def test_the_graph_is_one_file_without_a_path_of_this_machine_and_nothing_is_said(tmp_path, capfd):
    write_graph(family("bert"), tmp_path / "model.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    content = (tmp_path / "model.onnx").read_bytes()
    for trace in (b"site-packages", b".py", b"stack_trace", str(tmp_path).encode()):
        assert trace not in content
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


def test_a_model_too_large_for_one_file_is_refused_before_it_is_traced(tmp_path, monkeypatch):
    monkeypatch.setattr(graph_module, "LARGEST_BYTES", 1000)
    with pytest.raises(ModelError, match="too large for one ONNX file"):
        write_graph(family("bert"), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
