"""What to suggest when a name is not known: the nearest ones that are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggest(met: str, known: Iterable[str], otherwise: str | None = None) -> str | None:
    """A question naming up to three known names that look like ``met``; ``otherwise`` where none does."""
    by_lower = {name.lower(): name for name in known}
    nearest = difflib.get_close_matches(met.lower(), by_lower, n=3, cutoff=0.5)
    if not nearest:
        return otherwise
    return f"did you mean {' or '.join(repr(by_lower[name]) for name in nearest)}?"
