"""The stages of a grid, counted by hand, and that what decides a stage decides its name."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from potstill.errors import RecipeError
from potstill.recipe.schema import DistilJob, FinetuneJob, PretrainJob


def kinds(plan: Any) -> dict[type, int]:
    return Counter(type(stage.stage.job) for stage in plan.stages.values())


def test_arms_that_differ_in_finetuning_share_the_encoder(planned):
    # by hand: one teacher, one student, and 3 rates x 2 seeds
    plan = planned(grid={"finetune.learning_rate": [0.001, 0.003, 0.01]}, seeds=[1, 2])
    assert kinds(plan) == {PretrainJob: 1, DistilJob: 1, FinetuneJob: 6}
    assert {len(stage.arms) for stage in plan.stages.values() if isinstance(stage.stage.job, DistilJob)} == {3}


def test_arms_of_other_shapes_share_the_teacher(planned):
    # by hand: one teacher, 2 x 2 students, and one fine-tuning each
    grid = {"student.layers": [1, 2], "distil.temperature": [1, 2]}
    assert kinds(planned(grid=grid)) == {PretrainJob: 1, DistilJob: 4, FinetuneJob: 4}


def test_only_what_is_measured_is_made(planned):
    # by hand: an encoder each for student (second has the same), copied and mlm_only; the teacher's arm has its head
    arms = [{"name": name, "measured": name} for name in ("student", "teacher", "copied", "mlm_only", "student-second")]
    plan = planned(arms=arms, baseline="student")
    assert kinds(plan) == {PretrainJob: 1, DistilJob: 3, FinetuneJob: 5}
    fine_tuned_teacher = plan.runs["reviews"]["teacher"][1]
    assert plan.stages[fine_tuned_teacher].arms == ("teacher", "student-second")
    assert fine_tuned_teacher in plan.stages[plan.runs["reviews"]["student-second"][1]].needs


def test_an_encoder_for_every_seed_where_that_is_asked_for(planned):
    # by hand: one teacher, 2 shapes x 3 seeds of students, and as many fine-tunings
    plan = planned(grid={"student.layers": [1, 2]}, seeds=[1, 2, 3], encoders="per_seed")
    assert kinds(plan) == {PretrainJob: 1, DistilJob: 6, FinetuneJob: 6}
    for seed, key in plan.runs["reviews"]["layers=1"].items():
        job, encoder = plan.stages[key].stage.job, plan.stages[plan.stages[key].needs[0]].stage.job
        assert (job.seed, encoder.seed) == (seed, seed)


def test_every_stage_finds_what_it_needs_made_before_it(planned):
    plan = planned(grid={"student.layers": [1, 2]}, arms=[{"name": "second", "measured": "student-second"}])
    made: set[str] = set()
    for key, stage in plan.stages.items():
        assert set(stage.needs) <= made
        job = stage.stage.job
        assert job.out == plan.path(key)
        named = [job.model, job.teacher] if isinstance(job, FinetuneJob) else []
        named = [job.teacher.model] if isinstance(job, DistilJob) else named
        assert [name for name in named if name] == [str(plan.path(need)) for need in stage.needs]
        made.add(key)


def test_a_stage_keeps_its_place_whatever_arms_are_added(planned):
    few = planned(grid={"student.layers": [1, 2]}, seeds=[1])
    many = planned(grid={"student.layers": [2, 1], "distil.temperature": [2.0, 4]}, seeds=[1, 2])
    assert set(few.stages) < set(many.stages)


def test_what_decides_a_stage_decides_its_place_and_nothing_else_does(planned):
    def place(**fields: Any) -> str:
        return planned(grid={"student.layers": [1, 2]}, **fields).runs["reviews"]["layers=1"][1]

    as_it_is = place()
    assert place(set={"distil.temperature": 3}) != as_it_is
    assert place(set={"finetune.warmup": 0.2}) != as_it_is
    assert place(set={"pretrain.head_steps": 4}) != as_it_is
    assert place(set={"distil.checkpoint_s": 9, "finetune.report_to": []}) == as_it_is
    assert place(recipe={"evaluate": {"resamples": 60}}) == as_it_is


def test_all_arms_have_the_same_rows_settings_and_seeds_but_for_what_is_varied(planned):
    """Pitfall 5."""
    plan = planned(grid={"distil.temperature": [1, 2, 4]}, arms=[{"name": "t", "measured": "teacher"}], seeds=[1, 2])
    jobs = [plan.stages[key].stage.job for arm in plan.runs["reviews"].values() for key in arm.values()]
    assert len(jobs) == 8
    assert len({json.dumps({**job.substance(), "seed": 0}, sort_keys=True) for job in jobs}) == 1
    assert [list(arm) for arm in plan.runs["reviews"].values()] == [[1, 2]] * 4


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"grid": {"finetune.temperature": [2.0, 3]}}, "finetune.temperature decides nothing where the student is"),
        (
            {"grid": {"distil.temperature": [2.0, 3]}, "measured": "copied"},
            "the arms .* are the same",
        ),
    ],
)
def test_a_field_that_decides_nothing_is_refused_before_anything_is_trained_twice(planned, fields, said):
    with pytest.raises(RecipeError, match=said):
        planned(**fields)


def test_tasks_that_do_not_differ_are_fine_tuned_once(planned, tiny):
    tasks = [{"name": "reviews", "files": str(tiny.reviews)}, {"name": "again", "files": str(tiny.reviews)}]
    plan = planned(recipe={"tasks": tasks}, grid={"tasks.again.finetune.warmup": [0.1, 0.3]})
    # by hand: reviews once for both arms, again once for each
    assert kinds(plan)[FinetuneJob] == 3
    assert plan.runs["reviews"]["warmup=0.1"] == plan.runs["reviews"]["warmup=0.3"]
