"""Predictions by a bundle beside its peers, on one classifier and the same texts, both cores.

    python benchmarks/inference.py --data-dir DATA --work FOLDER [--run RUN] [--kind bulk|one] [--repeats 5]

The classifier is that of ``--run``, or a DistilBERT of drawn weights. The arms:

- ``transformers``: its pipeline, float32, batches of 32 texts padded to the longest;
- ``onnxruntime``: ONNX Runtime used directly, int8, batches of texts sorted by length;
- ``openvino``: OpenVINO used directly, int8 by NNCF with SmoothQuant, batches of texts sorted by length, run
  asynchronously;
- ``bundle-fp32``, ``bundle-int8``: potstill.

Every arm tokenises its texts and gives logits in their order. ``bulk``: 512 texts of DBpedia's test split, at once.
``one``: 200 pairs of sentences of STS-B, each as one text, one after another. Everything is run once before it is
timed. The arms take turns (``turns.py``); figures are printed and kept in ``docs/measured``.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from turns import store, table, take_turns

ARMS = {
    "transformers": "transformers' pipeline, float32, batches padded to the longest",
    "onnxruntime": "ONNX Runtime used directly, int8, sorted batches",
    "openvino": "OpenVINO used directly, int8 by NNCF with SmoothQuant, sorted batches",
    "bundle-fp32": "potstill's bundle in float32",
    "bundle-int8": "potstill's bundle in int8",
}
PEERS = ("transformers", "onnxruntime", "openvino")
TITLES = {"bulk": "512 texts of DBpedia at once", "one": "texts of STS-B one after another"}
MAX_LENGTH, CORES = 512, 2
Classify = Callable[[Sequence[str]], np.ndarray]


def main() -> None:
    """Measure every arm in turn and print the table; with ``--arm``, measure one and print it as JSON."""
    arguments = parsed()
    if arguments.arm:
        print(json.dumps(measured(arguments)))
        return
    from inference_artefacts import CALIBRATION_TEXTS, make_artefacts

    make_artefacts(arguments.work, arguments.run, texts_of(arguments.data_dir, "train", CALIBRATION_TEXTS))
    arms = {arm: told for arm, told in ARMS.items() if arm not in arguments.without}
    options = [f"--data-dir={arguments.data_dir}", f"--work={arguments.work}", f"--kind={arguments.kind}"]
    options.append(f"--peer-batch={arguments.peer_batch}")
    repeats = take_turns(__file__, list(arms), options, arguments.repeats)
    peers = [peer for peer in PEERS if peer in arms]
    name = f"inference-{arguments.kind}"
    title = f"Inference: {TITLES[arguments.kind]}"
    print(table(store(name, title=title, rate="texts_per_s", peers=peers, arms=arms, repeats=repeats)))


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="where the forms of the classifier are kept")
    parser.add_argument("--run", type=Path, help="a finished run; a DistilBERT of drawn weights when absent")
    parser.add_argument("--kind", choices=TITLES, default="bulk")
    parser.add_argument("--peer-batch", type=int, default=16, help="texts of a batch of the engines used directly")
    parser.add_argument("--without", nargs="*", default=[], choices=ARMS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    return parser.parse_args()


def texts_of(data_dir: Path, split: str, n_texts: int) -> list[str]:
    """Texts of DBpedia, evenly spaced."""
    from potstill.data.catalogue import get_task
    from potstill.data.tasks import load_task

    rows = load_task(get_task("dbpedia_14"), data_dir=data_dir).split(split)
    return list(rows.select(np.linspace(0, len(rows) - 1, n_texts).round().astype(int)).texts)


def single_texts(data_dir: Path) -> list[str]:
    """Both sentences of a pair of STS-B as one text, evenly spaced."""
    from potstill.data.catalogue import get_task
    from potstill.data.tasks import load_task

    rows = load_task(get_task("stsb"), data_dir=data_dir).split("train")
    return [" ".join(pair) for pair in rows.select(np.linspace(0, len(rows) - 1, 200).round().astype(int)).texts]


def measured(arguments: argparse.Namespace) -> dict[str, float]:
    """Figures of one arm; the sum of its logits tells whether the arms say the same."""
    one = arguments.kind == "one"
    texts = single_texts(arguments.data_dir) if one else texts_of(arguments.data_dir, "test", 512)
    started = time.perf_counter()
    classify = OPENED[arguments.arm](arguments.work, one, arguments.peer_batch)
    first = classify(texts[:1])
    cold_s = time.perf_counter() - started
    assert first.shape == (1, 2), first.shape
    figures = latency(classify, texts) if one else throughput(classify, texts)
    return {**figures, "cold_start_s": cold_s, "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def throughput(classify: Classify, texts: Sequence[str]) -> dict[str, float]:
    """The median of three calls, after one that is not timed."""
    logits = classify(texts)
    seconds = [timed(classify, texts) for _ in range(3)]
    return {"texts_per_s": len(texts) / statistics.median(seconds), "mean_margin": margin(logits)}


def latency(classify: Classify, texts: Sequence[str]) -> dict[str, float]:
    """Quantiles over single texts, after a round that is not timed."""
    logits = np.concatenate([classify([text]) for text in texts])
    milliseconds = [1000 * timed(classify, [text]) for text in texts]
    p50, p95 = np.quantile(milliseconds, [0.5, 0.95])
    return {"texts_per_s": 1000 / p50, "p50_ms": float(p50), "p95_ms": float(p95), "mean_margin": margin(logits)}


def margin(logits: np.ndarray) -> float:
    """The mean of the second logit less the first: the arms are to agree on it."""
    return float(np.mean(logits[:, 1] - logits[:, 0]))


def timed(classify: Classify, texts: Sequence[str]) -> float:
    started = time.perf_counter()
    classify(texts)
    return time.perf_counter() - started


def with_transformers(work: Path, one: bool, batch: int) -> Classify:
    """The pipeline; it gives scores, so the function for logits is its identity."""
    import torch
    from transformers import pipeline

    torch.set_num_threads(CORES)
    pipe: Any = pipeline("text-classification", model=str(work / "transformers"), device=-1)

    def classify(texts: Sequence[str]) -> np.ndarray:
        found = pipe(
            list(texts), batch_size=32, truncation=True, max_length=MAX_LENGTH, top_k=None, function_to_apply="none"
        )
        by_label = [{answer["label"]: answer["score"] for answer in answers} for answers in found]
        return np.array([[answers[label] for label in sorted(answers)] for answers in by_label])

    return classify


def with_onnxruntime(work: Path, one: bool, batch: int) -> Classify:
    """A session with both cores on one batch; batches of texts sorted by length."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = CORES
    model = str(work / "onnxruntime" / "model.onnx")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    encode = tokenizer_of(work)

    def classify(texts: Sequence[str]) -> np.ndarray:
        logits = np.empty((len(texts), 2), dtype=np.float32)
        for rows, padded in sorted_batches(encode(texts), batch):
            logits[rows] = session.run(["logits"], padded)[0]
        return logits

    return classify


