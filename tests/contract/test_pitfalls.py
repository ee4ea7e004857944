"""What the field gets wrong, by docs/architecture.md: each item has tests, whose docstrings say ``Pitfall 3``."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LISTED = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## What the field gets wrong")[2]
NUMBERS = [int(number) for number in re.findall(r"^(\d+)\. ", LISTED, re.MULTILINE)]


def pitfalls_of(file: Path) -> set[int]:
    """The pitfalls that the tests in ``file`` name."""
    functions = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if _is_test(node)]
    docstrings = [ast.get_docstring(function) or "" for function in functions]
    return {int(number) for words in docstrings for number in re.findall(r"Pitfall (\d+)", words)}


def _is_test(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test_")


@pytest.fixture(scope="module")
def tested() -> set[int]:
    return set().union(*map(pitfalls_of, (ROOT / "tests").rglob("test_*.py")))


def test_the_pitfalls_are_numbered_without_a_gap():
    assert list(range(1, len(NUMBERS) + 1)) == NUMBERS
    assert len(NUMBERS) >= 11


@pytest.mark.parametrize("number", NUMBERS)
def test_each_pitfall_has_a_test(number: int, tested: set[int]):
    assert number in tested, "no docstring of a test names it"


def test_no_test_names_a_pitfall_that_is_not_listed(tested):
    assert tested <= set(NUMBERS)
