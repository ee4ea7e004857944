"""Predictions that something may be fitted on: those of rows that no figure is reported on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from potstill.errors import DataError, RunFolderError
from potstill.records import Predictions
from potstill.runs import RunFolder

SELECTION = "selection"
"""The one split that thresholds and temperatures are fitted on."""


@dataclass(frozen=True)
class HeldOut:
    """Labelled predictions, and beside them those that figures are reported on; the two share no row.

    Whatever fits thresholds or a temperature takes this and nothing else, so that it cannot be given the reported rows:
    DataError where one id is in both, or where the predictions have no targets or no rows.
    """

    predictions: Predictions
    reported: Predictions

    def __post_init__(self) -> None:
        if self.predictions.targets is None or not len(self.predictions):
            raise DataError("there are no labelled predictions to fit anything on", do="predict a labelled split")
        shared = np.intersect1d(self.predictions.ids, self.reported.ids)
        if len(shared):
            raise DataError(
                "thresholds and temperatures are never fitted on rows that figures are reported on",
                found=f"{len(shared):,} rows in both, the first is {shared[0]}",
                do=f"fit them on the split {SELECTION}",
            )

    @classmethod
    def of(cls, run: RunFolder) -> HeldOut:
        """The stored logits of a classifier's selection split; RunFolderError where the run is no classifier's."""
        report_split = run.manifest.get("report_split")
        if report_split is None:
            raise RunFolderError(
                f"{run.path} is a {run.manifest['stage']} run; only a classifier decides anything",
                do="fine-tune it first: potstill finetune --model … --task …",
            )
        return cls(run.raw_predictions(SELECTION), run.raw_predictions(report_split))
