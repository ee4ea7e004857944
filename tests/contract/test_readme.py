"""What the documentation says exists: commands, flags, recipe fields, calls, make targets, files and links.

Every ``potstill`` line of the pages is carried out, in its order, up to the point where work would begin. The oracles
are the command line itself, the signatures of the functions, the files on disk and the linter's contract.
"""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
GUIDE = ROOT / "docs" / "guide"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SOURCE = ROOT / "src" / "potstill"
HEAVY_WORK = ("pretrain", "distil", "finetune", "evaluate", "compare", "report", "run_recipe")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


class WorkBeginsError(Exception):
    """The command was understood and its work would begin now."""


def blocks(page: Path, language: str) -> list[str]:
    return [body for found, body in BLOCK.findall(page.read_text(encoding="utf-8")) if found == language]


def shell_lines(program: str, *pages: Path) -> list[str]:
    lines = [line for page in pages for block in blocks(page, "sh") for line in block.splitlines()]
    return [line for line in lines if line.split()[:1] == [program]]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture
def stopped_before_work(monkeypatch: pytest.MonkeyPatch) -> None:
    from potstill import decide, estimate, exploration, pipeline, shipping
    from potstill.grid import stage as grid_stage
    from potstill.report.attention import stage as attention_stage
    from potstill.report.failures import stage as failures_stage
    from potstill.serve import server

    def begin(*arguments: object, **named: object) -> Any:
        raise WorkBeginsError

    for name in HEAVY_WORK:
        monkeypatch.setattr(pipeline, name, begin)
    monkeypatch.setattr(estimate, "estimate", begin)
    monkeypatch.setattr(decide, "calibrate", begin)
    monkeypatch.setattr(failures_stage, "write_failures", begin)
    monkeypatch.setattr(attention_stage, "attend", begin)
    monkeypatch.setattr(estimate, "estimate_stages", begin)
    monkeypatch.setattr(grid_stage, "run_grid", begin)
    monkeypatch.setattr(exploration, "explore", begin)
    monkeypatch.setattr(server, "run_server", begin)
    for name in ("export", "predict", "predict_to_output", "bench"):
        monkeypatch.setattr(shipping, name, begin)


def exit_code_of(command: str) -> int:
    from potstill.cli.main import main

    with pytest.raises(SystemExit) as left:
        main(shlex.split(command)[1:])
    return int(left.value.code or 0)


