"""What a recipe may say of its baselines, and what of it reaches the jobs."""

from __future__ import annotations

from typing import Any

import pytest

from potstill.errors import RecipeError
from potstill.recipe import baseline_jobs, baselines
from potstill.recipe.baseline_jobs import BilstmJob, TfidfJob
from potstill.recipe.baselines import BilstmSection, TfidfSection
from potstill.recipe.schema import Recipe
from potstill.recipe.sections import Section, build
from potstill.stages import describe_experiment, plan

SECTIONS = [
    kind
    for module in (baselines, baseline_jobs)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Section) and kind.__module__ == module.__name__
]


def recipe(**fields: Any) -> Recipe:
    content = {"name": "x", "baselines": ["bilstm", "tfidf"], "tasks": [{"name": "cola"}], **fields}
    return build(Recipe, content, where="recipe.yaml")


def job_of(kind: type, **fields: Any) -> Any:
    return next(stage.job for stage in plan(recipe(**fields)) if type(stage.job) is kind)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_field_says_what_it_is(section: type[Section]):
    own = {name: field for name, field in section.model_fields.items() if name in section.__annotations__}
    described = [field.description or field.annotation.__doc__ for field in own.values()]
    assert all(text and text.partition("\n")[0].endswith(".") for text in described)


def test_the_plan_has_an_arm_for_each_on_every_task_and_seed_and_no_encoder():
    stages = plan(recipe(seeds=[1, 2]))
    names = [stage.name for stage in stages]
    assert [name for name in names if "BiLSTM" in name or "TF-IDF" in name] == [
        f"cola: {arm}, seed {seed}" for arm in ("BiLSTM with attention", "TF-IDF and a linear model") for seed in (1, 2)
    ]
    assert not any(name.startswith("baseline") for name in names)
    assert set(describe_experiment(recipe())["encoders"]) == {"student"}


def test_a_student_with_random_weights_may_have_them():
    assert recipe(student={"initialise": "random"}).baselines == ("bilstm", "tfidf")
    with pytest.raises(RecipeError, match="copied"):
        recipe(student={"initialise": "random"}, baselines=["bilstm", "copied"])


def test_a_bilstm_shares_texts_and_metric_with_the_transformers_and_trains_in_its_own_way():
    finetune = {
        "max_length": 200,
        "batch_size": 7,
        "metric": "f1",
        "learning_rate": 2e-5,
        "epochs": 3,
        "packing": True,
        "dropout": 0.5,
        "warmup": 0.5,
    }
    job = job_of(BilstmJob, finetune=finetune, bilstm={"finetune": {"epochs": 4}})
    assert (job.finetune.max_length, job.finetune.batch_size, job.finetune.metric) == (200, 7, "f1")
    assert (job.finetune.learning_rate, job.finetune.epochs, job.finetune.keep) == (1e-3, 4.0, "best")
    assert (job.finetune.packing, job.finetune.dropout, job.finetune.warmup) == (False, None, 0.1)


def test_windows_and_weights_of_labels_reach_them_too():
    finetune = {
        "long_texts": "max",
        "window_overlap": 4,
        "class_weights": "balanced",
        "focal_gamma": 2,
        "batch_tokens": 512,
    }
    job = job_of(BilstmJob, finetune={**finetune, "strategy": "hybrid", "head": {"kind": "linear"}})
    assert {name: getattr(job.finetune, name) for name in finetune} == finetune
    assert (job.finetune.strategy, job.finetune.head.kind) == ("full", "own")
    assert job_of(TfidfJob, finetune=finetune).class_weights == "balanced"


def test_embeddings_of_the_teacher_are_those_that_are_distilled():
    assert job_of(BilstmJob, teacher={"model": "bert"}).model == "bert"
    assert job_of(BilstmJob, teacher={"model": "bert"}, pretrain={}).model.endswith("encoders/teacher")


def test_a_tasks_own_length_and_metric_reach_both():
    task = {"name": "cola", "finetune": {"max_length": 50, "metric": "accuracy"}}
    assert job_of(BilstmJob, tasks=[task]).finetune.max_length == 50
    assert job_of(TfidfJob, tasks=[task]).metric == "accuracy"


def test_a_field_that_training_does_not_have_is_refused_by_name():
    with pytest.raises(RecipeError, match=r"bilstm\.finetune: unknown field 'epoch'"):
        plan(recipe(bilstm={"finetune": {"epoch": 3}}))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"ngrams": [0, 1]}, "range of words"),
        ({"ngrams": [2, 1]}, "range of words"),
        ({"penalties": []}, "at least 1"),
        ({"penalties": [1, -1]}, "different numbers above 0"),
        ({"penalties": [1, 1]}, "different numbers above 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(fields, words):
    with pytest.raises(RecipeError, match=words):
        build(TfidfSection, fields, where="tfidf")


@pytest.mark.parametrize("field", [{"strategy": "freeze"}, {"freeze_layers": 1}, {"packing": True}])
def test_what_a_bilstm_does_not_take_is_refused_before_anything_is_planned(field):
    with pytest.raises(RecipeError, match=r"bilstm\.finetune: a BiLSTM"):
        plan(recipe(bilstm={"finetune": field}))


def test_what_is_not_used_is_no_part_of_the_work():
    def substance(**section: Any) -> Any:
        content = {"out": "x", "task": {"name": "cola"}, "bilstm": section}
        return BilstmJob.model_validate(content).substance()["bilstm"]

    assert substance(embeddings="a.txt", embedding_size=3) == substance(embeddings="b.txt")
    assert substance(tokens="teacher", max_words=3) == substance(tokens="teacher")
    assert substance(max_words=3) != substance()
    assert substance(embeddings="teacher") != substance(embeddings="b.txt")


def test_a_file_of_vectors_is_what_is_neither_scratch_nor_the_teachers():
    files = [BilstmSection(embeddings=name).vectors_file for name in ("scratch", "teacher", "glove.txt")]
    assert files == [None, None, "glove.txt"]
