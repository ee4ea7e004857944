"""Bundles in int8 and in float32 beside the runs they were exported from, on the rows that figures are reported on.

    python benchmarks/bundles.py --data-dir DATA --work FOLDER [--name bundles] cola=RUN imdb=RUN …

Each run is exported in both formats, with the gate, which looks at the selection split alone. Then the bundle predicts
the reported split, and that is held against what the run stored of it: the run's metric before and after, what it lost
in points, the share of labels that are others, the largest difference of a logit, how many parts the gate left in
float32, and the megabytes (a million bytes) of the folder and of the run's weights. The figures are printed and kept in
``docs/measured``. Bundles stay in ``--work`` and are not exported again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from potstill.bundle import read_bundle
from potstill.evaluate.stage import open_runs
from potstill.export.gate import TOLERANCES, hold_against
from potstill.export.stage import export_run
from potstill.runtime.bundle_predictor import BundlePredictor
from turns import Figures, store, table

FORMATS = ("fp32", "int8")


def main() -> None:
    """Export and measure every run, print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="where the bundles are kept")
    parser.add_argument("--name", default="bundles", help="of the file in docs/measured")
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN", type=_named)
    asked = parser.parse_args()
    arms, figures = {}, {}
    for name, run in asked.runs:
        for arithmetic in FORMATS:
            arm = f"{name} {arithmetic}"
            bundle = asked.work / f"{name}-{arithmetic}"
            figures[arm], arms[arm] = measured(run, bundle, arithmetic, asked.data_dir)
            print(arm, figures[arm], flush=True)
    print(table(store(asked.name, title="Bundles beside their runs", arms=arms, repeats=[figures])))


def _named(argument: str) -> tuple[str, Path]:
    name, sign, run = argument.partition("=")
    if not sign or not Path(run).is_dir():
        raise argparse.ArgumentTypeError(f"{argument!r} is not a name, =, and the folder of a run")
    return name, Path(run)


def measured(run: Path, bundle: Path, arithmetic: str, data_dir: Path) -> tuple[Figures, str]:
    """One bundle beside its run, and in words on what it was measured."""
    if not bundle.exists():
        export_run(run, bundle, arithmetic=arithmetic, data_dir=data_dir, tell=print)
    (folder,), data = open_runs([run], data_dir)
    stored, rows = folder.predictions(data.task.report_split), data.split(data.task.report_split)
    with BundlePredictor.open(bundle, cleaned=True) as predictor:
        assert stored.targets is not None
        said = predictor.predict(rows.texts).with_targets(stored.targets, stored.ids)
    held = hold_against(
        stored,
        said,
        metric=folder.manifest["metric"],
        tolerance=TOLERANCES[arithmetic],
        split=data.task.report_split,
        n_rows_stored=len(stored),
        engine=predictor.engine,
    )
    figures = {
        "rows": len(stored),
        "run": held.metric_before,
        "bundle": held.metric_after,
        "points_lost": None if held.metric_drop is None else 100 * held.metric_drop,
        "percent_of_labels_flipped": None if held.label_flips is None else 100 * held.label_flips,
        "largest_logit_difference": held.logit_difference,
        "parts_in_float32": len(read_bundle(bundle).graph.left_in_float32),
        "bundle_mb": sum(file.stat().st_size for file in bundle.iterdir()) / 1e6,
        "run_mb": (run / "model.safetensors").stat().st_size / 1e6,
    }
    known = {figure: float(value) for figure, value in figures.items() if value is not None}
    return known, f"{held.metric} on the split {held.split}"


if __name__ == "__main__":
    main()
