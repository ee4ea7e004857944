"""Freed memory stays with the process."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from potstill.training.allocator import keep_freed_memory

PROGRAM = """
import resource, sys
import numpy
from potstill.training.allocator import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else None
numpy.ones(4_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    numpy.ones(4_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True, timeout=60)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_large_blocks_are_faulted_in_once():
    # oracle: the kernel's count of page faults while 32 MB are taken and given back ten times
    assert keep_freed_memory()
    assert page_faults("keep") * 10 < page_faults("leave")


def test_where_there_is_no_glibc_nothing_is_done(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert keep_freed_memory() is False
