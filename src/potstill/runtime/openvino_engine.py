"""OpenVINO behind the ``OpenedGraph`` and ``Engine`` protocols."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from potstill.bundle import Graph
from potstill.runtime.engine import ThreadPlan, cannot_open, require_inputs

_CORE = openvino.Core()
"""One for the process: with the last core its plugin is unloaded, under threads of models let go of later."""

# Fills a table of OpenVINO's Python binding: two threads that are the first to need it wait for each other for ever.
openvino.Type.i64.to_dtype()


class OpenVinoGraph:
    """A graph that was read once; engines compiled of it share what it holds, but not the weights as kernels want them.

    Where shapes change from call to call, OpenVINO prepares every product anew. For a short text that is much of the
    time, so that engines of a fixed width pay, though some of the width is padding (decision 025).
    """

    name = "openvino"
    single_widths: tuple[int, ...] = (24, 48)

    def __init__(self, model: Path, graph: Graph) -> None:
        """Read ``model``; BundleError where it cannot be, or takes other inputs than ``graph`` says."""
        self._file = model
        try:
            self._model = _CORE.read_model(str(model))
            columns = self._model.output(0).partial_shape[1]
        except RuntimeError as error:
            raise cannot_open(model, self.name, error) from error
        require_inputs(model, [port.any_name for port in self._model.inputs], graph)
        self.n_outputs: int | None = columns.get_length() if columns.is_static else None

    def compile(self, plan: ThreadPlan) -> OpenVinoEngine:
        """An engine for ``plan``; BundleError where there cannot be one."""
        try:
            return OpenVinoEngine(_CORE.compile_model(self._of_width(plan.width), "CPU", _settings(plan)), plan)
        except RuntimeError as error:
            raise cannot_open(self._file, self.name, error) from error

    def _of_width(self, width: int | None) -> openvino.Model:
        if width is None:
            return self._model
        narrow = self._model.clone()
        narrow.reshape({port.any_name: [1, width] for port in narrow.inputs})
        return narrow


class OpenVinoEngine:
    """A graph compiled for the processor; each thread that calls it has a request of its own.

    Arithmetic that the graph leaves open is float32: by itself OpenVINO takes bfloat16 on processors that have it, and
    the same bundle would give other answers there.
    """

    def __init__(self, compiled: openvino.CompiledModel, plan: ThreadPlan) -> None:
        self.plan = plan
        self._compiled = compiled
        self._of_thread = threading.local()

    def run(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """Logits ``(n, k)`` float32 of a padded batch."""
        found = self._request().infer(dict(batch), share_inputs=True, share_outputs=True)
        return np.array(found[0], dtype=np.float32)

    def _request(self) -> Any:
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
        return self._of_thread.request


def _settings(plan: ThreadPlan) -> dict[str, Any]:
    return {
        "PERFORMANCE_HINT": "LATENCY" if plan.streams == 1 else "THROUGHPUT",
        "NUM_STREAMS": str(plan.streams),
        "INFERENCE_NUM_THREADS": plan.streams * plan.threads,
        "INFERENCE_PRECISION_HINT": "f32",
        # Bound to cores, the threads of two processes would share some and leave others idle.
        "ENABLE_CPU_PINNING": False,
    }
