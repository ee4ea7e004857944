"""Nothing is fitted on rows that figures are reported on."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from potstill.decisions import ThresholdRule
from potstill.errors import DataError, RunFolderError
from potstill.evaluate.decision_fit import decide_run, fit_decisions
from potstill.evaluate.held_out import HeldOut
from potstill.runs import RunFolder, write_json

MULTI = "multi_label_classification"


def ids(prefix: str, n: int) -> np.ndarray:
    return np.array([f"{prefix}-{i:06d}" for i in range(n)])


@pytest.fixture
def rows(make_predictions):
    def make(prefix, n=4):
        return make_predictions(np.zeros((n, 2)), np.zeros((n, 2), dtype=np.int8), MULTI, ids=ids(prefix, n))

    return make


def test_rows_of_two_splits_are_held_out(rows):
    assert len(HeldOut(rows("selection"), rows("test")).predictions) == 4


def test_the_reported_rows_are_refused(rows):
    """Pitfall 2: thresholds tuned on the test set."""
    with pytest.raises(DataError, match=r"never fitted on rows that figures are reported on.*4 rows in both"):
        HeldOut(rows("test"), rows("test"))


def test_one_reported_row_among_others_is_refused(rows, make_predictions):
    mixed = np.array(["selection-000000", "test-000002"])
    fitted = make_predictions(np.zeros((2, 2)), np.zeros((2, 2), dtype=np.int8), MULTI, ids=mixed)
    with pytest.raises(DataError, match=r"1 rows in both, the first is test-000002"):
        HeldOut(fitted, rows("test"))


def test_predictions_without_truth_or_rows_are_refused(rows, make_predictions):
    for nothing in (make_predictions(np.zeros((4, 2)), None, MULTI, ids=ids("s", 4)), rows("selection", 0)):
        with pytest.raises(DataError, match="no labelled predictions"):
            HeldOut(nothing, rows("test"))


def test_a_run_whose_selection_predictions_are_the_reported_ones_is_refused(classifiers, tmp_path):
    """Pitfall 2, by the back door: somebody puts the test predictions where the others were."""
    run = shutil.copytree(classifiers["tags"], tmp_path / "run")
    shutil.copy(run / "predictions" / "test.parquet", run / "predictions" / "selection.parquet")
    with pytest.raises(DataError, match="12 rows in both"):
        decide_run(run, ThresholdRule("f1"), scaled=True)
    assert not (run / "decisions.json").exists()


def test_a_run_that_reports_on_its_selection_split_is_refused(classifiers, tmp_path):
    run = shutil.copytree(classifiers["tags"], tmp_path / "run")
    manifest = RunFolder.open(run).manifest
    write_json(run / "manifest.json", manifest | {"report_split": "selection"})
    with pytest.raises(DataError, match="12 rows in both"):
        fit_decisions(RunFolder.open(run), ThresholdRule("f1"), scaled=True)


def test_an_encoder_decides_nothing(encoders):
    with pytest.raises(RunFolderError, match="is a distil run; only a classifier"):
        HeldOut.of(RunFolder.open(encoders["student"]))
