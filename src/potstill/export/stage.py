"""Run folder → bundle folder: the graph is written, held against the run, and let out whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from potstill.bundle import MODEL, TOKENIZER, Bundle, read_bundle, write_bundle
from potstill.data.tasks import Split, TaskData
from potstill.errors import DataError, ModelError, UsageError
from potstill.evaluate.held_out import SELECTION
from potstill.evaluate.stage import open_runs
from potstill.export.calibration import Batch
from potstill.export.gate import TOLERANCES, Gate, evenly_spaced, hold_against
from potstill.export.graph import require_exporter, write_graph
from potstill.export.place import beside, let_out, require_place
from potstill.export.source import Source
from potstill.models.linear import is_linear
from potstill.records import Predictions
from potstill.runs import RunFolder, write_text
from potstill.runtime.bundle_predictor import BundlePredictor, open_tokenizer
from potstill.runtime.engine import choose_engine, for_one_batch, open_graph

FORMATS = tuple(TOLERANCES)
"""In what arithmetic a bundle can be written, the default first."""

GATE_ROWS = 5_000
"""The gate compares so many of the stored rows at most, evenly spaced."""

CALIBRATION_TEXTS = 256
"""Static int8 is fitted on so many training texts, evenly spaced."""


def export_run(
    run: Path | str,
    out: Path | str,
    *,
    arithmetic: str = "int8",
    force: bool = False,
    data_dir: Path | None = None,
    gate_rows: int = GATE_ROWS,
    calibration_texts: int = CALIBRATION_TEXTS,
    trim: bool = False,
    engine: str | None = None,
    tell: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Write a fine-tuned run as a bundle to ``out``, a new or empty folder; what ``bundle.json`` holds is returned.

    Before it is there under that name its predictions are held against those that the run stored of its selection
    split. In int8, parts that suffer most are left in float32 one after another until it is within the tolerance. If it
    never is, CheckError is raised and nothing is left; with ``force`` the first attempt is then written and marked.
    ``calibration_texts`` is how many training texts int8 is fitted on; with ``trim`` the vocabulary is cut down to the
    pieces that training texts use.

    Raises RunFolderError for a run that is no classifier's or an ``out`` that holds something, DataError where the rows
    are not those of the run, BundleError or ModelError where the graph cannot be made or opened.
    """
    out = Path(out).resolve()
    if arithmetic not in FORMATS:
        raise UsageError("a bundle cannot be written in this arithmetic", found=arithmetic, allowed=FORMATS)
    if calibration_texts < 1:
        raise UsageError("int8 is fitted on at least one text", found=calibration_texts)
    if gate_rows < 1:
        raise UsageError("the gate compares at least one row", found=gate_rows)
    require_exporter()
    choose_engine(engine)
    require_place(out)
    _require_network(Path(run))
    (folder,), data = open_runs([run], data_dir)
    stored = folder.predictions(SELECTION)
    split = _selection(stored, data)
    rows = evenly_spaced(len(stored), gate_rows)
    with beside(out) as partial:
        source = Source.open(folder, data)
        if trim:
            source = source.trimmed()

        def attempts() -> Iterator[Bundle]:
            return _attempts(source, partial, arithmetic, calibration_texts)

        def held(bundle: Bundle) -> Gate:
            return _gate(partial, bundle, folder, stored, split, rows, engine)

        bundle, gate = _let_through(attempts, held, force=force, tell=tell)
        bundle = replace(bundle, gate=gate.to_dict(), forced=bool(gate.complaints))
        write_bundle(partial, bundle)
        read_bundle(partial)
        let_out(partial, out)
    return bundle.to_dict()


def _let_through(
    attempts: Callable[[], Iterator[Bundle]],
    held: Callable[[Bundle], Gate],
    *,
    force: bool,
    tell: Callable[[str], None],
) -> tuple[Bundle, Gate]:
    """The first attempt within the tolerance, with its gate; the first of all where none is and it is forced.

    Raises CheckError with the figures of the last one otherwise.
    """
    n_attempts = 0
    for bundle in attempts():
        gate = held(bundle)
        n_attempts += 1
        if not gate.complaints:
            return bundle, gate
        tell(f"{_described(bundle)}: {', '.join(gate.complaints)}")
    if not force:
        gate.require_passed()
    if n_attempts > 1:  # each was written over the one before
        bundle = next(attempts())
        gate = held(bundle)
    return bundle, gate


def _described(bundle: Bundle) -> str:
    left = bundle.graph.left_in_float32
    return f"in {bundle.graph.arithmetic}" + (f" but for {', '.join(left)}" if left else "")


def _require_network(run: Path) -> None:
    if is_linear(run):
        raise ModelError(
            f"{run} holds a linear model, of which there is no graph",
            allowed="a transformers model or a BiLSTM",
            do="keep the run as it is: its own predictor needs no torch either",
        )


def _selection(stored: Predictions, data: TaskData) -> Split:
    rows = data.split(SELECTION)
    if not np.array_equal(rows.ids, stored.ids):
        raise DataError(
            f"the stored predictions of split {SELECTION} are of other rows",
            do=f"predict them again: potstill evaluate RUN --split {SELECTION}",
        )
    return rows


def _attempts(source: Source, partial: Path, arithmetic: str, calibration_texts: int) -> Iterator[Bundle]:
    """Graph and tokenizer in ``partial``, described; in int8 one attempt after another."""
    from potstill.export.quantise import written_graphs  # its libraries were asked for only now, by require_exporter

    write_text(partial / TOKENIZER, source.tokenizer_json)
    whole = write_graph(source.model, partial / MODEL)

    def calibration() -> list[Batch]:
        return source.calibration(calibration_texts)

    for graph in written_graphs(source.model, partial / MODEL, whole, arithmetic, calibration):
        yield source.described(graph, partial)


def _gate(
    partial: Path,
    bundle: Bundle,
    folder: RunFolder,
    stored: Predictions,
    split: Split,
    rows: np.ndarray,
    engine: str | None,
) -> Gate:
    """What is in ``partial``, run as whoever opens it will, on the rows that are compared.

    There is no ``bundle.json`` yet, so that nothing opens what was not let out.
    """
    tolerance = TOLERANCES[bundle.graph.arithmetic]
    if bundle.vocabulary is not None:  # texts in other pieces have other logits, by intent
        tolerance = replace(tolerance, logit_difference=None)

    graph = open_graph(partial / bundle.graph.file, bundle.graph, for_one_batch(None), engine)
    with BundlePredictor(bundle, open_tokenizer(partial, bundle), graph, cleaned=True) as predictor:
        said = predictor.predict(split.select(rows).texts)
    expected = take(stored, rows)
    assert expected.targets is not None
    return hold_against(
        expected,
        said.with_targets(expected.targets, expected.ids),
        metric=folder.manifest["metric"],
        tolerance=tolerance,
        split=SELECTION,
        n_rows_stored=len(stored),
        engine=predictor.engine,
    )


def take(predictions: Predictions, rows: np.ndarray) -> Predictions:
    """The predictions of ``rows``, in that order."""
    return replace(
        predictions,
        ids=predictions.ids[rows],
        logits=predictions.logits[rows],
        n_tokens=predictions.n_tokens[rows],
        truncated=predictions.truncated[rows],
        targets=None if predictions.targets is None else predictions.targets[rows],
    )
