"""Texts one after another, by the widths for which OpenVINO has graphs of their own (decision 025).

    python benchmarks/single_widths.py --work FOLDER [--repeats 5]

FOLDER is that of ``inference.py --kind one``, with its bundle in int8 and its texts; those for tuning are taken, which
it measures nothing with. Every arm is a predictor in this process; a repeat has all of them in turn, beginning with the
next one. Milliseconds are those of ``predict`` on one text; mib is what the process gained as the arm opened and warmed
up. The figures are printed and kept in ``docs/measured``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from inference import bind_to_cores
from inference_texts import kept_portions
from potstill.bundle import read_bundle
from potstill.runtime.bundle_predictor import BundlePredictor, open_tokenizer
from potstill.runtime.openvino_engine import OpenVinoGraph
from process_memory import resident_mib
from serving_clients import latency
from turns import Figures, store, table

SETS = ((), (32,), (24, 48), (24, 32, 64), tuple(range(16, 65, 8)))


def main() -> None:
    """Measure every set of widths, print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    bind_to_cores()
    texts = kept_portions(asked.work, "one", "tuning")
    arms, predictors, gained = {}, {}, {}
    for widths in SETS:
        arm = f"{len(widths)} graphs"
        arms[arm] = f"{', '.join(map(str, widths))} tokens" if widths else "no text is padded up to 64 tokens"
        before = resident_mib()
        predictors[arm] = opened(asked.work / "bundle-int8", widths)
        one_by_one(predictors[arm], texts.warm_up + texts.texts)
        gained[arm] = resident_mib() - before
    repeats: list[dict[str, Figures]] = []
    for number in range(asked.repeats):
        turned = number % len(arms)
        names = [*arms][turned:] + [*arms][:turned]
        took = {arm: one_by_one(predictors[arm], texts.texts) for arm in names}
        repeats.append({arm: {**latency(took[arm]), "mib": gained[arm]} for arm in arms})
    title = f"Widths of texts that come alone: {len(texts.texts)} texts of STS-B one after another"
    print(table(store("single-widths", title=title, arms=arms, repeats=repeats)))


def opened(folder: Path, widths: tuple[int, ...]) -> BundlePredictor:
    """The bundle, with graphs for these widths."""
    bundle = read_bundle(folder)
    graph = OpenVinoGraph(folder / bundle.graph.file, bundle.graph)
    graph.single_widths = widths
    return BundlePredictor(bundle, open_tokenizer(folder, bundle), graph, cleaned=True)


def one_by_one(predictor: BundlePredictor, texts: Sequence[str]) -> list[float]:
    """Milliseconds that each text took."""
    took = []
    for text in texts:
        started = time.perf_counter()
        predictor.predict([text])
        took.append(1000 * (time.perf_counter() - started))
    return took


if __name__ == "__main__":
    main()
