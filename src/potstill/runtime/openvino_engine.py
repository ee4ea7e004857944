"""OpenVINO behind the ``Engine`` protocol."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from potstill.bundle import Graph
from potstill.runtime.engine import ThreadPlan, cannot_open, require_inputs

# Fills a table of OpenVINO's Python binding: two threads that are the first to need it wait for each other for ever.
openvino.Type.i64.to_dtype()


class OpenVinoEngine:
    """A graph compiled for the processor; each thread that calls it has a request of its own.

    Arithmetic that the graph leaves open is float32: by itself OpenVINO takes bfloat16 on processors that have it, and
    the same bundle would give other answers there.
    """

    name = "openvino"

    def __init__(self, model: Path, graph: Graph, plan: ThreadPlan) -> None:
        """Compile ``model`` for as many streams as ``plan`` says; BundleError where it cannot be."""
        self.plan = plan
        try:
            self._compiled = _core().compile_model(str(model), "CPU", _settings(plan))
        except RuntimeError as error:
            raise cannot_open(model, self.name, error) from error
        require_inputs(model, [port.any_name for port in self._compiled.inputs], graph)
        columns = self._compiled.output(0).partial_shape[1]
        self.n_outputs: int | None = columns.get_length() if columns.is_static else None
        self._of_thread = threading.local()

    def run(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """Logits ``(n, k)`` float32 of a padded batch."""
        found = self._request().infer(dict(batch), share_inputs=True, share_outputs=True)
        return np.array(found[0], dtype=np.float32)

    def _request(self) -> Any:
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
        return self._of_thread.request


@functools.cache
def _core() -> Any:
    """One for the process: with the last core its plugin is unloaded, under threads of models let go of later."""
    return openvino.Core()


def _settings(plan: ThreadPlan) -> dict[str, Any]:
    return {
        "PERFORMANCE_HINT": "LATENCY" if plan.streams == 1 else "THROUGHPUT",
        "NUM_STREAMS": str(plan.streams),
        "INFERENCE_NUM_THREADS": plan.streams * plan.threads,
        "INFERENCE_PRECISION_HINT": "f32",
        # Bound to cores, the threads of two processes would share some and leave others idle.
        "ENABLE_CPU_PINNING": False,
    }
