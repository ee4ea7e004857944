"""A grid from its file to its page, on tiny models in this process: sharing, failures, resuming, what is written."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from potstill.errors import ModelError, RecipeError, RunFolderError, TrainingError
from potstill.grid.plan import GridPlan
from potstill.grid.stage import command_of, open_grid, require_few, run_grid, to_do
from potstill.recipe.grids import load_grid, shipped_grid
from potstill.runs import RunFolder

SHAPES = {"student.layers": [1, 2]}
DIVERGES = {"finetune.learning_rate": [0.003, 1e30]}


@pytest.fixture(scope="module")
def finished(
    write_grid: Callable[..., Path], run_here: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[GridPlan, Any]:
    """A whole small grid: two shapes and the teacher, two seeds. Only to be read."""
    root = tmp_path_factory.mktemp("grid")
    arms = [{"name": "teacher", "measured": "teacher"}]
    path = write_grid(root / "small.yaml", grid=SHAPES, arms=arms, seeds=[1, 2])
    plan = open_grid(path, out=root / "out")
    return plan, run_here(plan)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The titles of the trainings that really happen."""
    from potstill.distil import stage as distil_stage
    from potstill.finetune import stage as finetune_stage
    from potstill.pretrain import stage as pretrain_stage

    done: list[str] = []
    for stage in (pretrain_stage, distil_stage, finetune_stage):
        fit = stage.fit

        def counting(*arguments: Any, _fit: Any = fit, **options: Any) -> Any:
            done.append(options["title"])
            return _fit(*arguments, **options)

        monkeypatch.setattr(stage, "fit", counting)
    return done


# -- sharing and resuming -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_shared_stages_are_done_once_and_finished_ones_not_again(planned, run_here, trained):
    plan = planned(grid={"finetune.warmup": [0.1, 0.2, 0.3]}, seeds=[1])
    assert run_here(plan).failed == {}
    # by hand: the head alone, everything, one student, three classifiers
    assert sorted(trained) == ["distil", *["finetune reviews"] * 3, "pretrain (all)", "pretrain (head)"]
    trained.clear()
    run_here(plan)
    assert trained == []
    assert to_do(plan) == []


@pytest.mark.slow
def test_an_arm_that_is_added_is_all_that_is_done(planned, run_here, trained):
    run_here(planned(grid={"finetune.warmup": [0.1, 0.2]}))
    trained.clear()
    more = planned(grid={"finetune.warmup": [0.1, 0.2, 0.3]})
    assert len(to_do(more)) == 1
    done = run_here(more)
    assert trained == ["finetune reviews"]
    assert [arm["name"] for arm in done.results["tasks"]["reviews"]["arms"]] == [
        "warmup=0.1",
        "warmup=0.2",
        "warmup=0.3",
    ]


@pytest.mark.slow
def test_an_interrupted_grid_goes_on_where_it_was(planned, run_here, trained, monkeypatch):
    from potstill.finetune import stage as finetune_stage

    plan = planned(grid={"finetune.warmup": [0.1, 0.2]})
    fit = finetune_stage.fit

    def interrupted(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(finetune_stage, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_here(plan)
    assert len(to_do(plan)) == 2
    trained.clear()
    monkeypatch.setattr(finetune_stage, "fit", fit)
    assert run_here(plan).failed == {}
    assert trained == ["finetune reviews"] * 2


# -- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_arm_that_fails_loses_no_other_and_is_reported(planned, run_here):
    plan = planned(
        grid={**DIVERGES, "student.layers": [1, 2]}, baseline={"finetune.learning_rate": 0.003, "student.layers": 2}
    )
    done = run_here(plan)
    assert sorted(done.failed) == ["learning_rate=1e+30,layers=1", "learning_rate=1e+30,layers=2"]
    assert all("the loss" in why for why in done.failed.values())
    (study,) = done.results["tasks"].values()
    assert [arm["name"] for arm in study["arms"]] == ["learning_rate=0.003,layers=1", "learning_rate=0.003,layers=2"]
    page = done.page.read_text(encoding="utf-8")
    assert "2 of 4 arms failed" in page
    assert "learning_rate=1e+30,layers=1" in page
    with pytest.raises(
        TrainingError, match=r"2 arms failed: learning_rate=1e\+30,layers=1 .*does only what is missing"
    ):
        done.require_all()


@pytest.mark.slow
def test_without_its_baseline_a_grid_is_run_and_not_compared(planned, run_here):
    done = run_here(planned(grid=DIVERGES, baseline="learning_rate=1e+30"))
    assert list(done.failed) == ["learning_rate=1e+30"]
    assert done.results["tasks"] == {}
    assert "Nothing could be compared" in done.page.read_text(encoding="utf-8")


# -- refusals before anything trains --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"grid": {"student.layers": [2, 9]}}, ModelError, "layers=9: the student cannot have this many layers"),
        (
            {"grid": {"student.heads": [4, 5]}, "set": {"student.initialise": "truncate"}},
            ModelError,
            "heads=5: .*heads",
        ),
        (
            {"grid": {"finetune.max_length": [40, 400]}, "unequal": ["finetune.max_length"]},
            ModelError,
            "=400: .*max_le",
        ),
        (
            {"grid": {"tasks.reviews.limits.test": [5, 10]}, "unequal": ["tasks.reviews.limits.test"]},
            RecipeError,
            "test=5 and test=10 would be measured on different rows of reviews; found '5 and 10 rows of test'",
        ),
    ],
)
def test_an_arm_that_cannot_be_run_is_named_before_anything_trains(planned, run_here, trained, fields, error, said):
    field, values = next(iter(fields["grid"].items()))
    plan = planned(**fields, baseline={field: values[0]})
    with pytest.raises(error, match=said):
        run_here(plan)
    assert trained == []
    assert not plan.folder.exists()


