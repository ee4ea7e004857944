"""Sections of a recipe: pydantic models that refuse what they do not know, and say what was wrong in one sentence."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from potstill.errors import RecipeError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class Section(BaseModel):
    """A part of a recipe: unknown keys are refused, values cannot be changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=Section)


def build(section: type[S], content: Mapping[str, Any], *, where: str) -> S:
    """``section`` from plain values; raises RecipeError naming the field, the value met and what is allowed."""
    try:
        return section.model_validate(content)
    except ValidationError as invalid:
        raise RecipeError(_sentence(section, invalid, where)) from invalid


def section_of(annotation: Any) -> type[Section] | None:
    """The section that a field of this annotation holds: one, perhaps one, or several; None for plain values."""
    candidates = (annotation, *getattr(annotation, "__args__", ()))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, Section)), None)


def nearest(name: str, known: Iterable[str]) -> str:
    """A question naming the known name that looks most like ``name``, or all that are known."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"


_BRANCH = re.compile(r"(str|int|(literal|tuple|dict)\[.*\])")
"""What pydantic puts into a place for each alternative of a field of several types; no field bears such a name."""


def _place(problem: ErrorDetails) -> str:
    return ".".join(str(part) for part in problem["loc"] if not _BRANCH.fullmatch(str(part)))


def _sentence(section: type[Section], invalid: ValidationError, where: str) -> str:
    """The first field at fault, with everything that is wrong with it, and how many more there are.

    Unknown fields come first: the one that is said to be missing may be the one that was misspelt.
    """
    problems = sorted(invalid.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    first, place = problems[0], _place(problems[0])
    others = len({_place(problem) for problem in problems}) - 1
    more = f" (and {others} more)" if others else ""
    if first["type"] == "extra_forbidden":
        known = _known_keys(section, first["loc"][:-1])
        return f"{where}: unknown field {place!r}; {nearest(str(first['loc'][-1]), known)}{more}"
    if first["type"] == "missing":
        return f"{where}: the field {place!r} is missing{more}"
    wrong = " or ".join(_wrong(problem) for problem in problems if _place(problem) == place)
    return f"{where}: {place}: {wrong}; found {_shown(first['input'])}{more}" if place else f"{where}: {wrong}{more}"


def _wrong(problem: ErrorDetails) -> str:
    if problem["type"] == "model_type":
        return "Input should be a mapping of fields"
    return problem["msg"].removeprefix("Value error, ")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _known_keys(section: type[Section], place: tuple[int | str, ...]) -> list[str]:
    current: type[Section] = section
    for part in place:
        if isinstance(part, str) and part in current.model_fields:
            current = section_of(current.model_fields[part].annotation) or current
    return list(current.model_fields)