def with_openvino(work: Path, one: bool, batch: int) -> Classify:
    """For many texts, requests that run side by side; for one, a single request."""
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY" if one else "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(work / "openvino" / "model.xml", "CPU", settings)
    encode = tokenizer_of(work)
    if one:
        request = compiled.create_infer_request()
        return lambda texts: request.infer(next(sorted_batches(encode(texts), 1))[1])[0].copy()

    def classify(texts: Sequence[str]) -> np.ndarray:
        logits = np.empty((len(texts), 2), dtype=np.float32)

        def keep(request: Any, rows: np.ndarray) -> None:
            logits[rows] = request.get_output_tensor().data

        queue = openvino.AsyncInferQueue(compiled)
        queue.set_callback(keep)
        for rows, padded in sorted_batches(encode(texts), batch):
            queue.start_async(padded, rows)
        queue.wait_all()
        return logits

    return classify


def tokenizer_of(work: Path) -> Callable[[Sequence[str]], list[Any]]:
    """Encodings of texts, by the same library as potstill's."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(work / "transformers" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_LENGTH)
    return lambda texts: tokenizer.encode_batch_fast(list(texts))


def sorted_batches(encodings: list[Any], size: int) -> Any:
    """Numbers of texts of like length and their padded batch, the longest first."""
    lengths = np.array([len(encoding) for encoding in encodings])
    order = np.argsort(-lengths, kind="stable")
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        ids = np.zeros((len(rows), lengths[rows[0]]), dtype=np.int64)
        for place, row in enumerate(rows):
            ids[place, : lengths[row]] = encodings[row].ids
        mask = (np.arange(ids.shape[1]) < lengths[rows][:, None]).astype(np.int64)
        yield rows, {"input_ids": ids, "attention_mask": mask}


def with_bundle(name: str) -> Callable[[Path, bool, int], Classify]:
    """A bundle as anybody opens it."""

    def opened(work: Path, one: bool, batch: int) -> Classify:
        from potstill.runtime.bundle_predictor import BundlePredictor

        predictor = BundlePredictor.open(work / name)
        return lambda texts: predictor.predict(texts).logits

    return opened


OPENED: dict[str, Callable[[Path, bool, int], Classify]] = {
    "transformers": with_transformers,
    "onnxruntime": with_onnxruntime,
    "openvino": with_openvino,
    "bundle-fp32": with_bundle("bundle-fp32"),
    "bundle-int8": with_bundle("bundle-int8"),
}

if __name__ == "__main__":
    main()
