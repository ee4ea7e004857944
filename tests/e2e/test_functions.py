"""The verbs as functions, one after the other in one process, as a notebook calls them."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import potstill as functions
from potstill.runs import RunFolder

ROOMS = ("pretrain", "distil", "finetune", "evaluate", "report")


@pytest.mark.parametrize("room", ROOMS)
def test_a_verb_stays_a_verb_when_the_room_of_its_name_is_open(room):
    assert importlib.import_module(f"potstill.{room}").__name__ == f"potstill.{room}"
    assert callable(getattr(functions, room))


def test_a_name_that_is_no_verb_is_refused():
    with pytest.raises(AttributeError, match="distil"):
        functions.destil  # noqa: B018


@pytest.mark.slow
def test_the_verbs_work_one_after_the_other_and_twice(tiny: Any, small: Any, caches: Any, tmp_path: Path):
    def fields(stage: str) -> list[str]:
        return [part for part in small(stage) if part != "--set"]

    for _ in range(2):
        teacher = functions.pretrain(tiny.encoder, tmp_path / "t", corpus=tiny.corpus, set=fields("pretrain"))
        student = functions.distil(teacher.path, tmp_path / "s", corpus=tiny.corpus, set=fields("distil"))
        runs = [
            functions.finetune(encoder.path, "x", tmp_path / name, file=tiny.reviews, set=fields("finetune"))
            for name, encoder in (("teacher", teacher), ("student", student))
        ]
        metrics = functions.evaluate(runs[1].path)
        compared = functions.compare([run.path for run in runs], resamples=20, speed=False)
        studied = functions.failures(runs[1].path, teacher=runs[0].path)
        assert studied["n_wrong"] == len(studied["wrong"])
        looked = functions.attend(runs[1].path, tmp_path / "attention", text="a good film")
        assert (looked["n_texts"], looked["texts"][0]["tokens"]) == (1, ["[CLS]", "a", "good", "film", "[SEP]"])
        assert functions.report(runs[1].path) == tmp_path / "student" / "report.html"
    assert compared["arms"]["student"]["metrics"]["accuracy"]["median"] == metrics["accuracy"]


@pytest.mark.slow
def test_run_gives_the_comparisons_of_its_recipe(experiment: Any, tmp_path: Path):
    folder = shutil.copytree(experiment.folder, tmp_path / "copy")
    told = functions.run(experiment.recipe, out=folder)
    assert Path(told["page"]) == folder / "report.html"
    seeds = sorted((folder / "tasks" / "reviews" / "student").glob("seed-*"))
    accuracies = [RunFolder.open(seed).metrics()["test"]["accuracy"] for seed in seeds]
    summary = told["tasks"]["reviews"]["comparison"]["arms"]["student"]["metrics"]["accuracy"]
    assert summary["median"] == np.median(accuracies)
