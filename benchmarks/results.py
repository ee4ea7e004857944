"""Writes docs/results.md from finished folders and from docs/measured; of ours no figure in it is typed in.

    python benchmarks/results.py [e5-distilbert=runs/e5-distilbert sst2-shapes=runs/sst2-shapes …]

A folder is that of an experiment, of an ablation or of a study of attention. Sections that are not named stay as they
are. Each holds what was expected (``published.py``, written before it ran), the verdict computed from the figures, what
was published beside what came, the tables, and the machine; drawings lie in docs/figures.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from potstill.grid.stage import command_of
from potstill.grid.worker import GRID
from potstill.recipe.files import load_recipe
from potstill.recipe.grids import load_grid
from potstill.report import sentences
from potstill.report.attention.figures import draw_heads
from potstill.report.evidence import ArmEvidence, Report, TaskEvidence
from potstill.report.stage import experiment_report
from potstill.runs import RunFolder, write_text
from published import ABLATIONS, EXPECTED, PUBLISHED, Published
from turns import MEASURED, table

MEASUREMENTS = "Measured by the benchmarks"
DOCS = Path(__file__).parents[1] / "docs"
RESULTS = DOCS / "results.md"
FIRST = "demo"
FIGURES = DOCS / "figures"
LOWEST_LABELS = 3
"""So many labels of the lowest F1 are named."""


def main() -> None:
    """Read the experiments named on the command line and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="*", metavar="NAME=FOLDER")
    named = dict(argument.split("=", 1) for argument in parser.parse_args().experiments)
    sections = known_sections(RESULTS.read_text(encoding="utf-8"))
    sections.pop(MEASUREMENTS, None)  # comes last
    sections |= {name: section(name, Path(folder)) for name, folder in named.items()}
    sections = {name: sections[name] for name in sorted(sections, key=lambda name: (name != FIRST, name))}
    sections[MEASUREMENTS] = "\n\n".join([f"## {MEASUREMENTS}", *measurements()])
    opening = (
        "# Results\n\nMade by `benchmarks/results.py` from the run folders and from what the benchmarks measured; "
        "figures of quality come from stored predictions."
    )
    write_text(RESULTS, "\n\n".join([opening, *sections.values()]) + "\n")


def known_sections(page: str) -> dict[str, str]:
    """The sections of the page by their titles."""
    parts = page.split("\n## ")[1:]
    return {part.partition("\n")[0]: f"## {part.strip()}" for part in parts}


def measurements() -> list[str]:
    """What the benchmarks measured, each as a paragraph and a table."""
    return [table(json.loads(path.read_text(encoding="utf-8"))) for path in sorted(MEASURED.glob("*.json"))]


def section(name: str, folder: Path) -> str:
    """A finished folder as Markdown, by what it holds."""
    kinds = {"experiment.json": experiment, "ablation.json": ablation, "attention.json": attention}
    (found,) = [file for file in kinds if (folder / file).is_file()]
    parts = [f"## {name}", f"**Expected.** {EXPECTED[name]}" if name in EXPECTED else ""]
    return "\n\n".join(part for part in [*parts, *kinds[found](name, folder)] if part)


def experiment(name: str, folder: Path) -> list[str]:
    """Verdict, published figures beside ours, quality, cost, time, machine and seeds."""
    content = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))
    report = experiment_report(folder, content)
    recipe = load_recipe(folder / "recipe.yaml")
    parts = [f"**What came.** {sentences.verdict(report)}", quality_table(report)]
    parts += beside_published(PUBLISHED[name], figures_of(report)) if name in PUBLISHED else []
    parts += [cost_table(report), how_made(folder, content), machine(report.machine, report.versions)]
    command = f"potstill run {name}" + (" --data-dir DATA" if recipe.data_dir else "")
    return [*parts, f"Made by `{command}`, seeds {list(recipe.seeds)}."]


def figures_of(report: Report) -> dict[str, str]:
    """The figures that ``published.py`` may name, as they are written; shares in percent."""
    found: dict[str, str] = {}
    for task in report.tasks:
        for arm in task.arms:
            at = f"{task.name}/{arm.name}"
            found |= {f"{at}/{metric}": f"{100 * value:.1f}" for metric, value in arm.medians.items()}
            found |= {f"{at}/before/{metric}": f"{100 * value:.1f}" for metric, value in before_decisions(arm).items()}
            lowest = sorted(arm.per_class, key=lambda row: row["f1"])[:LOWEST_LABELS]
            found[f"{at}/lowest"] = ", ".join(f"{row['label']} {100 * row['f1']:.1f}" for row in lowest)
    for name in report.arm_names:
        found[f"{name}/latency_ms"] = f"{sentences.median_over_tasks(report, name, 'latency_ms'):.1f}"
        found[f"{name}/n_parameters"] = f"{sentences.median_over_tasks(report, name, 'n_parameters') or 0:,.0f}"
    return found


