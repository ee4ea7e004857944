"""What each extra brings into an empty environment: its size, how long the import takes, and a first prediction.

    python benchmarks/install.py --bundle BUNDLE [--starts 7]

BUNDLE is what ``potstill export`` wrote, of single texts. For each arm a new virtual environment gets a wheel of this
checkout with one extra, or the peer, torch and transformers, all under ``constraints.txt``; pip's index is whatever pip
is set to. Megabytes (a million bytes) are those that the files take on disk beyond the empty environment. Seconds are
medians over processes of their own after one that is not counted: until the import is done, and until the first text
has been predicted, which opens the bundle. An arm of a bundle in whose process or environment there is torch or
transformers ends in an error. The peer imports its pipeline and opens nothing. The figures are printed and kept in
``docs/measured``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from turns import Figures, store, table

CHECKOUT = Path(__file__).parents[1]
PEER = "transformers"

ARMS = {
    "runtime": "potstill[runtime], OpenVINO",
    "onnxruntime": "potstill[onnxruntime], ONNX Runtime",
    "serve": "potstill[serve], OpenVINO and the server",
    PEER: "torch and transformers",
}

PREDICTED = """
import sys, time
began = time.perf_counter()
from potstill.runtime.bundle_predictor import BundlePredictor
imported = time.perf_counter()
with BundlePredictor.open(sys.argv[1]) as predictor:
    predictor.predict(["a text"])
done = time.perf_counter()
import importlib.util, json
heavy = [name for name in ("torch", "transformers") if name in sys.modules or importlib.util.find_spec(name)]
if heavy:
    sys.exit(f"there: {heavy}")
print(json.dumps({"import_s": imported - began, "first_prediction_s": done - began}))
"""

IMPORTED = """
import time
began = time.perf_counter()
import torch
from transformers import TextClassificationPipeline
imported = time.perf_counter()
import json
print(json.dumps({"import_s": imported - began}))
"""


def main() -> None:
    """Measure every arm, print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--starts", type=int, default=7, help="processes whose median is taken")
    parser.add_argument("--name", default="install", help="of the file in docs/measured")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, str(CHECKOUT))
        (wheel,) = Path(folder).glob("potstill-*.whl")
        figures = {arm: measured(arm, Path(folder) / arm, wheel, asked.bundle.resolve(), asked.starts) for arm in ARMS}
    print(table(store(asked.name, title="Install and start", arms=ARMS, repeats=[figures])))


def measured(arm: str, place: Path, wheel: Path, bundle: Path, starts: int) -> Figures:
    """One arm in a new environment at ``place``."""
    _run(sys.executable, "-m", "venv", str(place))
    python, empty, before = str(place / "bin/python"), bytes_in(place), packages(place)
    wanted = ["torch", "transformers"] if arm == PEER else [f"potstill[{arm}] @ {wheel.as_uri()}"]
    constraint = ["--constraint", str(CHECKOUT / "constraints.txt")]
    _run(python, "-m", "pip", "install", "--quiet", *constraint, *wanted)
    # pip compiles what it installs, so that no start does.
    figures = {"mb": (bytes_in(place) - empty) / 1e6, "packages": float(packages(place) - before)}
    program = [IMPORTED] if arm == PEER else [PREDICTED, str(bundle)]
    found = [json.loads(_run(python, "-I", "-c", *program)) for _ in range(starts + 1)][1:]
    figures |= {name: statistics.median(start[name] for start in found) for name in found[0]}
    print(arm, figures, file=sys.stderr, flush=True)
    return figures


def bytes_in(folder: Path) -> int:
    """What the files below a folder take on disk."""
    files = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
    return sum(512 * file.lstat().st_blocks for file in files)


def packages(place: Path) -> int:
    """Distributions that are installed."""
    return len(list(place.glob("lib/python*/site-packages/*.dist-info")))


def _run(*command: str) -> str:
    # Not where the checkout is, whose packages could be found there.
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=tempfile.gettempdir()).stdout


if __name__ == "__main__":
    main()
