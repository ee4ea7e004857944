"""Predictions by a bundle beside its peers, on one classifier and the same texts, both cores.

    python benchmarks/inference.py --data-dir DATA --work FOLDER [--run RUN] [--kind bulk|one] [--repeats 5]

The classifier is that of ``--run``, or a DistilBERT of drawn weights. The arms:

- ``transformers-512`` (bulk): transformers, float32, every text padded to 512 tokens, as papers do it; on every
  sixteenth text, as each takes the same time;
- ``bert-base`` (one): transformers, float32, a BERT-base of drawn weights;
- ``transformers``: transformers, float32, batches of 32 texts padded to the longest;
- ``onnxruntime``: ONNX Runtime used directly, int8, batches of texts sorted by length;
- ``openvino``: OpenVINO used directly, int8 by NNCF with SmoothQuant, batches of texts sorted by length;
- ``bundle-fp32``, ``bundle-int8``: potstill, as anybody opens it.

Before anything is measured the engines used directly try batches of 4 to 32 texts, on both cores together and on each
core by itself, and keep what was fastest for them. Every arm tokenises its texts and gives logits in their order; the
mean of the last logit tells whether arms of one classifier say the same. ``bulk``: 512 texts of DBpedia's test split,
at once. ``one``: 200 pairs of sentences of STS-B, each as one text, one after another. Everything is run once before it
is timed. The arms take turns (``turns.py``); figures are printed and kept in ``docs/measured``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from potstill.runs import write_json
from turns import store, table, take_turns

ARMS = {
    "transformers-512": "transformers, float32, padded to 512 tokens",
    "bert-base": "transformers, float32, a BERT-base",
    "transformers": "transformers, float32, batches padded to the longest",
    "onnxruntime": "ONNX Runtime used directly, int8, sorted batches",
    "openvino": "OpenVINO used directly, int8 by NNCF with SmoothQuant, sorted batches",
    "bundle-fp32": "potstill's bundle in float32",
    "bundle-int8": "potstill's bundle in int8",
}
ENGINES = ("onnxruntime", "openvino")
OURS = ("bundle-fp32", "bundle-int8")
OTHER_KIND = {"bulk": "bert-base", "one": "transformers-512"}
"""The arm that a kind of work does without."""
TITLES = {"bulk": "512 texts of DBpedia at once", "one": "texts of STS-B one after another"}
MAX_LENGTH, CORES = 512, 2
N_TEXTS, EVERY, BATCH = 512, 16, 32
Classify = Callable[[Sequence[str]], np.ndarray]


class Setting(NamedTuple):
    """How an engine is used directly: texts of a batch, and how many batches are run side by side."""

    batch: int
    streams: int


TRIED = [Setting(*pair) for pair in itertools.product((4, 8, 16, 32), (1, CORES))]


def main() -> None:
    """Measure every arm in turn and print the table; with ``--arm``, measure one and print it as JSON."""
    arguments = parsed()
    if arguments.tune:
        tune(arguments)
    elif arguments.arm:
        print(json.dumps(measured(arguments)))
    else:
        measure_all(arguments)


def measure_all(arguments: argparse.Namespace) -> None:
    """The forms of the classifier, the settings of the peers, all arms in turn, the table."""
    from inference_artefacts import CALIBRATION_TEXTS, make_artefacts

    kind = arguments.kind
    arms = {arm: told for arm, told in ARMS.items() if arm not in (*arguments.without, OTHER_KIND[kind])}
    make_artefacts(arguments.work, arguments.run, texts_of(arguments.data_dir, "train", CALIBRATION_TEXTS), list(arms))
    asked = single_texts(arguments.data_dir) if kind == "one" else texts_of(arguments.data_dir, "test", N_TEXTS)
    write_json(texts_file(arguments.work, kind), asked)
    options = [f"--data-dir={arguments.data_dir}", f"--work={arguments.work}", f"--kind={kind}"]
    if kind == "bulk":
        for arm in (arm for arm in ENGINES if arm in arms):
            subprocess.run([sys.executable, __file__, *options, f"--arm={arm}", "--tune"], check=True)
            setting = setting_of(arguments.work, arm)
            arms[arm] += f" of {setting.batch}, {setting.streams} at a time"
    repeats = take_turns(__file__, list(arms), options, arguments.repeats)
    peers = [arm for arm in arms if arm not in OURS]
    title = f"Inference: {TITLES[kind]}"
    print(table(store(f"inference-{kind}", title=title, rate="texts_per_s", peers=peers, arms=arms, repeats=repeats)))


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="where the forms of the classifier are kept")
    parser.add_argument("--run", type=Path, help="a finished run; a DistilBERT of drawn weights when absent")
    parser.add_argument("--kind", choices=TITLES, default="bulk")
    parser.add_argument("--without", nargs="*", default=[], choices=ARMS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--tune", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def tune(arguments: argparse.Namespace) -> None:
    """Find the setting in which an engine is fastest, each run through once before it is timed, and keep it."""
    texts, took_s = kept_texts(arguments.work, arguments.kind), {}
    for setting in TRIED:
        classify = OF_ENGINE[arguments.arm](arguments.work, setting)
        classify(texts)
        took_s[setting] = timed(classify, texts)
    best = min(took_s, key=lambda setting: took_s[setting])
    write_json(arguments.work / f"{arguments.arm}.setting.json", best._asdict())


def setting_of(work: Path, arm: str) -> Setting:
    """What ``tune`` found."""
    return Setting(**json.loads((work / f"{arm}.setting.json").read_text(encoding="utf-8")))


def texts_file(work: Path, kind: str) -> Path:
    """Where the texts are kept for the processes of the arms, whose memory is to be their own, without the data's."""
    return work / f"texts-{kind}.json"


