"""OpenVINO behind the ``Engine`` protocol."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from potstill.bundle import Graph
from potstill.runtime.engine import ThreadPlan, cannot_open, require_inputs

EXACT_SHAPES = 128
"""Shapes of batches that are run as they come; later ones are padded to a length of the ladder."""

LADDER = 16
"""Lengths that later shapes are padded to are multiples of this many tokens."""


class Widths:
    """At which length batches are run, so that memory does not grow with every shape that was ever met.

    For each shape OpenVINO makes kernels and keeps them: about 0.3 MB and half the time of a run with a short text. A
    server meets thousands, of which a ladder leaves a few hundred.
    """

    def __init__(self) -> None:
        self._exact: set[tuple[int, int]] = set()
        self._longest = 0

    def of(self, n_rows: int, length: int) -> int:
        """``length`` or more, and never more than a batch had before: the graph may have no positions beyond."""
        self._longest = max(self._longest, length)
        if len(self._exact) < EXACT_SHAPES:
            self._exact.add((n_rows, length))
        if (n_rows, length) in self._exact:
            return length
        return min(-(-length // LADDER) * LADDER, self._longest)


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
            self._compiled = openvino.Core().compile_model(str(model), "CPU", _settings(plan))
        except RuntimeError as error:
            raise cannot_open(model, self.name, error) from error
        require_inputs(model, [port.any_name for port in self._compiled.inputs], graph)
        columns = self._compiled.output(0).partial_shape[1]
        self.n_outputs: int | None = columns.get_length() if columns.is_static else None
        self._of_thread = threading.local()
        self._widths = Widths()

    def run(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """Logits ``(n, k)`` float32 of a padded batch."""
        request = self._request()
        n_rows, length = batch["input_ids"].shape
        request.infer(_padded(batch, self._widths.of(n_rows, length)), share_inputs=True)
        return np.array(request.get_output_tensor(0).data, dtype=np.float32)

    def _request(self) -> Any:
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
        return self._of_thread.request


def _padded(batch: Mapping[str, np.ndarray], length: int) -> dict[str, np.ndarray]:
    """The batch with columns of zeros up to ``length``; where the attention mask is 0 no position counts."""
    return {
        name: rows if rows.shape[1] == length else np.pad(rows, ((0, 0), (0, length - rows.shape[1])))
        for name, rows in batch.items()
    }


def _settings(plan: ThreadPlan) -> dict[str, Any]:
    return {
        "PERFORMANCE_HINT": "LATENCY" if plan.streams == 1 else "THROUGHPUT",
        "NUM_STREAMS": str(plan.streams),
        "INFERENCE_NUM_THREADS": plan.streams * plan.threads,
        "INFERENCE_PRECISION_HINT": "f32",
        # Bound to cores, the threads of two processes would share some and leave others idle.
        "ENABLE_CPU_PINNING": False,
    }
