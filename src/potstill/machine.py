"""On what figures were measured: processor, cores, system, and the versions that decide the numbers."""

from __future__ import annotations

import contextlib
import math
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_REPORTED_PACKAGES = (
    "potstill", "torch", "transformers", "tokenizers", "datasets", "scikit-learn", "numpy",
    "openvino", "onnxruntime", "onnx",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of Python, the system and the packages that decide the numbers."""
    found = {"python": platform.python_version(), "system": _system()}
    for package in _REPORTED_PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def machine() -> dict[str, str]:
    """Processor and number of cores."""
    return {"processor": _processor(), "cores": str(os.cpu_count())}


def available_cores() -> int:
    """Cores that this process may use: those it is bound to, and no more than its control group allows."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(bound, _quota() or bound))


_CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def _quota(limit: Path = _CPU_LIMIT) -> int | None:
    """Whole cores that the control group of a container allows; None where it sets no bound."""
    try:
        share, _, period = limit.read_text().partition(" ")
        return math.ceil(int(share) / int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _system() -> str:
    """Name and number of the system, without what a distributor or a cloud adds to tell its builds apart."""
    libc = " ".join(platform.libc_ver()).strip()
    release = platform.release().partition("-")[0]
    return ", ".join(part for part in (f"{platform.system()} {release}", platform.machine(), libc) if part)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        if names:
            return names[0]
    return platform.processor() or platform.machine()
