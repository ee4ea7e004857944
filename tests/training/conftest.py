"""The tiny training of ``rig.py``, as a fixture: the same file is a program for tests that need another process."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def rig() -> ModuleType:
    """The module ``rig.py`` beside this file."""
    spec = importlib.util.spec_from_file_location("training_rig", Path(__file__).with_name("rig.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