def test_every_command_of_the_readme_runs_up_to_its_work(
    stopped_before_work: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = shell_lines("potstill", *PAGES)
    assert {shlex.split(command)[1] for command in commands} >= {"init", "run", "distil", "finetune", "compare"}
    for command in commands:
        if command.startswith("potstill init"):
            assert exit_code_of(command) == 0, f"{command}\n{capsys.readouterr().err}"
            continue
        try:
            code = exit_code_of(command)
        except WorkBeginsError:
            continue
        pytest.fail(f"{command}\nleft with {code} before its work: {capsys.readouterr().err}")


def commands_in_comments(recipe: Path) -> list[str]:
    """The indented commands of a recipe's comments; words behind a # belong to the reader."""
    text = re.sub(r"\\\n#\s+", " ", recipe.read_text(encoding="utf-8"))
    found = re.findall(r"^#     (potstill [^\n]*)$", text, re.MULTILINE)
    return [shlex.join(shlex.split(command, comments=True)) for command in found]


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_command_in_the_comments_of_a_recipe_runs_up_to_its_work(
    recipe: Path, stopped_before_work: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = commands_in_comments(recipe)
    assert commands, "a recipe says how it is run"
    for command in commands:
        with pytest.raises(WorkBeginsError):
            exit_code_of(command)


def test_a_misspelt_flag_would_be_noticed(stopped_before_work: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of("potstill distil --teacher a --out b --layer 3") == 2
    assert exit_code_of("potstill distil --teacher a --out b --set distil.epoch=2") == 2
    assert "distil.epoch" in capsys.readouterr().err


def test_the_readme_has_a_line_for_every_verb() -> None:
    from typer.main import get_command

    from potstill.cli.main import app

    told = set(re.findall(r"^\| `potstill (\w+)` \|", README.read_text(encoding="utf-8"), re.MULTILINE))
    assert told == set(get_command(app).commands)  # type: ignore[attr-defined]


def test_the_recipe_of_the_readme_is_a_recipe() -> None:
    from potstill.recipe.schema import Recipe
    from potstill.recipe.sections import build

    (recipe,) = blocks(README, "yaml")
    assert build(Recipe, yaml.safe_load(recipe), where="README.md").name == "reviews"


def test_the_grid_of_the_guide_is_a_grid_of_the_readmes_recipe(tmp_path: Path) -> None:
    from potstill.recipe.grids import load_grid

    for name, page in {"recipe.yaml": README, "grid.yaml": GUIDE / "ablation.md"}.items():
        (content,) = blocks(page, "yaml")
        (tmp_path / name).write_text(content, encoding="utf-8")
    grid = load_grid(tmp_path / "grid.yaml")
    assert (len(grid.arms), grid.baseline) == (8, "layers=6,heads=12")


def python_calls() -> list[ast.Call]:
    calls = [node for block in blocks(README, "python") for node in ast.walk(ast.parse(block))]
    return [node for node in calls if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("potstill.")]


@pytest.mark.parametrize("call", python_calls(), ids=lambda call: ast.unparse(call.func))
def test_calls_of_the_readme_fit_the_functions(call: ast.Call) -> None:
    import potstill

    function = getattr(potstill, ast.unparse(call.func).removeprefix("potstill."))
    inspect.signature(function).bind(*call.args, **{str(keyword.arg): keyword.value for keyword in call.keywords})


def test_the_readme_calls_every_function_of_the_package() -> None:
    import potstill

    assert {ast.unparse(call.func).removeprefix("potstill.") for call in python_calls()} == set(potstill.__all__)


def test_make_targets_of_the_documentation_are_in_the_makefile() -> None:
    lines = shell_lines("make", *PAGES)
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    asked = {word for line in lines for word in line.split()[1:] if "=" not in word}
    assert {"demo", "test"} <= asked <= targets


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = LINK.findall(BLOCK.sub("", page.read_text(encoding="utf-8")))
    relative = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in relative if link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_names_a_folder_of_one_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"(?<![\w.>])/(?:home|root|work|tmp|Users|usr|mnt)/\S*", text) == []


def files_of_the_tree(folder: str) -> set[str]:
    """Paths below a folder of the first level that the tree of docs/source.md names, by its indentation."""
    (tree,) = blocks(ROOT / "docs" / "source.md", "")
    inside, folders, found = False, [], set()
    for line in tree.splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        inside = name == folder if depth == 0 else inside
        if not inside or depth == 0:
            continue
        folders = folders[: depth - 1]
        if name.endswith("/"):
            folders.append(name)
        else:
            found.add("".join(folders) + name)
    return found


def test_the_readme_leads_to_every_chapter_of_the_guide() -> None:
    linked = set(re.findall(r"\]\(docs/guide/([\w-]+\.md)\)", README.read_text(encoding="utf-8")))
    assert linked == {page.name for page in GUIDE.glob("*.md")}


def rooms_of(tree: str) -> set[str]:
    return set(re.findall(r"^  (\w+)/", tree, re.MULTILINE))


def test_the_trees_of_readme_and_architecture_name_every_room() -> None:
    there = {folder.parent.name for folder in SOURCE.glob("*/__init__.py")}
    for page in (README, ROOT / "docs" / "architecture.md"):
        (tree,) = [block for block in blocks(page, "") if "src/potstill/" in block]
        assert rooms_of(tree) == there, page.name


def test_the_tree_of_the_source_names_every_file() -> None:
    there = {file.relative_to(SOURCE).as_posix() for file in SOURCE.rglob("*.py") if file.name != "__init__.py"}
    assert files_of_the_tree("src/potstill/") == there


@pytest.mark.parametrize("folder", ["benchmarks", "deploy"])
def test_the_tree_of_the_source_names_every_benchmark_and_what_deploys(folder: str) -> None:
    there = {file.name for file in (ROOT / folder).iterdir() if file.is_file()}
    assert files_of_the_tree(f"{folder}/") == there


def test_the_line_of_layers_is_the_linters_contract() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = {contract["id"]: contract for contract in project["tool"]["importlinter"]["contracts"]}
    (line,) = [block for block in blocks(ROOT / "docs" / "architecture.md", "") if block.startswith("cli >")]
    assert line.strip() == " > ".join(contracts["layers"]["layers"]).replace("potstill.", "")


def test_every_decision_is_numbered_once_in_order() -> None:
    names = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(name[:3]) for name in names] == list(range(1, len(names) + 1))
