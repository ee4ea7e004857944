"""How long ``potstill explore`` takes, and in how much memory.

    python benchmarks/exploration.py [--rows 1000000] [--words 40] [--repeats 3]
    python benchmarks/exploration.py --name exploration-imdb -- --corpus imdb-unsupervised --data-dir DATA

Without flags for ``explore`` a file of so many labelled rows is made: sentences of the built-in corpus, drawn at random
until a text has that many words, so that few texts repeat and the words are those of prose. The verb runs from the
command line with an empty cache folder. Measured: seconds from the start of the process to its end, those of the study
alone, and the largest resident memory of a process so far, which counts the pages of the mapped file that were in
memory too.
They are printed and kept in ``docs/measured``.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from potstill.data.docstrings import read_paragraphs
from turns import Figures, store, table


def main() -> None:
    """Make the rows or take the flags, run, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--words", type=int, default=40, help="Words of each text, or a few more.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--name", default="exploration", help="of the file in docs/measured")
    parser.add_argument("flags", nargs="*", help="What to study instead, as potstill explore takes it, behind --.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        flags = given.flags or ["--task", "made", "--file", str(write_rows(Path(folder), given.rows, given.words))]
        repeats = [{"explore": run(Path(folder) / str(repeat), flags)} for repeat in range(given.repeats)]
    studied = " ".join(given.flags[:2]) or f"{given.rows:,} rows of {given.words} words"
    print(table(store(given.name, title="Study of a data set", arms={"explore": studied}, repeats=repeats)))


def write_rows(folder: Path, n_rows: int, n_words: int) -> Path:
    """A csv file of labelled rows; prints its size."""
    sentences = [
        sentence.strip() for paragraph in read_paragraphs() for sentence in re.split(r"(?<=\.) ", paragraph.text)
    ]
    draw, path = np.random.default_rng(1), folder / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for row in range(n_rows):
            words: list[str] = []
            while len(words) < n_words:
                words += sentences[draw.integers(len(sentences))].split()
            writer.writerow([" ".join(words), ("odd", "even")[row % 2]])
    print(f"{n_rows:,} rows, {path.stat().st_size / 1e6:,.0f} MB")
    return path


def run(folder: Path, flags: Sequence[str]) -> Figures:
    """One study in a process of its own."""
    command = [sys.executable, "-c", "from potstill.cli.main import main; main()", "explore", *flags]
    caches = {"POTSTILL_CACHE": str(folder / "potstill"), "HF_DATASETS_CACHE": str(folder / "datasets")}
    started = time.perf_counter()
    subprocess.run([*command, "--out", str(folder / "study")], check=True, env={**os.environ, **caches})
    took_s = time.perf_counter() - started
    study_s = json.loads((folder / "study" / "explore.json").read_text(encoding="utf-8"))["made"]["seconds"]
    peak_gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return {"whole_s": took_s, "study_s": study_s, "peak_gib": peak_gib}


if __name__ == "__main__":
    main()
