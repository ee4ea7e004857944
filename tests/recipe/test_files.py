"""Recipes as files: presets under them, overrides over them, and the same again after being written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import RecipeError
from potstill.recipe.files import (
    PRESETS,
    apply_overrides,
    commented_yaml,
    load_recipe,
    shipped_recipe,
    with_preset,
)
from potstill.recipe.schema import DistilJob, FinetuneSection, Recipe, TaskSection
from potstill.recipe.sections import build

RECIPE = "name: mine\ntasks: [{name: cola}]\ndistil: {epochs: 2, temperature: 3}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    return path


# -- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"there is no recipe .*; write one with: potstill init"),
        (b"", r"holds no recipe; found 'NoneType'; allowed: a mapping of fields"),
        (b"- a\n- b", r"holds no recipe; found 'list'"),
        (b"name: [", r"is not YAML"),
        (b"name: \xff\xfe", r"is not YAML"),
        (b"name: 2020-99-99", r"is not YAML"),
        (b"name: mine\nteecher: {}", r"mine\.yaml: unknown field 'teecher'; did you mean 'teacher'\?"),
        (b"preset: orignal", r"unknown preset; found 'orignal'; did you mean 'original'\?"),
        (b"preset: [original]", r"unknown preset"),
    ],
)
def test_what_is_no_recipe_is_refused_in_a_line(tmp_path: Path, content: bytes | None, said: str):
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError, match=said) as told:
        load_recipe(path)
    assert "\n" not in str(told.value)


def test_a_recipe_says_what_is_in_it_and_defaults_the_rest(file: Path):
    recipe = load_recipe(file)
    assert (recipe.distil.epochs, recipe.distil.temperature) == (2, 3)
    assert recipe.finetune == FinetuneSection()


@pytest.mark.parametrize("name", ["demo", "e5-distilbert"])
def test_shipped_recipes_are_found_by_name_and_load(name: str, project_root: Path):
    assert shipped_recipe(name) == project_root / "recipes" / f"{name}.yaml"
    assert load_recipe(shipped_recipe(name)).name == name


def test_any_other_name_is_a_path():
    assert shipped_recipe("mine.yaml") == Path("mine.yaml")


# -- overrides ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "place", "value"),
    [
        ("distil.epochs=5", ("distil", "epochs"), 5.0),
        ("distil.masking.share=0.2", ("distil", "masking", "share"), 0.2),
        (" student.layer_choice = [0, 2]", ("student", "layer_choice"), (0, 2)),
        ("student.layer_choice=odd", ("student", "layer_choice"), "odd"),
        ("corpus.source=a=b.txt", ("corpus", "source"), "a=b.txt"),
        ("distil.max_steps=null", ("distil", "max_steps"), None),
        ("pretrain.epochs=4", ("pretrain", "epochs"), 4.0),
        ("seeds=[1, 2]", ("seeds",), (1, 2)),
    ],
)
def test_an_override_sets_its_field_and_no_other(file: Path, override: str, place: tuple[str, ...], value: Any):
    changed, before = load_recipe(file, [override]), load_recipe(file)
    found: Any = changed
    for part in place:
        found = getattr(found, part)
    assert found == value
    same = {name for name in Recipe.model_fields if getattr(changed, name) == getattr(before, name)}
    assert set(Recipe.model_fields) - same <= {place[0]}


def test_the_last_override_wins_and_what_was_given_is_not_changed():
    content = {"distil": {"epochs": 1}}
    assert apply_overrides(content, ["distil.epochs=2", "distil.epochs=3"]) == {"distil": {"epochs": 3}}
    assert content == {"distil": {"epochs": 1}}


def test_an_empty_section_can_be_overridden_into(tmp_path: Path):
    # "pretrain:" with every line below it commented out is null to YAML
    (tmp_path / "mine.yaml").write_text("name: mine\ntasks: [{name: cola}]\npretrain:\n")
    assert load_recipe(tmp_path / "mine.yaml").pretrain is None
    recipe = load_recipe(tmp_path / "mine.yaml", ["pretrain.head_steps=5"])
    assert recipe.pretrain is not None
    assert recipe.pretrain.head_steps == 5


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("distil.epochs", "an override has the form field=value; found 'distil.epochs'; for example distil.epochs=2"),
        ("=2", "an override has the form"),
        ("distil.epochs=[", "the value of distil.epochs is not YAML"),
        ("name.first=x", "name.first: name holds a value, not fields; found 'mine'"),
        ("distil.epoch=2", "unknown field 'distil.epoch'; did you mean 'epochs'"),
    ],
)
def test_an_override_that_cannot_be_meant_is_refused(file: Path, override: str, said: str):
    with pytest.raises(RecipeError, match=said.replace(".", r"\.")):
        load_recipe(file, [override])


# -- presets --------------------------------------------------------------------------------------------------------

ORIGINAL = {
    "learning_rate": 5e-4, "epsilon": 1e-6, "betas": (0.9, 0.98), "weight_decay": 0.0, "clip_norm": 5.0,
    "warmup": 0.05, "schedule": "linear", "batch_size": 5, "accumulation": 50, "epochs": 3.0,
    "alpha_ce": 5.0, "alpha_mlm": 2.0, "alpha_cos": 1.0, "alpha_logit_mse": 0.0, "alpha_hidden_mse": 0.0,
    "temperature": 2.0, "kl_positions": "attended",
}  # fmt: skip
"""The single-GPU recipe of DistilBERT's source of 2019, read off its arguments."""


