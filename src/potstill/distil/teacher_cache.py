"""A teacher's logits for every row of a task, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from potstill.data.array_files import ArrayFiles, ArraySet, ArrayWriter
from potstill.data.batches import BatchKey
from potstill.data.cache import cache_folder
from potstill.data.tokens import EncodedTexts
from potstill.runs import fingerprint
from potstill.runtime.torch_predictor import classify_longest_first, evaluating
from potstill.training.progress import counted
from potstill.training.settings import Precision, autocast, resolve_precision


@dataclass(frozen=True)
class StoredLogits:
    """The logits of all rows as they lie on disk, in the order in which they were computed.

    places: ``(n,)`` int64, where row i stands in it. teacher_s: seconds that the teacher took for all rows, once.
    """

    kept: ArraySet
    places: np.ndarray
    teacher_s: float

    def of(self, key: BatchKey) -> dict[str, np.ndarray]:
        """``teacher_logits`` ``(rows, k)`` float32 of the batch of ``key``."""
        return {"teacher_logits": self.kept.arrays["logits"][self.places[key.rows]]}

    def sentence(self, passes: float) -> str:
        """What is kept and what it saves a training that passes over the rows ``passes`` times, in words."""
        runs = passes - 1 if self.kept.written else passes
        found = (
            f"computed in {self.teacher_s:.3g} s" if self.kept.written else "found there, so the teacher did not run"
        )
        return (
            f"the teacher's logits of {len(self.places):,} rows {self.kept.kept}; {found}; in {passes:g} passes over "
            f"the rows that saves about {runs * self.teacher_s:.3g} s of the teacher's time"
        )


def classify_once(
    teacher: PreTrainedModel,
    encoded: EncodedTexts,
    pad_id: int,
    *,
    batch_size: int,
    precision: Precision,
    cache_dir: str | Path | None = None,
) -> StoredLogits:
    """The logits of ``teacher``, on its device, for every row: in evaluation mode, with its own full inputs.

    They are computed in the arithmetic of training, longest rows first, stored as float32 under the fingerprints of
    teacher, tokenised texts and arithmetic, and found there the next time. A computation that was killed starts again.
    Raises ValueError for texts without a fingerprint, and StorageError when the disk does not take the files.
    """
    if encoded.fingerprint is None:
        raise ValueError("texts that are not kept on disk have no fingerprint to know their logits by")
    # How rows were batched, and where they ran, counts for the last bits, and those for a run that is to be repeated.
    arithmetic = (resolve_precision(precision), teacher.device.type, batch_size)
    identity = fingerprint("logits", teacher_fingerprint(teacher), encoded.fingerprint, arithmetic)

    def write(writer: ArrayWriter) -> None:
        with evaluating(teacher), autocast(teacher.device, precision):
            _write_logits(teacher, encoded, pad_id, batch_size, writer)

    kept = ArrayFiles(cache_folder(cache_dir), "logits", identity).open_or_write(write)
    return StoredLogits(kept, np.asarray(kept.arrays["places"]), kept.facts["teacher_s"])


def _write_logits(
    teacher: PreTrainedModel, encoded: EncodedTexts, pad_id: int, batch_size: int, writer: ArrayWriter
) -> None:
    places = np.empty(len(encoded), dtype=np.int64)
    n_placed, started = 0, time.perf_counter()
    n_batches = -(-len(encoded) // batch_size)
    for rows, logits in counted(
        classify_longest_first(teacher, encoded, pad_id, batch_size), n_batches, "teacher's logits"
    ):
        writer.append("logits", logits)
        places[rows] = np.arange(n_placed, n_placed + len(rows))
        n_placed += len(rows)
    writer.append("places", places)
    writer.facts["teacher_s"] = time.perf_counter() - started


def teacher_fingerprint(teacher: PreTrainedModel) -> str:
    """Identity of a model as it is in memory: sha256 over its configuration and the bits of every tensor.

    Where it was opened from does not count. A run's fingerprint would not do: the same recipe trained again, on another
    machine, gives other weights.
    """
    configuration = {name: value for name, value in teacher.config.to_dict().items() if name != "_name_or_path"}
    digest = hashlib.sha256(fingerprint(type(teacher).__name__, configuration).encode())
    for name, tensor in sorted(teacher.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
