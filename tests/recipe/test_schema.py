"""What a recipe may say: refused by name otherwise, and what of a job decides its result."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from potstill.errors import RecipeError
from potstill.recipe import classifier, schema
from potstill.recipe.schema import (
    DistilJob,
    DistilSection,
    FinetuneJob,
    Job,
    PretrainJob,
    Recipe,
    TaskSection,
    TeacherOutputsSection,
)
from potstill.recipe.sections import Section, build, nearest, section_of

SMALLEST: dict[str, Any] = {"name": "mine", "tasks": [{"name": "cola"}]}
SECTIONS = [
    kind
    for kind in {**vars(schema), **vars(classifier)}.values()
    if isinstance(kind, type) and issubclass(kind, Section)
]


def with_field(content: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """A copy of ``content`` with ``value`` at a dotted place; numbers index lists."""
    name, _, rest = place.partition(".")
    if isinstance(content, list):
        return [with_field(item, rest, value) if str(i) == name else item for i, item in enumerate(content)]  # type: ignore[return-value]
    return {**content, name: with_field(content.get(name, {}), rest, value) if rest else value}


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_field_says_what_it_is(section: type[Section]):
    # a field that holds a section is described by that section's docstring
    silent = [
        name
        for name, field in section.model_fields.items()
        if not (field.description or (section_of(field.annotation) or section).__doc__ != section.__doc__)
    ]
    assert silent == []
    assert all((field.description or "x.").rstrip("…").endswith(".") for field in section.model_fields.values())


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_defaults_are_values_that_the_fields_allow(section: type[Section]):
    # oracle: pydantic's own validation, which defaults do not pass through
    given = {"name": "x", "tasks": [{"name": "x"}], "out": "x", "model": "x", "task": {"name": "x"}}
    needed = {name: given[name] for name, field in section.model_fields.items() if field.is_required()}
    plain = section.model_validate(needed)
    assert section.model_validate(plain.model_dump()) == plain
    assert section.model_validate(plain.model_dump(mode="json")) == plain


@pytest.mark.parametrize(
    ("place", "nearest_name"),
    [
        ("teecher", "teacher"),
        ("distil.temprature", "temperature"),
        ("distil.masking.whole_words", "whole_word"),
        ("pretrain.head_step", "head_steps"),
        ("tasks.0.limit", "limits"),
        ("tasks.0.finetune.learning_rte", "learning_rate"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(place: str, nearest_name: str):
    with pytest.raises(RecipeError) as told:
        build(Recipe, with_field(SMALLEST, place, 1), where="mine.yaml")
    assert f"did you mean '{nearest_name}'?" in str(told.value)
    assert f"unknown field '{place.removeprefix('tasks.0.finetune.')}'" in str(told.value)
    assert told.value.exit_code == 2


def test_an_unknown_key_that_resembles_none_lists_those_there_are():
    with pytest.raises(RecipeError, match=r"unknown field 'teacher.zzz'; known are model\.$"):
        build(Recipe, with_field(SMALLEST, "teacher.zzz", 1), where="mine.yaml")
    assert nearest("zzz", ["a", "b"]) == "known are a, b"


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("name", "../up", r"name: String should match pattern"),
        ("name", "..", r"name: String should match pattern"),
        ("tasks.0.name", "a/b", r"tasks\.0\.name: String should match pattern"),
        ("tasks", [], r"tasks: Tuple should have at least 1 item"),
        ("seeds", [], r"seeds: Tuple should have at least 1 item"),
        ("seeds", [-1], r"seeds\.0: Input should be greater than or equal to 0; found -1"),
        ("seeds", [3, 3], r"mine\.yaml: the same seed is named twice"),
        ("tasks.0.seeds", [3, 3], r"the same seed is named twice"),
        ("tasks", [{"name": "a"}, {"name": "a"}], r"mine\.yaml: two tasks have the same name"),
        ("distil.epochs", "many", r"distil\.epochs: Input should be a valid number.*; found 'many'"),
        ("distil.epochs", float("inf"), r"distil\.epochs: Input should be a finite number"),
        ("distil.alpha_ce", float("nan"), r"distil\.alpha_ce: Input should be a finite number"),
        ("distil.betas", [0.9, 1.0], r"distil\.betas\.1: Input should be less than 1; found 1\.0"),
        ("distil", None, r"distil: Input should be a mapping of fields; found None"),
        ("student.layer_choice", "papper", r"student\.layer_choice: Input should be 'paper', .* or 'spread' or "),
        ("student.layer_choice", [0, "x"], r"student\.layer_choice"),
        ("tasks.0.limits", {"train": 0}, r"tasks\.0\.limits\.train: Input should be greater than 0; found 0"),
        (
            "finetune",
            {"batch_tokens": 100},
            r"finetune: batch_tokens 100 cannot hold a row of max_length 128; give 128",
        ),
        ("finetune.head", {"pooling": "mean"}, r"finetune\.head: pooling: mean needs a head of the kind linear or"),
        ("finetune.head", {"size": 5}, r"finetune\.head: size is that of the hidden layer"),
        ("finetune.rates.decay", 1.5, r"finetune\.rates\.decay: Input should be less than or equal to 1; found 1\.5"),
        ("finetune.class_weights", "balancd", r"finetune\.class_weights: Input should be 'none' or 'balanced' or "),
        ("finetune.class_weights", {"a": -1}, r"finetune\.class_weights: the weight of 'a' is below 0"),
        ("finetune", {"keep_epochs": True, "evaluate_steps": 3}, r"keep_epochs keeps what each epoch's validation saw"),
        ("finetune.freeze_layers", 7, r"freeze_layers is 7, and the student has 6"),
        ("tasks.0.finetune", {"freeze_layers": 7}, r"freeze_layers is 7, and the student has 6"),
        ("tasks.0.finetune", {"epochs": -1}, r"tasks\.cola\.finetune: epochs: Input should be greater than or equal"),
    ],
)
def test_a_value_that_is_not_allowed_names_its_field_what_is_and_what_was_found(place: str, value: Any, said: str):
    with pytest.raises(RecipeError, match=said):
        build(Recipe, with_field(SMALLEST, place, value), where="mine.yaml")


@pytest.mark.parametrize(("job", "section"), [(DistilJob, "distil"), (PretrainJob, "pretrain")])
def test_a_batch_that_cannot_hold_a_block_is_refused_with_the_room_needed(job: Any, section: str):
    content = {"out": "x", "corpus": {"block_length": 60}, section: {"batch_tokens": 59}}
    with pytest.raises(RecipeError, match=r"batch_tokens 59 cannot hold a row of corpus.block_length 60; give 60"):
        build(job, content, where="mine.yaml")
    content[section] = {"batch_tokens": 60}
    assert getattr(build(job, content, where="mine.yaml"), section).batch_tokens == 60


def test_labels_that_yaml_reads_as_numbers_can_be_weighed():
    content = {**SMALLEST, "finetune": {"class_weights": {0: 2, "many": 0.5}}}
    assert build(Recipe, content, where="x").finetune.class_weights == {"0": 2.0, "many": 0.5}


def test_a_missing_field_is_named():
    with pytest.raises(RecipeError, match=r"mine\.yaml: the field 'name' is missing \(and 1 more\)\."):
        build(Recipe, {}, where="mine.yaml")


def test_a_long_value_is_shown_in_part():
    with pytest.raises(RecipeError) as told:
        build(Recipe, {**SMALLEST, "teacher": {"model": list(range(10_000))}}, where="mine.yaml")
    assert len(str(told.value)) < 250


def test_what_was_read_cannot_be_changed():
    recipe = build(Recipe, SMALLEST, where="mine.yaml")
    with pytest.raises(ValueError, match="frozen"):
        recipe.student.layers = 3


def test_the_folder_is_named_after_the_experiment_unless_said():
    assert build(Recipe, SMALLEST, where="x").folder == Path("runs/mine")
    assert build(Recipe, {**SMALLEST, "out": "there"}, where="x").folder == Path("there")


def test_a_task_overrides_fields_of_finetuning_and_keeps_the_others():
    content = {**SMALLEST, "finetune": {"epochs": 7, "learning_rate": 0.25}}
    recipe = build(Recipe, with_field(content, "tasks.0.finetune", {"epochs": 2}), where="x")
    section = recipe.finetune_for(recipe.tasks[0])
    assert (section.epochs, section.learning_rate) == (2, 0.25)
    assert recipe.finetune.epochs == 7


# -- what decides a result ------------------------------------------------------------------------------------------

JOBS: dict[str, Job] = {
    "pretrain": PretrainJob(out=Path("a")),
    "distil": DistilJob(out=Path("a"), distil=DistilSection(teacher_outputs=TeacherOutputsSection())),
    "finetune": FinetuneJob(out=Path("a"), model="b", teacher="c", task=TaskSection(name="cola")),
}
SPARED = {"out", "data_dir", "model", "teacher", "report_to", "checkpoint_s", "checkpoint_steps", "streaming"}
"""Where a run lies, what it is told apart by otherwise, how it is watched, and how the same texts are read."""

OTHER_VALUES: dict[str, Any] = {
    "schedule": "cosine", "precision": "bf16", "keep": "best", "report_to": ("mlflow",), "layer_choice": "odd",
    "initialise": "random", "kl_positions": "attended", "join": "sep", "problem_type": "regression",
    "betas": (0.5, 0.5), "hidden_pairs": ((0, 0),), "limits": {"train": 3}, "finetune": {"epochs": 9},
    "files": "a.csv", "text_columns": ("other",), "label_columns": ("other",), "label_names": ("other",),
    "cleaning": ("line_breaks",), "seeds": (5,), "metric": "other", "dropout": 0.25, "teacher": "other",
    "strategy": "hybrid", "kind": "linear", "pooling": "mean", "activation": "tanh", "class_weights": "balanced",
    "freeze_embeddings": True, **dict.fromkeys(("embeddings", "early", "late", "head"), 1e-3), "size": 3,
    "long_texts": "max",
    "data_dir": Path("other"), **dict.fromkeys(("max_steps", "evaluate_steps", "patience", "checkpoint_steps"), 3),
    **dict.fromkeys(("max_characters", "hidden_size", "heads", "intermediate_size"), 3), "batch_tokens": 512,
}  # fmt: skip
"""For fields whose default does not show what else they allow."""


def changed(job: Section, name: str) -> Any:
    """Another value of the field that it allows."""
    if name in OTHER_VALUES:
        return OTHER_VALUES[name]
    value = getattr(job, name)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value / 2 or 0.5 if isinstance(value, float) else value + 1
    return type(value)("other")


def variants(section: Section) -> Iterator[tuple[str, Section]]:
    """The section with one field changed, for each field, those of the sections within it too."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            for inner, other in variants(value):
                yield f"{name}.{inner}", section.model_copy(update={name: other})
        else:
            yield name, section.model_copy(update={name: changed(section, name)})


@pytest.mark.parametrize("stage", JOBS)
def test_the_substance_of_a_job_is_all_but_where_it_lies_and_how_it_is_watched(stage: str):
    job = JOBS[stage]
    for place, other in variants(job):
        spared = place in ("model", "teacher") or place.split(".")[-1] in SPARED - {"model", "teacher"}
        spared = spared or place.startswith("teacher.")
        assert (other.substance() == job.substance()) is spared, place  # type: ignore[attr-defined]


def test_without_a_teacher_how_to_learn_from_one_decides_nothing():
    job = FinetuneJob(out=Path("a"), model="b", task=TaskSection(name="cola"))
    other = job.finetune.model_copy(update={"teacher_outputs": "live", "teacher_weight": 0.9, "temperature": 9.0})
    assert job.model_copy(update={"finetune": other}).substance() == job.substance()


def test_a_job_is_the_same_after_being_written_and_read():
    import yaml

    for job in JOBS.values():
        again = type(job).model_validate(yaml.safe_load(yaml.safe_dump(job.model_dump(mode="json"))))
        assert again == job
        assert again.substance() == job.substance()
