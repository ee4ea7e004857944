"""Pages and cards from run folders: rebuilt from what is stored, and true to it."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from potstill.errors import CheckError, RunFolderError
from potstill.evaluate.stage import store_predictions
from potstill.report import stage
from potstill.runs import RunFolder, read_predictions, write_predictions


@pytest.fixture
def copy(experiment: Any, tmp_path: Path) -> Path:
    """The experiment's folder, to write into."""
    return shutil.copytree(experiment.folder, tmp_path / "small")


def without_times(page: str) -> str:
    return re.sub(r"id=\"[^\"]+\"|url\(#[^)]+\)|href=\"#[^\"]+\"|<dc:date>[^<]+", "", page)


@pytest.mark.slow
def test_report_makes_the_same_page_and_cards_again(copy, potstill):
    page, card = copy / "report.html", copy / "tasks" / "reviews" / "student" / "seed-1" / "README.md"
    before = {file: file.read_text(encoding="utf-8") for file in (page, card)}
    for file in before:
        file.unlink()
    called = potstill("report", copy)
    assert called.code == 0, called.err
    assert called.out.strip() == str(page)
    assert card.read_text(encoding="utf-8") == before[card]
    assert without_times(page.read_text(encoding="utf-8")) == without_times(before[page])


def test_the_page_of_one_run_is_written_into_it(classifiers, tmp_path):
    run = shutil.copytree(classifiers["reviews"], tmp_path / "run")
    (run / "report.html").unlink()
    assert stage.write_run_page(run) == run / "report.html"
    page = (run / "report.html").read_text(encoding="utf-8")
    accuracy = json.loads((run / "metrics.json").read_text())["test"]["accuracy"]
    assert f"{accuracy:.3f}" in page
    assert "bad" in page


def test_the_metric_on_the_selection_split_is_the_median_of_the_runs(experiment):
    runs = [RunFolder.open(run) for run in sorted((experiment.folder / "tasks" / "reviews" / "student").glob("seed-*"))]
    stored = [json.loads((run.path / "metrics.json").read_text())["selection"]["accuracy"] for run in runs]
    assert stage._run_figures(runs)["on_selection"] == pytest.approx(np.median(stored))


def test_the_evidence_of_an_arm_agrees_with_itself(experiment):
    """Pitfall 3: the trace of the confusion matrix over its sum is the accuracy of the seed it is of."""
    for run in sorted((experiment.folder / "tasks").glob("*/*/seed-1")):
        figures = stage._run_figures([RunFolder.open(run)])
        confusion = figures["confusion"]
        right = sum(confusion[label][label] for label in range(len(confusion)))
        assert right / sum(map(sum, confusion)) == pytest.approx(figures["metrics"]["accuracy"][0])


def test_metrics_that_contradict_the_stored_predictions_are_found(copy):
    """Pitfall 3: somebody edits metrics.json by hand."""
    file = copy / "tasks" / "reviews" / "student" / "seed-1" / "metrics.json"
    metrics = json.loads(file.read_text())
    metrics["test"]["accuracy"] = 0.99
    file.write_text(json.dumps(metrics))
    with pytest.raises(CheckError, match="accuracy"):
        stage.write_experiment_page(copy, json.loads((copy / "experiment.json").read_text()))


def test_a_card_of_every_stage_is_written(copy):
    experiment = json.loads((copy / "experiment.json").read_text())
    cards = [*copy.glob("encoders/*/README.md"), *copy.glob("tasks/*/*/seed-*/README.md")]
    assert len(cards) == 4 + 15
    for card in cards:
        card.unlink()
    stage.write_cards(copy, experiment)
    assert all(card.is_file() for card in cards)
    assert "second" in (copy / "tasks" / "pairs" / "student-second" / "seed-1" / "README.md").read_text()


def language_on(card: Path) -> str | None:
    return yaml.safe_load(card.read_text(encoding="utf-8").split("---\n")[1]).get("language")


def change(file: Path, section: str, **fields: Any) -> None:
    """Set fields of a section of a recipe or a manifest; JSON is YAML too."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    content[section] |= fields
    file.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(("task", "language"), [({}, None), ({"name": "cola", "files": None}, "en")])
def test_a_classifiers_card_says_a_language_only_of_a_known_task(classifiers, tmp_path, task, language):
    run = shutil.copytree(classifiers["reviews"], tmp_path / "run")
    change(run / "manifest.json", "task", **task)
    stage.write_card(run)
    assert language_on(run / "README.md") == language


@pytest.mark.parametrize(("source", "language"), [("mine.txt", None), ("docstrings", "en"), ("wikitext-2", "en")])
def test_an_encoders_card_says_a_language_only_of_a_known_corpus(encoders, tmp_path, source, language):
    run = shutil.copytree(encoders["student"], tmp_path / "run")
    change(run / "recipe.yaml", "corpus", source=source)
    stage.write_card(run)
    assert language_on(run / "README.md") == language


def test_the_card_of_an_encoder_that_read_no_text_says_no_language(copy):
    run = copy / "encoders" / "copied"
    change(run / "recipe.yaml", "corpus", source="docstrings")
    stage.write_card(run)
    assert language_on(run / "README.md") is None


def test_an_unfinished_experiment_says_which_run_is_missing(copy, potstill):
    shutil.rmtree(copy / "tasks" / "reviews" / "random" / "seed-2")
    called = potstill("report", copy)
    assert called.code == 2
    assert "random/seed-2" in called.err


def test_an_unfinished_run_has_no_page(copy):
    run = copy / "tasks" / "reviews" / "random" / "seed-2"
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "status": "running"}))
    with pytest.raises(RunFolderError, match="not finished"):
        stage.write_run_page(run)


def test_truncated_texts_are_told_on_the_page(classifiers, tmp_path):
    run = shutil.copytree(classifiers["reviews"], tmp_path / "run")
    file = run / "predictions" / "test.parquet"
    predictions = read_predictions(file)
    predictions.truncated[:3] = True
    write_predictions(file, predictions)
    stage.write_run_page(run)
    assert "25.0%" in (run / "report.html").read_text(encoding="utf-8")


def test_a_metric_that_has_no_value_stops_neither_page_nor_verbs(classifiers, potstill, tmp_path):
    """A correlation with constant predictions is not defined: null in JSON, a dash for people."""
    run = shutil.copytree(classifiers["scores"], tmp_path / "run")
    predictions = RunFolder.open(run).predictions("test")
    constant = dataclasses.replace(predictions, logits=predictions.logits * 0 + 0.5)
    assert math.isnan(store_predictions(run, "test", constant)["pearsonr"])
    assert json.loads((run / "metrics.json").read_text())["test"]["pearsonr"] is None
    assert potstill("report", run).code == 0
    called = potstill("compare", classifiers["teacher-scores"], run, "--no-speed", "--resamples", 20)
    assert called.code == 0, called.err
    called = potstill("compare", classifiers["teacher-scores"], run, "--no-speed", "--resamples", 20, "--json")
    assert json.loads(called.out)["arms"]["run"]["metrics"]["pearsonr"]["median"] is None
