"""Writes docs/results.md from the folders of finished experiments and from docs/measured; no figure in it is typed in.

    python benchmarks/results.py [e5-distilbert=runs/e5-distilbert …]

Sections of experiments that are not named stay as they are. Each experiment gets a section: what was expected (written
here before it ran), the table of arms and tasks, the verdict computed from it, sizes, speed and time, and the machine.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from potstill.recipe_files import load_recipe
from potstill.report import sentences
from potstill.report.evidence import ArmEvidence, Report, TaskEvidence
from potstill.report.stage import experiment_report
from potstill.runs import RunFolder, write_text
from turns import MEASURED, table

SPEED, SERVING = "Speed of training", "Serving"
RESULTS = Path(__file__).parents[1] / "docs" / "results.md"

EXPECTED: Mapping[str, str] = {
    "e5-distilbert": (
        "Sanh et al. 2019 report that a six-layer student keeps 97% of BERT-base over GLUE; a reproduction on WikiText "
        "kept 94.35% over CoLA, MRPC and IMDb, CoLA worst (48.9 of 57.2). Here the teacher is a quarter of the size, "
        "the text is a part of one pass over WikiText-2 and the head it is distilled through was trained for minutes, "
        "so less was expected: about 90% on MRPC, SST-2 and IMDb, about half on CoLA, the distilled student a little "
        "above the copied layers, and random weights far below both on all but MRPC, whose majority class is strong."
    )
}


def main() -> None:
    """Read the experiments named on the command line and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="*", metavar="NAME=FOLDER")
    named = dict(argument.split("=", 1) for argument in parser.parse_args().experiments)
    sections = known_sections(RESULTS.read_text(encoding="utf-8"))
    sections |= {name: section(name, Path(folder)) for name, folder in named.items()}
    sections |= {title: "\n\n".join([f"## {title}", *tables]) for title, tables in measurements().items()}
    opening = (
        "# Results\n\nMade by `benchmarks/results.py` from the run folders and from what the benchmarks measured; "
        "figures of quality come from stored predictions."
    )
    write_text(RESULTS, "\n\n".join([opening, *sections.values()]) + "\n")


def known_sections(page: str) -> dict[str, str]:
    """The sections of the page by their titles."""
    parts = page.split("\n## ")[1:]
    return {part.partition("\n")[0]: f"## {part.strip()}" for part in parts}


def measurements() -> dict[str, list[str]]:
    """What the benchmarks measured by the section it belongs to, each as a paragraph and a table."""
    found: dict[str, list[str]] = {}
    for path in sorted(MEASURED.glob("*.json")):
        title = SERVING if path.stem.startswith("serving") else SPEED
        found.setdefault(title, []).append(table(json.loads(path.read_text(encoding="utf-8"))))
    return found


def section(name: str, folder: Path) -> str:
    """One experiment as Markdown."""
    experiment = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))
    report = experiment_report(folder, experiment)
    recipe = load_recipe(folder / "recipe.yaml")
    parts = [f"## {name}", f"**Expected.** {EXPECTED[name]}" if name in EXPECTED else ""]
    parts += [f"**What came.** {sentences.verdict(report)}", quality_table(report), cost_table(report)]
    parts += [how_made(folder, experiment), machine(report), f"Seeds of the recipe: {list(recipe.seeds)}."]
    return "\n\n".join(part for part in parts if part)


def quality_table(report: Report) -> str:
    """Median over seeds, 95% interval over examples, and share of the teacher's figure with its paired interval."""
    header = ["task (metric, rows, seeds)", *report.arm_names]
    rows = [
        [_task_cell(task), *(_quality_cell(task, task.arm(name)) for name in report.arm_names)] for task in report.tasks
    ]
    return _table(header, rows)


def _task_cell(task: TaskEvidence) -> str:
    seeds = len(task.arms[0].seeds)
    return f"{task.name} ({task.metric}, {task.split}, {task.rows[task.split]:,} rows, {seeds} seed{'s' * (seeds > 1)})"


def _quality_cell(task: TaskEvidence, arm: ArmEvidence | None) -> str:
    if arm is None:
        return "–"
    metric = task.metric
    value = f"{100 * arm.medians[metric]:.1f}"
    if metric in arm.intervals:
        low, high = arm.intervals[metric]
        value += f" [{100 * low:.1f}, {100 * high:.1f}]"
    if arm.role == "teacher" or arm.retention is None:
        return value
    kept = f"keeps {sentences.percent(arm.retention)}"
    if arm.retention_interval is not None:
        kept += f" [{100 * arm.retention_interval[0]:.1f}, {100 * arm.retention_interval[1]:.1f}]"
    return f"{value}<br>{kept}, {sentences.significance(arm)}"


def cost_table(report: Report) -> str:
    """Parameters, bytes, latency and throughput (medians over tasks) and training time of one seed."""
    rows = []
    for name in report.arm_names:
        figures = {
            field: sentences.median_over_tasks(report, name, field)
            for field in ("n_parameters", "bytes_on_disk", "latency_ms", "throughput_texts_per_s", "training_s")
        }
        rows.append(
            [
                name,
                f"{(figures['n_parameters'] or 0) / 1e6:.1f} M",
                f"{(figures['bytes_on_disk'] or 0) / 2**20:.1f} MiB",
                f"{figures['latency_ms']:.1f}",
                f"{figures['throughput_texts_per_s']:.0f}",
                f"{figures['training_s']:.0f}",
            ]
        )
    header = ["arm", "parameters", "weights on disk", "one text, ms", "texts per second", "one fine-tuning, s"]
    return _table(header, rows)


def how_made(folder: Path, experiment: Mapping[str, Any]) -> str:
    """How long the encoders took and on how many tokens."""
    lines = []
    for facts in experiment["encoders"].values():
        manifest = RunFolder.open(folder / facts["run"]).manifest
        if manifest["training_s"]:
            lines.append(
                f"{facts['title']}: {manifest['tokens_seen']:,} tokens in {manifest['training_s'] / 60:.1f} min"
            )
    runs = [facts["run"] for facts in experiment["encoders"].values()]
    runs += [run for task in experiment["tasks"] for arm in task["arms"].values() for run in arm["runs"]]
    total = sum(RunFolder.open(folder / run).manifest["training_s"] for run in runs)
    return f"Encoders — {'; '.join(lines)}. All training together: {total / 60:.0f} min."


def machine(report: Report) -> str:
    """Machine and versions in one line."""
    known = {**report.machine, **report.versions}
    return "Machine and versions — " + ", ".join(f"{name}: {value}" for name, value in known.items()) + "."


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
