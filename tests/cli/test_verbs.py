"""What each verb prints: tables for people, one JSON document for machines, news on stderr."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest


def test_distil_prints_where_every_tensor_came_from(potstill, small, tiny, tmp_path):
    arguments = ("--teacher", tiny.teacher, "--corpus", tiny.corpus, "--out", tmp_path / "run")
    called = potstill("distil", *arguments, *small("distil"))
    assert called.code == 0, called.err
    assert "Where the student's tensors came from" in called.out
    assert "bert.encoder.layer.3" in called.out
    assert f"the run is in {tmp_path / 'run'}" in called.err
    assert "note: 240 texts" in called.err


def test_layers_and_their_choice_are_flags(potstill, tiny, tmp_path):
    arguments = ("--teacher", tiny.teacher, "--corpus", tiny.corpus, "--out", tmp_path / "run", "--epochs", 0, "--json")
    called = potstill("distil", *arguments, "--layers", 3, "--layer-choice", "[0, 1, 3]")
    assert called.code == 0, called.err
    assert json.loads(called.out)["manifest"]["layers"] == [0, 1, 3]


def test_the_original_preset_is_a_flag_with_overrides_over_it(potstill, tiny, tmp_path):
    arguments = ("--teacher", tiny.teacher, "--corpus", tiny.corpus, "--out", tmp_path / "run", "--layers", 2)
    overrides = ("--set", "distil.max_steps=1", "--set", "distil.temperature=3", "--set", "corpus.block_length=32")
    called = potstill("distil", *arguments, "--preset", "original", *overrides)
    assert called.code == 0, called.err
    recipe = (tmp_path / "run" / "recipe.yaml").read_text()
    assert "temperature: 3" in recipe
    assert "kl_positions: attended" in recipe
    assert "accumulation: 50" in recipe


def test_finetune_prints_its_metrics(potstill, classifiers, small, encoders, task_flags, tmp_path):
    """The run is finished: the same command finds it done and prints the same."""
    run = shutil.copytree(classifiers["reviews"], tmp_path / "run")
    flags = ("--model", encoders["student"], *task_flags["reviews"], "--out", run)
    called = potstill("finetune", *flags, *small("finetune"))
    assert called.code == 0, called.err
    assert "accuracy" in called.out
    machine = json.loads(potstill("finetune", *flags, *small("finetune"), "--json").out)
    assert machine["metrics"] == json.loads((run / "metrics.json").read_text())
    assert machine["run"] == str(run)


def test_another_recipe_does_not_take_a_finished_runs_folder(potstill, classifiers, small, encoders, task_flags):
    before = {file: file.stat().st_mtime_ns for file in classifiers["reviews"].rglob("*")}
    flags = ("--model", encoders["student"], *task_flags["reviews"], "--out", classifiers["reviews"])
    called = potstill("finetune", *flags, *small("finetune"), "--seed", 7)
    assert called.code == 2
    assert "holds another run" in called.err
    assert {file: file.stat().st_mtime_ns for file in classifiers["reviews"].rglob("*")} == before


def test_files_by_split_are_flags(potstill, small, encoders, tiny, tmp_path):
    header, *rows = tiny.reviews.read_text().splitlines(keepends=True)
    (tmp_path / "train.csv").write_text("".join([header, *rows[:60]]))
    (tmp_path / "test.csv").write_text("".join([header, *rows[60:67]]))
    files = ("--file", f"train={tmp_path / 'train.csv'}", "--file", f"test={tmp_path / 'test.csv'}")
    arguments = ("--model", encoders["student"], "--task", "mine", *files, "--out", tmp_path / "run", "--json")
    called = potstill("finetune", *arguments, *small("finetune"))
    assert called.code == 0, called.err
    counts = json.loads(called.out)["manifest"]["data"]["counts"]
    assert {split: facts["rows"] for split, facts in counts.items()} == {"train": 54, "selection": 6, "test": 7}


@pytest.mark.slow
def test_run_prints_comparisons_as_json(potstill, experiment, tmp_path):
    folder = shutil.copytree(experiment.folder, tmp_path / "copy")
    called = potstill("run", experiment.recipe, "--out", folder, "--json")
    assert called.code == 0, called.err
    told = json.loads(called.out)
    assert Path(told["page"]).is_file()
    assert set(told["tasks"]) == {"reviews", "pairs"}
    assert set(told["tasks"]["pairs"]["comparison"]["arms"]) == {
        "teacher",
        "student",
        "student-second",
        "copied",
        "random",
    }


def test_compare_says_its_verdict(potstill, classifiers):
    called = potstill(
        "compare", classifiers["teacher-reviews"], classifiers["reviews"], "--resamples", 20, "--no-speed"
    )
    assert called.code == 0, called.err
    assert "teacher-reviews" in called.out
    assert called.err.strip()


@pytest.mark.parametrize("preset", ["default", "original"])
def test_init_writes_every_field_with_its_meaning(preset, potstill, tmp_path):
    assert potstill("init", tmp_path / "r.yaml", "--preset", preset).code == 0
    written = (tmp_path / "r.yaml").read_text()
    assert "# Peak learning rate of AdamW." in written
    assert "layers: 3" in written, "half of the teacher's six"
    assert f"kl_positions: {'attended' if preset == 'original' else 'masked'}" in written
