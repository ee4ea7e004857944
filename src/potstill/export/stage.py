"""Run folder → bundle folder: the graph is written, held against the run, and let out whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from potstill.bundle import MODEL, TOKENIZER, Bundle, Graph, Reading, Vocabulary, made_by, write_bundle
from potstill.data.tasks import Split, TaskData
from potstill.data.tokens import TextTokenizer
from potstill.data.windows import UNCUT, Windows, cut_windows, single_texts
from potstill.decisions import read_decisions, sha256_of
from potstill.errors import DataError, ModelError, UsageError
from potstill.evaluate.held_out import SELECTION
from potstill.evaluate.stage import open_runs
from potstill.export.calibration import Batch, calibration_batches
from potstill.export.gate import TOLERANCES, Gate, evenly_spaced, hold_against
from potstill.export.graph import keep_embeddings, require_exporter, write_graph
from potstill.export.vocabulary import trim_vocabulary, used_ids
from potstill.models.linear import is_linear
from potstill.models.long_texts import windows_of
from potstill.models.teacher import open_classifier
from potstill.records import Predictions
from potstill.runs import RunFolder, fingerprint, require_unused, storage_errors, write_text
from potstill.runtime.bundle_predictor import BundlePredictor
from potstill.runtime.engine import choose_engine

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
    never is, CheckError is raised and nothing is left; with ``force`` the first attempt is written and marked.
    ``calibration_texts`` is how many training texts int8 is fitted on; with ``trim`` the vocabulary is cut down to the
    pieces that training texts use.

    Raises RunFolderError for a run that is no classifier's or an ``out`` that holds something, DataError where the rows
    are not those of the run, BundleError or ModelError where the graph cannot be made or opened.
    """
    out = Path(out)
    if arithmetic not in FORMATS:
        raise UsageError("a bundle cannot be written in this arithmetic", found=arithmetic, allowed=FORMATS)
    if calibration_texts < 1:
        raise UsageError("int8 is fitted on at least one text", found=calibration_texts)
    if gate_rows < 1:
        raise UsageError("the gate compares at least one row", found=gate_rows)
    require_exporter()
    choose_engine(engine)
    require_unused(out)
    _require_network(Path(run))
    (folder,), data = open_runs([run], data_dir)
    stored = folder.predictions(SELECTION)
    split = _selection(stored, data)
    rows = evenly_spaced(len(stored), gate_rows)
    with _beside(out) as partial:
        source = _Source.open(folder, data)
        if trim:
            source = source.trimmed()
        for bundle in _attempts(source, partial, arithmetic, calibration_texts):
            write_bundle(partial, bundle)
            gate = _gate(partial, folder, stored, split, arithmetic, rows, engine)
            if force or not gate.complaints:
                break
            tell(f"{_described(bundle)}: {', '.join(gate.complaints)}")
        if not force:
            gate.require_passed()
        bundle = replace(bundle, gate=gate.to_dict(), forced=bool(gate.complaints))
        write_bundle(partial, bundle)
        _let_out(partial, out)
    return bundle.to_dict()


def _described(bundle: Bundle) -> str:
    left = bundle.graph.left_in_float32
    return f"in {bundle.graph.arithmetic}" + (f" but for {', '.join(left)}" if left else "")


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


@dataclass(frozen=True)
class _Source:
    """A run, opened: its folder, the rows of its task, its model, and how that reads texts."""

    folder: RunFolder
    data: TaskData
    model: PreTrainedModel
    tokenizer: TextTokenizer
    tokenizer_json: str
    windows: Windows | None
    vocabulary: Vocabulary | None = None

    @classmethod
    def open(cls, folder: RunFolder, data: TaskData) -> _Source:
        model = open_classifier(folder.path)
        content = (folder.path / TOKENIZER).read_text(encoding="utf-8")
        return cls(folder, data, model, TextTokenizer.open(folder.path), content, windows_of(model))

    def trimmed(self) -> _Source:
        """The same with the pieces that training texts use; the model is the same one, its embeddings cut down."""
        texts = self.tokenizer.encode_chunks(self.data.split("train").texts, self._read_whole)
        trimmed = trim_vocabulary(self.tokenizer_json, used_ids(texts, self.tokenizer.vocab_size))
        n_before = keep_embeddings(self.model, trimmed.kept)
        tokenizer = TextTokenizer.from_backend(
            Tokenizer.from_str(trimmed.content),
            max_length=self.tokenizer.max_length,
            special_tokens=_special_tokens(self.tokenizer),
        )
        vocabulary = Vocabulary(len(trimmed.kept), n_before)
        return replace(self, tokenizer=tokenizer, tokenizer_json=trimmed.content, vocabulary=vocabulary)

    @property
    def _read_whole(self) -> int:
        return self.max_length if self.windows is None else UNCUT

    @property
    def max_length(self) -> int:
        length: int = self.folder.manifest["max_length"]
        return length

    def calibration(self, n_texts: int) -> list[Batch]:
        """Training texts, evenly spaced; of long ones in windows no more rows than texts."""
        train = self.data.split("train")
        texts = train.select(evenly_spaced(len(train), n_texts)).texts
        if self.windows is None:
            rows = self.tokenizer.encode(texts, self.max_length)
        else:
            whole = self.tokenizer.encode(single_texts(texts), UNCUT)
            rows = cut_windows(whole, self.tokenizer, self.max_length, self.windows.overlap).rows
        return calibration_batches(rows, self.tokenizer.pad_id, n_texts)

    def described(self, graph: Graph, partial: Path) -> Bundle:
        """What a bundle of the files in ``partial`` says, its gate still empty."""
        task, config = self.data.task, self.model.config
        return Bundle(
            name=task.name,
            problem_type=config.problem_type,
            label_names=tuple(config.id2label[number] for number in range(config.num_labels)),
            reading=Reading(task.text_columns or ("text",), task.join, task.cleaning, self.max_length, self.windows),
            graph=graph,
            vocabulary=self.vocabulary,
            special_tokens=_special_tokens(self.tokenizer),
            pad_id=self.tokenizer.pad_id,
            decisions=read_decisions(self.folder.path),
            gate={},
            forced=False,
            origin=_origin(self.folder),
            files={name: sha256_of(partial / name) for name in (graph.file, TOKENIZER)},
            made_by=made_by(),
        )


def _attempts(source: _Source, partial: Path, arithmetic: str, calibration_texts: int) -> Iterator[Bundle]:
    """Graph and tokenizer in ``partial``, described; in int8 one attempt after another."""
    from potstill.export.quantise import written_graphs  # its libraries were asked for only now, by require_exporter

    write_text(partial / TOKENIZER, source.tokenizer_json)
    whole = write_graph(source.model, partial / MODEL)

    def calibration() -> list[Batch]:
        return source.calibration(calibration_texts)

    for graph in written_graphs(source.model, partial / MODEL, whole, arithmetic, calibration):
        yield source.described(graph, partial)


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
    tolerance = TOLERANCES[arithmetic]
    with BundlePredictor.open(partial, engine=engine) as predictor:
        if predictor.bundle.vocabulary is not None:  # texts in other pieces have other logits, by intent
            tolerance = replace(tolerance, logit_difference=None)
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
