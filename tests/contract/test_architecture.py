"""The rules of docs/architecture.md that a linter of imports cannot see."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "potstill"
MODULES = sorted(SOURCE.rglob("*.py"))
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
HEAVY = ("torch", "transformers")
LIGHT = (
    "potstill",
    "potstill.errors",
    "potstill.records",
    "potstill.decisions",
    "potstill.runs",
    *sorted(f"potstill.recipe.{file.stem}" for file in (SOURCE / "recipe").glob("*.py") if file.stem != "__init__"),
    "potstill.analyse.ablation.study",
    "potstill.models.linear",
    "potstill.models.linear_fit",
    "potstill.runtime.linear_predictor",
    "potstill.runtime.opening",
    *sorted(f"potstill.data.{file.stem}" for file in (SOURCE / "data").glob("*.py") if file.stem != "__init__"),
    "potstill.bundle",
    "potstill.runtime.bundle_predictor",
    "potstill.runtime.files",
    "potstill.shipping",
    "potstill.export.gate",
    "potstill.export.vocabulary",
    "potstill.bench.study",
    "potstill.models.aliases",
    "potstill.analyse.data.study",
    "potstill.exploration",
    "potstill.studies",
    "potstill.evaluate.metrics",
    "potstill.evaluate.significance",
    "potstill.evaluate.retention",
    "potstill.evaluate.decision_fit",
    "potstill.analyse.failures.study",
    "potstill.report.page",
    "potstill.report.attention.page",
    "potstill.report.failures.page",
    "potstill.report.ablation.page",
    "potstill.report.model_card",
    "potstill.serve.opened_bundle",
    "potstill.serve.server",
    "potstill.cli.main",
)
DRAWERS = {"utils", "util", "helpers", "common", "misc", "base", "manager", "tools"}
MAX_LINES = 400


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


def imports_at_start(file: Path) -> set[str]:
    """Names of the modules that importing ``file`` imports: those outside functions and outside TYPE_CHECKING."""
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
        pending.extend(ast.iter_child_nodes(node))
    return found - {"__future__"}


Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def public_definitions(body: list[ast.stmt]) -> Iterator[Definition]:
    """Functions and classes without an underscore before their name, and the like in those classes."""
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body)


IMPORT_ONE_BY_ONE = """
import importlib, sys
for module in sys.argv[2:]:
    importlib.import_module(module)
    if loaded := set(sys.argv[1].split()) & set(sys.modules):
        sys.exit(f"{module} imports {sorted(loaded)}")
"""


def test_light_modules_start_without_torch():
    """Oracle: the modules of one fresh interpreter, which names the first that brings something heavy."""
    command = [sys.executable, "-c", IMPORT_ONE_BY_ONE, " ".join(HEAVY), *LIGHT]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_heavy_module_among_them_would_be_named():
    command = [sys.executable, "-c", IMPORT_ONE_BY_ONE, "json", "math", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stderr.strip() == "json imports ['json']"


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("__init__.py")), ids=name_of)
def test_packages_import_nothing_by_being_opened(file: Path):
    allowed = sys.stdlib_module_names if file.parent == SOURCE else frozenset()
    assert {name for name in imports_at_start(file) if name.split(".")[0] not in allowed} == set()


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_modules_and_their_public_parts_say_what_they_do(file: Path):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the module has no docstring"
    silent = [node.name for node in public_definitions(tree.body) if not ast.get_docstring(node)]
    assert silent == []


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_a_file_holds_one_idea(file: Path):
    assert file.stem not in DRAWERS
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_nothing_opens_what_could_run_code(file: Path):
    # pickles, trust in remote code, and loads that pass over what does not fit
    tree = ast.parse(file.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = {ast.unparse(call.func) for call in calls}
    keywords = {(keyword.arg, ast.unparse(keyword.value)) for call in calls for keyword in call.keywords}
    assert not named & {"torch.load", "pickle.load", "pickle.loads", "joblib.load", "eval", "exec"}
    assert not keywords & {("trust_remote_code", "True"), ("strict_load", "False"), ("allow_pickle", "True")}
    loads = [call for call in calls if ast.unparse(call.func).endswith(("load_state_dict", "load_model"))]
    assert not [call for call in loads for keyword in call.keywords if ast.unparse(keyword) == "strict=False"]


def test_every_package_is_in_the_test_tree():
    rooms = {file.parent.name for file in SOURCE.glob("*/__init__.py")}
    assert rooms - {folder.name for folder in (ROOT / "tests").iterdir()} == set()


def test_commands_of_the_readme_are_in_the_makefile():
    commands = set(
        re.findall(r"^\s*\$?\s*make (\w[\w-]*)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"demo", "test"} <= commands
    assert commands <= targets


def test_there_are_recipes():
    assert "e5-distilbert.yaml" in {file.name for file in RECIPES}


@pytest.mark.parametrize("file", RECIPES, ids=name_of)
def test_every_recipe_loads(file: Path):
    from potstill.recipe.files import load_recipe

    assert load_recipe(file) is not None
