"""A teacher's outputs on masked batches, kept on disk for a stated number of draws of the masks."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from potstill.data.array_files import ArrayFiles, ArraySet, ArrayWriter, megabytes
from potstill.data.batches import BatchKey
from potstill.data.cache import cache_folder
from potstill.data.masking import IGNORED
from potstill.data.training_batches import MaskedBlocks
from potstill.distil.losses import TopK, top_k_log_probabilities
from potstill.distil.teacher_cache import teacher_fingerprint
from potstill.models.heads import MaskedLMParts, split_masked_lm
from potstill.runs import fingerprint
from potstill.runtime.torch_predictor import evaluating
from potstill.training.objective import Batch
from potstill.training.progress import counted
from potstill.training.settings import Precision, autocast, resolve_precision

_ROWS_AT_ONCE = 1024
"""Tokens projected to the vocabulary at once: 125 MB of logits over 30,522 entries."""


@dataclass(frozen=True)
class KeptOutputs:
    """What is kept of a teacher for every token at which KL is taken.

    top_k: so many of the likeliest entries of the vocabulary at ``temperature``, the rest as one mass. positions: the
    masked tokens or all attended ones. hidden: whether the last hidden states of all attended tokens are kept too.
    """

    temperature: float
    top_k: int = 64
    positions: Literal["masked", "attended"] = "masked"
    hidden: bool = False
    precision: Precision = "auto"


class StoredDraws:
    """The outputs of all draws, memory-mapped; the draw of a batch is its key's ``epoch``."""

    def __init__(self, draws: Sequence[ArraySet]) -> None:
        self._draws = draws
        self.teacher_s = float(sum(draw.facts["teacher_s"] for draw in draws))

    def of(self, key: BatchKey) -> dict[str, np.ndarray]:
        """What the teacher said of the batch of ``key``, rows in the order of its tokens.

        teacher_indices ``(n, k)`` int64, teacher_log_probabilities ``(n, k)`` float16 and teacher_log_tail ``(n,)``
        float32 at the tokens where KL is taken; teacher_hidden ``(n_attended, width)`` float16 where it was kept.
        """
        arrays = self._draws[key.epoch].arrays
        tokens = _rows_of(arrays["offsets"], key.number)
        said = {
            "teacher_indices": arrays["indices"][tokens].astype(np.int64),
            "teacher_log_probabilities": np.array(arrays["log_probabilities"][tokens]),
            "teacher_log_tail": np.array(arrays["log_tail"][tokens]),
        }
        if "hidden" in arrays:
            said["teacher_hidden"] = np.array(arrays["hidden"][_rows_of(arrays["hidden_offsets"], key.number)])
        return said

    def sentence(self, passes: float) -> str:
        """What is kept and what it saves a training of ``passes`` passes over the blocks, in words."""
        n_bytes, n_draws = sum(draw.n_bytes for draw in self._draws), len(self._draws)
        run = sum(draw.facts["teacher_s"] for draw in self._draws if draw.written)
        saved = passes * self.teacher_s / n_draws - run
        beyond = float(np.mean([draw.facts["mean_tail"] for draw in self._draws]))
        k = self._draws[0].arrays["indices"].shape[1]
        return (
            f"the teacher's outputs for {n_draws} draws of the masks kept in the cache folder, {megabytes(n_bytes)}; "
            f"computed in {run:.3g} s; in {passes:g} passes that saves about {saved:.3g} s of the teacher's time; "
            f"on average {beyond:.1%} of a distribution lies beyond its {k} likeliest tokens and is learnt as one "
            "mass, so the loss kl of training is a lower bound of that of validation"
        )


