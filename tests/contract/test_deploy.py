"""The container file and the systemd unit: what they say of potstill holds.

Oracles: the command line's own options, pyproject.toml's extras, and systemd's verifier where it is installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from potstill.cli.main import app

DEPLOY = Path(__file__).parents[2] / "deploy"
FILES = ("Containerfile", "potstill.service", "in_bare_environment.sh")


def text_of(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def options() -> dict[str, Any]:
    """What ``potstill serve`` can be given, with its defaults."""
    parameters = typer.main.get_command(app).commands["serve"].params  # type: ignore[attr-defined]
    return {name: parameter.default for parameter in parameters for name in parameter.opts}


@pytest.mark.parametrize("name", FILES)
def test_every_option_of_the_server_is_one_that_it_has(name):
    lines = text_of(name).replace("\\\n", " ").splitlines()
    used = {
        option for line in lines if "serve " in line for option in re.findall(r"--[a-z-]+", line.split("serve ")[1])
    }
    assert used <= options().keys()
    assert used


@pytest.mark.parametrize("name", FILES)
def test_every_extra_is_one_that_there_is(name):
    extras = set(tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    named = {extra for listed in re.findall(r"potstill\[([a-z,]+)\]", text_of(name)) for extra in listed.split(",")}
    assert named == {"serve"}
    assert named <= extras


def test_systemd_takes_the_unit(tmp_path):
    verifier = shutil.which("systemd-analyze")
    if verifier is None:
        pytest.skip("systemd is not installed")
    unit = tmp_path / "potstill.service"
    unit.write_text(text_of("potstill.service").replace("/opt/potstill/bin/potstill", sys.executable))
    done = subprocess.run(
        [verifier, "verify", "--man=no", unit], capture_output=True, text=True, check=False, timeout=60
    )
    complaints = [line for line in done.stderr.splitlines() if "potstill.service" in line]
    assert (done.returncode, complaints) == (0, []), done.stderr


def test_systemd_waits_longer_than_the_server_drains():
    # it kills after TimeoutStopSec; what was accepted is answered for up to --drain seconds
    (waits,) = re.findall(r"^TimeoutStopSec=(\d+)$", text_of("potstill.service"), re.MULTILINE)
    assert int(waits) > options()["--drain"]