def before_decisions(arm: ArmEvidence) -> Mapping[str, float]:
    """Each metric without temperature and thresholds, medians over seeds."""
    if arm.decisions is None:
        return arm.medians
    return {effect.name: effect.before for effect in arm.decisions.effect.metrics.values()}


def beside_published(published: Published, ours: Mapping[str, str]) -> list[str]:
    """What was published and what came here, and what of it can be compared."""
    rows = [
        [row.what, row.published, re.sub(r"\{([^}]+)\}", lambda name: ours[name[1]], row.here)]
        for row in published.rows
    ]
    return [f"Beside the original, {published.source}:", _table(["", "published", "here"], rows), published.comparable]


def ablation(name: str, folder: Path) -> list[str]:
    """What the insights say, published figures beside ours, every arm, the drawing, and the machine."""
    content = json.loads((folder / "ablation.json").read_text(encoding="utf-8"))
    parts: list[str] = []
    for task, study in content["tasks"].items():
        came = "\n".join(f"- {insight['sentence']}" for insight in study["insights"])
        parts += [f"**What came.**\n\n{came}", study["budget"]["sentence"], arms_table(study)]
        ours = {arm["name"]: f"{100 * arm['mean']['value']:.1f}" for arm in study["arms"]}
        parts += beside_published(ABLATIONS[name], ours) if name in ABLATIONS else []
        parts.append(keep_figure(name, (folder / f"panels-{task}.svg").read_text(encoding="utf-8")))
    return [
        *parts,
        machine(content["machine"], content["versions"]),
        f"Made by `{command_of(name, load_grid(folder / GRID))}`.",
    ]


def arms_table(study: Mapping[str, Any]) -> str:
    """Each arm: the mean over seeds with its interval over rows and seeds, its rank, its seeds, its costs."""
    header = ["rank", "arm", f"{study['metric']}, {study['split']}, {study['n_rows']:,} rows", "of each seed"]
    rows = []
    for arm in sorted(study["arms"], key=lambda arm: arm["rank"]):
        mean = arm["mean"]
        value = f"{100 * mean['value']:.1f} [{100 * mean['low']:.1f}, {100 * mean['high']:.1f}]"
        of_seeds = ", ".join(f"{100 * value:.1f}" for value in arm["per_seed"])
        latency = "–" if arm["latency_ms"] is None else f"{arm['latency_ms']:.1f}"
        seconds = f"{statistics.median(arm['training_s']):.0f}"
        parameters = f"{arm['n_parameters'] / 1e6:.1f} M"
        named = f"{arm['name']} (baseline)" if arm["name"] == study["baseline"] else arm["name"]
        rows.append([str(arm["rank"]), named, value, of_seeds, parameters, latency, seconds])
    return _table([*header, "parameters", "one text, ms", "one fine-tuning, s"], rows)


def attention(name: str, folder: Path) -> list[str]:
    """What moved, in words, as a table and head by head."""
    content = json.loads((folder / "attention.json").read_text(encoding="utf-8"))
    means, changes = content["means"], content["changes"]
    rows = [
        [figure.replace("_", " "), _value(means["before"][figure]), _value(means["after"][figure]), _value(change)]
        for figure, change in changes.items()
    ]
    distances = np.array(content["distance"]["by_head"])
    drawing = draw_heads(distances, title="Jensen–Shannon distance before and after fine-tuning")
    parts = [f"**What came.** {content['verdict']}", _table(["mean over heads", "before", "after", "change"], rows)]
    return [*parts, keep_figure(name, drawing), machine({}, content["versions"])]


def _value(measured: Mapping[str, Any]) -> str:
    overall = measured["overall"]
    return f"{overall['value']:.3f} [{overall['low']:.3f}, {overall['high']:.3f}]"


def keep_figure(name: str, svg: str) -> str:
    """Write a drawing beside the page and return the line that shows it."""
    FIGURES.mkdir(exist_ok=True)
    write_text(FIGURES / f"{name}.svg", svg)
    return f"![{name}](figures/{name}.svg)"


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


def how_made(folder: Path, content: Mapping[str, Any]) -> str:
    """How long the encoders took and on how many tokens."""
    lines = []
    for facts in content["encoders"].values():
        manifest = RunFolder.open(folder / facts["run"]).manifest
        if manifest["training_s"]:
            lines.append(
                f"{facts['title']}: {manifest['tokens_seen']:,} tokens in {manifest['training_s'] / 60:.1f} min"
            )
    runs = [facts["run"] for facts in content["encoders"].values()]
    runs += [run for task in content["tasks"] for arm in task["arms"].values() for run in arm["runs"]]
    total = sum(RunFolder.open(folder / run).manifest["training_s"] for run in runs)
    return f"Encoders — {'; '.join(lines)}. All training together: {total / 60:.0f} min."


def machine(processor: Mapping[str, str], versions: Mapping[str, str]) -> str:
    """Machine and versions in one line."""
    known = {**processor, **versions}
    return "Machine and versions — " + ", ".join(f"{name}: {value}" for name, value in known.items()) + "."


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
