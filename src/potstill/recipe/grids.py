"""A grid of recipes: one recipe, the fields in which its arms differ, and the rule that arms are at equal budget."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from potstill.errors import RecipeError
from potstill.recipe.fields import NOT_VARIED, check_field, decides_exposure, put_fields, read_field
from potstill.recipe.files import mapping_in, shipped_recipe, with_preset
from potstill.recipe.schema import Name, Recipe, Seed
from potstill.recipe.sections import Section, build, nearest


def _at_the_arms_budget(name: Any) -> Any:
    if name in ("bilstm", "tfidf"):
        raise ValueError(f"{name} cannot stand for an arm: {NOT_VARIED[name]}")
    return name


Measured = Annotated[
    Literal["student", "student-second", "teacher", "copied", "random", "mlm_only"],
    BeforeValidator(_at_the_arms_budget),
]
MEASURED = "measured"
"""What arms differ in where they differ in which classifier stands for them."""

MOST_ARMS = 1000
"""A product of more combinations than this is taken for a mistake."""


class ArmSection(Section):
    """One arm by name, with the fields in which it differs from the recipe."""

    name: Name = Field(description="Name of the arm.")
    set: dict[str, Any] = Field(default_factory=dict, description="Fields of the recipe, by dotted name, and values.")
    measured: Measured | None = Field(None, description="Which classifier stands for this arm; the grid's if absent.")


class Grid(Section):
    """Arms that differ in stated fields of one recipe, all with the same data, seeds and budget."""

    name: Name = Field(description="Name of the grid; its folder is runs/<name>. The file's name when absent.")
    recipe: str | dict[str, Any] = Field(description="A recipe's file, the name of a shipped one, or its fields.")
    set: dict[str, Any] = Field(default_factory=dict, description="Fields of the recipe that hold for all arms.")
    grid: dict[str, tuple[Any, ...]] = Field(
        default_factory=dict, description="Fields and their values; an arm for every combination."
    )
    leave_out: tuple[dict[str, Any], ...] = Field((), description="Combinations, also in part, that are not run.")
    arms: tuple[ArmSection, ...] = Field((), description="Arms besides those of the grid.")
    baseline: str | dict[str, Any] | None = Field(
        None,
        description="The arm that others are held against, by name or by its fields; the recipe as it is if absent.",
    )
    measured: Measured = Field("student", description="Which of a recipe's classifiers stands for an arm.")
    seeds: tuple[Seed, ...] | None = Field(
        None, min_length=1, description="Seeds of every arm; the recipe's if absent."
    )
    encoders: Literal["once", "per_seed"] = Field(
        "once", description="Distil each arm once, or once for every seed, which shows the chance in distillation too."
    )
    unequal: tuple[str, ...] = Field(
        (), description="Fields that may give arms more or other text than others; said wherever they are compared."
    )


@dataclass(frozen=True)
class Arm:
    """One arm: ``settings`` holds every field in which any two arms differ; ``in_grid`` if it is of the product."""

    name: str
    recipe: Recipe
    measured: Measured
    settings: Mapping[str, Any]
    in_grid: bool


@dataclass(frozen=True)
class ResolvedGrid:
    """A grid with its arms worked out.

    fields: those in which arms differ, in the order of the file, ``measured`` last. grid_fields: those of the product.
    unequal: the fields among them that give arms other budgets, as declared. content: the grid as a file that needs no
    other, the recipe inside.
    """

    name: str
    folder: Path
    arms: tuple[Arm, ...]
    baseline: str
    fields: tuple[str, ...]
    grid_fields: tuple[str, ...]
    unequal: tuple[str, ...]
    encoders: Literal["once", "per_seed"]
    content: Mapping[str, Any]

    @property
    def data_dir(self) -> Path | None:
        """The folder of local copies that every arm reads data from, if there is one."""
        return self.arms[0].recipe.data_dir

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)


def shipped_grid(name: str) -> Path:
    """The file of a grid that comes with potstill, or ``name`` as a path."""
    shipped = shipped_recipe(f"grids/{name}")
    return shipped if shipped.is_file() else Path(name)


def load_grid(path: Path | str, *, data_dir: Path | None = None, out: Path | None = None) -> ResolvedGrid:
    """The arms of a grid file.

    Raises RecipeError for a field that no recipe has (naming the nearest), a value that it does not take, arms that are
    the same, a baseline that is none of them, and arms that are not at equal budget without saying so.
    """
    path = Path(path)
    content = {"name": path.stem, **mapping_in(path, kind="grid", do="see the grids in the folder recipes/grids")}
    grid = build(Grid, content, where=str(path))
    base = _base_content(grid, path, data_dir)
    drafts = _product(grid, base, path) + _listed(grid, base, path)
    if len(drafts) < 2:
        raise RecipeError(f"{path}: a grid needs two arms or more", found=len(drafts), do="name fields under grid")
    _require_distinct([draft.name for draft in drafts], f"{path}: two arms have the name")
    arms, fields = _with_settings(drafts, grid)
    _require_different(arms, path)
    baseline = _baseline(grid, base, arms, path)
    grid_fields = tuple(field for field in fields if field in grid.grid)
    _require_equal_budget(grid, arms, fields, baseline, path)
    resolved = {**grid.model_dump(mode="json"), "recipe": base}
    return ResolvedGrid(
        grid.name,
        out or Path("runs") / grid.name,
        arms,
        baseline.name,
        fields,
        grid_fields,
        grid.unequal,
        grid.encoders,
        resolved,
    )


def _base_content(grid: Grid, path: Path, data_dir: Path | None) -> dict[str, Any]:
    """The recipe's fields with what holds for all arms over them; every field that the grid names is checked."""
    content = dict(grid.recipe) if isinstance(grid.recipe, dict) else mapping_in(_recipe_file(grid.recipe, path))
    content = with_preset(content, content.pop("preset", None) or "default")
    content = {"name": grid.name, **content, "out": None}
    if data_dir is not None:
        content["data_dir"] = str(data_dir)
    recipe = build(Recipe, content, where=f"{path}: recipe")
    if recipe.decisions is not None:
        raise RecipeError(f"{path}: {NOT_VARIED['decisions']}", do="leave decisions out of the grid's recipe")
    tasks = [task.name for task in recipe.tasks]
    for field in (*grid.set, *grid.grid, *(field for arm in grid.arms for field in arm.set)):
        check_field(field, tasks, where=str(path))
    both = sorted(set(grid.set) & {*grid.grid, *(field for arm in grid.arms for field in arm.set)})
    if both:
        raise RecipeError(f"{path}: {both[0]} is set for all arms and differs between them", do="name it once")
    content = put_fields(content, grid.set)
    if grid.seeds is not None:
        _require_distinct(grid.seeds, f"{path}: the seeds hold twice")
        content["seeds"] = list(grid.seeds)
        content["tasks"] = [{key: value for key, value in task.items() if key != "seeds"} for task in content["tasks"]]
    return content


