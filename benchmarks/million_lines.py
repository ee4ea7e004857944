"""How long a training on a million lines takes to start, first and after a kill, and in how much memory.

    python benchmarks/million_lines.py [--lines 1000000] [--repeats 3]

Writes a corpus of that many lines (sentences of the built-in corpus, each with its number, so that none repeats) and
runs ``potstill pretrain`` on it from the command line, streamed, with an empty cache folder: until its first
checkpoint, when it is killed; and again, until its second. Measured: seconds from the start of each process to its
checkpoint, four steps included; its largest resident memory; the size of what was kept in the cache folder. They are
printed and kept in ``docs/measured``.
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
from turns import store, table

STEPS = 4
"""Steps between checkpoints."""
ARMS = {
    "first": f"an empty cache folder, until step {STEPS}",
    "resumed": f"after a kill, until step {2 * STEPS}",
}


def main() -> None:
    """Write the corpus, start, kill and start again, ``--repeats`` times; print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "lines.txt"
        size = write_lines(lines, arguments.lines)
        repeats = [measure(lines, Path(folder) / str(number)) for number in range(arguments.repeats)]
    lengths = np.random.default_rng(0).integers(4, 128, arguments.lines)
    started = time.perf_counter()
    next(iter(BatchPlan(lengths, 32, seed=0)))
    planned_s = time.perf_counter() - started
    title = (
        f"Start of a training on {arguments.lines:,} lines ({size / 1e6:,.0f} MB), {STEPS} steps included; the batches "
        f"of an epoch over as many texts are planned in {planned_s:.2f} s"
    )
    print(table(store("million-lines", title=title, arms=ARMS, repeats=repeats)))


def measure(lines: Path, root: Path) -> dict[str, dict[str, float]]:
    """Figures of the first start and of the one after the kill."""
    found = {}
    for arm, checkpoint in (("first", STEPS), ("resumed", 2 * STEPS)):
        waited_s, memory_gib = run_until(lines, root, checkpoint)
        found[arm] = {"start_s": waited_s, "peak_gib": memory_gib, "kept_mb": kept_bytes(root) / 1e6}
    return found


def kept_bytes(root: Path) -> int:
    """Bytes of the cache folder."""
    return sum(file.stat().st_size for file in (root / "cache").rglob("*") if file.is_file())


def write_lines(path: Path, n_lines: int) -> int:
    """The corpus; returns its bytes."""
    sentences = [
        sentence.strip() for paragraph in read_paragraphs() for sentence in re.split(r"(?<=\.) ", paragraph.text)
    ]
    with path.open("w", encoding="utf-8") as file:
        for number, sentence in zip(range(n_lines), itertools.cycle(sentences), strict=False):
            file.write(f"{number} {sentence}\n")
    return path.stat().st_size


def run_until(lines: Path, root: Path, checkpoint: int) -> tuple[float, float]:
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
    command += ["--corpus", str(lines), "--out", str(root / "run"), *options]
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
