"""The run folder: what a stage leaves behind. Created once, appended to while the work goes on, finished atomically."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, Literal, cast

import numpy as np

from potstill.decisions import decided
from potstill.errors import DataError, OtherRunError, RunFolderError, StorageError
from potstill.lock import take_lock
from potstill.machine import versions
from potstill.records import PROBLEM_TYPES, Predictions, ProblemType

MANIFEST = "manifest.json"
WORK = ".work"
State = Literal["new", "resumed", "finished"]


@dataclass
class RunFolder:
    """A folder that one stage owns, in Hugging Face layout once the stage is done.

    ``state`` tells what ``begin`` found: ``new``, ``resumed`` (the same work was interrupted) or ``finished`` (the same
    work is done and can be used as it is).
    """

    path: Path
    manifest: dict[str, Any]
    state: State
    _lock: IO[str] | None = None

    @classmethod
    def finished(cls, path: Path, fingerprint: str) -> RunFolder | None:
        """The run in ``path`` if it is finished and of this fingerprint, so that nothing has to be loaded for it."""
        found = _manifest_of(path)
        if found is None or found["status"] != "finished" or found.get("fingerprint") != fingerprint:
            return None
        shutil.rmtree(path / WORK, ignore_errors=True)  # a process killed in ``finish`` leaves it
        return cls(path, found, "finished")

    @classmethod
    def begin(cls, path: Path, *, stage: str, recipe: Mapping[str, Any], fingerprint: str) -> RunFolder:
        """Take ``path`` for this work, or find it done, also by another process in the last moment.

        Raises OtherRunError or RunFolderError, with nothing touched, when ``path`` holds anything else, and
        RunFolderError while another process is working on it.
        """
        found = _same_work(path, fingerprint)
        if found is not None and found["status"] == "finished":
            return cls(path, found, "finished")
        with storage_errors(path):
            lock = _lock(path)
            try:
                if (_manifest_of(path) or {}).get("status") == "finished":  # by another process just now
                    shutil.rmtree(path / WORK)
                    lock.close()
                    return cls.begin(path, stage=stage, recipe=recipe, fingerprint=fingerprint)
                found = _same_work(path, fingerprint)
                run = cls(path, found or _new_manifest(stage, fingerprint), "resumed" if found else "new", lock)
                run._describe(recipe)
            except BaseException:
                lock.close()
                raise
        return run

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """A finished run, to read; raises RunFolderError when ``path`` is not one."""
        path = Path(path)
        manifest = _manifest_of(path)
        if manifest is None:
            raise RunFolderError(f"{path} is not a run folder (no {MANIFEST} in it)", do="name the --out of a stage")
        if manifest["status"] != "finished":
            raise RunFolderError(f"the run in {path} is not finished", do="run its stage again: it resumes")
        return cls(path, manifest, "finished")

    @property
    def work(self) -> Path:
        """Room for checkpoints and half-done files; gone when the run is finished."""
        return self.path / WORK

    def write_manifest(self, **entries: Any) -> None:
        """Add ``entries`` to the manifest, atomically."""
        manifest = {**self.manifest, **entries}
        write_json(self.path / MANIFEST, manifest)
        self.manifest = manifest

    def finish(self, **entries: Any) -> None:
        """Mark the run finished; from now on it opens, and its working files are gone."""
        self.write_manifest(status="finished", finished=_now(), **entries)
        shutil.rmtree(self.work, ignore_errors=True)
        self.state = "finished"
        self.close()

    def close(self) -> None:
        """Let go of the folder; unfinished work can be resumed."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def predictions(self, split: str) -> Predictions:
        """Those of ``split`` under the run's decisions; RunFolderError for stale ones, or naming the splits stored."""
        return decided(self.path, self.raw_predictions(split))

    def raw_predictions(self, split: str) -> Predictions:
        """The same as stored, with no temperature and no threshold."""
        return read_predictions(self._predictions_file(split))

    def predictions_fingerprint(self, split: str) -> str:
        """A sha256 over the file of the predictions of ``split``: whoever writes it again changes it."""
        return _hash_of_files([self._predictions_file(split)])

    def _predictions_file(self, split: str) -> Path:
        path = self.path / "predictions" / f"{split}.parquet"
        if not path.exists():
            there = sorted(file.stem for file in path.parent.glob("*.parquet"))
            raise RunFolderError(
                f"{self.path} has no predictions of split {split!r}", allowed=there or "none", do="evaluate it first"
            )
        return path

    def metrics(self) -> dict[str, dict[str, float]]:
        """Metrics by split, as ``metrics.json`` has them; empty for an encoder."""
        return read_json(self.path / "metrics.json") or {}

    def recipe(self) -> dict[str, Any]:
        """What the run was asked to do, as resolved."""
        import yaml

        return yaml.safe_load((self.path / "recipe.yaml").read_text(encoding="utf-8"))

    def history(self) -> list[dict[str, float]]:
        """The records of training in order: losses, rates and validation metrics by step."""
        path = self.path / "history.jsonl"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []

    def _describe(self, recipe: Mapping[str, Any]) -> None:
        import yaml

        write_json(self.path / MANIFEST, self.manifest)
        write_text(self.path / "recipe.yaml", yaml.safe_dump(dict(recipe), sort_keys=False))


