"""Fields of a recipe by dotted name, ``distil.temperature`` or ``tasks.imdb.limits.train``: checked, read and put."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from potstill.errors import RecipeError
from potstill.recipe.schema import FinetuneSection, PretrainSection, Recipe, TaskSection
from potstill.recipe.sections import Section, nearest, section_of

_OWN_WAY = "what is no transformer trains in its own way and not at the arms' budget: compare it with potstill run"
NOT_VARIED: Mapping[str, str] = {
    "name": "it decides nothing",
    "out": "the grid has one folder of its own",
    "data_dir": "all arms read the same data",
    "preset": "name the fields that it sets",
    "seeds": "all arms run with the same seeds: write seeds: [1, 2, 3] beside the grid",
    "evaluate": "all arms are measured alike",
    "studies": "they change no result: look at one run with potstill explore and potstill attend",
    "decisions": "arms are compared by their likeliest labels",
    "baselines": "say which classifier stands for an arm with measured",
    "second_distillation": "say which classifier stands for an arm with measured: student-second",
    "bilstm": _OWN_WAY,
    "tfidf": _OWN_WAY,
    "tasks": "name the field of one task, such as tasks.imdb.finetune.epochs",
}
"""Fields of a recipe that arms cannot differ in, and why not."""

_TASK_FIELDS = ("limits", "cleaning", "text_columns", "join")
"""Fields of a task, besides those of its fine-tuning, that leave the rows it is reported on as they are."""

_EXPOSURE = (
    "epochs",
    "max_steps",
    "patience",
    "max_length",
    "long_texts",
    "window_overlap",
    "block_length",
    "head_steps",
)
"""Names of fields that decide how many tokens a training sees, in whatever section they stand."""


def known_fields(tasks: Sequence[str]) -> list[str]:
    """Every field that arms can differ in, by dotted name; ``tasks`` are the names of the recipe's tasks."""
    found = [name for name in _fields_of(Recipe) if name.partition(".")[0] not in NOT_VARIED]
    for task in tasks:
        found += [f"tasks.{task}.{name}" for name in _TASK_FIELDS]
        found += [f"tasks.{task}.finetune.{name}" for name in _fields_of(FinetuneSection)]
    return found


def _fields_of(section: type[Section]) -> Iterator[str]:
    for name, field in section.model_fields.items():
        nested = section_of(field.annotation)
        if nested is None or field.default is None:  # a section that may be absent can be varied as a whole
            yield name
        if nested is not None and nested is not TaskSection:
            yield from (f"{name}.{inner}" for inner in _fields_of(nested))


def check_field(field: str, tasks: Sequence[str], *, where: str) -> None:
    """Raise RecipeError, naming the nearest known field, where arms cannot differ in ``field``."""
    known = known_fields(tasks)
    if field in known or field.rpartition(".")[0] in {f"tasks.{task}.limits" for task in tasks}:
        return
    first = field.partition(".")[0]
    if first in NOT_VARIED and (first != "tasks" or field == "tasks"):
        raise RecipeError(f"{where}: {field} cannot differ between arms: {NOT_VARIED[first]}")
    if first == "tasks" and not field.startswith(tuple(f"tasks.{task}." for task in tasks)):
        raise RecipeError(
            f"{where}: {field} names no task of the recipe", allowed=[f"tasks.{task}.…" for task in tasks]
        )
    near = difflib.get_close_matches(field, known, n=1, cutoff=0.5)
    sections = sorted({f"{name.partition('.')[0]}.…" for name in known})
    raise RecipeError(f"{where}: unknown field {field!r}", do=nearest(field, near or sections))


def put_fields(content: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a recipe, as YAML gives it, with ``fields`` over it; ``content`` stays as it was."""
    result = copy.deepcopy(dict(content))
    for field, value in fields.items():
        *path, last = _path(field, result)
        inner: Any = result
        for part in path:
            if isinstance(part, str) and inner.get(part) is None:
                inner[part] = {}
            inner = inner[part]
            if not isinstance(inner, dict | list):
                raise RecipeError(f"{field}: {part} holds a value, not fields", found=inner)
        inner[last] = copy.deepcopy(value)
    return result


def _path(field: str, content: Mapping[str, Any]) -> list[str | int]:
    """The keys that lead to ``field``; a task's name becomes its number in the list."""
    if not field.startswith("tasks."):
        return list(field.split("."))
    tasks = content.get("tasks")
    names = [task.get("name") for task in tasks if isinstance(task, dict)] if isinstance(tasks, list) else []
    name, rest = _split_task(field, [str(name) for name in names])
    return ["tasks", names.index(name), *rest.split(".")]


def _split_task(field: str, names: Sequence[str]) -> tuple[str, str]:
    """A task's name, which may have dots in it, and the field of the task."""
    fitting = [name for name in names if field.startswith(f"tasks.{name}.")]
    name = max(fitting, key=len)
    return name, field.removeprefix(f"tasks.{name}.")


def read_field(recipe: Recipe, field: str) -> Any:
    """The value of ``field`` in a recipe, as JSON has it; None where the section that holds it is absent.

    Of ``tasks.<name>.finetune`` it is what the task is trained with, whether the task or the recipe says it.
    """
    if not field.startswith("tasks."):
        return _look_up(recipe.model_dump(mode="json"), field)
    tasks = {task.name: task for task in recipe.tasks}
    name, rest = _split_task(field, list(tasks))
    if rest.startswith("finetune."):
        return _look_up(recipe.finetune_for(tasks[name]).model_dump(mode="json"), rest.removeprefix("finetune."))
    return _look_up(tasks[name].model_dump(mode="json"), rest)


def _look_up(values: Any, field: str) -> Any:
    for part in field.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def decides_exposure(field: str, recipe: Recipe) -> bool:
    """Whether arms that differ in ``field`` meet other text, or more or less of it: then their budget is not equal.

    The number of rows in a batch does so only where a training is measured in steps, which ``recipe`` tells.
    """
    parts = field.split(".")
    first, last = parts[0], parts[-1]
    if first == "corpus":
        return last != "streaming"
    if first == "tasks" and "finetune" not in parts:
        return True
    if field in ("pretrain", "student.model") or last in _EXPOSURE:
        return True
    return last in ("batch_size", "batch_tokens", "accumulation") and _counts_steps(field, recipe)


def _counts_steps(field: str, recipe: Recipe) -> bool:
    if field.startswith("pretrain.") and (recipe.pretrain or PretrainSection()).head_steps:
        return True
    return read_field(recipe, f"{field.rpartition('.')[0]}.max_steps") is not None
