"""ONNX Runtime behind the ``OpenedGraph`` and ``Engine`` protocols."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from potstill.bundle import Graph
from potstill.runtime.engine import ThreadPlan, cannot_open, require_inputs

_ERRORS_ONLY = 3


class OnnxRuntimeGraph:
    """A graph of which sessions are opened. Their time does not depend on whether shapes change."""

    name = "onnxruntime"
    single_widths: tuple[int, ...] = ()

    def __init__(self, model: Path, graph: Graph, plan: ThreadPlan) -> None:
        """Open a session for ``plan``; BundleError where it cannot be, or takes other inputs than ``graph`` says."""
        self._file, self._output = model, graph.output
        session = self._session(plan)
        require_inputs(model, [port.name for port in session.get_inputs()], graph)
        columns = session.get_outputs()[0].shape[1]
        self.n_outputs: int | None = columns if isinstance(columns, int) else None
        self._first = OnnxRuntimeEngine(session, self._output, plan)

    def compile(self, plan: ThreadPlan) -> OnnxRuntimeEngine:
        """An engine for ``plan``, the first one where that is its; BundleError where there cannot be one."""
        if plan.width is not None:
            raise ValueError(f"ONNX Runtime has no engines of a fixed width, and {plan.width} was asked for")
        if plan == self._first.plan:
            return self._first
        return OnnxRuntimeEngine(self._session(plan), self._output, plan)

    def _session(self, plan: ThreadPlan) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = plan.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        try:
            return onnxruntime.InferenceSession(str(self._file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no class of their own
            raise cannot_open(self._file, self.name, error) from error


class OnnxRuntimeEngine:
    """A session on the processor; calls of several threads run side by side."""

    def __init__(self, session: onnxruntime.InferenceSession, output: str, plan: ThreadPlan) -> None:
        self.plan = plan
        self._session, self._output = session, output

    def run(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """Logits ``(n, k)`` float32 of a padded batch."""
        (logits,) = self._session.run([self._output], dict(batch))
        return np.asarray(logits, dtype=np.float32)