def kept_texts(work: Path, kind: str) -> list[str]:
    """The texts of a kind of work."""
    texts: list[str] = json.loads(texts_file(work, kind).read_text(encoding="utf-8"))
    return texts


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
    """Figures of one arm."""
    one, arm = arguments.kind == "one", arguments.arm
    texts = kept_texts(arguments.work, arguments.kind)
    if arm == "transformers-512":
        texts = texts[::EVERY]
    started = time.perf_counter()
    classify = opened(arm, arguments.work, one=one)
    classify(texts[:1])
    cold_s = time.perf_counter() - started
    figures = latency(classify, texts) if one else throughput(classify, texts)
    return {**figures, "cold_start_s": cold_s, "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def opened(arm: str, work: Path, *, one: bool) -> Classify:
    """The arm, ready to classify."""
    if arm in OURS:
        return with_bundle(work / arm)
    if arm in ENGINES:
        return OF_ENGINE[arm](work, Setting(1, 1) if one else setting_of(work, arm))
    return with_transformers(work / arm.removesuffix("-512"), whole=arm == "transformers-512")


def throughput(classify: Classify, texts: Sequence[str]) -> dict[str, float]:
    """The median of three calls, after one that is not timed."""
    logits = classify(texts)
    seconds = [timed(classify, texts) for _ in range(3)]
    return {"texts_per_s": len(texts) / statistics.median(seconds), "mean_logit": mean_logit(logits)}


def latency(classify: Classify, texts: Sequence[str]) -> dict[str, float]:
    """Quantiles over single texts, after a round that is not timed."""
    logits = np.concatenate([classify([text]) for text in texts])
    milliseconds = [1000 * timed(classify, [text]) for text in texts]
    p50, p95 = np.quantile(milliseconds, [0.5, 0.95])
    return {"texts_per_s": 1000 / p50, "p50_ms": float(p50), "p95_ms": float(p95), "mean_logit": mean_logit(logits)}


def mean_logit(logits: np.ndarray) -> float:
    """The mean of the last logit, which arms of one classifier are to agree on."""
    return float(np.mean(logits[:, -1]))


def timed(classify: Classify, texts: Sequence[str]) -> float:
    started = time.perf_counter()
    classify(texts)
    return time.perf_counter() - started


def with_transformers(folder: Path, *, whole: bool) -> Classify:
    """Batches of 32 texts in the order given, padded to the longest of them, or ``whole``: to 512 tokens."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.set_num_threads(CORES)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    reading: dict[str, Any] = {"truncation": True, "max_length": MAX_LENGTH, "return_tensors": "pt"}
    reading["padding"] = "max_length" if whole else "longest"

    def classify(texts: Sequence[str]) -> np.ndarray:
        found = []
        with torch.inference_mode():
            for start in range(0, len(texts), BATCH):
                read = tokenizer(list(texts[start : start + BATCH]), **reading)
                found.append(model(input_ids=read["input_ids"], attention_mask=read["attention_mask"]).logits.numpy())
        return np.concatenate(found)

    return classify


def with_onnxruntime(work: Path, setting: Setting) -> Classify:
    """Batches of texts sorted by length: one at a time on both cores, or one on each core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = CORES // setting.streams
    model = str(work / "onnxruntime" / "model.onnx")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    encode, pool = tokenizer_of(work), ThreadPoolExecutor(setting.streams)

    def classify(texts: Sequence[str]) -> np.ndarray:
        rows, batches = zip(*sorted_batches(encode(texts), setting.batch), strict=True)
        run = pool.map if setting.streams > 1 else map
        return in_order(rows, list(run(lambda padded: session.run(["logits"], padded)[0], batches)))

    return classify


def with_openvino(work: Path, setting: Setting) -> Classify:
    """Batches of texts sorted by length, in as many streams as there are requests; for one text, a single request."""
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY" if setting.batch == 1 else "THROUGHPUT"}
    settings |= {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": str(setting.streams)}
    settings |= {"INFERENCE_NUM_THREADS": str(CORES)}
    compiled = openvino.Core().compile_model(work / "openvino" / "model.xml", "CPU", settings)
    encode = tokenizer_of(work)
    if setting.batch == 1:
        request = compiled.create_infer_request()

        def classify_alone(texts: Sequence[str]) -> np.ndarray:
            rows, batches = zip(*sorted_batches(encode(texts), 1), strict=True)
            return in_order(rows, [request.infer(padded)[0].copy() for padded in batches])

        return classify_alone

    def classify(texts: Sequence[str]) -> np.ndarray:
        rows: list[np.ndarray] = []
        found: list[np.ndarray] = []

        def keep(request: Any, of: np.ndarray) -> None:
            rows.append(of)
            found.append(request.get_output_tensor().data.copy())

        queue = openvino.AsyncInferQueue(compiled, setting.streams)
        queue.set_callback(keep)
        for of, padded in sorted_batches(encode(texts), setting.batch):
            queue.start_async(padded, of)
        queue.wait_all()
        return in_order(rows, found)

    return classify


OF_ENGINE: dict[str, Callable[[Path, Setting], Classify]] = {
    "onnxruntime": with_onnxruntime,
    "openvino": with_openvino,
}


def with_bundle(folder: Path) -> Classify:
    """A bundle as anybody opens it."""
    from potstill.runtime.bundle_predictor import BundlePredictor

    predictor = BundlePredictor.open(folder, cleaned=True)
    return lambda texts: predictor.predict(texts).logits


def tokenizer_of(work: Path) -> Callable[[Sequence[str]], list[Any]]:
    """Encodings of texts, by the same library as potstill's."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(work / "transformers" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_LENGTH)
    return lambda texts: tokenizer.encode_batch_fast(list(texts))


def sorted_batches(encodings: list[Any], size: int) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
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


def in_order(rows: Sequence[np.ndarray], logits: Sequence[np.ndarray]) -> np.ndarray:
    """The logits of batches in the order of the texts."""
    found = np.concatenate(logits)
    return found[np.argsort(np.concatenate(rows))]


if __name__ == "__main__":
    main()
