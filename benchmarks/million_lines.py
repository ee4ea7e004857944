"""How long a training on a million lines takes to start, first and after a kill, and in how much memory.

    python benchmarks/million_lines.py [--lines 1000000]

Writes a corpus of that many lines (sentences of the built-in corpus, each with its number, so that none repeats) and
runs ``potstill pretrain`` on it from the command line, streamed, with an empty cache folder: until its first
checkpoint, when it is killed; and again, until its second. Printed: seconds from the start of each process to its
checkpoint, four steps included; its largest resident memory; the size of what was kept; and how long planning an
epoch's batches takes.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from potstill.data.batches import BatchPlan
from potstill.data.docstrings import read_paragraphs

STEPS = 4
"""Steps between checkpoints."""


def main() -> None:
    """Write the corpus, start, kill, start again, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_000_000)
    n_lines = parser.parse_args().lines
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        size = write_lines(root / "lines.txt", n_lines)
        print(f"{n_lines:,} lines, {size / 1e6:,.0f} MB")
        for title, checkpoint in (("first start", STEPS), ("after a kill", 2 * STEPS)):
            waited_s, memory_gib = run_until(root, checkpoint)
            print(f"{title}: checkpoint {checkpoint} after {waited_s:.1f} s, at most {memory_gib:.2f} GiB resident")
        cached = sum(file.stat().st_size for file in (root / "cache").rglob("*") if file.is_file())
        print(f"kept in the cache folder: {cached / 1e6:,.0f} MB")
    started = time.perf_counter()
    next(iter(BatchPlan(np.random.default_rng(0).integers(4, 128, n_lines), 32, seed=0)))
    print(f"the batches of an epoch over {n_lines:,} texts are planned in {time.perf_counter() - started:.2f} s")


def write_lines(path: Path, n_lines: int) -> int:
    """The corpus; returns its bytes."""
    sentences = [
        sentence.strip() for paragraph in read_paragraphs() for sentence in re.split(r"(?<=\.) ", paragraph.text)
    ]
    with path.open("w", encoding="utf-8") as file:
        for number, sentence in zip(range(n_lines), itertools.cycle(sentences), strict=False):
            file.write(f"{number} {sentence}\n")
    return path.stat().st_size


def run_until(root: Path, checkpoint: int) -> tuple[float, float]:
    """Start training, wait for its checkpoint, kill it: seconds waited, and GiB of its largest resident memory."""
    settings = {
        "corpus.streaming": "true",
        "corpus.block_length": 64,
        "pretrain.head_steps": 0,
        "pretrain.max_steps": 1000,
        "pretrain.batch_size": 8,
        "pretrain.checkpoint_steps": STEPS,
        "pretrain.report_to": "[]",
    }
    options = [option for name, value in settings.items() for option in ("--set", f"{name}={value}")]
    command = [str(Path(sys.executable).with_name("potstill")), "pretrain", "--model", "minilm-l6"]
    command += ["--corpus", str(root / "lines.txt"), "--out", str(root / "run"), *options]
    started = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, "POTSTILL_CACHE": str(root / "cache")})
    wanted = root / "run" / ".work" / "all" / f"checkpoint-{checkpoint}" / "trainer_state.json"
    while not wanted.exists():
        if process.poll() is not None:
            raise SystemExit("training ended before its checkpoint")
        time.sleep(0.05)
    waited_s = time.perf_counter() - started
    status = Path(f"/proc/{process.pid}/status").read_text()
    peak_kib = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    process.send_signal(signal.SIGKILL)
    process.wait()
    return waited_s, peak_kib / 2**20


if __name__ == "__main__":
    main()