def test_the_preset_original_is_the_recipe_of_the_2019_source():
    job = build(DistilJob, with_preset({"out": "x"}, "original"), where="x")
    assert {name: getattr(job.distil, name) for name in ORIGINAL} == ORIGINAL
    assert job.distil.masking.model_dump() == {"share": 0.15, "smoothing": 0.7, "whole_word": False}
    assert (job.student.layer_choice, job.student.initialise) == ("paper", "copy")
    assert job.student.copy_mlm_transform is False


def test_the_preset_default_changes_nothing():
    content = {"out": "x", "distil": {"epochs": 2}}
    assert with_preset(content, "default") == content


@pytest.mark.parametrize("preset", PRESETS)
def test_what_the_recipe_says_outranks_its_preset(file: Path, preset: str):
    recipe = load_recipe(file, ["distil.batch_size=7"], preset=preset)
    assert (recipe.distil.temperature, recipe.distil.epochs, recipe.distil.batch_size) == (3, 2, 7)
    assert recipe.distil.clip_norm == (5.0 if preset == "original" else 1.0)


def test_a_preset_is_named_in_the_recipe_by_an_override_or_outright(file: Path):
    named = file.with_name("named.yaml")
    named.write_text(RECIPE + "preset: original\n")
    ways = (load_recipe(named), load_recipe(file, ["preset=original"]), load_recipe(file, preset="original"))
    assert {recipe.distil.clip_norm for recipe in ways} == {5.0}
    assert load_recipe(named, preset="default").distil.clip_norm == 1.0


# -- writing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["demo", "e5-distilbert"])
def test_a_commented_recipe_reads_back_as_it_was(name: str):
    recipe = load_recipe(shipped_recipe(name))
    written = commented_yaml(Recipe, recipe.model_dump(mode="json"))
    assert build(Recipe, yaml.safe_load(written), where="written") == recipe


def test_every_field_that_is_written_is_explained():
    # oracle: the lines themselves, each field with a comment right above it, and the fields' own descriptions
    recipe = build(Recipe, {"name": "x", "pretrain": {}, "tasks": [{"name": "a"}, {"name": "b"}]}, where="x")
    lines = commented_yaml(Recipe, recipe.model_dump(mode="json")).splitlines()
    comments = [line.strip().removeprefix("- ") for line in lines[::2]]
    assert all(comment.startswith("# ") and len(comment) > 8 for comment in comments)
    assert not any(line.strip().startswith("#") for line in lines[1::2])
    assert all(f"# {field.description}" in comments for field in TaskSection.model_fields.values())


PLAIN = st.text(max_size=20) | st.sampled_from(["no", "1e-3", "null", "a: b", "# c", "- d", " e ", "f\ng\n\nh", "é…"])


@settings(max_examples=40, deadline=None)
@given(source=PLAIN, column=PLAIN, labels=st.lists(PLAIN, max_size=3), limits=st.dictionaries(PLAIN, st.integers(1, 9)))
def test_any_text_survives_being_written_with_comments(
    source: str, column: str, labels: list[str], limits: dict[str, int]
):
    content = {
        "name": "x",
        "corpus": {"source": source, "text_column": column},
        "tasks": [
            {"name": "a", "files": column, "label_names": labels, "limits": limits, "finetune": {"metric": column}}
        ],
    }
    recipe = build(Recipe, content, where="x")
    written = commented_yaml(Recipe, recipe.model_dump(mode="json"))
    assert build(Recipe, yaml.safe_load(written), where="written") == recipe
