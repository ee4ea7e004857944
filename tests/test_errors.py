"""The exception tree: one line each, with an exit code for the command line."""

from __future__ import annotations

import inspect

import pytest

from potstill import errors
from potstill.errors import DataError, OtherRunError, PotstillError

TREE = {name: kind for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, PotstillError)}


def drawn() -> dict[str, tuple[int, str | None]]:
    """Name → exit code and parent, as the module's docstring draws them."""
    found: dict[str, tuple[int, str | None]] = {}
    parents: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        name, *rest = line.lstrip("│├└─ ").split(maxsplit=2)[:2] or [""]
        if name not in TREE:
            continue
        depth = (len(line) - len(line.lstrip("│├└─ "))) // 4
        parents[depth:] = [name]
        found[name] = int(rest[0]), parents[depth - 1] if depth else None
    return found


def test_the_tree_is_drawn_as_it_is():
    # oracle: Python's own account of classes and their parents
    actual = {
        name: (kind.exit_code, None if kind is PotstillError else kind.__base__.__name__) for name, kind in TREE.items()
    }
    assert drawn() == actual
    assert len(actual) == 13


def test_what_a_user_can_mend_exits_with_2():
    assert {name for name, kind in TREE.items() if kind.exit_code == 2} == {
        "UsageError", "RecipeError", "DataError", "ModelError", "BundleError", "RunFolderError", "OtherRunError",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "a.csv: row 3 has no text."),
        ({"found": ""}, "a.csv: row 3 has no text; found ''."),
        ({"found": 4, "allowed": ("0", "1")}, "a.csv: row 3 has no text; found 4; allowed: 0, 1."),
        ({"allowed": "a string.", "do": "drop it."}, "a.csv: row 3 has no text; allowed: a string; drop it."),
        ({"do": "did you mean 'text'?"}, "a.csv: row 3 has no text; did you mean 'text'?"),
    ],
)
def test_a_message_is_one_line_of_what_was_found_is_allowed_and_to_do(arguments: dict[str, object], sentence: str):
    error = DataError("a.csv: row 3 has no text", **arguments)  # type: ignore[arg-type]
    assert str(error) == sentence
    assert {name: getattr(error, name) for name in arguments} == arguments


def test_the_root_catches_all():
    with pytest.raises(PotstillError):
        raise OtherRunError("another run")
