"""The forms of a classifier that engines used directly are given: int8, as each engine's documentation makes it.

- ONNX Runtime, ``dynamic``: attention fused, int8 weights, inputs rounded as they come; ``static``: the products with
  weights between operators that round (QDQ), attention left open so that its products are among them, ranges fitted;
- OpenVINO: converted from torch with its attention in one operator (``sdpa``) or in several (``eager``), then int8 by
  NNCF with what it recommends for transformers on processors, SmoothQuant among it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, PreTrainedModel

from inference_peers import FORMS
from potstill.bundle import MODEL
from potstill.models.teacher import open_classifier

Samples = Sequence[dict[str, np.ndarray]]


def samples(source: Path, texts: Sequence[str], max_length: int) -> Samples:
    """Inputs of single texts, ``(1, length)`` int64, that ranges are fitted on."""
    tokenizer = AutoTokenizer.from_pretrained(source)
    encoded = [tokenizer(text, truncation=True, max_length=max_length, return_tensors="np") for text in texts]
    return [{name: row[name].astype(np.int64) for name in _example()} for row in encoded]


def for_onnxruntime(source: Path, out: Path, fitted_on: Samples) -> None:
    """Both forms for ONNX Runtime, each in a folder of its own."""
    model, plain, fused = open_classifier(source), out / "plain.onnx", out / "fused.onnx"
    _export(model, plain)
    for form in FORMS["onnxruntime"]:
        (out / form).mkdir()
        _fuse(plain, model.config, fused, attention=form == "dynamic")
        if form == "dynamic":
            _round_dynamically(fused, out / form / MODEL)
        else:
            _round_statically(fused, out / form / MODEL, fitted_on)
        fused.unlink()
    plain.unlink()


def _export(model: PreTrainedModel, plain: Path) -> None:
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


def _fuse(plain: Path, config: Any, out: Path, *, attention: bool) -> None:
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    options = FusionOptions("bert")
    options.enable_attention = attention
    n_heads, width = config.num_attention_heads, config.hidden_size
    fused = optimize_model(
        str(plain), model_type="bert", num_heads=n_heads, hidden_size=width, optimization_options=options
    )
    found, n_layers = fused.get_fused_operator_statistics(), config.num_hidden_layers
    n_fused = found["Attention"] + found["MultiHeadAttention"]
    if n_fused != n_layers * attention or found["BiasGelu"] != n_layers:
        raise SystemExit(f"ONNX Runtime's optimiser did not fuse the graph: {found}")
    fused.save_model_to_file(str(out))


def _round_dynamically(fused: Path, out: Path) -> None:
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        str(fused),
        str(out),
        weight_type=QuantType.QInt8,
        per_channel=True,
        # Shapes, and with them types, are not followed through the fused operators.
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )


def _round_statically(fused: Path, out: Path, fitted_on: Samples) -> None:
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        left = iter(fitted_on)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

    # What is read from an operator of unknown type would be left in float32.
    model = SymbolicShapeInference.infer_shapes(onnx.load(fused), auto_merge=True)
    weights = {tensor.name for tensor in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    quantize_static(
        model,
        str(out),
        Reader(),
        quant_format=QuantFormat.QDQ,
        nodes_to_quantize=[node.name for node in products if node.input[1] in weights],
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},  # what follows a product reads float32
    )


def for_openvino(source: Path, out: Path, fitted_on: Samples) -> None:
    """Both forms for OpenVINO, each in a folder of its own."""
    import nncf
    import openvino

    for form in FORMS["openvino"]:
        model = open_classifier(source)
        model.set_attn_implementation(form)
        converted = openvino.convert_model(model.eval(), example_input=_example())
        names = [port.any_name for port in converted.inputs]
        rounded = nncf.quantize(
            converted,
            nncf.Dataset([{name: row[name] for name in names} for row in fitted_on]),
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(fitted_on),
        )
        (out / form).mkdir()
        openvino.save_model(rounded, out / form / "model.xml")


def _example() -> dict[str, torch.Tensor]:
    ids = torch.arange(16).reshape(2, 8)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
