"""A server as a process: what it imports, its signals and exit code, and the verb ``potstill serve``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from potstill.runtime.bundle_predictor import BundlePredictor

HEAVY = ("torch", "transformers", "datasets", "pandas", "pyarrow", "sklearn", "scipy", "matplotlib")
PROGRAM = """
import importlib.util, os, signal, sys
from pathlib import Path

spec = importlib.util.spec_from_file_location("serve_fake", {fake!r})
fake = importlib.util.module_from_spec(spec)
sys.modules["serve_fake"] = fake
spec.loader.exec_module(fake)
from potstill.serve.server import run_server
from potstill.serve.settings import Settings

signal.signal(signal.SIGHUP, signal.SIG_DFL)
too_early = [signal.SIGHUP] if "too early" in sys.argv else []

def open_predictor(folder):
    while too_early:
        os.kill(os.getpid(), too_early.pop())
    print("opened", flush=True)
    return fake.FakePredictor(seconds=0.3)

run_server(["words={folder}"], open_predictor=open_predictor, settings=Settings(), port=0)
print("ended", *sorted(set({heavy!r}) & set(sys.modules)), flush=True)
"""


class Process:
    """A server in a process of its own."""

    def __init__(self, folder: Path, *told: str) -> None:
        fake = Path(__file__).with_name("fake.py")
        program = PROGRAM.format(fake=str(fake), folder=folder, heavy=HEAVY)
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *told], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        (address,) = json.loads(self.process.stderr.readline())["addresses"]
        self.client = httpx.Client(base_url=f"http://{address}", timeout=20)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, list[str], list[dict[str, Any]]]:
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out.splitlines(), [json.loads(line) for line in err.splitlines()]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    started = Process(tmp_path)
    yield started
    started.client.close()
    if started.process.poll() is None:
        started.process.kill()
        started.process.communicate()


def test_a_server_imports_nothing_heavy_and_ends_well(process):
    assert process.client.post("/predict", json={"inputs": "good"}).status_code == 200
    process.signal(signal.SIGTERM)
    code, out, _ = process.end()
    assert code == 0
    assert out == ["opened", "ended"], "and nothing of what is heavy"


def test_short_things_do_not_wait_for_long_ones():
    # oracle: what Python and the tokenizers library say of themselves
    program = (
        "import gc, os, sys; from potstill.serve.server import keep_what_is_there, settle_in;"
        "settle_in(); keep_what_is_there();"
        "print(sys.getswitchinterval(), gc.get_freeze_count() > 10_000, os.environ['TOKENIZERS_PARALLELISM'])"
    )
    free = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=free)
    assert done.stdout.split() == ["0.001", "True", "false"]


def test_sigterm_answers_what_was_accepted(process):
    got: list[int] = []
    asking = threading.Thread(
        target=lambda: got.append(process.client.post("/predict", json={"inputs": [["good"]] * 3}).status_code)
    )
    asking.start()
    with httpx.Client(base_url=process.client.base_url) as other:
        while 'te_request_count{method="batch",model="words"} 1.0' not in other.get("/metrics").text:
            pass
    process.signal(signal.SIGTERM)
    code, _, lines = process.end()
    asking.join(10)
    assert (code, got) == (0, [200])
    assert "leaving" in " ".join(line["event"] for line in lines)


def test_a_reload_that_is_asked_for_too_early_is_done_later(tmp_path):
    process = Process(tmp_path, "too early")
    while 'potstill_reloads_total{model="words",result="opened"} 1.0' not in process.client.get("/metrics").text:
        pass
    process.client.close()
    process.signal(signal.SIGTERM)
    code, out, _ = process.end()
    assert (code, out) == (0, ["opened", "opened", "ended"])


def test_sighup_opens_the_bundles_anew(process):
    process.signal(signal.SIGHUP)
    while 'potstill_reloads_total{model="words",result="opened"} 1.0' not in process.client.get("/metrics").text:
        pass
    assert process.client.post("/predict", json={"inputs": "good"}).status_code == 200
    process.signal(signal.SIGINT)
    code, out, _ = process.end()
    assert (code, out) == (0, ["opened", "opened", "ended"])


def test_an_address_that_is_taken_is_told_before_anything_opens(fake, served, tmp_path, potstill):
    (tmp_path / "b").mkdir()
    called = potstill("serve", tmp_path / "b", "--port", served.port)
    assert called.code == 2
    assert "cannot listen there" in called.err


def test_the_verb_refuses_what_cannot_be_served(potstill, tmp_path):
    assert "no such bundle folder" in potstill("serve", tmp_path / "missing", "--port", 0).err
    short = tmp_path / "keys"
    short.write_text("short\n")
    assert "too short" in potstill("serve", tmp_path, "--port", 0, "--api-keys", short).err
    empty = potstill("serve", tmp_path, "--port", 0)
    assert (empty.code, "is not a bundle" in empty.err, "potstill export" in empty.err) == (2, True, True)


def test_a_run_is_refused_with_what_to_do(potstill, classifiers):
    called = potstill("serve", classifiers["reviews"], "--port", 0)
    assert called.code == 2
    assert "is not a bundle" in called.err
    assert "potstill export RUN --out BUNDLE" in called.err


def test_bundles_are_served_as_they_predict(bundles, caches):
    # oracle: the bundle's predictor in this process
    command = [sys.executable, "-c", "from potstill.cli.main import main; main()", "serve"]
    command += [f"{task}={bundles[task]}" for task in ("reviews", "tags", "pairs")] + ["--port", "0", "--threads", "1"]
    texts = {"reviews": ["a good film", "the story was very dull"], "tags": ["a good film"], "pairs": [("a", "b")]}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **caches}) as process:
        assert process.stderr is not None
        (address,) = json.loads(process.stderr.readline())["addresses"]
        with httpx.Client(base_url=f"http://{address}", timeout=60) as client:
            for name, given in texts.items():
                told = client.post("/v1/classify", json={"inputs": given, "bundle": name}).json()["results"]
                expected = BundlePredictor.open(bundles[name]).predict(given)
                for result, probabilities in zip(told, expected.probabilities.tolist(), strict=True):
                    assert list(result["probabilities"].values()) == pytest.approx(probabilities, abs=1e-5)
            assert client.get("/info").json()["model_dtype"] == "float32"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_bundle_survives_being_opened_anew_again_and_again(fake, bundles, caches):
    # OpenVINO unloads its plugin with the last of its cores, under threads that still run: the process died of it
    command = [sys.executable, "-c", "from potstill.cli.main import main; main()", "serve", str(bundles["reviews"])]
    environment = {**os.environ, **caches}
    with subprocess.Popen([*command, "--port", "0"], stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        (address,) = json.loads(process.stderr.readline())["addresses"]
        with httpx.Client(base_url=f"http://{address}", timeout=60) as client:
            for n in range(1, 5):
                process.send_signal(signal.SIGHUP)
                fake.until(lambda n=n: f'result="opened"}} {n}.0' in client.get("/metrics").text, 60)
                assert client.post("/predict", json={"inputs": "a good film"}).status_code == 200
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0
