"""The plan of a recipe: who is made before whom, and in what arms differ."""

from __future__ import annotations

import json
from typing import Any

from potstill.recipe.schema import DistilJob, FinetuneJob, PretrainJob, Recipe
from potstill.stages import plan


def recipe(**fields: Any) -> Recipe:
    return Recipe.model_validate({"name": "x", "seeds": [1, 2], "tasks": [{"name": "cola"}], **fields})


def test_the_plan_makes_everything_before_it_is_needed():
    stages = plan(recipe(pretrain={}, second_distillation=True))
    made: set[str] = set()
    for stage in stages:
        job = stage.job
        needed = {
            PretrainJob: lambda job: [],
            DistilJob: lambda job: [job.teacher.model],
            FinetuneJob: lambda job: [job.model, *([job.teacher] if job.teacher else [])],
        }[type(job)](job)
        assert set(needed) <= made, stage.name
        made.add(str(job.out))
    assert [type(stage.job) for stage in stages] == [PretrainJob] + 3 * [DistilJob] + 10 * [FinetuneJob]


def test_the_default_plan_has_both_baselines_for_every_task_and_seed():
    stages = plan(recipe(tasks=[{"name": "cola"}, {"name": "mrpc", "seeds": [3]}]))
    assert [stage.name for stage in stages if stage.name.startswith("cola")] == [
        f"cola: {arm}, seed {seed}"
        for arm in ("teacher", "student", "copied layers, no distillation", "random weights")
        for seed in (1, 2)
    ]
    assert sum(stage.name.startswith("mrpc") for stage in stages) == 4


def test_every_arm_is_fine_tuned_with_the_same_settings_and_seeds():
    """Pitfall 5: what differs between the arms is the model, and nothing else."""
    jobs = [stage.job for stage in plan(recipe(finetune={"epochs": 2})) if isinstance(stage.job, FinetuneJob)]
    assert len({job.out for job in jobs}) == len(jobs) == 8
    assert len({json.dumps({**job.substance(), "seed": 0}, sort_keys=True) for job in jobs}) == 1


def test_a_task_may_be_fine_tuned_in_its_own_way():
    tasks = [{"name": "cola", "finetune": {"max_length": 64}}, {"name": "mrpc"}]
    jobs = [stage.job for stage in plan(recipe(tasks=tasks)) if isinstance(stage.job, FinetuneJob)]
    assert {(job.task.name, job.finetune.max_length) for job in jobs} == {("cola", 64), ("mrpc", 128)}


def test_baselines_differ_from_the_student_in_the_one_thing_they_are_for():
    jobs = {
        stage.job.out.name: stage.job.substance()
        for stage in plan(recipe(baselines=["copied", "random", "mlm_only"]))
        if isinstance(stage.job, DistilJob)
    }
    student = jobs["student"]
    assert jobs["copied"]["student"] == student["student"]
    assert jobs["random"]["student"] == {**student["student"], "initialise": "random"}
    assert jobs["copied"]["distil"] == jobs["random"]["distil"] == {**student["distil"], "epochs": 0.0}
    weights = {"alpha_ce": 0.0, "alpha_cos": 0.0, "alpha_mlm": 1.0}
    assert jobs["mlm_only"]["distil"] == {**student["distil"], **weights}


# -- a student that is given -------------------------------------------------------------------------------------------


def test_a_given_student_is_fine_tuned_as_it_is_and_nothing_is_distilled_into_it():
    stages = plan(recipe(student={"model": "a-student"}, baselines=[], second_distillation=True, seeds=[1]))
    assert [type(stage.job) for stage in stages] == 3 * [FinetuneJob]
    assert [stage.job.model for stage in stages][1:] == ["a-student", "a-student"]
    assert stages[2].job.teacher == str(stages[0].job.out)


def test_baselines_beside_a_given_student_have_the_shape_that_the_recipe_names():
    made = [stage.job for stage in plan(recipe(student={"model": "a-student", "layers": 3}, seeds=[1]))]
    assert [job.out.name for job in made if isinstance(job, DistilJob)] == ["copied", "random"]
    assert {job.student.layers for job in made if isinstance(job, DistilJob)} == {3}
