"""The tiny training of ``rig.py``, as a fixture: the same file is a program for tests that need another process."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module", autouse=True)
def _frozen_heap() -> Iterator[None]:
    """Every fit collects garbage, which takes longer than the fit while all that torch imported is looked through."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def rig() -> ModuleType:
    """The module ``rig.py`` beside this file."""
    spec = importlib.util.spec_from_file_location("training_rig", Path(__file__).with_name("rig.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