def _recipe_file(name: str, grid_file: Path) -> Path:
    shipped, beside = shipped_recipe(name), grid_file.parent / name
    return shipped if shipped.is_file() and shipped != Path(name) else beside if beside.is_file() else Path(name)


@dataclass(frozen=True)
class _Draft:
    """An arm before it is known in which fields it differs from others."""

    name: str
    recipe: Recipe
    measured: Measured
    in_grid: bool


def _product(grid: Grid, base: Mapping[str, Any], path: Path) -> list[_Draft]:
    for field, values in grid.grid.items():
        if not values or any(value in values[:number] for number, value in enumerate(values)):
            raise RecipeError(f"{path}: grid: {field} needs values, each once", found=list(values))
    n_arms = math.prod(len(values) for values in grid.grid.values()) if grid.grid else 0
    if n_arms > MOST_ARMS:
        raise RecipeError(f"{path}: the grid has too many combinations", found=n_arms, allowed=f"up to {MOST_ARMS:,}")
    combinations = [dict(zip(grid.grid, values, strict=True)) for values in itertools.product(*grid.grid.values())]
    kept = [chosen for chosen in combinations if not any(_covers(part, chosen) for part in grid.leave_out)]
    for part in grid.leave_out:
        if not any(_covers(part, chosen) for chosen in combinations):
            raise RecipeError(
                f"{path}: leave_out names no combination of the grid", found=json.dumps(part, default=str)
            )
    if not grid.grid:
        return []
    drafts = []
    for chosen in kept:
        shown = ", ".join(f"{field} {value}" for field, value in chosen.items())
        recipe = _recipe(base, chosen, grid.measured, f"{path}: {shown}")
        drafts.append(_Draft(_name_of(chosen, recipe), recipe, grid.measured, True))
    return drafts


def _covers(part: Mapping[str, Any], chosen: Mapping[str, Any]) -> bool:
    return bool(part) and all(field in chosen and chosen[field] == value for field, value in part.items())


def _listed(grid: Grid, base: Mapping[str, Any], path: Path) -> list[_Draft]:
    drafts = []
    for arm in grid.arms:
        measured = arm.measured or grid.measured
        recipe = _recipe(base, arm.set, measured, f"{path}: arm {arm.name}")
        drafts.append(_Draft(arm.name, recipe, measured, False))
    return drafts


def _recipe(base: Mapping[str, Any], fields: Mapping[str, Any], measured: Measured, where: str) -> Recipe:
    """The recipe of an arm, which makes nothing but the classifier that is measured and what that needs."""
    content = put_fields(base, fields)
    content["baselines"] = [measured] if measured in ("copied", "random", "mlm_only") else []
    content["second_distillation"] = measured == "student-second"
    return build(Recipe, content, where=where)