def _same_work(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """The manifest of the run in ``path``, None where there is room for one; raises for whatever else is there."""
    found = _manifest_of(path)
    if found is None:
        require_unused(path)
    elif found.get("fingerprint") != fingerprint:
        raise OtherRunError(
            f"{path} holds another run: its stage is {found.get('stage')!r} and its recipe or input differs",
            do="choose another --out, or move that folder away",
        )
    return found


def _lock(path: Path) -> IO[str]:
    return take_lock(path / WORK / "lock", path)


def set_aside(path: Path) -> Path:
    """Move a run that no longer fits its recipe to ``<name>.previous-<n>``, returned; nothing is deleted.

    Raises RunFolderError while another process is working on it.
    """
    number = 1
    while (target := path.with_name(f"{path.name}.previous-{number}")).exists():
        number += 1
    with storage_errors(path), _lock(path) if (path / WORK).is_dir() else contextlib.nullcontext():
        path.rename(target)
    return target


def is_run(path: Path) -> bool:
    """Whether ``path`` is a folder that potstill made."""
    return _manifest_of(path) is not None


def fingerprint(*parts: Any) -> str:
    """A sha256 over the canonical JSON of ``parts``: they are equal if and only if their fingerprints are.

    The order of keys does not count; a tuple equals a list of the same items. What has no JSON form raises TypeError.
    """
    canonical = json.dumps(parts, sort_keys=True, default=_plain, ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()


def model_fingerprint(source: str | Path) -> str:
    """Identity of a model: its run's fingerprint, a hash of its folder's files, or its name on the hub."""
    folder = Path(source)
    if not folder.is_dir():
        return str(source)
    manifest = _manifest_of(folder)
    if manifest is not None and manifest["status"] == "finished":
        return str(manifest["fingerprint"])
    return _hash_of_files(files_of_model(folder))


def _hash_of_files(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def files_of_model(folder: Path) -> list[Path]:
    """Weights, configuration, and tokenizer or words; older folders keep the former as a vocabulary alone."""
    tokenizer = ("tokenizer.json",) if (folder / "tokenizer.json").is_file() else ("vocab.*", "merges.txt")
    settings = ("config.json", "tokenizer_config.json", "special_tokens_map.json", "vocabulary.json")
    return sorted(file for pattern in ("*.safetensors", *settings, *tokenizer) for file in folder.glob(pattern))


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Store predictions, but no decisions, as parquet: a row per text, and what all share in the file's metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    predictions = predictions.undecided()
    columns: dict[str, Any] = {
        "id": predictions.ids.astype(str),
        "logits": list(predictions.logits.astype(np.float32)),
        "probabilities": list(predictions.probabilities),
        "predicted": list(predictions.predicted),
        "n_tokens": predictions.n_tokens.astype(np.int32),
        "truncated": predictions.truncated,
    }
    if predictions.targets is not None:
        columns["target"] = list(predictions.targets)
    shared = {
        "label_names": list(predictions.label_names),
        "problem_type": predictions.problem_type,
        "elapsed_s": predictions.elapsed_s,
    }
    table = pa.table(columns).replace_schema_metadata({"potstill": json.dumps(shared)})
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(path) as partial:
        pq.write_table(table, partial)


def read_predictions(path: Path) -> Predictions:
    """Predictions as ``write_predictions`` stored them; probabilities and decisions are recomputed from the logits."""
    table = _table_of_predictions(path)
    shared = json.loads(table.schema.metadata[b"potstill"])
    if shared["problem_type"] not in PROBLEM_TYPES:
        raise DataError(f"{path}: unknown problem type", found=shared["problem_type"], allowed=PROBLEM_TYPES)
    n_labels = len(shared["label_names"])
    return Predictions(
        ids=np.asarray(table["id"].to_pylist(), dtype=str),
        logits=np.asarray(table["logits"].to_pylist(), dtype=np.float32).reshape(-1, n_labels),
        label_names=tuple(shared["label_names"]),
        problem_type=cast(ProblemType, shared["problem_type"]),
        n_tokens=table["n_tokens"].to_numpy().astype(np.int32),
        truncated=np.asarray(table["truncated"].to_pylist(), dtype=bool),
        elapsed_s=float(shared["elapsed_s"]),
        targets=_targets_of(table, shared["problem_type"], n_labels),
    )


def _table_of_predictions(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as broken:
        raise DataError(f"{path} is not a parquet file") from broken
    if b"potstill" not in (table.schema.metadata or {}):
        raise DataError(f"{path} is not a predictions file of potstill")
    return table


def _targets_of(table: Any, problem_type: ProblemType, n_labels: int) -> np.ndarray | None:
    if "target" not in table.column_names:
        return None
    targets = table["target"].to_pylist()
    if problem_type == "multi_label_classification":
        return np.asarray(targets, dtype=np.int8).reshape(-1, n_labels)
    return np.asarray(targets, dtype=np.int64 if problem_type == "single_label_classification" else np.float32)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically: a reader sees the old file or the whole new one."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, default=_plain) + "\n")


def read_json(path: Path) -> Any:
    """What a JSON file holds, or None where there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, atomically."""
    write_text(path, "".join(json.dumps(record, ensure_ascii=False, default=_plain) + "\n" for record in records))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with _replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of ``path`` once it is whole; after a failure neither is changed."""
    partial = path.with_name(f".{path.name}.partial")
    with storage_errors(path):
        try:
            yield partial
            partial.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what the system says of a full disk or a closed folder into a StorageError that names ``path``."""
    try:
        yield
    except OSError as failure:
        code = failure.errno
        if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageError(f"no space left while writing {path}", do="free some space and start again") from failure
        if code in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EIO):
            said = os.strerror(code)
            raise StorageError(f"{path} cannot be written ({said})", do="choose another --out") from failure
        raise


def parameters_on_disk(folder: Path) -> int:
    """Bytes of the weights in a model folder."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _new_manifest(stage: str, fingerprint: str) -> dict[str, Any]:
    made = {"potstill": version("potstill"), "versions": versions()}
    return {**made, "stage": stage, "status": "running", "started": _now(), "fingerprint": fingerprint}


def _manifest_of(path: Path) -> dict[str, Any] | None:
    """The manifest in ``path``, or None when potstill did not make that folder."""
    file = Path(path) / MANIFEST
    if not file.is_file():
        return None
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return manifest if isinstance(manifest, dict) and {"potstill", "stage", "status"} <= manifest.keys() else None


def require_unused(path: Path, *, ours: str | None = None) -> None:
    """Raise RunFolderError unless ``path`` can be written to: absent, empty, or with the file ``ours`` in it."""
    if path.is_file():
        raise RunFolderError(f"{path} is a file", do="choose another --out")
    if path.is_dir() and not (ours and (path / ours).is_file()):
        # What a process killed while it wrote its first file left behind is ours too.
        ours_too = {f".{MANIFEST}.partial", f".{ours}.partial"} | ({WORK} if _is_our_work(path / WORK) else set())
        others: Sequence[str] = sorted(entry.name for entry in path.iterdir() if entry.name not in ours_too)
        if others:
            raise RunFolderError(
                f"{path} is not empty and was not made by potstill",
                found=", ".join(others[:3]) + (" …" if len(others) > 3 else ""),
                do="choose an empty or new folder; nothing was changed",
            )


def _is_our_work(folder: Path) -> bool:
    return folder.is_dir() and ((folder / "lock").is_file() or not any(folder.iterdir()))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
