"""Predictions by a bundle beside its peers, on one classifier and the same texts, both cores.

    python benchmarks/inference.py --data-dir DATA --work FOLDER [--run RUN] [--kind bulk|one] [--repeats 5]

The classifier is that of ``--run``, whose bundles are exported with their gate, or a DistilBERT of drawn weights. The
arms:

- ``transformers-512`` (bulk): transformers, float32, every text padded to 512 tokens, as papers do it;
- ``bert-base`` (one): transformers, float32, a BERT-base of drawn weights;
- ``transformers``: transformers, float32, batches of 32 texts in the order given, padded to the longest;
- ``transformers-sorted`` (bulk): the same, batches of texts sorted by length;
- ``onnxruntime``: ONNX Runtime used directly, int8, batches of texts sorted by length;
- ``openvino``: OpenVINO used directly, int8 by NNCF (``pip install nncf``, or ``--without openvino``), sorted batches;
- ``bundle-fp32``, ``bundle-int8``: potstill, as anybody opens it; ``bundle-int8-onnxruntime``: with that engine.

Every arm's process is bound to two cores, tokenises its texts and gives logits in their order. The three before the
bundles are tuned first, on other texts: batches of 1 to 64 texts, one at a time on both cores or one on each, and the
forms of ``inference_forms.py``; for one text, the forms. What was fastest is kept in ``--work`` and used again.

``bulk``: three slices of 256 texts of DBpedia's test split, each at once; the median counts. Arms in float32 take many
times as long and see one text in two, four or 32 of each slice (``EVERY``). ``one``: 200 pairs of sentences of STS-B,
each as one text, one after another. Each arm warms up on other texts of the kind. The arms take turns (``turns.py``).
Each one's logits, kept in ``--work``, are held against those of ``transformers`` on the texts that both have seen.
Figures are printed and kept in ``docs/measured``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from inference_figures import FIGURES, compare, keep_logits
from inference_peers import CORES, OPENERS, Classify, with_transformers
from inference_texts import KINDS, draw_portions, keep_portions, kept_portions
from inference_tuning import TUNED, is_tuned, setting_of, tune
from process_memory import peak_mib
from turns import Figures, store, table, take_turns

EVERY = {"transformers-512": 32, "transformers": 4, "transformers-sorted": 4, "bundle-fp32": 2}
"""Arms that see only one text in so many of ``bulk``."""

ARMS = {
    "transformers-512": "transformers, float32, padded to 512 tokens",
    "bert-base": "transformers, float32, a BERT-base",
    "transformers": "transformers, float32, batches padded to the longest",
    "transformers-sorted": "transformers, float32, sorted",
    "onnxruntime": "ONNX Runtime used directly, int8, sorted",
    "openvino": "OpenVINO used directly, int8 by NNCF with SmoothQuant, sorted",
    "bundle-fp32": "potstill's bundle in float32",
    "bundle-int8": "potstill's bundle in int8",
    "bundle-int8-onnxruntime": "the same bundle in ONNX Runtime",
}
OURS = {
    "bundle-fp32": ("bundle-fp32", None),
    "bundle-int8": ("bundle-int8", None),
    "bundle-int8-onnxruntime": ("bundle-int8", "onnxruntime"),
}
"""Our arms: the bundle, and the engine where it is not the default one."""

OTHER_KIND = {"bulk": ("bert-base",), "one": ("transformers-512", "transformers-sorted")}
"""The arms that a kind of work does without."""

TITLES = {"bulk": "{} texts of DBpedia at once", "one": "{} texts of STS-B one after another"}


def main() -> None:
    """Measure every arm in turn and print the table; with ``--arm``, measure one and print it as JSON."""
    arguments = parsed()
    bind_to_cores()
    if arguments.tune:
        tuned(arguments.work, arguments.arm, arguments.kind)
    elif arguments.arm:
        print(json.dumps(measured(arguments.work, arguments.arm, arguments.kind)))
    else:
        measure_all(arguments)


def bind_to_cores() -> None:
    """Bind this process, and what it starts, to as many cores for every arm; libraries load with that in force."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < CORES:
        raise SystemExit(f"every arm is given {CORES} cores, and here are {len(allowed)}")
    os.sched_setaffinity(0, allowed[:CORES])