def store_draws(
    teacher: PreTrainedModel,
    batches: MaskedBlocks,
    kept: KeptOutputs,
    *,
    blocks_fingerprint: str,
    passes: float = math.inf,
    cache_dir: str | Path | None = None,
) -> StoredDraws:
    """The outputs of ``teacher``, on its device, for every batch of the draws that ``passes`` over ``batches`` meet.

    The teacher is in evaluation mode, in the arithmetic of training, and gets its own full inputs. Each draw is a set
    of its own, known by teacher, blocks, batches and ``kept``: a computation that was killed goes on with the draw it
    was at, and one more draw leaves those before it as they are. Raises ValueError for batches whose draws do not
    repeat, and StorageError when the disk does not take the files.
    """
    if batches.plan.draws is None:
        raise ValueError("outputs are of use again only for batches whose draws repeat")
    n_draws = math.ceil(min(batches.plan.draws, passes))
    settings = asdict(kept) | {"precision": resolve_precision(kept.precision), "device": teacher.device.type}
    settings["numpy"] = np.__version__  # which draws the masks, and promises its streams for one version only
    identity = (teacher_fingerprint(teacher), blocks_fingerprint, batches.identity(), settings)
    parts, folder = split_masked_lm(teacher), cache_folder(cache_dir)

    def stored(draw: int) -> ArraySet:
        files = ArrayFiles(folder, "draws", fingerprint("draws", *identity, draw))
        title = f"teacher's outputs, draw {draw + 1} of {n_draws}"
        return files.open_or_write(lambda writer: _write_draw(parts, batches, draw, kept, title, writer))

    with evaluating(teacher):
        return StoredDraws([stored(draw) for draw in range(n_draws)])


def _write_draw(
    parts: MaskedLMParts, batches: MaskedBlocks, draw: int, kept: KeptOutputs, title: str, writer: ArrayWriter
) -> None:
    keys = batches.plan.keys(draw)
    device, offsets, hidden_offsets, tail = parts.model.device, [0], [0], 0.0
    started = time.perf_counter()
    for key in counted(keys, len(keys), title):
        batch = {name: torch.from_numpy(array).to(device) for name, array in batches[key].items()}
        with autocast(device, kept.precision):
            top, hidden = _observe(parts, batch, kept)
        _append(writer, top, parts.model.config.vocab_size)
        offsets.append(offsets[-1] + len(top.indices))
        tail += float(top.log_tail.exp().sum())
        if kept.hidden:
            writer.append("hidden", _half(hidden))
            hidden_offsets.append(hidden_offsets[-1] + len(hidden))
    writer.append("offsets", np.array(offsets))
    if kept.hidden:
        writer.append("hidden_offsets", np.array(hidden_offsets))
    writer.facts["mean_tail"] = tail / max(offsets[-1], 1)
    writer.facts["teacher_s"] = time.perf_counter() - started


@torch.inference_mode()
def _observe(parts: MaskedLMParts, batch: Batch, kept: KeptOutputs) -> tuple[TopK, Tensor]:
    """The likeliest entries at the tokens where KL is taken, and the last hidden states ``(n_attended, width)``."""
    attended = batch["attention_mask"].bool()
    states = parts.encode(batch).last[attended]
    wanted = states if kept.positions == "attended" else states[batch["labels"][attended] != IGNORED]
    chunks = [
        top_k_log_probabilities(parts.project(rows), kept.top_k, kept.temperature)
        for rows in wanted.split(_ROWS_AT_ONCE)
    ]
    return TopK(*(torch.cat(column) for column in zip(*chunks, strict=True))), states


def _append(writer: ArrayWriter, top: TopK, vocab_size: int) -> None:
    writer.append("indices", top.indices.cpu().numpy().astype(_index_type(vocab_size)))
    writer.append("log_probabilities", _half(top.log_probabilities))
    writer.append("log_tail", top.log_tail.float().cpu().numpy())


def _half(values: Tensor) -> np.ndarray:
    """As float16; what lies beyond its range is put at its ends, so that nothing becomes infinite."""
    limits = torch.finfo(torch.float16)
    return values.float().clamp(limits.min, limits.max).half().cpu().numpy()


def _index_type(vocab_size: int) -> np.dtype[np.uint16] | np.dtype[np.int32]:
    return np.dtype(np.uint16) if vocab_size <= 2**16 else np.dtype(np.int32)


def _rows_of(offsets: np.ndarray, number: int) -> slice:
    return slice(int(offsets[number]), int(offsets[number + 1]))
