"""kill -9 in the middle of every stage, then the same command: bit for bit the weights of a run left in peace."""

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

pytestmark = pytest.mark.slow

COMMAND = (sys.executable, "-c", "from potstill.cli.main import main; main()")
PATIENCE_S = 120.0
STEPS = 80
NETWORK = ("--set", "bilstm.hidden_size=8", "--set", "bilstm.embedding_size=16", "--set", "bilstm.weighting=attention")


@pytest.fixture
def kill_when(caches: dict[str, str]) -> Callable[..., None]:
    """Start a command in a process of its own, and kill it as soon as ``reached()`` says so."""

    def kill(reached: Callable[[], bool], *arguments: object) -> None:
        command = [*COMMAND, *map(str, arguments)]
        process = subprocess.Popen(command, env={**os.environ, **caches}, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + PATIENCE_S
        try:
            while not reached():
                assert process.poll() is None, f"it ended before it could be killed: {process.communicate()[1]}"
                assert time.monotonic() < deadline, "it did not come that far"
                time.sleep(0.002)
        finally:
            process.kill()
            process.communicate()
        assert process.returncode == -signal.SIGKILL

    return kill


def whole_checkpoints(work: Path) -> int:
    """The newest step whose checkpoint is whole."""
    return max((int(state.parent.name.rpartition("-")[2]) for state in work.glob("*/trainer_state.json")), default=0)


def weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


def status(run: Path) -> str:
    return json.loads((run / "manifest.json").read_text())["status"]


@pytest.fixture
def stage_commands(tiny: Any, encoders: Any, classifiers: Any, task_flags: Any, small: Any) -> dict[str, Any]:
    """By name: the phase that is killed, and the command without its ``--out``, saving at every step."""

    def fields(stage: str, *more: str) -> tuple[str, ...]:
        return small(stage, f"{stage}.checkpoint_steps=1", *more)

    pretrain = ("pretrain", "--model", tiny.encoder, "--corpus", tiny.corpus)
    distil = ("distil", "--teacher", encoders["teacher"], "--corpus", tiny.corpus)
    finetune = ("finetune", "--model", encoders["student"], *fields("finetune", "finetune.epochs=16"))
    best = (*task_flags["reviews"], "--set", "finetune.keep=best")
    by_parts = (*best, "--set", "finetune.keep_epochs=true", "--set", "finetune.rates.decay=0.8")
    pooled = (*task_flags["tags"], "--set", "finetune.head={kind: hidden, size: 5, pooling: mean}")
    taught = (*task_flags["pairs"], "--teacher", classifiers["teacher-pairs"])
    network = ("baseline", "bilstm", *task_flags["reviews"], *fields("finetune", "finetune.epochs=16"))
    return {
        "pretrain, the head": ("head", (*pretrain, *fields("pretrain", f"pretrain.head_steps={STEPS}"))),
        "pretrain, everything": ("all", (*pretrain, *fields("pretrain", f"pretrain.max_steps={STEPS}"))),
        "distil": ("distil", (*distil, *fields("distil", f"distil.max_steps={STEPS}", "distil.evaluate_steps=7"))),
        "finetune, keeping the best": ("finetune", (*finetune, *best)),
        "finetune, with a teacher": ("finetune", (*finetune, *taught)),
        "finetune, the head first": ("finetune", (*finetune, *by_parts, "--set", "finetune.strategy=hybrid")),
        "finetune, from the top": ("finetune", (*finetune, *pooled, "--set", "finetune.strategy=gradual")),
        "baseline, a BiLSTM": ("finetune", (*network, *NETWORK)),
    }


@pytest.mark.parametrize(
    "name",
    [
        "pretrain, the head",
        "pretrain, everything",
        "distil",
        "finetune, keeping the best",
        "finetune, with a teacher",
        "finetune, the head first",
        "finetune, from the top",
        "baseline, a BiLSTM",
    ],
)
def test_a_killed_stage_resumes_to_the_same_bits(name, stage_commands, potstill, kill_when, tmp_path):
    phase, command = stage_commands[name]
    killed, peaceful = tmp_path / "killed", tmp_path / "peaceful"
    kill_when(lambda: whole_checkpoints(killed / ".work" / phase) >= 5, *command, "--out", killed)
    assert status(killed) == "running"
    assert not (killed / ".work" / phase / "finished.json").exists(), "killed in the middle, not after it"
    assert potstill(*command, "--out", killed).code == 0
    assert potstill(*command, "--out", peaceful).code == 0
    assert status(killed) == "finished"
    assert weights(killed) == weights(peaceful)
    epochs = [{file.relative_to(run): weights(file) for file in run.glob("epochs/*")} for run in (killed, peaceful)]
    assert epochs[0] == epochs[1]
    ours, theirs = ((run / "metrics.json", run / "history.jsonl") for run in (killed, peaceful))
    if theirs[0].exists():
        assert ours[0].read_text() == theirs[0].read_text()
    steps = [[json.loads(line)["step"] for line in file.read_text().splitlines()] for file in (ours[1], theirs[1])]
    assert steps[0] == steps[1], "no record twice, none lost"


def test_a_killed_stage_killed_again_resumes_to_the_same_bits(tiny, encoders, small, potstill, kill_when, tmp_path):
    fields = ("distil.checkpoint_steps=1", f"distil.max_steps={STEPS}")
    command = ("distil", "--teacher", encoders["teacher"], "--corpus", tiny.corpus, *small("distil", *fields))
    killed, peaceful = tmp_path / "killed", tmp_path / "peaceful"
    for step in (3, 20, 40):
        kill_when(lambda: whole_checkpoints(killed / ".work" / "distil") >= step, *command, "--out", killed)  # noqa: B023
        assert whole_checkpoints(killed / ".work" / "distil") >= step
    assert potstill(*command, "--out", killed).code == 0
    assert potstill(*command, "--out", peaceful).code == 0
    assert weights(killed) == weights(peaceful)


def test_a_stage_killed_before_its_first_checkpoint_starts_again(tiny, small, potstill, kill_when, tmp_path):
    fields = (f"pretrain.max_steps={STEPS}",)
    command = ("pretrain", "--model", tiny.teacher, "--corpus", tiny.corpus, *small("pretrain", *fields))
    killed, peaceful = tmp_path / "killed", tmp_path / "peaceful"
    kill_when((killed / "manifest.json").exists, *command, "--out", killed)
    assert potstill(*command, "--out", killed).code == 0
    assert potstill(*command, "--out", peaceful).code == 0
    assert weights(killed) == weights(peaceful)


def test_a_run_killed_between_stages_goes_on_and_ends_like_one_left_in_peace(
    experiment, tiny, potstill, kill_when, tmp_path
):
    """The oracle is the session's experiment, whose stages are the same work."""
    folder = tmp_path / "killed"
    fields = ("seeds=[1]", "second_distillation=false", "baselines=[random]")
    tasks = f"tasks=[{{name: reviews, files: {tiny.reviews}}}]"
    flags = [part for field in (*fields, tasks) for part in ("--set", field)]
    command = ("run", experiment.recipe, "--out", folder, *flags)
    student = folder / "encoders" / "student"
    kill_when(lambda: (student / "manifest.json").exists() and status(student) == "finished", *command)
    finished = json.loads((student / "manifest.json").read_text())["finished"]
    called = potstill(*command)
    assert called.code == 0, called.err
    assert "runs again" not in called.err
    assert json.loads((student / "manifest.json").read_text())["finished"] == finished, "it was skipped, not repeated"
    runs = sorted(path.parent for path in folder.rglob("model.safetensors"))
    assert len(runs) == 3 + 3
    for run in runs:
        assert weights(run) == weights(experiment.folder / run.relative_to(folder)), run
    assert (folder / "report.html").is_file()
    assert not list(folder.rglob(".work"))


def test_two_processes_do_not_work_on_one_folder(tiny, small, potstill, caches, tmp_path):
    fields = ("pretrain.checkpoint_steps=1", "pretrain.max_steps=2000")
    command = ("pretrain", "--model", tiny.teacher, "--corpus", tiny.corpus, "--out", tmp_path / "run")
    command += small("pretrain", *fields)
    other = subprocess.Popen([*COMMAND, *map(str, command)], env={**os.environ, **caches}, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not whole_checkpoints(tmp_path / "run" / ".work" / "all") and time.monotonic() < deadline:
            time.sleep(0.01)
        called = potstill(*command)
    finally:
        other.kill()
        other.wait()
    assert called.code == 2
    assert "another process is working on" in called.err
