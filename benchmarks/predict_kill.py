"""Prediction over a million rows, killed on the way and gone on with: the same bytes as without a kill?

    python benchmarks/predict_kill.py [--rows 1000000] [--kills 5] [--to csv] [--bundle BUNDLE] [--name predict-kill]

Writes a csv file of that many rows, each with its number and one to sixty words, every thousandth without text, and
runs ``potstill predict`` on it from the command line: once to its end; and once killed with SIGKILL at random moments
and started again until it is done, the last time as soon as all rows are written, while the file gets its name. Both
outputs and both lists of bad rows have to be the same byte by byte, else it ends with an error, and so it does where a
process ended before it was killed. Measured: seconds of all processes together, rows per second, the largest resident
memory of one, how often it was killed, and whether the last kill met unfinished work. They are printed and, with
``--name``, kept in ``docs/measured``. The bundle is that of ``--bundle``, which takes single texts, or a small one of
drawn weights: then reading, writing and tokenising are what is measured.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from potstill.bench.texts import WORDS
from potstill.runtime.journal import BAD_SUFFIX
from process_memory import peak_mib
from turns import Figures, store, table

PROGRAM = "from potstill.cli.main import main; main()"
ARMS = {"uninterrupted": "one process", "killed": "killed and started again, the same bytes"}
EVERY_BAD, LONGEST, MAX_LENGTH = 1000, 60, 128
LOOK_EVERY_S = 0.002


def main() -> None:
    """Write the rows, predict them twice, compare, print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--to", default="csv", choices=["csv", "csv.gz", "jsonl", "jsonl.gz", "parquet"])
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--name")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        bundle, rows = asked.bundle or small_bundle(place), place / "rows.csv"
        write_rows(rows, asked.rows)
        arms = {arm: place / f"{arm}.{asked.to}" for arm in ARMS}
        figures = {
            "uninterrupted": measured(bundle, rows, arms["uninterrupted"], asked.rows, kills=0),
            "killed": measured(bundle, rows, arms["killed"], asked.rows, kills=asked.kills),
        }
        require_same(*arms.values())
    if not asked.name:
        print(json.dumps(figures, indent=2))
        return
    title = f"Prediction over {asked.rows:,} rows of csv into {asked.to}, gone on with after every kill"
    print(table(store(asked.name, title=title, arms=ARMS, repeats=[figures])))


def small_bundle(folder: Path) -> Path:
    """Made here, as it takes torch, which is not in the processes that are measured."""
    from inference_artefacts import make_small_bundle

    return make_small_bundle(folder, MAX_LENGTH)


def write_rows(path: Path, n_rows: int) -> None:
    """Columns ``n`` and ``text``; the same in every call."""
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        file.write("n,text\n")
        for number in range(n_rows):
            words = draw.choices(WORDS, k=draw.randint(1, LONGEST)) if number % EVERY_BAD else []
            file.write(f"{number},{' '.join(words)}\n")


def measured(bundle: Path, rows: Path, out: Path, n_rows: int, *, kills: int) -> Figures:
    """Predict to the end, killed at about even shares of the rows on the way and once behind the last of them."""
    command = [sys.executable, "-c", PROGRAM, "predict", str(bundle), str(rows), "-o", str(out)]
    draw, began, work = random.Random(1), time.perf_counter(), Work([*command, "--text-column", "text"], out)
    for number in range(1, kills + 1):
        work.kill(number * n_rows // (kills + 1), wait_s=draw.uniform(0, 0.3))
    if kills:
        work.kill(n_rows, wait_s=0)
    left = work.unfinished.exists()
    if left or not kills:
        work.end()
    seconds = time.perf_counter() - began
    figures = {"seconds": seconds, "rows_per_s": n_rows / seconds, "peak_mib": work.peak_mib, "kills": work.n_kills}
    return {**figures, "kills_while_finishing": int(left)}


class Work:
    """One prediction over files, by as many processes as it takes, and the largest resident memory of any of them."""

    def __init__(self, command: Sequence[str], out: Path) -> None:
        self.command, self.out = command, out
        self.unfinished = out.with_name(f"{out.name}.unfinished")
        self.n_kills, self.peak_mib = 0, 0.0

    def kill(self, n_rows: int, *, wait_s: float) -> None:
        """Go on, and kill the process so long after so many rows are written; SystemExit where it ends before."""
        process = subprocess.Popen(self.command)
        while process.poll() is None and not self._has_written(n_rows):
            time.sleep(LOOK_EVERY_S)
        time.sleep(wait_s)
        self.peak_mib = max(self.peak_mib, peak_mib(process.pid)) if process.poll() is None else self.peak_mib
        process.kill()
        if process.wait() != -signal.SIGKILL:
            raise SystemExit(
                f"potstill predict ended with {process.returncode} before kill {self.n_kills + 1}: more --rows"
            )
        self.n_kills += 1

    def end(self) -> None:
        """Go on to the end."""
        process = subprocess.Popen(self.command)
        while process.poll() is None:
            self.peak_mib = max(self.peak_mib, peak_mib(process.pid))
            time.sleep(LOOK_EVERY_S)
        if process.returncode:
            raise SystemExit(f"potstill predict ended with {process.returncode}")

    def _has_written(self, n_rows: int) -> bool:
        """Whether the journal says that so many rows are behind, or all are and the journal is gone."""
        try:
            content = (self.unfinished / "journal.json").read_text(encoding="utf-8")
        except FileNotFoundError:
            return self.out.exists()
        return bool(json.loads(content)["state"]["counts"]["read"] >= n_rows)


def require_same(*outs: Path) -> None:
    """End with an error where two outputs, or their lists of bad rows, differ in a byte."""
    for suffix in ("", BAD_SUFFIX):
        first, second = (out.with_name(out.name + suffix) for out in outs)
        if not filecmp.cmp(first, second, shallow=False):
            raise SystemExit(f"{first.name} and {second.name} are not the same")
    left = [path.name for out in outs for path in out.parent.glob("*.unfinished")]
    if left:
        raise SystemExit(f"left over: {', '.join(left)}")


if __name__ == "__main__":
    main()
