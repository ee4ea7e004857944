"""Run folder → bundle folder: the graph is written, held against the run, and let out whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from potstill.bundle import MODEL, TOKENIZER, Bundle, Reading, made_by, write_bundle
from potstill.data.tasks import Split, TaskData
from potstill.data.tokens import TextTokenizer
from potstill.decisions import read_decisions, sha256_of
from potstill.errors import DataError, ModelError, UsageError
from potstill.evaluate.held_out import SELECTION
from potstill.evaluate.stage import open_runs
from potstill.export.gate import TOLERANCES, Gate, hold_against, rows_to_compare
from potstill.export.graph import require_exporter, write_graph
from potstill.models.linear import is_linear
from potstill.models.long_texts import windows_of
from potstill.models.teacher import open_classifier
from potstill.records import Predictions
from potstill.runs import RunFolder, fingerprint, require_unused, storage_errors
from potstill.runtime.bundle_predictor import BundlePredictor
from potstill.runtime.engine import choose_engine

FORMATS = tuple(TOLERANCES)
"""In what arithmetic weights can be written."""

GATE_ROWS = 5_000
"""The gate compares so many of the stored rows at most, evenly spaced."""


def export_run(
    run: Path | str,
    out: Path | str,
    *,
    arithmetic: str = "fp32",
    force: bool = False,
    data_dir: Path | None = None,
    gate_rows: int = GATE_ROWS,
    engine: str | None = None,
) -> dict[str, Any]:
    """Write a fine-tuned run as a bundle to ``out``, a new or empty folder; what ``bundle.json`` holds is returned.

    Before it is there under that name its predictions are held against those that the run stored of its selection
    split. Outside the tolerance CheckError is raised and nothing is left, but with ``force`` it is written and marked.
    Raises RunFolderError for a run that is no classifier's or an ``out`` that holds something, DataError where the rows
    are not those of the run, BundleError or ModelError where the graph cannot be made or opened.
    """
    out = Path(out)
    if arithmetic not in FORMATS:
        raise UsageError("weights cannot be written in this arithmetic", found=arithmetic, allowed=FORMATS)
    if gate_rows < 1:
        raise UsageError("the gate compares at least one row", found=gate_rows)
    require_exporter()
    choose_engine(engine)
    require_unused(out)
    _require_network(Path(run))
    (folder,), data = open_runs([run], data_dir)
    stored = folder.predictions(SELECTION)
    split = _selection(stored, data)
    with _beside(out) as partial:
        bundle = _write(folder, data, partial)
        gate = _gate(partial, folder, stored, split, arithmetic, rows_to_compare(len(stored), gate_rows), engine)
        if not force:
            gate.require_passed()
        bundle = replace(bundle, gate=gate.to_dict(), forced=bool(gate.complaints))
        write_bundle(partial, bundle)
        _let_out(partial, out)
    return bundle.to_dict()


def _require_network(run: Path) -> None:
    if is_linear(run):
        raise ModelError(f"{run} holds a linear model, of which there is no graph", allowed="a transformers model")


def _selection(stored: Predictions, data: TaskData) -> Split:
    rows = data.split(SELECTION)
    if not np.array_equal(rows.ids, stored.ids):
        raise DataError(
            f"the stored predictions of split {SELECTION} are of other rows",
            do=f"predict them again: potstill evaluate RUN --split {SELECTION}",
        )
    return rows


def _write(folder: RunFolder, data: TaskData, partial: Path) -> Bundle:
    """Graph, tokenizer and description, its gate still empty."""
    model = open_classifier(folder.path)
    windows = windows_of(model)
    tokenizer = TextTokenizer.open(folder.path)
    shutil.copyfile(folder.path / TOKENIZER, partial / TOKENIZER)
    graph = write_graph(model, partial / MODEL)
    task = data.task
    bundle = Bundle(
        name=task.name,
        problem_type=model.config.problem_type,
        label_names=tuple(model.config.id2label[number] for number in range(model.config.num_labels)),
        reading=Reading(
            task.text_columns or ("text",), task.join, task.cleaning, folder.manifest["max_length"], windows
        ),
        graph=graph,
        special_tokens=_special_tokens(tokenizer),
        pad_id=tokenizer.pad_id,
        decisions=read_decisions(folder.path),
        gate={},
        forced=False,
        origin=_origin(folder),
        files={name: sha256_of(partial / name) for name in (graph.file, TOKENIZER)},
        made_by=made_by(),
    )
    write_bundle(partial, bundle)
    return bundle


def _special_tokens(tokenizer: TextTokenizer) -> dict[str, str]:
    ids = {
        "cls": tokenizer.cls_id,
        "sep": tokenizer.sep_id,
        "pad": tokenizer.pad_id,
        "mask": tokenizer.mask_id,
        "unk": tokenizer.unk_id,
    }
    return {role: str(tokenizer.backend.id_to_token(number)) for role, number in ids.items()}


def _origin(folder: RunFolder) -> dict[str, str]:
    """Where it came from, in fingerprints; no path and no name of a machine."""
    return {
        "run": folder.manifest["fingerprint"],
        "weights": fingerprint([sha256_of(file) for file in sorted(folder.path.glob("*.safetensors"))]),
        "data": folder.manifest["data"]["fingerprint"],
        "predictions": folder.predictions_fingerprint(SELECTION),
    }


def _gate(
    partial: Path,
    folder: RunFolder,
    stored: Predictions,
    split: Split,
    arithmetic: str,
    rows: np.ndarray,
    engine: str | None,
) -> Gate:
    """The bundle, opened as whoever uses it will, on the rows that are compared."""
    with BundlePredictor.open(partial, engine=engine) as predictor:
        said = predictor.predict(split.select(rows).texts)
    expected = take(stored, rows)
    assert expected.targets is not None
    return hold_against(
        expected,
        said.with_targets(expected.targets, expected.ids),
        metric=folder.manifest["metric"],
        tolerance=TOLERANCES[arithmetic],
        split=SELECTION,
        n_rows_stored=len(stored),
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


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` to write into; gone at the end, unless it has taken another name."""
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _let_out(partial: Path, out: Path) -> None:
    """Give the whole bundle its name at once, and the rights of a folder that one makes oneself."""
    with storage_errors(out):
        require_unused(out)
        if out.is_dir():
            out.rmdir()
        partial.chmod(0o755)
        partial.rename(out)
