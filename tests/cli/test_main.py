"""The command line itself: how fast it answers, what it says when work fails, and what it prints."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from potstill.cli.printing import print_json, print_rows

VERBS = ("init", "run", "pretrain", "distil", "finetune", "evaluate", "compare", "report", "demo", "serve")
HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "pandas",
    "pyarrow",
    "sklearn",
    "scipy",
    "matplotlib",
    "numpy",
    "pydantic",
    "fastapi",
    "uvicorn",
)
COMMAND = ("-c", "from potstill.cli.main import main; main()")
IMPORTED = "import sys; from potstill.cli.main import main; print([m for m in sys.argv[1:] if m in sys.modules])"


def python(*arguments: str | bytes, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, **options)


def test_help_names_every_verb(potstill):
    called = potstill("--help")
    assert called.code == 0
    assert all(verb in called.out for verb in VERBS)


def test_help_imports_nothing_heavy():
    assert python("-c", IMPORTED, *HEAVY).stdout.strip() == "[]"


def test_help_takes_less_than_half_a_second_of_the_processor():
    def took_s() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert python(*COMMAND, "--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    # The least of three: beside other tests a process waits for memory that is not its own.
    assert min(took_s() for _ in range(3)) < 0.5


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb, potstill):
    called = potstill(verb, "--help")
    assert called.code == 0
    assert "Usage: potstill" in called.out


def test_wrong_usage_exits_with_2(potstill):
    assert potstill("distil").code == 2
    assert potstill("distill", "--out", "x").code == 2


@pytest.mark.parametrize(
    "arguments",
    [("attend", "run", "--out", "out", "--text", b"a fine \xff film"), ("init", b"r\xe9cipe.yaml")],
    ids=["a text", "the name of a file"],
)
def test_bytes_that_are_not_utf8_are_refused_in_one_line(arguments, tmp_path):
    called = python(*COMMAND, *arguments, cwd=tmp_path)
    assert called.returncode == 2
    assert f"argument {len(arguments)} is not UTF-8; found '" in called.stderr
    assert called.stderr.count("\n") == 1, called.stderr
    assert list(tmp_path.iterdir()) == []


def test_init_writes_a_recipe_that_a_dry_run_plans(potstill, tiny, tmp_path):
    recipe = tmp_path / "mine.yaml"
    assert potstill("init", recipe, "--task", "cola").code == 0
    fields = (
        f"teacher.model={tiny.encoder}",
        f"corpus.source={tiny.corpus}",
        "corpus.block_length=32",
        "student.layers=2",
    )
    tasks = f"tasks=[{{name: x, files: {tiny.reviews}}}]"
    overrides = [part for field in (*fields, tasks) for part in ("--set", field)]
    called = potstill("run", recipe, "--out", tmp_path / "out", "--dry-run", "--json", *overrides)
    assert called.code == 0, called.err
    assert len(json.loads(called.out)) >= 1 + 3 + 4, "pretrain, three encoders, four arms"
    assert not (tmp_path / "out").exists()
    streamed = potstill("run", recipe, "--dry-run", "--json", *overrides, "--set", "corpus.streaming=true")
    rows = [[row["rows"] for row in json.loads(said.out)] for said in (called, streamed)]
    assert rows[0] == rows[1], "a corpus that is not counted ahead is counted for the plan"


def test_an_output_folder_may_have_a_number_for_a_name(potstill, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(
        f"name: x\nteacher: {{model: {tiny.teacher}}}\nstudent: {{layers: 2}}\ntasks: [{{name: cola}}]\n"
    )
    called = potstill("run", "r.yaml", "--out", "2024", "--data-dir", "2025")
    assert "2025" in called.err
    assert "glue/cola/train.parquet is missing" in called.err


@pytest.mark.slow
def test_debug_shows_the_traceback_wherever_it_stands(tiny, caches, tmp_path):
    arguments = (*COMMAND, "evaluate", str(tmp_path))
    plain, debug = python(*arguments), python(*arguments, "--debug")
    assert plain.returncode == 2
    assert (
        plain.stderr
        == f"potstill: {tmp_path} is not a run folder (no manifest.json in it); name the --out of a stage.\n"
    )
    assert debug.returncode != 0
    assert "Traceback" in debug.stderr
    assert "RunFolderError" in debug.stderr


def finetune_flags(tiny: Any, out: Path) -> tuple[str, ...]:
    arguments = ("finetune", "--model", tiny.teacher, "--task", "x", "--file", tiny.reviews, "--out", out)
    return (*map(str, arguments), "--max-length", "40", "--set", "finetune.checkpoint_steps=1")


def test_a_loss_that_is_no_number_stops_at_its_step_and_keeps_the_last_checkpoint(potstill, tiny, tmp_path):
    out = tmp_path / "run"
    called = potstill(*finetune_flags(tiny, out), "--set", "finetune.warmup=0", "--learning-rate", "1e30")
    assert called.code == 1
    last = called.err.splitlines()[-1]
    assert last.startswith("potstill: the loss became nan at step 2 of")
    assert "Traceback" not in called.err
    kept = out / ".work" / "finetune" / "checkpoint-1"
    assert str(kept) in last
    assert (kept / "model.safetensors").is_file()
    assert not (out / "model.safetensors").exists()
    assert json.loads((out / "manifest.json").read_text())["status"] == "running"


@pytest.mark.parametrize("keep", ["last", "best"])
def test_weights_that_are_ruined_by_the_last_step_do_not_make_a_run(keep, potstill, tiny, tmp_path):
    out = tmp_path / "run"
    fields = ("finetune.max_steps=1", "finetune.warmup=0", f"finetune.keep={keep}")
    overrides = [part for field in fields for part in ("--set", field)]
    called = potstill(*finetune_flags(tiny, out), *overrides, "--learning-rate", "1e30")
    assert called.code == 1, called.err
    assert "step 1" in called.err.splitlines()[-1]
    assert not (out / "predictions").exists()


@pytest.mark.parametrize("stage", ["pretrain", "distil"])
def test_an_encoder_that_diverges_does_not_make_a_run(stage, potstill, small, tiny, tmp_path):
    model = "--model" if stage == "pretrain" else "--teacher"
    flags = small(stage, f"{stage}.learning_rate=1e30", f"{stage}.warmup=0", f"{stage}.max_steps=1")
    called = potstill(stage, model, tiny.teacher, "--corpus", tiny.corpus, "--out", tmp_path / "run", *flags)
    assert called.code == 1, called.err
    assert "step 1" in called.err.splitlines()[-1]
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [1, 20])
def test_a_full_disk_stops_with_one_line_and_leaves_no_half_of_a_file(kilobytes, tiny, caches, tmp_path):
    out = tmp_path / "run"
    called = python(
        *COMMAND,
        *finetune_flags(tiny, out),
        env={**os.environ, **caches},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, kilobytes * 1024)),
    )
    assert called.returncode == 1, called.stderr
    assert "Traceback" not in called.stderr
    assert "free some space" in called.stderr.splitlines()[-1]
    assert not list(out.rglob("*.safetensors"))
    assert json.loads((out / "manifest.json").read_text())["status"] == "running"


@pytest.mark.slow
def test_a_disk_that_was_full_is_no_obstacle_once_it_is_not(tiny, caches, potstill, tmp_path):
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))}
    flags = finetune_flags(tiny, tmp_path / "run")
    assert python(*COMMAND, *flags, env={**os.environ, **caches}, **limit).returncode == 1
    assert potstill(*flags).code == 0
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_json_has_null_for_what_is_no_number(capsys):
    print_json({"a": float("nan"), "b": [1.5, float("inf")], "c": {"d": "é"}})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.5, None], "c": {"d": "é"}}


def test_a_table_has_a_dash_for_what_is_not_defined(capsys):
    print_rows("figures", [{"metric": "pearsonr", "value": None}, {"metric": "r2", "value": float("nan")}])
    assert capsys.readouterr().out.count("–") == 2
