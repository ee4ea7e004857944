"""Prediction over a million rows, killed on the way and gone on with: the same bytes as without a kill?

    python benchmarks/predict_kill.py [--rows 1000000] [--kills 5] [--to csv] [--bundle BUNDLE] [--name predict-kill]

Writes a csv file of that many rows, each with its number and one to sixty words, every thousandth without text, and
runs ``potstill predict`` on it from the command line: once to its end; and once killed with SIGKILL at random moments
and started again until it is done. Both outputs and both lists of bad rows have to
be the same byte by byte, else it ends with an error. Measured: seconds of all processes together, rows per second, the
largest resident memory, how often it was killed. They are printed and, with ``--name``, kept in ``docs/measured``. The
bundle is that of ``--bundle``, which takes single texts, or a small one of drawn weights: then reading, writing and
tokenising are what is measured.
"""

from __future__ import annotations

import argparse
import filecmp
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from potstill.bench.texts import WORDS
from potstill.runtime.journal import BAD_SUFFIX
from turns import Figures, store, table

PROGRAM = "from potstill.cli.main import main; main()"
ARMS = {"uninterrupted": "one process", "killed": "killed and started again, the same bytes"}
EVERY_BAD, LONGEST, MAX_LENGTH = 1000, 60, 128


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
    title = f"Prediction over {asked.rows:,} rows of csv into {asked.to}, killed {asked.kills} times and gone on with"
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
    """Predict to the end, killed at about even shares of the rows on the way."""
    draw, seconds, peak_kib = random.Random(1), 0.0, 0
    journal = out.with_name(f"{out.name}.unfinished") / "journal.json"
    for attempt in itertools.count(1):
        enough = attempt * n_rows / (kills + 1) if attempt <= kills else None
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "predict", str(bundle), str(rows), "-o", str(out)], stderr=sys.stderr
        )
        if enough is not None:
            wait_until(process, lambda wanted=enough: committed(journal) >= wanted)  # type: ignore[misc]
            time.sleep(draw.uniform(0, 0.3))
            os.kill(process.pid, signal.SIGKILL)  # send_signal would reap it, and what it used be lost
        _, status, used = os.wait4(process.pid, 0)
        seconds += time.perf_counter() - started
        peak_kib, code = max(peak_kib, used.ru_maxrss), os.waitstatus_to_exitcode(status)
        process.returncode = code  # so that it is not waited for again
        if code == 0:
            return {
                "seconds": seconds,
                "rows_per_s": n_rows / seconds,
                "peak_mib": peak_kib / 2**10,
                "kills": attempt - 1,
            }
        if code != -signal.SIGKILL:
            raise SystemExit(f"potstill predict ended with {code}")
    raise AssertionError("itertools.count ends")


def committed(journal: Path) -> int:
    """Rows that the journal says are behind."""
    return int(json.loads(journal.read_text(encoding="utf-8"))["state"]["counts"]["read"]) if journal.exists() else 0


def wait_until(process: subprocess.Popen[bytes], enough: Callable[[], bool]) -> None:
    """Return when there is enough, or when the process has nothing more to do; it is not reaped."""
    while not enough():
        if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.005)


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
