"""E5's stages, shortened, by an earlier commit and by this checkout: what each stage takes, and what it ends in.

    python benchmarks/two_commits.py COMMIT --data-dir DATA [--repeats 3]

Both arms run the same commands with the same settings, those of ``recipes/e5-distilbert.yaml`` with fewer steps and
rows: the teacher's head (``pretrain``), a student of half its layers (``distil``), and that student fine-tuned on SST-2
and MRPC. A repeat is a seed of all stages, the arms one after the other. Measured: seconds of each command from start
to end, and each task's metric on its reported split. Printed, and kept in ``docs/measured``.

COMMIT is checked out into a folder of its own, which is deleted afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from turns import Figures, store, table

ROOT = Path(__file__).parents[1]
ARMS = {"before": "the earlier commit", "now": "this checkout"}
POTSTILL = (sys.executable, "-c", "from potstill.cli.main import main; main()")
LIMITS = {"sst2": {"train": 2000, "selection": 300}, "mrpc": {"train": 1500}}
METRICS = {"sst2": "accuracy", "mrpc": "f1"}
PRETRAIN = ("head_steps=20", "head_learning_rate=1.0e-3", "max_steps=20", "learning_rate=2.0e-4")
DISTIL = ("max_steps=40", "evaluate_steps=40", "alpha_ce=1.0", "alpha_mlm=0.2", "alpha_cos=20.0")
FINETUNE = ("batch_size=32", "epochs=2", "learning_rate=1.0e-4")


def main() -> None:
    """Both arms for every seed, the earlier first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        earlier = Path(work) / "earlier"
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "--detach", earlier, arguments.commit], check=True)
        try:
            repeats = [turn(seed, earlier, Path(work), arguments.data_dir) for seed in range(1, arguments.repeats + 1)]
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", earlier], check=True)
    title = f"E5's stages, shortened, before ({arguments.commit[:7]}) and now; a repeat is a seed"
    kept = store(
        "two-commits", title=title, arms=ARMS, repeats=repeats, rate="runs_per_hour", peers=["before"], quality="mean"
    )
    print(table(kept))


def turn(seed: int, earlier: Path, work: Path, data_dir: Path) -> dict[str, Figures]:
    """Every stage by both arms."""
    sources = {"before": earlier, "now": ROOT}
    return {arm: Commands(source, work / f"{arm}-{seed}", seed, data_dir).run() for arm, source in sources.items()}


class Commands:
    """The stages of one arm and seed, from the command line."""

    def __init__(self, source: Path, out: Path, seed: int, data_dir: Path) -> None:
        self.out, self.figures = out, Figures()
        self._environment = {**os.environ, "PYTHONPATH": str(source / "src"), "POTSTILL_CACHE": str(out / "cache")}
        self._options = [f"--seed={seed}", f"--data-dir={data_dir.resolve()}"]

    def run(self) -> Figures:
        """Seconds of each command, how many times an hour holds them all, each task's metric, and the mean of those."""
        corpus = "--corpus=wikitext-2"
        self.stage("pretrain", "pretrain", ["--model=minilm-l6", corpus], PRETRAIN)
        self.stage("distil", "distil", [f"--teacher={self.out / 'pretrain'}", "--layers=3", corpus], DISTIL)
        for task, limits in LIMITS.items():
            of_task = [f"--model={self.out / 'distil'}", f"--task={task}", f"--set=task.limits={json.dumps(limits)}"]
            self.stage("finetune", task, of_task, FINETUNE)
        self.figures["runs_per_hour"] = 3600 / sum(self.figures.values())
        quality = {f"{task}_{metric}": self.metric(task, metric) for task, metric in METRICS.items()}
        self.figures |= {**quality, "mean": statistics.fmean(quality.values())}
        print(self.out.name, self.figures, file=sys.stderr, flush=True)
        return self.figures

    def stage(self, verb: str, name: str, options: Sequence[str], settings: Sequence[str]) -> None:
        """Run one command and note its seconds."""
        overrides = [f"--set={verb}.{setting}" for setting in settings]
        command = [*POTSTILL, verb, *options, *overrides, f"--out={self.out / name}", *self._options]
        started = time.perf_counter()
        subprocess.run(command, env=self._environment, check=True, stdout=subprocess.DEVNULL)
        self.figures[f"{name}_s"] = time.perf_counter() - started

    def metric(self, task: str, metric: str) -> float:
        """Of the split that the task reports on."""
        return float(json.loads((self.out / task / "metrics.json").read_text())["validation"][metric])


if __name__ == "__main__":
    main()
