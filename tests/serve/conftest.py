"""The fake predictor and the server around it, as fixtures: tests are imported by path and share no module."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"serve_{name}", Path(__file__).parent / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fake() -> ModuleType:
    """The module of the fake: FakePredictor, running, until and the words they know."""
    return _load("fake")


@pytest.fixture
def predictor(fake: ModuleType) -> Any:
    """One label of three."""
    return fake.FakePredictor()


@pytest.fixture
def served(fake: ModuleType, predictor: Any, tmp_path: Path) -> Iterator[Any]:
    """A server of that predictor under the name ``words``, with everything as it is when nothing is said."""
    with fake.running({"words": predictor}, tmp_path) as running:
        yield running
