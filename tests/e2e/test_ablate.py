"""The verb ``ablate`` as people call it: in processes of its own, several at a time, killed and called again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

COMMAND = (sys.executable, "-c", "from potstill.cli.main import main; main()")
PATIENCE_S = 240.0


@pytest.fixture
def grid_file(tiny: Any, tmp_path: Path) -> Callable[..., Path]:
    """A grid of two rates over a recipe whose stages take a second, with more fields over it."""

    def write(**fields: Any) -> Path:
        recipe = {
            "teacher": {"model": str(tiny.encoder)},
            "pretrain": {"head_steps": 3, "max_steps": 4, "batch_size": 8},
            "corpus": {"source": str(tiny.corpus), "block_length": 32},
            "student": {"layers": 2},
            "distil": {"max_steps": 4, "batch_size": 8},
            "finetune": {"epochs": 2, "batch_size": 16, "max_length": 40, "checkpoint_steps": 1},
            "tasks": [{"name": "reviews", "files": str(tiny.reviews)}],
            "evaluate": {"resamples": 20, "speed_texts": 4, "speed_repeats": 1},
        }
        path = tmp_path / "rates.yaml"
        content = {"recipe": recipe, "grid": {"finetune.warmup": [0.1, 0.3]}, **fields}
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return path

    return write


def test_a_dry_run_shows_every_training_and_writes_nothing(grid_file, potstill, tmp_path):
    called = potstill("ablate", grid_file(seeds=[1, 2]), "--out", tmp_path / "out", "--dry-run", "--json")
    assert called.code == 0, called.err
    told = json.loads(called.out)
    # by hand: a teacher, a student, two rates of two seeds each, and the line of the total
    assert (told["arms"], len(told["stages"])) == (2, 1 + 1 + 4 + 1)
    assert told["stages"][-1]["minutes"] == pytest.approx(sum(row["minutes"] for row in told["stages"][:-1]))
    assert told["stages"][1]["parameters"] < told["stages"][0]["parameters"]
    assert not (tmp_path / "out").exists()


def test_a_misspelt_field_is_refused_in_a_line(grid_file, potstill, tmp_path):
    called = potstill("ablate", grid_file(grid={"finetune.warmups": [0.1, 0.2]}), "--out", tmp_path / "out")
    assert called.code == 2
    assert "did you mean 'finetune.warmup'?" in called.err
    assert called.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_at_a_time_give_the_weights_of_one_at_a_time(grid_file, potstill, tmp_path):
    path = grid_file(seeds=[1, 2])
    for jobs in (1, 2):
        called = potstill("ablate", path, "--out", tmp_path / f"of-{jobs}", "--jobs", jobs, "--json")
        assert called.code == 0, called.err
        assert f"2 arms, 6 stages, {jobs} at a time" in called.err
        assert json.loads(called.out)["page"] == str(tmp_path / f"of-{jobs}" / "report.html")
    alone, together = (
        {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("model.safetensors")}
        for root in (tmp_path / "of-1", tmp_path / "of-2")
    )
    assert len(alone) >= 6
    assert together == alone
    assert {file.name for file in (tmp_path / "of-2" / "logs").iterdir()} == {"worker-1.log", "worker-2.log"}


@pytest.mark.slow
def test_an_arm_that_fails_ends_with_code_1_and_all_others_done(grid_file, potstill, tmp_path):
    path = grid_file(grid={"finetune.learning_rate": [5e-5, 1e30]}, baseline="learning_rate=5e-05", arms=[{"name": "t", "measured": "teacher"}])  # fmt: skip # noqa: E501
    called = potstill("ablate", path, "--out", tmp_path / "out", "--jobs", 2)
    assert called.code == 1
    assert "1 arm failed: learning_rate=1e+30 (" in called.err.splitlines()[-1]
    assert called.out.splitlines()[-1] == str(tmp_path / "out" / "report.html")
    results = json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert [arm["name"] for arm in results["tasks"]["reviews"]["arms"]] == ["learning_rate=5e-05", "t"]


def _running(root: Path) -> list[Path]:
    """Classifiers that have a checkpoint and are not finished."""
    return [state.parents[3] for state in root.glob("tasks/*/*/seed-*/.work/finetune/*/trainer_state.json")]


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_its_arm_alone_and_the_same_command_resumes_it(
    grid_file, caches, potstill, tmp_path
):
    recipe_of = yaml.safe_load(grid_file().read_text())["recipe"]
    recipe_of["finetune"]["epochs"] = 30
    path, out = grid_file(recipe=recipe_of), tmp_path / "out"
    command = [*COMMAND, "ablate", str(path), "--out", str(out), "--jobs", "2"]
    master = subprocess.Popen(command, env={**os.environ, **caches}, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + PATIENCE_S
    while not _running(out) and time.monotonic() < deadline:
        assert master.poll() is None, master.communicate()
        time.sleep(0.005)
    victim = _running(out)[0]
    for child in _children(master.pid):
        if any(Path(link).is_relative_to(victim) for link in _open_files(child)):
            os.kill(child, signal.SIGKILL)
            break
    else:
        pytest.fail("nobody works on it")
    _, said = master.communicate(timeout=PATIENCE_S)
    assert master.returncode == 1
    assert "its process was killed by signal 9" in said
    assert json.loads((victim / "manifest.json").read_text())["status"] == "running"
    called = potstill("ablate", path, "--out", out, "--jobs", 1)
    assert called.code == 0, called.err
    peaceful = potstill("ablate", path, "--out", tmp_path / "peaceful", "--jobs", 2)
    assert peaceful.code == 0, peaceful.err
    for file in (tmp_path / "peaceful").rglob("model.safetensors"):
        assert file.read_bytes() == (out / file.relative_to(tmp_path / "peaceful")).read_bytes()


@pytest.mark.slow
def test_workers_end_with_the_process_that_gave_them_work(grid_file, caches, tmp_path):
    recipe_of = yaml.safe_load(grid_file().read_text())["recipe"]
    recipe_of["finetune"]["epochs"] = 500
    command = [*COMMAND, "ablate", str(grid_file(recipe=recipe_of)), "--out", str(tmp_path / "out"), "--jobs", "2"]
    master = subprocess.Popen(command, env={**os.environ, **caches}, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE_S
    while not _running(tmp_path / "out") and time.monotonic() < deadline:
        time.sleep(0.01)
    workers = _children(master.pid)
    assert len(workers) == 2
    master.kill()
    master.wait()
    while any(_alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [worker for worker in workers if _alive(worker)]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _open_files(pid: int) -> list[str]:
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.append(str(entry.readlink()))
        except FileNotFoundError:
            continue
    return links


def _alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()
