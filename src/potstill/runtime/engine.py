"""Inference engines behind two small protocols: both open the same ``model.onnx``. No torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from potstill.bundle import Graph
from potstill.errors import BundleError, UsageError
from potstill.machine import available_cores

ENGINES = ("openvino", "onnxruntime")
"""Engines by the name of their package, the default first."""


@dataclass(frozen=True)
class ThreadPlan:
    """How an engine uses the cores: ``streams`` batches at a time, each by ``threads`` threads.

    width: the engine takes nothing but one row of so many positions; None for batches of any shape.
    """

    streams: int
    threads: int
    width: int | None = None


def for_one_batch(threads: int | None) -> ThreadPlan:
    """All cores, or ``threads`` of them, work on one batch: the shortest time to an answer."""
    return ThreadPlan(1, _checked(threads))


def for_many_batches(threads: int | None) -> ThreadPlan:
    """Each core works on a batch of its own and waits for no other: the most texts in a given time."""
    return ThreadPlan(_checked(threads), 1)


def _checked(threads: int | None) -> int:
    if threads is None:
        return available_cores()
    if threads < 1:
        raise UsageError("an engine needs at least one thread", found=threads)
    return threads


class Engine(Protocol):
    """A graph that is compiled and ready to run. plan: how it uses the cores, and of which shape its batches are."""

    plan: ThreadPlan

    def run(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """Logits ``(n, k)`` float32 of a padded batch, each input ``(n, length)`` int64. From several threads at once,
        of which as many make progress as the plan has streams.
        """
        ...


class OpenedGraph(Protocol):
    """A graph that was read and found in order.

    name: of the engine. n_outputs: columns of the logits, None where the graph does not say. single_widths: in rising
    order, those for which an engine of its own pays where a row is run alone; each holds the weights once more.
    """

    name: str
    n_outputs: int | None
    single_widths: tuple[int, ...]

    def compile(self, plan: ThreadPlan) -> Engine:
        """An engine for ``plan``; BundleError where there cannot be one."""
        ...


def installed_engines() -> tuple[str, ...]:
    """Names of the engines that are installed, the default first."""
    return tuple(name for name in ENGINES if importlib.util.find_spec(name) is not None)


def open_graph(model: Path, graph: Graph, plan: ThreadPlan, name: str | None = None) -> OpenedGraph:
    """The graph in ``model`` in the engine called ``name``, by default the first that is installed.

    ``plan`` is the one that will be compiled first; an engine that reads a graph only to run it does so now.

    Raises UsageError for an engine that is not there, BundleError for a graph that it cannot open or that takes other
    inputs than ``graph`` says.
    """
    chosen = choose_engine(name)
    if chosen == "openvino":
        from potstill.runtime.openvino_engine import OpenVinoGraph

        return OpenVinoGraph(model, graph)
    from potstill.runtime.onnxruntime_engine import OnnxRuntimeGraph

    return OnnxRuntimeGraph(model, graph, plan)


def choose_engine(name: str | None = None) -> str:
    """The engine called ``name``, or the first that is installed; UsageError where it is not there."""
    if name is not None and name not in ENGINES:
        raise UsageError("there is no such inference engine", found=name, allowed=ENGINES)
    installed = installed_engines()
    if name in installed:
        return str(name)
    if name is None and installed:
        return installed[0]
    raise UsageError(
        "no inference engine is installed" if name is None else f"the inference engine {name} is not installed",
        allowed=ENGINES if name is None else installed or "none is installed",
        do="pip install 'potstill[runtime]'" if name != "onnxruntime" else "pip install onnxruntime",
    )


def require_inputs(model: Path, found: Sequence[str], graph: Graph) -> None:
    """Raise BundleError where a graph takes other inputs than the bundle says."""
    if set(found) != set(graph.inputs):
        raise BundleError(
            f"{model} takes other inputs than its bundle says",
            found=", ".join(found),
            allowed=", ".join(graph.inputs),
            do="export it again",
        )


def cannot_open(model: Path, engine: str, error: Exception) -> BundleError:
    """What to raise where an engine refuses a graph, with the last line of what it said."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return BundleError(f"{engine} cannot open {model}: {(lines or [type(error).__name__])[-1][:200]}")
