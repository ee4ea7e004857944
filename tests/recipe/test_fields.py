"""Fields of a recipe by dotted name. The oracles are the sections themselves and the recipe that pydantic builds."""

from __future__ import annotations

from typing import Any

import pytest

from potstill.errors import RecipeError
from potstill.recipe.fields import check_field, decides_exposure, known_fields, put_fields, read_field
from potstill.recipe.schema import Recipe
from potstill.recipe.sections import build

CONTENT: dict[str, Any] = {
    "name": "x",
    "tasks": [{"name": "cola"}, {"name": "my.task", "files": "a.csv", "finetune": {"epochs": 2}}],
}


def recipe(**fields: Any) -> Recipe:
    return build(Recipe, put_fields(CONTENT, fields), where="test")


def test_every_known_field_can_be_read_from_a_recipe_and_put_into_it():
    full = build(Recipe, {**CONTENT, "pretrain": {}, "distil": {"teacher_outputs": {}}}, where="test")
    content = full.model_dump(mode="json")
    fields = known_fields(["cola", "my.task"])
    assert {"student.heads", "distil.masking.share", "distil.teacher_outputs.top_k", "pretrain"} <= set(fields)
    for field in fields:
        value = read_field(full, field)
        assert read_field(build(Recipe, put_fields(content, {field: value}), where=field), field) == value, field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("student.layers", 2),
        ("student.layer_choice", [0, 3]),
        ("pretrain.masking.share", 0.2),
        ("tasks.cola.limits.train", 50),
        ("tasks.my.task.finetune.epochs", 7.0),
        ("tasks.cola.finetune.learning_rate", 0.001),
    ],
)
def test_a_field_that_is_put_is_read_again_and_nothing_else_is_changed(field: str, value: Any):
    before = recipe()
    after = recipe(**{field: value})
    assert read_field(after, field) == value != read_field(before, field)
    untouched = [name for name in known_fields(["cola", "my.task"]) if not name.startswith(field.partition(".")[0])]
    assert [read_field(after, name) for name in untouched] == [read_field(before, name) for name in untouched]
    assert "student" not in CONTENT


def test_a_task_is_read_as_it_is_trained_with_the_recipe_below_it():
    changed = recipe(**{"finetune.epochs": 5})
    assert read_field(changed, "tasks.cola.finetune.epochs") == 5
    assert read_field(changed, "tasks.my.task.finetune.epochs") == 2


def test_a_field_of_a_section_that_is_absent_has_no_value():
    assert read_field(recipe(), "pretrain.epochs") is None


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("student.layer", r"unknown field 'student.layer'; did you mean 'student.layers'\?"),
        ("distil.masking.shares", "did you mean 'distil.masking.share'"),
        ("studnet.layers", "unknown field 'studnet.layers'; did you mean 'student.layers'"),
        ("qqqq", "unknown field 'qqqq'; known are corpus.…, distil.…, finetune.…"),
        ("tasks.col.limits.train", "names no task of the recipe; allowed: tasks.cola.…, tasks.my.task.…"),
        ("tasks.cola.files", "unknown field 'tasks.cola.files'"),
        ("tasks.cola.finetune.epoch", "did you mean 'tasks.cola.finetune.epochs'"),
        ("seeds", "cannot differ between arms: all arms run with the same seeds"),
        ("evaluate.resamples", "all arms are measured alike"),
        ("data_dir", "all arms read the same data"),
        ("baselines", "with measured"),
        ("bilstm.weighting", "trains in its own way .* compare it with potstill run"),
        ("tfidf.ngrams", "trains in its own way"),
        ("tasks", "name the field of one task"),
    ],
)
def test_a_field_that_arms_cannot_differ_in_is_refused_with_the_nearest(field: str, said: str):
    with pytest.raises(RecipeError, match=said):
        check_field(field, ["cola", "my.task"], where="grid.yaml")


@pytest.mark.parametrize("field", ["student.layers", "tasks.cola.limits.train", "tasks.my.task.finetune.epochs"])
def test_a_field_of_a_recipe_is_no_error(field: str):
    check_field(field, ["cola", "my.task"], where="grid.yaml")


def test_a_value_is_not_a_section():
    with pytest.raises(RecipeError, match="name holds a value, not fields"):
        put_fields(CONTENT, {"name.first": 1})


@pytest.mark.parametrize(
    ("field", "settings", "decides"),
    [
        ("finetune.epochs", {}, True),
        ("distil.max_steps", {}, True),
        ("finetune.max_length", {}, True),
        ("tasks.cola.limits.train", {}, True),
        ("tasks.cola.cleaning", {}, True),
        ("tasks.cola.finetune.epochs", {}, True),
        ("corpus.source", {}, True),
        ("corpus.block_length", {}, True),
        ("corpus.streaming", {}, False),
        ("pretrain", {}, True),
        ("finetune.patience", {}, True),
        ("finetune.batch_size", {}, False),
        ("finetune.batch_size", {"finetune.max_steps": 10}, True),
        ("tasks.cola.finetune.accumulation", {"tasks.cola.finetune.max_steps": 10}, True),
        ("tasks.cola.finetune.accumulation", {"tasks.my.task.finetune.max_steps": 10}, False),
        ("pretrain.batch_size", {"pretrain.head_steps": 5}, True),
        ("pretrain.batch_size", {"pretrain.head_steps": 0}, False),
        ("finetune.long_texts", {}, True),
        ("distil.batch_tokens", {}, False),
        ("distil.batch_tokens", {"distil.max_steps": 10}, True),
        ("student.layers", {}, False),
        ("finetune.learning_rate", {}, False),
        ("tasks.cola.finetune.learning_rate", {}, False),
        ("distil.temperature", {}, False),
    ],
)
def test_what_decides_how_much_text_an_arm_meets(field: str, settings: dict[str, Any], decides: bool):
    # by hand: epochs pass over all rows whatever the batch; steps pass over batch times steps
    assert decides_exposure(field, recipe(**settings)) is decides
