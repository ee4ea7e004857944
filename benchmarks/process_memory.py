"""Resident memory of a process, as the kernel counts it for that program alone.

``ru_maxrss`` is of no use for that: it survives ``exec``, so a process begins with what the one that started it held.
"""

from __future__ import annotations

from pathlib import Path


def resident_mib(pid: int | str = "self") -> float:
    """What a process holds now."""
    return _mib("VmRSS", pid)


def peak_mib(pid: int | str = "self") -> float:
    """The most that a process has held since its program began; 0 of one that has ended and is not yet reaped."""
    return _mib("VmHWM", pid)


def _mib(field: str, pid: int | str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    found = [int(line.split()[1]) for line in lines if line.startswith(f"{field}:")]
    return found[0] / 1024 if found else 0.0