def measure_all(arguments: argparse.Namespace) -> None:
    """The forms of the classifier, the settings of the peers, all arms in turn, the table."""
    work, kind = arguments.work, arguments.kind
    arms = {arm: told for arm, told in ARMS.items() if arm not in (*arguments.without, *OTHER_KIND[kind])}
    prepare(arguments, list(arms))
    options = [f"--data-dir={arguments.data_dir}", f"--work={work}", f"--kind={kind}"]
    for arm in [arm for arm in TUNED[kind] if arm in arms]:
        if not is_tuned(work, arm, kind):
            subprocess.run([sys.executable, __file__, *options, f"--arm={arm}", "--tune"], check=True)
        arms[arm] += f"; {setting_of(work, arm, kind).told}"
    if kind == "bulk":
        arms |= {arm: f"{arms[arm]}; one text in {nth}" for arm, nth in EVERY.items() if arm in arms}
    repeats = take_turns(__file__, list(arms), options, arguments.repeats, after=lambda turn: compare(work, kind, turn))
    title = f"Inference: {TITLES[kind].format(arguments.texts or KINDS[kind])}"
    peers = [arm for arm in arms if arm not in OURS]
    print(table(store(arguments.name, title=title, rate="texts_per_s", peers=peers, arms=arms, repeats=repeats)))


def prepare(arguments: argparse.Namespace, arms: Sequence[str]) -> None:
    """The forms of the classifier and the texts."""
    from inference_artefacts import make_artefacts

    needed = {OURS[arm][0] if arm in OURS else arm for arm in arms}
    make_artefacts(arguments.work, arguments.run, arguments.data_dir, needed)
    kind = arguments.kind
    portions = draw_portions(arguments.data_dir, kind, arguments.texts or KINDS[kind])
    keep_portions(arguments.work, kind, portions)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="where the forms of the classifier are kept")
    parser.add_argument("--run", type=Path, help="a finished run; a DistilBERT of drawn weights when absent")
    parser.add_argument("--kind", choices=KINDS, default="bulk")
    parser.add_argument("--without", nargs="*", default=[], choices=ARMS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--texts", type=int, help="texts of a slice, fewer for a try")
    parser.add_argument("--name", help="of the file in docs/measured; inference-KIND when absent")
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--tune", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.name = arguments.name or f"inference-{arguments.kind}"
    return arguments


def tuned(work: Path, arm: str, kind: str) -> None:
    """Find the setting of one arm, on the texts for that."""
    portions = kept_portions(work, kind, "tuning").every(seen(arm, kind))
    tune(work, arm, kind, lambda classify: FIGURES[kind](classify, portions)[0]["texts_per_s"])


def measured(work: Path, arm: str, kind: str) -> Figures:
    """Figures of one arm; its logits are kept."""
    whole, every = kept_portions(work, kind, "measured"), seen(arm, kind)
    portions = whole.every(every)
    started = time.perf_counter()
    classify = opened(work, arm, kind)
    classify(portions.warm_up[:1])
    cold_s = time.perf_counter() - started
    figures, logits = FIGURES[kind](classify, portions)
    keep_logits(work, kind, arm, logits, whole=whole, every=every)
    return {**figures, "cold_start_s": cold_s, "peak_gib": peak_mib() / 1024}


def seen(arm: str, kind: str) -> int:
    """The arm sees one text in so many."""
    return EVERY.get(arm, 1) if kind == "bulk" else 1


def opened(work: Path, arm: str, kind: str) -> Classify:
    """The arm, ready to classify."""
    if arm in OURS:
        return with_bundle(work, *OURS[arm])
    if arm in TUNED[kind]:
        return OPENERS[arm](work, setting_of(work, arm, kind))
    return with_transformers(work / arm.removesuffix("-512"), whole=arm == "transformers-512")


def with_bundle(work: Path, bundle: str, engine: str | None) -> Classify:
    """A bundle as anybody opens it."""
    from potstill.runtime.bundle_predictor import BundlePredictor

    predictor = BundlePredictor.open(work / bundle, engine=engine, cleaned=True)
    return lambda texts: predictor.predict(texts).logits


if __name__ == "__main__":
    main()
