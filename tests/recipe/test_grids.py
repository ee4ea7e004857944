"""Grids: their product by hand, what they refuse, and the guard against arms at another budget than the baseline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from potstill.errors import RecipeError
from potstill.recipe.grids import ResolvedGrid, load_grid, shipped_grid

RECIPE: dict[str, Any] = {"seeds": [3], "tasks": [{"name": "cola", "seeds": [4]}], "student": {"layers": 3}}


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., ResolvedGrid]:
    """The arms of a grid of these fields over ``RECIPE``."""

    def load(**fields: Any) -> ResolvedGrid:
        path = tmp_path / "shapes.yaml"
        path.write_text(yaml.safe_dump({"recipe": RECIPE, **fields}, sort_keys=False))
        return load_grid(path)

    return load


def names(grid: ResolvedGrid) -> list[str]:
    return [arm.name for arm in grid.arms]


# -- arms -----------------------------------------------------------------------------------------------------------


def test_the_product_is_every_combination_in_the_order_of_the_file(load):
    grid = load(grid={"student.layers": [2, 3], "student.heads": [4, 6, 12]}, baseline="layers=3,heads=12")
    assert names(grid) == [
        "layers=2,heads=4", "layers=2,heads=6", "layers=2,heads=12",
        "layers=3,heads=4", "layers=3,heads=6", "layers=3,heads=12",
    ]  # fmt: skip
    assert grid.arm("layers=2,heads=6").settings == {"student.layers": 2, "student.heads": 6}
    assert (grid.arm("layers=2,heads=6").recipe.student.layers, grid.arm("layers=2,heads=6").recipe.student.heads) == (
        2, 6,
    )  # fmt: skip
    assert all(arm.in_grid for arm in grid.arms)
    assert grid.fields == grid.grid_fields == ("student.layers", "student.heads")
    assert (grid.name, grid.folder) == ("shapes", Path("runs/shapes"))


def test_combinations_can_be_left_out_in_part(load):
    values = {"student.layers": [1, 2, 3], "student.heads": [4, 6]}
    grid = load(
        grid=values,
        leave_out=[{"student.layers": 1}, {"student.layers": 3, "student.heads": 4}],
        baseline={"student.layers": 3},
    )
    assert names(grid) == ["layers=2,heads=4", "layers=2,heads=6", "layers=3,heads=6"]


def test_the_recipe_as_it_is_is_the_baseline_where_it_is_an_arm(load):
    assert load(grid={"student.layers": [2, 3]}).baseline == "layers=3"


@pytest.mark.parametrize(
    "baseline", ["layers=2,heads=4", {"student.layers": 2, "student.heads": 4}, {"student.heads": 4}]
)
def test_a_baseline_is_an_arm_by_name_or_by_fields(load, baseline):
    grid = load(grid={"student.layers": [2], "student.heads": [4, 6]}, baseline=baseline)
    assert grid.baseline == "layers=2,heads=4"


def test_arms_stand_beside_the_product_and_may_be_other_classifiers(load):
    arms = [{"name": "teacher", "measured": "teacher"}, {"name": "plain", "measured": "copied"}]
    grid = load(grid={"student.layers": [2, 3]}, arms=arms, baseline="teacher")
    assert names(grid) == ["layers=2", "layers=3", "teacher", "plain"]
    assert grid.fields == ("student.layers", "measured")
    assert grid.arm("teacher").settings == {"student.layers": None, "measured": "teacher"}, "it has none of its own"
    assert grid.arm("plain").settings == {"student.layers": 3, "measured": "copied"}
    assert grid.arm("plain").recipe.baselines == ("copied",)
    assert grid.arm("layers=2").recipe.baselines == ()
    assert [arm.in_grid for arm in grid.arms] == [True, True, False, False]


def test_an_arm_sets_what_it_says_and_leaves_the_rest(load):
    grid = load(arms=[{"name": "base"}, {"name": "hot", "set": {"distil.temperature": 4}}], set={"distil.alpha_cos": 3})
    assert grid.fields == ("distil.temperature",)
    assert [arm.settings["distil.temperature"] for arm in grid.arms] == [2.0, 4.0]
    assert {arm.recipe.distil.alpha_cos for arm in grid.arms} == {3.0}
    assert grid.baseline == "base"


def test_fields_of_the_same_last_name_are_told_apart(load):
    rates = {"distil.learning_rate": [1e-4, 5e-4], "finetune.learning_rate": [5e-5]}
    assert names(load(grid=rates)) == [
        "distil.learning_rate=0.0001,finetune.learning_rate=5e-05",
        "distil.learning_rate=0.0005,finetune.learning_rate=5e-05",
    ]


def test_names_of_arms_can_be_names_of_folders(load):
    choices = {"student.layer_choice": ["first", [0, 2, 5]], "distil.teacher_outputs": [None, {"mask_draws": 2}]}
    grid = load(grid=choices, baseline={"student.layer_choice": "first", "distil.teacher_outputs": None})
    assert names(grid) == [
        "layer_choice=first,teacher_outputs=none", "layer_choice=first,teacher_outputs=mask_draws-2+top_k-64",
        "layer_choice=0-2-5,teacher_outputs=none", "layer_choice=0-2-5,teacher_outputs=mask_draws-2+top_k-64",
    ]  # fmt: skip


def test_seeds_are_the_same_for_all_arms_and_tasks(load):
    grid = load(grid={"student.layers": [2, 3]}, seeds=[7, 8])
    assert {(arm.recipe.seeds, arm.recipe.tasks[0].seeds) for arm in grid.arms} == {((7, 8), None)}
    as_they_were = load(grid={"student.layers": [2, 3]})
    assert {(arm.recipe.seeds, arm.recipe.tasks[0].seeds) for arm in as_they_were.arms} == {((3,), (4,))}


def test_a_recipe_is_found_by_name_beside_the_grid_and_inline(tmp_path):
    beside = tmp_path / "mine.yaml"
    beside.write_text(yaml.safe_dump({"name": "mine", **RECIPE}))
    for recipe, layers in (("demo", 3), ("mine.yaml", 3), ({**RECIPE, "student": {"layers": 5}}, 5)):
        path = tmp_path / "grid.yaml"
        path.write_text(yaml.safe_dump({"recipe": recipe, "grid": {"distil.temperature": [2.0, 3]}}))
        assert {arm.recipe.student.layers for arm in load_grid(path).arms} == {layers}


def test_a_preset_lies_under_the_recipe(load):
    recipe = {**RECIPE, "preset": "original"}
    assert {arm.recipe.distil.accumulation for arm in load(recipe=recipe, grid={"student.layers": [2, 3]}).arms} == {50}


def test_what_is_resolved_resolves_to_the_same(load, tmp_path):
    fields = {"grid": {"student.layers": [2, 3]}, "arms": [{"name": "t", "measured": "teacher"}], "seeds": [1, 2]}
    grid = load_grid(_written(tmp_path / "a.yaml", recipe=RECIPE, **fields), data_dir=Path("data"), out=Path("there"))
    again = load_grid(_written(tmp_path / "grid.yaml", **grid.content), out=Path("there"))
    assert again == grid
    assert again.arms[0].recipe.data_dir == Path("data")
    assert again.folder == Path("there")


def _written(path: Path, **content: Any) -> Path:
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


# -- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"grids": {}}, r"unknown field 'grids'; did you mean 'grid'\?"),
        ({"grid": {"student.layer": [2, 3]}}, r"unknown field 'student.layer'; did you mean 'student.layers'\?"),
        ({"grid": {"tasks.cole.cleaning": [[], ["html"]]}}, "names no task of the recipe; allowed: tasks.cola"),
        ({"grid": {"seeds": [[1], [2]]}}, "all arms run with the same seeds"),
        ({"grid": {"student.layers": ["two", 3]}}, r"student.layers two: student.layers: Input should be a valid int"),
        ({"grid": {"student.layers": [2, 2]}}, r"student.layers needs values, each once; found \[2, 2\]"),
        ({"grid": {"student.layers": []}}, "needs values, each once"),
        ({"grid": {"student.layers": [3]}}, "a grid needs two arms or more; found 1"),
        ({}, "a grid needs two arms or more; found 0"),
        ({"arms": [{"name": "a"}, {"name": "a"}]}, "two arms have the name 'a'"),
        ({"arms": [{"name": "a", "measured": "tfidf"}]}, "measured: tfidf cannot stand for an arm: .*potstill run"),
        ({"measured": "bilstm"}, "measured: bilstm cannot stand for an arm"),
        ({"grid": {"bilstm.layers": [1, 2]}}, "bilstm.layers cannot differ between arms"),
        ({"arms": [{"name": "a"}, {"name": "b", "set": {"student.layers": 3}}]}, "the arms a and b are the same"),
        ({"grid": {"student.layers": [1, 2]}}, "no arm is the recipe as it is.*; allowed: layers=1, layers=2"),
        ({"grid": {"student.layers": [2, 3]}, "baseline": "layers=4"}, r"found 'layers=4'; did you mean 'layers=\d'"),
        ({"grid": {"student.layers": [2, 3]}, "baseline": {"student.heads": 2}}, "no two arms differ in student.heads"),
        ({"grid": {"student.layers": [2, 3]}, "set": {"student.layers": 1}}, "is set for all arms and differs"),
        ({"grid": {"student.layers": [2, 3]}, "leave_out": [{"student.layers": 9}]}, "names no combination"),
        ({"grid": {"student.layers": [2, 3]}, "unequal": ["finetune.epochs"]}, "no two arms differ in finetune.epochs"),
        ({"grid": {"student.layers": [2, 3]}, "seeds": [1, 1]}, "the seeds hold twice 1"),
        ({"grid": {"distil.temperature": list(range(1, 60)), "distil.alpha_ce": list(range(60))}}, "too many comb"),
    ],
)  # fmt: skip
def test_what_is_no_grid_is_refused_in_a_line(load, fields, said):
    with pytest.raises(RecipeError, match=said) as told:
        load(**fields)
    assert "\n" not in str(told.value)
    assert "shapes.yaml" in str(told.value)


def test_a_recipe_that_decides_by_thresholds_is_no_grid(load):
    with pytest.raises(RecipeError, match="compared by their likeliest labels; leave decisions out"):
        load(recipe={**RECIPE, "decisions": {"thresholds": "none"}}, grid={"student.layers": [2, 3]})


def test_a_missing_grid_is_named(tmp_path):
    with pytest.raises(RecipeError, match=r"there is no grid .*absent\.yaml"):
        load_grid(tmp_path / "absent.yaml")


# -- equal budget ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("tasks.cola.limits.train", [100, 1000]),
        ("finetune.epochs", [1, 3]),
        ("finetune.max_length", [64, 128]),
        ("distil.max_steps", [None, 100]),
        ("corpus.max_characters", [None, 1000]),
    ],
)
def test_arms_on_less_text_than_the_baseline_are_refused_unless_it_is_said(load, field, values):
    """Pitfall 5: ablations on 10% of the data beside a baseline on all of it."""
    baseline = {field: values[-1]}
    with pytest.raises(RecipeError, match=rf"{field} decides which text.*not at equal budget; .*unequal: \[{field}\]"):
        load(grid={field: values}, baseline=baseline)
    said = load(grid={field: values}, baseline=baseline, unequal=[field])
    assert said.unequal == (field,)


def test_an_arm_of_its_own_is_held_to_the_same(load):
    arms = [{"name": "all"}, {"name": "tenth", "set": {"tasks.cola.limits": {"train": 855}}}]
    with pytest.raises(RecipeError, match=r"tasks\.cola\.limits decides.*so tenth and all are not at equal budget"):
        load(arms=arms, baseline="all")


def test_a_teacher_that_is_pretrained_for_one_arm_alone_is_another_budget(load):
    arms = [{"name": "plain"}, {"name": "trained", "set": {"pretrain.head_learning_rate": 0.001}}]
    with pytest.raises(RecipeError, match="so trained and plain are not at equal budget"):
        load(arms=arms, baseline="plain")


def test_the_size_of_a_batch_may_differ_over_whole_passes_and_not_over_steps(load):
    assert len(load(grid={"finetune.batch_size": [8, 32]}).arms) == 2
    with pytest.raises(RecipeError, match="not at equal budget"):
        load(grid={"finetune.batch_size": [8, 32]}, set={"finetune.max_steps": 10})


# -- shipped --------------------------------------------------------------------------------------------------------


def shipped() -> list[Path]:
    return sorted((Path(__file__).resolve().parents[2] / "recipes" / "grids").glob("*.yaml"))


def test_there_are_grids():
    assert {path.stem for path in shipped()} >= {"docstrings-shapes", "docstrings-losses", "sst2-shapes"}


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.stem)
def test_every_shipped_grid_is_found_by_name_and_is_at_equal_budget_but_where_epochs_are_the_question(path: Path):
    assert shipped_grid(path.stem) == path
    grid = load_grid(path)
    asked = ("finetune.epochs",) if path.stem == "e3-ablations" else ()
    assert (grid.name, grid.unequal) == (path.stem, asked)
