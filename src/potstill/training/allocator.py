"""Memory that training gives back and takes again every step stays with the process."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Tell glibc to reuse freed blocks, however large, instead of returning them to the system; False elsewhere.

    A logits matrix over a vocabulary is tens of megabytes and lives for one step. By default each is mapped afresh and
    its pages are faulted in one by one, which took a third of a distillation step (``docs/log.md``, 2026-11-21).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
