"""A classifier as an ONNX graph with free batch and length, in float32."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from potstill.bundle import GRAPH_INPUTS, Graph
from potstill.errors import ModelError, UsageError
from potstill.export.first_token import only_first_token, reads_first_token
from potstill.export.recurrence import lstms_as_one_node
from potstill.models.checkpoints import quietly
from potstill.models.teacher import accepted_inputs, longest_input

OPSET = 18
"""The newest in which both engines are sure to recognise attention and GELU where they are written out."""

OUTPUT = "logits"
LARGEST_BYTES = 2**31 - 2**24
"""An ONNX file holds less than 2 GiB; of that a little goes to the graph itself."""

_ROWS, _LENGTH = 2, 8
"""Of the batch that is traced: sizes other than 1, which the trace would take for fixed."""


def require_exporter() -> None:
    """Raise UsageError unless the packages that write graphs are installed."""
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"graphs are written with {' and '.join(missing)}", do="pip install 'potstill[export]'")


class _Logits(nn.Module):
    """The model as a function of named tensors to its logits in float32.

    Where only the first token is read, no more of the mask is needed than which tokens are attended to, so it is given
    in the form that is added to the scores. transformers makes a square of it for each text, by a dozen nodes.
    """

    def __init__(self, model: PreTrainedModel, *, added_mask: bool) -> None:
        super().__init__()
        self.model = model
        self.added_mask = added_mask

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """``(n, k)`` float32 of a padded batch ``(n, length)``."""
        if self.added_mask and attention_mask is not None:
            attention_mask = (1.0 - attention_mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        given = {name: tensor for name, tensor in inputs.items() if tensor is not None}
        logits: Tensor = self.model(**given).logits
        return logits.float()


def write_graph(model: PreTrainedModel, file: Path) -> Graph:
    """Write ``model`` to ``file`` in one piece; what there is to know of it.

    Neither padding nor the company of other texts changes a logit by more than rounding. The model is put into
    evaluation mode, float32 and plain attention, and stays so: plain attention adds the mask before the softmax, the
    form that engines fuse; torch's own attention takes a mask of booleans, which becomes several more nodes. What no
    head reads of the last layer is not in the graph. Raises ModelError for a model that cannot be traced or is too
    large for one file.
    """
    _require_room(model)
    model = model.eval().float().cpu()
    model.set_attn_implementation("eager")
    names = tuple(name for name in GRAPH_INPUTS if name in accepted_inputs(model))
    try:
        with (
            _silently(),
            torch.inference_mode(False),
            torch.no_grad(),
            only_first_token(model),
            lstms_as_one_node(model),
        ):
            program = _traced(model, names)
    except torch.onnx.OnnxExporterError as error:
        raise ModelError(f"the model cannot be written as an ONNX graph: {_cause(error)}") from error
    _require_free_shape(program)
    _without_traces(program)
    program.save(file, external_data=False)
    return Graph(file.name, "fp32", names, OUTPUT, OPSET)


def keep_embeddings(model: PreTrainedModel, kept: np.ndarray) -> int:
    """Cut what has a row for each token down to the ids ``kept``, ascending, in place; how many there were.

    That is the embeddings and, of a BiLSTM, the weights of the tokens.
    """
    embeddings = model.get_input_embeddings()
    before = len(embeddings.weight)
    embeddings.weight = nn.Parameter(embeddings.weight.detach()[torch.from_numpy(kept)])
    embeddings.num_embeddings = model.config.vocab_size = len(kept)
    if embeddings.padding_idx is not None:
        embeddings.padding_idx = int(np.searchsorted(kept, embeddings.padding_idx))
    weights = getattr(model.base_model, "token_weights", None)
    if weights is not None:
        model.base_model.token_weights = weights[torch.from_numpy(kept)]
    return before


def _traced(model: PreTrainedModel, names: tuple[str, ...]) -> Any:
    rows, length = torch.export.Dim("rows", min=1), torch.export.Dim("length", min=2, max=longest_input(model))
    return torch.onnx.export(
        _Logits(model, added_mask=reads_first_token(model)),
        kwargs=_example(model, names),
        dynamic_shapes={name: {0: rows, 1: length} for name in names},
        input_names=list(names),
        output_names=[OUTPUT],
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _example(model: PreTrainedModel, names: tuple[str, ...]) -> dict[str, Tensor]:
    """A batch whose second row is padded; its ids say nothing."""
    mask = torch.ones(_ROWS, _LENGTH, dtype=torch.int64)
    mask[1, _LENGTH // 2 :] = 0
    ids = torch.arange(_ROWS * _LENGTH).reshape(_ROWS, _LENGTH) % model.config.vocab_size
    batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    return {name: batch[name] for name in names}


def _require_room(model: PreTrainedModel) -> None:
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    if size > LARGEST_BYTES:
        raise ModelError(
            "the model is too large for one ONNX file", found=f"{size:,} bytes", allowed=f"at most {LARGEST_BYTES:,}"
        )


def _require_free_shape(program: Any) -> None:
    """Raise ModelError where the exporter took the number of rows or tokens of its example for the only one.

    It does so without a word where it cannot follow an operator with a free length, as it cannot an LSTM of torch.
    """
    shapes = {value.name: list(value.shape or ()) for value in program.model.graph.inputs}
    if fixed := sorted(name for name, shape in shapes.items() if any(isinstance(size, int) for size in shape)):
        raise ModelError(
            "the model cannot be written as an ONNX graph: torch's exporter fixed the length of its texts",
            found=", ".join(f"{name} {shapes[name]}" for name in fixed),
            do="keep the run as it is: its own predictor opens it",
        )


def _without_traces(program: Any) -> None:
    """Take away what the exporter notes of the source of every node: paths of this machine."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    ClearMetadataAndDocStringPass()(program.model)


@contextmanager
def _silently() -> Iterator[None]:
    """Hold back what the exporter says while it works."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with quietly(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__
