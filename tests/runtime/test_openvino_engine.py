"""OpenVINO's Python binding under several threads."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Imports give way to other threads, as they may at any time; here they do it where it hurts.
TWO_AT_ONCE = """
import builtins, threading, time
import {module}
import openvino

real = builtins.__import__

def giving_way(*arguments, **named):
    time.sleep(0.01)
    return real(*arguments, **named)

builtins.__import__ = giving_way
both = threading.Barrier(2)

def ask():
    both.wait()
    openvino.Type.f32.to_dtype()

asking = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
for thread in asking:
    thread.start()
for thread in asking:
    thread.join()
"""


def runs(module: str, seconds: float) -> bool:
    try:
        command = [sys.executable, "-c", TWO_AT_ONCE.format(module=module)]
        return subprocess.run(command, timeout=seconds, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def test_two_threads_may_be_the_first_to_ask_the_binding_for_types():
    # oracle: the same program without the engine's import hangs, see below
    assert runs("potstill.runtime.openvino_engine", 60)


@pytest.mark.slow
def test_the_binding_alone_hangs_there():
    # once this fails, the engine's import no longer needs to ask first
    assert not runs("openvino", 20)
