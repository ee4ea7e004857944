"""ONNX Runtime behind the ``Engine`` protocol."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from potstill.bundle import Graph
from potstill.runtime.engine import ThreadPlan, cannot_open, require_inputs

_ERRORS_ONLY = 3


class OnnxRuntimeEngine:
    """A session on the processor; calls of several threads run side by side."""

    name = "onnxruntime"

    def __init__(self, model: Path, graph: Graph, plan: ThreadPlan) -> None:
        """Open ``model``; BundleError where it cannot be."""
        self.plan = plan
        self._output = graph.output
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = plan.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        try:
            self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no class of their own
            raise cannot_open(model, self.name, error) from error
        require_inputs(model, [port.name for port in self._session.get_inputs()], graph)
        columns = self._session.get_outputs()[0].shape[1]
        self.n_outputs: int | None = columns if isinstance(columns, int) else None

    def run(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """Logits ``(n, k)`` float32 of a padded batch."""
        (logits,) = self._session.run([self._output], dict(batch))
        return np.asarray(logits, dtype=np.float32)
