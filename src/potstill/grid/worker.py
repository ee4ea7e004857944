"""The process that does stages of a grid: ``python -m potstill.grid.worker FOLDER``.

It reads names of stages from stdin, a line each, and answers each on stdout with a line of JSON: what went wrong (null
where nothing did), seconds, and news. What libraries print goes to stderr. When stdin closes it ends at once, wherever
it is: whoever gave the work is gone, and training resumes from its checkpoint.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

GRID = "grid.yaml"
"""The grid in its folder, with its recipe inside: what this process needs to know."""


def main() -> None:
    """Answer stages until stdin closes."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever gave the work was interrupted too, and closes stdin
    for name in ("TRANSFORMERS_VERBOSITY", "DATASETS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    asked: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin, asked), daemon=True).start()
    _answer(Path(sys.argv[1]), asked, answers)


def _listen(stdin: TextIO, asked: queue.SimpleQueue[str]) -> None:
    for line in stdin:
        asked.put(line.strip())
    os._exit(0)


def _answer(folder: Path, asked: queue.SimpleQueue[str], answers: TextIO) -> None:
    from potstill.grid.crew import do_stage
    from potstill.grid.plan import plan_grid
    from potstill.recipe.grids import load_grid

    plan = plan_grid(load_grid(folder / GRID, out=folder))
    while True:
        key, begun = asked.get(), time.monotonic()
        error, notes = do_stage(plan, key)
        answer = {"error": error, "seconds": time.monotonic() - begun, "notes": notes}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
