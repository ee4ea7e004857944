"""One classifier in every form that ``inference.py`` measures: transformers', those of the engines, and bundles.

The peers are made as their documentation says, each at its best: for ONNX Runtime the graph is optimised for
transformers and its weights are int8, inputs rounded as they come; for OpenVINO the model is converted from torch and
NNCF rounds weights and inputs, with SmoothQuant, fitted on the same texts as our bundle.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedModel,
)

from potstill.bundle import MODEL, TOKENIZER, Bundle, Reading, made_by, write_bundle
from potstill.data.tokens import TextTokenizer
from potstill.export.calibration import calibration_batches
from potstill.export.graph import write_graph
from potstill.export.quantise import written_graphs
from potstill.models.teacher import load_tokenizer, open_classifier, resolve_model

MAX_LENGTH, N_LABELS, CALIBRATION_TEXTS = 512, 2, 256
TOKENIZER_OF = "minilm-l6"


def make_artefacts(folder: Path, run: Path | None, texts: Sequence[str], arms: Sequence[str]) -> None:
    """What ``arms`` need into ``folder``, left as it is where it is there already; of ``run``, or of drawn weights.

    ``texts`` are what int8 is fitted on.
    """
    torch.set_num_threads(2)
    source = folder / "transformers"
    make: dict[str, Callable[[Path], None]] = {
        "bert-base": lambda out: _save(BertForSequenceClassification, BertConfig, out),
        "bundle-fp32": lambda out: make_bundle(source, out, "fp32", texts),
        "bundle-int8": lambda out: make_bundle(source, out, "int8", texts),
        "onnxruntime": lambda out: _for_onnxruntime(open_classifier(source), out),
        "openvino": lambda out: _for_openvino(open_classifier(source), source, out, texts),
    }
    _once(source, lambda out: _save_classifier(out, run))
    for arm in (arm for arm in arms if arm in make):
        _once(folder / arm, make[arm])


def _once(out: Path, make: Callable[[Path], None]) -> None:
    if not out.exists():
        partial = out.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        make(partial)
        partial.rename(out)


def _save_classifier(out: Path, run: Path | None) -> None:
    if run is None:
        _save(DistilBertForSequenceClassification, DistilBertConfig, out)
        return
    open_classifier(run).save_pretrained(out)
    AutoTokenizer.from_pretrained(run).save_pretrained(out)


def _save(model: Any, config: Any, out: Path, **shape: int) -> None:
    """A classifier of drawn weights, in the size its configuration has of itself but for ``shape``."""
    tokenizer = load_tokenizer(resolve_model(TOKENIZER_OF))
    torch.manual_seed(0)
    labels = {number: f"label-{number}" for number in range(N_LABELS)}
    model(
        config(
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            id2label=labels,
            label2id={name: number for number, name in labels.items()},
            problem_type="single_label_classification",
            **shape,
        )
    ).save_pretrained(out)
    tokenizer.save_pretrained(out)


def make_small_bundle(folder: Path, max_length: int) -> Path:
    """A bundle of two layers of drawn weights, 64 wide: for work in which the model is not what counts."""
    shape = {"dim": 64, "n_layers": 2, "n_heads": 2, "hidden_dim": 128}
    _once(folder / "model", lambda out: _save(DistilBertForSequenceClassification, DistilBertConfig, out, **shape))
    _once(folder / "bundle", lambda out: make_bundle(folder / "model", out, "fp32", (), max_length))
    return folder / "bundle"


def make_bundle(source: Path, out: Path, arithmetic: str, texts: Sequence[str], max_length: int = MAX_LENGTH) -> None:
    """A bundle without a gate: of drawn weights there are no predictions to hold it against."""
    model = open_classifier(source)
    tokenizer = TextTokenizer.open(source)
    shutil.copyfile(source / TOKENIZER, out / TOKENIZER)
    whole = write_graph(model, out / MODEL)

    def fitted_on() -> Any:
        return calibration_batches(tokenizer.encode(texts, max_length), tokenizer.pad_id, CALIBRATION_TEXTS)

    graph = next(written_graphs(model, out / MODEL, whole, arithmetic, fitted_on))
    config = model.config
    bundle = Bundle(
        name="inference",
        problem_type=config.problem_type,
        label_names=tuple(config.id2label[number] for number in range(config.num_labels)),
        reading=Reading(("text",), "sep", (), max_length, None),
        graph=graph,
        special_tokens={},
        pad_id=tokenizer.pad_id,
        decisions=None,
        gate={},
        forced=True,
        origin={},
        files={name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in (MODEL, TOKENIZER)},
        made_by=made_by(),
    )
    write_bundle(out, bundle)


def _for_onnxruntime(model: PreTrainedModel, out: Path) -> None:
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model

    plain, better = out / "plain.onnx", out / "optimised.onnx"
    # Of what torch's newer exporter writes, and of attention in one operator, the optimiser recognises no attention.
    model.set_attn_implementation("eager")
    torch.onnx.export(
        model.eval(),
        (),
        str(plain),
        kwargs=_example(),
        input_names=list(_example()),
        output_names=["logits"],
        dynamic_axes={name: {0: "rows", 1: "length"} for name in _example()},
        opset_version=17,
        dynamo=False,
    )
    config = model.config
    fused = optimize_model(str(plain), model_type="bert", num_heads=config.n_heads, hidden_size=config.dim)
    found = fused.get_fused_operator_statistics()
    if found["Attention"] + found["MultiHeadAttention"] != config.n_layers or found["BiasGelu"] != config.n_layers:
        raise SystemExit(f"ONNX Runtime's optimiser did not fuse the graph: {found}")
    fused.save_model_to_file(str(better))
    quantize_dynamic(
        str(better),
        str(out / MODEL),
        weight_type=QuantType.QInt8,
        per_channel=True,
        # Shapes, and with them types, are not followed through the fused operators.
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )
    plain.unlink()
    better.unlink()


def _for_openvino(model: PreTrainedModel, source: Path, out: Path, texts: Sequence[str]) -> None:
    import nncf
    import openvino

    converted = openvino.convert_model(model.eval(), example_input=_example())
    tokenizer = AutoTokenizer.from_pretrained(source)
    encoded = [dict(tokenizer(text, truncation=True, max_length=MAX_LENGTH, return_tensors="np")) for text in texts]
    names = {port.any_name for port in converted.inputs}
    samples = [{name: np.asarray(row[name]) for name in names} for row in encoded[:CALIBRATION_TEXTS]]
    rounded = nncf.quantize(
        converted, nncf.Dataset(samples), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(samples)
    )
    openvino.save_model(rounded, out / "model.xml")


def _example() -> dict[str, torch.Tensor]:
    ids = torch.arange(16).reshape(2, 8)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