def test_a_grid_of_many_trainings_needs_to_be_asked_for(planned, run_here):
    plan = planned(grid={"distil.temperature": [1, 2, 3]}, seeds=[1, 2])
    # by hand: a teacher, three students, six classifiers
    with pytest.raises(RecipeError, match=r"needs 10 trainings for its 3 arms; allowed: 9 .*with --most 10"):
        run_grid(plan, most=9)
    require_few(plan, 10)
    assert not plan.folder.exists()


def test_a_folder_that_holds_something_else_is_left_alone(planned, run_here):
    plan = planned(grid=SHAPES)
    plan.folder.mkdir()
    (plan.folder / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="is not empty"):
        run_here(plan)
    assert [entry.name for entry in plan.folder.iterdir()] == ["notes.txt"]


# -- data that differs ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_arms_on_a_part_of_the_data_are_said_to_be_so(planned, run_here):
    """Pitfall 5, on what is written: declared, measured, and in a warning on the page."""
    field = "tasks.reviews.limits.train"
    done = run_here(planned(grid={field: [20, 96]}, baseline={field: 96}, unequal=[field]))
    budget = done.results["tasks"]["reviews"]["budget"]
    assert not budget["equal"]
    assert budget["sentence"].startswith(
        f"The arms are not at equal budget, as declared for {field}: training rows 20 "
    )
    page = done.page.read_text(encoding="utf-8")
    assert re.search(r'<div class="warning">\s*<p>The arms are not at equal budget', page)


# -- what is written ------------------------------------------------------------------------------------------------


def test_a_grid_leaves_exactly_its_files(finished):
    plan, _ = finished
    assert {entry.name for entry in plan.folder.iterdir()} == {
        "grid.yaml", "ablation.json", "report.html", "runs.csv", "arms.csv", "panels-reviews.svg", "speed-reviews.json",
        "encoders", "tasks", "arms",
    }  # fmt: skip
    assert len(list((plan.folder / "encoders").iterdir())) == 3
    assert len(list((plan.folder / "tasks" / "reviews").iterdir())) == 3


def test_every_arm_is_linked_to_its_runs_and_weights_are_nowhere_twice(finished):
    plan, _ = finished
    for arm, seeds in plan.runs["reviews"].items():
        for seed, key in seeds.items():
            link = plan.folder / "arms" / "reviews" / arm / f"seed-{seed}"
            assert link.is_symlink()
            assert link.resolve() == (plan.folder / key).resolve()
    inodes = [file.stat().st_ino for file in plan.folder.rglob("model.safetensors")]
    assert len(inodes) == len(set(inodes)) == 3 + 6


def test_the_verb_compare_takes_the_arms_by_their_names(finished, potstill):
    plan, _ = finished
    arms = plan.folder / "arms" / "reviews"
    called = potstill("compare", arms / "teacher", arms / "layers=1", "--no-speed", "--resamples", 20, "--json")
    assert called.code == 0, called.err
    assert list(json.loads(called.out)["arms"]) == ["teacher", "layers=1"]


