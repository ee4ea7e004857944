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
both, told = threading.Barrier(2), []

def ask():
    both.wait()
    told.append(openvino.Type.f32.to_dtype().name)

asking = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
print("asking", flush=True)
for thread in asking:
    thread.start()
for thread in asking:
    thread.join()
print(*told)
"""


def said(module: str, seconds: float) -> str:
    """What two threads are told that are the first to ask for a type, once ``module`` is imported."""
    command = [sys.executable, "-c", TWO_AT_ONCE.format(module=module)]
    return subprocess.run(command, timeout=seconds, check=True, stdout=subprocess.PIPE, text=True).stdout


def test_two_threads_may_be_the_first_to_ask_the_binding_for_types():
    # oracle: the same program without the engine's import hangs, see below
    assert said("potstill.runtime.openvino_engine", 60) == "asking\nfloat32 float32\n"


@pytest.mark.slow
def test_the_binding_alone_hangs_there():
    # once this fails, the engine's import no longer needs to ask first
    with pytest.raises(subprocess.TimeoutExpired) as stopped:
        said("openvino", 20)
    assert stopped.value.stdout == b"asking\n"