def _name_of(chosen: Mapping[str, Any], recipe: Recipe) -> str:
    """``layers=3,heads=6``: what can be read, typed and be the name of a folder."""
    lasts = [field.rpartition(".")[2] for field in chosen]
    shorts = [last if lasts.count(last) == 1 else field for field, last in zip(chosen, lasts, strict=True)]
    return ",".join(
        f"{short}={_value_text(read_field(recipe, field))}" for short, field in zip(shorts, chosen, strict=True)
    )


def _value_text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "-".join(map(_value_text, value))
    if isinstance(value, dict):
        return "+".join(f"{key}-{_value_text(inner)}" for key, inner in value.items())
    text = "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return re.sub(r"[^\w.+-]+", "-", text).strip("-") or "empty"


def _with_settings(drafts: Sequence[_Draft], grid: Grid) -> tuple[tuple[Arm, ...], tuple[str, ...]]:
    """The arms, and the fields in which they differ; a field that all arms agree in is none of them."""
    named = dict.fromkeys((*grid.grid, *(field for arm in grid.arms for field in arm.set)))
    values = [{field: _setting(draft.recipe, field, draft.measured) for field in named} for draft in drafts]
    differing = [field for field in named if any(value[field] != values[0][field] for value in values)]
    if len({draft.measured for draft in drafts}) > 1:
        differing.append(MEASURED)
        values = [{**value, MEASURED: draft.measured} for value, draft in zip(values, drafts, strict=True)]
    arms = tuple(
        Arm(draft.name, draft.recipe, draft.measured, {field: value[field] for field in differing}, draft.in_grid)
        for draft, value in zip(drafts, values, strict=True)
    )
    return arms, tuple(differing)


def _setting(recipe: Recipe, field: str, measured: Measured) -> Any:
    """The value of a field; None where the classifier that is measured has nothing to do with it."""
    untouched = {"teacher": ("student.", "distil."), "copied": ("distil.",), "random": ("distil.",)}
    return None if field.startswith(untouched.get(measured, ())) else read_field(recipe, field)


def _require_distinct(values: Sequence[Any], what: str) -> None:
    twice = [value for number, value in enumerate(values) if value in values[:number]]
    if twice:
        raise RecipeError(f"{what} {twice[0]!r}", do="name each once")


def _require_different(arms: Sequence[Arm], path: Path) -> None:
    first_of: dict[str, str] = {}
    for arm in arms:
        same = first_of.setdefault(json.dumps(dict(arm.settings), sort_keys=True), arm.name)
        if same != arm.name:
            raise RecipeError(f"{path}: the arms {same} and {arm.name} are the same", do="leave one of them out")


def _baseline(grid: Grid, base: Mapping[str, Any], arms: Sequence[Arm], path: Path) -> Arm:
    names = [arm.name for arm in arms]
    if isinstance(grid.baseline, str):
        if grid.baseline not in names:
            raise RecipeError(f"{path}: the baseline is no arm", found=grid.baseline, do=nearest(grid.baseline, names))
        return arms[names.index(grid.baseline)]
    wanted = {} if grid.baseline is None else grid.baseline
    known = {MEASURED, *grid.grid, *(field for arm in grid.arms for field in arm.set)}
    unknown = [field for field in wanted if field not in known]
    if unknown:
        raise RecipeError(f"{path}: baseline: no two arms differ in {unknown[0]}", allowed=sorted(known - {MEASURED}))
    measured = wanted.get(MEASURED, grid.measured)
    fields = {field: value for field, value in wanted.items() if field != MEASURED}
    as_written = _recipe(base, fields, measured, f"{path}: baseline")
    asked = (known if grid.baseline is None else set(fields)) - {MEASURED}
    values = {field: _setting(as_written, field, measured) for field in asked}
    fitting = [
        arm
        for arm in arms
        if arm.measured == measured
        and all(_setting(arm.recipe, field, arm.measured) == value for field, value in values.items())
    ]
    if len(fitting) != 1:
        what = "no arm is the recipe as it is" if grid.baseline is None else f"{len(fitting)} arms fit the baseline"
        raise RecipeError(f"{path}: {what}, so it is not clear what others are held against", allowed=names)
    return fitting[0]


def _require_equal_budget(grid: Grid, arms: Sequence[Arm], fields: Sequence[str], baseline: Arm, path: Path) -> None:
    """The guard against arms on a part of the data beside a baseline on all of it."""
    stray = [field for field in grid.unequal if field not in fields]
    if stray:
        raise RecipeError(f"{path}: unequal: no two arms differ in {stray[0]}", allowed=list(fields))
    for arm in arms:
        for field in fields:
            differs = field != MEASURED and arm.settings[field] != baseline.settings[field]
            if not differs or field in grid.unequal:
                continue
            given = field.startswith("pretrain") and (arm.recipe.pretrain is None) != (baseline.recipe.pretrain is None)
            if given or decides_exposure(field, arm.recipe) or decides_exposure(field, baseline.recipe):
                raise RecipeError(
                    f"{path}: {field} decides which text an arm meets and how often, so {arm.name} and "
                    f"{baseline.name} are not at equal budget",
                    do=f"keep it the same, or say so with unequal: [{field}], and every result will say it too",
                )
