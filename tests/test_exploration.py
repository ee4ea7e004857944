"""``potstill explore`` from the command line to the files it leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import potstill as package
from potstill.errors import RecipeError

ROWS = """text,label
a good film,good
A good film!,bad
a dull film,bad
one fine day,good
,good
a bad day,bad
the story was long,bad
the story was fine,good
a bright day,good
a mean story,bad
"""


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    path.write_text(ROWS * 3, encoding="utf-8")
    return path


def test_a_task_leaves_a_page_and_its_findings(potstill, tiny, tmp_path):
    out = tmp_path / "study"
    called = potstill("explore", "--task", "reviews", "--file", tiny.reviews, "--tokenizer", tiny.teacher, "--out", out)
    assert called.code == 0, called.err
    assert sorted(path.name for path in out.iterdir()) == ["explore.html", "explore.json"]
    assert called.out.strip().endswith("explore.html")
    findings = json.loads((out / "explore.json").read_text(encoding="utf-8"))
    assert findings["rows"] == {"train": 96, "selection": 12, "test": 12}
    assert findings["verdict"] in called.err
    assert findings["tokens"]["limit"] == 64
    assert "</html>" in (out / "explore.html").read_text(encoding="utf-8")


def test_json_on_stdout_is_what_the_file_holds(potstill, tiny, tmp_path):
    out = tmp_path / "study"
    called = potstill("explore", "--corpus", tiny.corpus, "--tokenizer", "none", "--out", out, "--json")
    assert called.code == 0, called.err
    printed = json.loads(called.out)
    assert printed.pop("page") == str(out / "explore.html")
    assert printed == json.loads((out / "explore.json").read_text(encoding="utf-8"))
    assert printed["rows"] == {"texts": 240}


@pytest.mark.parametrize("task", ["reviews", "pairs", "tags", "scores"])
def test_every_kind_of_task_can_be_studied(potstill, task_flags, tmp_path, task):
    called = potstill("explore", *task_flags[task], "--tokenizer", "none", "--out", tmp_path / "study", "--json")
    assert called.code == 0, called.err
    assert sum(json.loads(called.out)["rows"].values()) == 120


def test_empty_texts_are_studied_where_training_would_refuse_them(caches, reviews, tmp_path):
    # oracle: how the file was made, three empty texts of thirty rows
    found = package.explore(tmp_path / "study", file=reviews, tokenizer=None)
    assert sum(counts["empty"] for counts in found["looks"].values()) == 3
    assert found["duplicates"][1]["contradicting_texts"] == 1
    assert any(sentence.startswith("Leakage:") for sentence in found["warnings"])


def test_the_rows_are_those_that_fine_tuning_would_meet(caches, tiny, tmp_path):
    # oracle: the task as every run loads it
    from potstill.evaluate.stage import load_task_section
    from potstill.recipe.schema import TaskSection

    found = package.explore(tmp_path / "study", task="mine", file=tiny.reviews, tokenizer=None)
    data = load_task_section(TaskSection(name="mine", files=str(tiny.reviews)), None)
    assert found["balance"]["counts"] == {split: dict(counts.labels) for split, counts in data.counts.items()}


def test_a_study_can_be_made_again_and_never_over_something_else(potstill, tiny, tmp_path):
    flags = ("explore", "--corpus", tiny.corpus, "--tokenizer", "none", "--out", tmp_path / "study")
    assert [potstill(*flags).code for _ in range(2)] == [0, 0]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine", encoding="utf-8")
    refused = potstill(*flags[:-1], tmp_path / "other")
    assert refused.code == 2
    assert "not made by potstill" in refused.err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "either a task (or files) or a corpus"),
        (("--task", "cola", "--corpus", "docstrings"), "either a task (or files) or a corpus"),
        (("--task", "colla"), "unknown task"),
        (("--corpus", "nowhere.txt"), "no such file"),
        (("--task", "cola", "--tokenizer", "./nowhere"), "no such tokenizer folder"),
        (("--corpus", "docstrings", "--set", "batch=3"), "unknown field 'batch'"),
    ],
)
def test_what_cannot_be_studied_is_refused_in_one_line_before_anything_is_written(potstill, tmp_path, flags, said):
    if "--tokenizer" not in flags:
        flags = (*flags, "--tokenizer", "none")
    refused = potstill("explore", *flags, "--out", tmp_path / "study")
    assert refused.code == 2
    assert said in refused.err
    assert refused.err.count("\n") <= 2
    assert not (tmp_path / "study").exists()


def test_limits_and_cleaning_are_overrides_and_are_told(caches, tiny, tmp_path):
    found = package.explore(
        tmp_path / "study",
        file=tiny.reviews,
        tokenizer=None,
        set=["task.limits.train=20", "task.cleaning=[max_words:3]"],
    )
    assert found["rows"]["train"] == 20
    assert any("a stratified sample" in note for note in found["notes"])
    assert any("cleaning changed" in note for note in found["notes"])
    assert max(unit["parts"]["train"]["maximum"] for unit in found["lengths"] if unit["unit"] == "words") == 3


def test_a_misspelt_override_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="did you mean 'limits'"):
        package.explore(tmp_path / "study", task="cola", set=["task.limit.train=20"])


def test_a_study_never_loads_torch(tiny, tmp_path, caches):
    # oracle: sys.modules of a fresh interpreter
    program = (
        "import sys, potstill; "
        f"potstill.explore({str(tmp_path / 'study')!r}, corpus={str(tiny.corpus)!r}, tokenizer={str(tiny.teacher)!r}); "
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert said.stdout.split() == ["False", "False"]
