"""Recipes as files: YAML read with presets under it and overrides over it, and YAML written with its documentation."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from textwrap import indent
from typing import Any

import yaml

from potstill.errors import RecipeError
from potstill.recipe.schema import Recipe
from potstill.recipe.sections import Section, build, nearest, section_of

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "original": {
        "distil.learning_rate": 5e-4,
        "distil.epsilon": 1e-6,
        "distil.betas": (0.9, 0.98),
        "distil.weight_decay": 0.0,
        "distil.clip_norm": 5.0,
        "distil.warmup": 0.05,
        "distil.schedule": "linear",
        "distil.batch_size": 5,
        "distil.accumulation": 50,
        "distil.epochs": 3.0,
        "distil.alpha_ce": 5.0,
        "distil.alpha_mlm": 2.0,
        "distil.alpha_cos": 1.0,
        "distil.temperature": 2.0,
        "distil.kl_positions": "attended",
        "distil.masking": {"share": 0.15, "smoothing": 0.7, "whole_word": False},
        "student.layer_choice": "paper",
        "student.initialise": "copy",
        "student.copy_mlm_transform": False,
    },
}
"""Named starting points of a distillation. ``original`` is the single-GPU setting of the 2019 source."""


def load_recipe(path: Path | str, overrides: Iterable[str] = (), preset: str | None = None) -> Recipe:
    """The recipe in a YAML file, with ``a.b=c`` overrides over it and a preset under it.

    The preset is the one named here, or else by the recipe's own key ``preset``. Raises RecipeError naming the field
    at fault.
    """
    content = apply_overrides(mapping_in(Path(path)), overrides)
    named = content.pop("preset", None)
    return build(Recipe, with_preset(content, preset or named or "default"), where=str(path))


def mapping_in(path: Path, *, kind: str = "recipe", do: str = "write one with: potstill init") -> dict[str, Any]:
    """The fields in a YAML file, unchecked; RecipeError, naming the file, where it holds none or is not there."""
    if not path.is_file():
        raise RecipeError(f"there is no {kind} {path}", do=do)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as failure:
        raise RecipeError(f"{path} cannot be read ({failure.strerror})") from failure
    except (yaml.YAMLError, ValueError) as broken:
        raise RecipeError(f"{path} is not YAML ({' '.join(str(broken).split())})") from broken
    if not isinstance(content, dict):
        raise RecipeError(f"{path} holds no {kind}", found=type(content).__name__, allowed="a mapping of fields")
    return content


def shipped_recipe(name: str) -> Path:
    """The file of a recipe that comes with potstill, or ``name`` as a path."""
    for folder in (Path(__file__).parents[1] / "recipes", Path(__file__).parents[3] / "recipes"):
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    return Path(name)


def with_preset(content: Mapping[str, Any], preset: str) -> dict[str, Any]:
    """``content`` laid over the values of a preset."""
    if preset not in tuple(PRESETS):
        raise RecipeError("unknown preset", found=preset, do=nearest(str(preset), PRESETS))
    base: dict[str, Any] = {}
    for field, value in PRESETS[preset].items():
        _put(base, field.split("."), value)
    return _merged(base, content)


def apply_overrides(content: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """``content`` with ``a.b=c`` overrides over it; the right-hand side is read as YAML."""
    result = _merged({}, content)
    for override in overrides:
        field, equals, text = override.partition("=")
        if not equals or not field.strip():
            raise RecipeError("an override has the form field=value", found=override, do="for example distil.epochs=2")
        try:
            value = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError) as broken:
            raise RecipeError(f"the value of {field} is not YAML", found=text) from broken
        _put(result, field.strip().split("."), value)
    return result


def commented_yaml(section: type[Section], values: Mapping[str, Any]) -> str:
    """YAML of ``values`` in which every field of ``section`` carries its description as a comment."""
    lines: list[str] = []
    for name, field in section.model_fields.items():
        if name in values:
            nested, value = section_of(field.annotation), values[name]
            lines.append(f"# {field.description or _purpose(nested)}")
            if nested and value and isinstance(value, Mapping):
                lines += [f"{name}:", indent(commented_yaml(nested, value), "  ")]
            elif nested and value and isinstance(value, list | tuple):
                items = (indent(commented_yaml(nested, item), "    ") for item in value)
                lines += [f"{name}:", *(f"  - {item.lstrip()}" for item in items)]
            else:
                lines.append(_entry(name, value))
    return "\n".join(lines)


def _entry(name: str, value: Any) -> str:
    """One field on a line of its own, lists and mappings in brackets."""
    if isinstance(value, list | tuple | Mapping):
        return f"{name}: {yaml.safe_dump(value, sort_keys=False, default_flow_style=True, width=sys.maxsize).rstrip()}"
    return yaml.safe_dump({name: value}, default_flow_style=False, width=sys.maxsize).rstrip()


def _purpose(section: type[Section] | None) -> str:
    """The first line of a section's docstring, which describes the fields that hold one."""
    return (section.__doc__ or "").partition("\n")[0] if section else ""


def _put(content: dict[str, Any], field: list[str], value: Any) -> None:
    for part in field[:-1]:
        if content.get(part) is None:
            content[part] = {}
        content = content[part]
        if not isinstance(content, dict):
            raise RecipeError(f"{'.'.join(field)}: {part} holds a value, not fields", found=content)
    content[field[-1]] = value


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = {key: _merged({}, value) if isinstance(value, Mapping) else value for key, value in under.items()}
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = (
            _merged(result[key], value) if both else (_merged({}, value) if isinstance(value, Mapping) else value)
        )
    return result