def test_the_figures_are_those_of_the_stored_predictions(finished):
    """Pitfall 3: scikit-learn on the stored logits, mean over the seeds."""
    plan, done = finished
    study = done.results["tasks"]["reviews"]
    for arm in study["arms"]:
        accuracies = []
        for key in plan.runs["reviews"][arm["name"]].values():
            predictions = RunFolder.open(plan.folder / key).predictions("test")
            accuracies.append(accuracy_score(predictions.targets, predictions.logits.argmax(axis=1)))
        assert arm["per_seed"] == accuracies
        assert arm["mean"]["value"] == pytest.approx(np.mean(accuracies))
    best = max(arm["mean"]["value"] for arm in study["arms"])
    assert {arm["mean"]["value"] for arm in study["arms"] if arm["rank"] == 1} == {best}


def test_what_is_written_says_the_same_everywhere(finished):
    plan, done = finished
    stored = json.loads((plan.folder / "ablation.json").read_text(encoding="utf-8"))
    assert stored["tasks"]["reviews"]["insights"] == [
        json.loads(json.dumps(insight)) for insight in done.results["tasks"]["reviews"]["insights"]
    ]
    with (plan.folder / "arms.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    arms = {arm["name"]: arm for arm in stored["tasks"]["reviews"]["arms"]}
    assert [row["arm"] for row in rows] == list(arms)
    for row in rows:
        assert float(row["mean"]) == arms[row["arm"]]["mean"]["value"]
        assert int(row["rank"]) == arms[row["arm"]]["rank"]
        assert int(row["parameters"]) == arms[row["arm"]]["n_parameters"]
    with (plan.folder / "runs.csv").open(encoding="utf-8", newline="") as stream:
        runs = list(csv.DictReader(stream))
    assert len(runs) == 6
    for row in runs:
        number = int(row["seed"]) - 1
        assert float(row["accuracy"]) == arms[row["arm"]]["per_seed"][number]
        assert row["student.layers"] == ("none" if row["arm"] == "teacher" else row["arm"][len("layers=")])


def test_the_arms_are_told_to_be_at_equal_budget(finished):
    _, done = finished
    budget = done.results["tasks"]["reviews"]["budget"]
    assert budget["equal"]
    assert budget["sentence"].startswith(
        "All 3 arms were trained at equal budget: the same 96 training rows, the same 2"
    )
    assert budget["remarks"] == ["Without distillation: teacher."]


def test_effects_come_from_arms_that_are_alike_and_not_from_the_arm_beside_them(finished):
    _, done = finished
    study = done.results["tasks"]["reviews"]
    arms = {arm["name"]: arm["mean"]["value"] for arm in study["arms"]}
    (effect,) = study["effects"]
    assert (effect["field"], effect["n_sets"]) == ("student.layers", 1)
    means = {level["level"]: level["mean"]["value"] for level in effect["levels"]}
    assert means == {1: arms["layers=1"], 2: arms["layers=2"]}


def test_the_page_shows_every_arm_and_asks_for_nothing(finished):
    plan, done = finished
    page = done.page.read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=[\"'](?!data:|#)[^\"']+", page)
    assert str(plan.folder) not in page
    for arm in plan.grid.arms:
        assert f"<td>{arm.name}" in page
    for insight in done.results["tasks"]["reviews"]["insights"]:
        assert insight["sentence"].split("“")[0] in page
    assert "potstill ablate grid.yaml" in page


def test_the_grid_that_is_left_is_the_same_grid(finished):
    plan, _ = finished
    again = open_grid(plan.folder / "grid.yaml", out=plan.folder)
    assert again.grid == plan.grid
    assert list(again.stages) == list(plan.stages)


def test_the_command_asks_for_local_data_where_the_grid_had_some_and_names_no_folder(write_grid, tmp_path):
    shipped = load_grid(shipped_grid("docstrings-shapes"))
    assert command_of("docstrings-shapes", shipped) == "potstill ablate docstrings-shapes"
    mine, with_folder = (tmp_path / name for name in ("mine.yaml", "with-folder.yaml"))
    write_grid(mine, grid=SHAPES)
    write_grid(with_folder, grid=SHAPES, recipe={"data_dir": str(tmp_path)})
    assert command_of(mine, load_grid(mine)) == "potstill ablate grid.yaml"
    for resolved in (load_grid(mine, data_dir=tmp_path), load_grid(with_folder)):
        assert command_of(mine, resolved) == "potstill ablate grid.yaml --data-dir DATA"
