"""The peers of ``inference.py``: what runs a classifier for many texts or for one, each used as its experts use it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

CORES = 2
"""Every arm's process is bound to so many."""

BATCH, WHOLE = 32, 512
"""Texts of a batch, and tokens that papers pad to, of transformers as it is mostly used."""

FORMS = {"onnxruntime": ("dynamic", "static"), "openvino": ("sdpa", "eager")}
"""Forms of the classifier that an engine is given to choose from."""

Classify = Callable[[Sequence[str]], np.ndarray]
"""Logits ``(n, k)`` float32 of texts in their order; one text at a time where it was opened for that."""


@dataclass(frozen=True)
class Setting:
    """How a peer is used.

    form: which form of the classifier. alone: one text at a time, for the shortest time to its answer. batch: texts of
    a batch. streams: batches that are run side by side. jobs: batches that are under way, waiting ones included.
    pinned: whether OpenVINO may bind threads to cores, as it does of itself.
    """

    form: str = ""
    alone: bool = False
    batch: int = 1
    streams: int = 1
    jobs: int = 1
    pinned: bool = True

    @property
    def told(self) -> str:
        """In words."""
        batches = "" if self.alone else f"batches of {self.batch}"
        side_by_side = f"{self.streams} at a time of {self.jobs} under way" if self.jobs > 1 else ""
        bound = "" if self.pinned else "not bound to cores"
        return ", ".join(part for part in (self.form, batches, side_by_side, bound) if part)


def facts_file(artefact: Path) -> Path:
    """Where it is written of what a form of the classifier was made."""
    return artefact.with_name(f"{artefact.name}.made.json")


def _max_length(folder: Path) -> int:
    """In tokens, of the classifier in ``folder``."""
    length: int = json.loads(facts_file(folder).read_text(encoding="utf-8"))["max_length"]
    return length


def with_transformers(folder: Path, *, whole: bool) -> Classify:
    """Batches of 32 texts in the order given, padded to the longest of them, or ``whole``: to 512 tokens."""
    from transformers import AutoTokenizer

    tokenizer, logits = AutoTokenizer.from_pretrained(folder), _torch_model(folder)
    reading: dict[str, Any] = {"truncation": True, "max_length": _max_length(folder)}
    in_batch: dict[str, Any] = {"padding": True, "return_tensors": "pt"}

    def read(texts: list[str]) -> Any:
        if whole:
            return tokenizer.pad(
                tokenizer(texts, **reading), padding="max_length", max_length=WHOLE, return_tensors="pt"
            )
        return tokenizer(texts, **reading, **in_batch)

    def classify(texts: Sequence[str]) -> np.ndarray:
        return np.concatenate([logits(read(list(texts[n : n + BATCH]))) for n in range(0, len(texts), BATCH)])

    return classify


def with_sorted_transformers(work: Path, setting: Setting) -> Classify:
    """Batches of texts sorted by length, tokenised all at once."""
    import torch

    encode, logits = _tokenizer(work), _torch_model(work / "transformers")

    def run(encodings: Sequence[Any], rows: np.ndarray) -> np.ndarray:
        return logits({name: torch.from_numpy(array) for name, array in padded(encodings, rows).items()})

    def classify(texts: Sequence[str]) -> np.ndarray:
        encodings = encode(list(texts))
        return in_order([(rows, run(encodings, rows)) for rows in sorted_rows(encodings, setting.batch)])

    return classify


def _torch_model(folder: Path) -> Callable[[Any], np.ndarray]:
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.set_num_threads(CORES)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()

    @torch.inference_mode()
    def logits(batch: Any) -> np.ndarray:
        found: np.ndarray = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.numpy()
        return found

    return logits


def with_onnxruntime(work: Path, setting: Setting) -> Classify:
    """ONNX Runtime: one batch at a time on both cores, or one on each core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = CORES // setting.streams
    model = str(work / "onnxruntime" / setting.form / "model.onnx")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    encode = _tokenizer(work)
    if setting.alone:
        return lambda texts: session.run(["logits"], _only(encode(texts)))[0]
    pool = ThreadPoolExecutor(setting.jobs)
    run = pool.map if setting.jobs > 1 else map

    def classify(texts: Sequence[str]) -> np.ndarray:
        encodings = encode(texts)

        def done(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return rows, session.run(["logits"], padded(encodings, rows))[0]

        return in_order(list(run(done, sorted_rows(encodings, setting.batch))))

    return classify


def with_openvino(work: Path, setting: Setting) -> Classify:
    """OpenVINO: a queue of requests that streams work off; for one text a single request."""
    import openvino

    model = str(work / "openvino" / setting.form / "model.xml")
    compiled = openvino.Core().compile_model(model, "CPU", _openvino_options(setting))
    encode = _tokenizer(work)
    if setting.alone:
        request = compiled.create_infer_request()
        return lambda texts: request.infer(_only(encode(texts)), share_inputs=True, share_outputs=True)[0].copy()

    def keep(request: Any, place: tuple[list[Any], np.ndarray]) -> None:
        done, rows = place
        done.append((rows, request.get_output_tensor().data.copy()))

    queue = openvino.AsyncInferQueue(compiled, setting.jobs)
    queue.set_callback(keep)

    def classify(texts: Sequence[str]) -> np.ndarray:
        encodings, done = encode(texts), list[Any]()
        for rows in sorted_rows(encodings, setting.batch):
            queue.start_async(padded(encodings, rows), (done, rows))
        queue.wait_all()
        return in_order(done)

    return classify


def _openvino_options(setting: Setting) -> dict[str, Any]:
    options: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY" if setting.alone else "THROUGHPUT",
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": str(setting.streams),
        "INFERENCE_NUM_THREADS": CORES,
    }
    return options if setting.pinned else {**options, "ENABLE_CPU_PINNING": False}


OPENERS: dict[str, Callable[[Path, Setting], Classify]] = {
    "transformers-sorted": with_sorted_transformers,
    "onnxruntime": with_onnxruntime,
    "openvino": with_openvino,
}
"""Peers whose setting is tuned."""


def _tokenizer(work: Path) -> Callable[[Sequence[str]], list[Any]]:
    """Encodings of texts, by the same library as potstill's."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(work / "transformers" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(_max_length(work / "transformers"))
    return lambda texts: tokenizer.encode_batch_fast(texts)


def _only(encodings: Sequence[Any]) -> dict[str, np.ndarray]:
    """The input of one text, which needs no padding."""
    (encoding,) = encodings
    ids = np.array([encoding.ids], dtype=np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def sorted_rows(encodings: Sequence[Any], size: int) -> list[np.ndarray]:
    """Numbers of texts of like length, so many at a time, the longest first."""
    order = np.argsort([-len(encoding) for encoding in encodings], kind="stable")
    return np.split(order, range(size, len(order), size))


def padded(encodings: Sequence[Any], rows: np.ndarray) -> dict[str, np.ndarray]:
    """The batch of ``rows``, of which the first is the longest."""
    lengths = np.array([len(encodings[row]) for row in rows])
    ids = np.zeros((len(rows), lengths[0]), dtype=np.int64)
    for place, row in enumerate(rows):
        ids[place, : lengths[place]] = encodings[row].ids
    return {"input_ids": ids, "attention_mask": (np.arange(lengths[0]) < lengths[:, None]).astype(np.int64)}


def in_order(done: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The logits of batches in the order of the texts."""
    rows, logits = zip(*done, strict=True)
    return np.concatenate(logits)[np.argsort(np.concatenate(rows))]
