"""A grid over the tiny world: small enough that every stage takes a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from potstill.grid.crew import InProcess
from potstill.grid.plan import GridPlan
from potstill.grid.stage import open_grid, run_grid


def recipe_of(tiny: Any, **fields: Any) -> dict[str, Any]:
    """The recipe of ``tests/conftest.py`` with one task and one seed."""
    return {
        "teacher": {"model": str(tiny.encoder)},
        "pretrain": {"head_steps": 3, "max_steps": 4, "batch_size": 8},
        "corpus": {"source": str(tiny.corpus), "block_length": 32},
        "student": {"layers": 2},
        "distil": {"max_steps": 4, "batch_size": 8},
        "finetune": {"epochs": 2, "batch_size": 16, "max_length": 40, "learning_rate": 0.003},
        "tasks": [{"name": "reviews", "files": str(tiny.reviews)}],
        "evaluate": {"resamples": 50, "speed_texts": 8, "speed_repeats": 1},
        **fields,
    }


@pytest.fixture(scope="session")
def write_grid(tiny: Any) -> Callable[..., Path]:
    """``write_grid(path, field=…)``: a grid file over the tiny recipe; ``recipe`` takes fields over it."""

    def write(path: Path, **fields: Any) -> Path:
        content = {**fields, "recipe": recipe_of(tiny, **fields.get("recipe", {}))}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return path

    return write


@pytest.fixture
def planned(write_grid: Callable[..., Path], tmp_path: Path) -> Callable[..., GridPlan]:
    """``planned(field=…)``: the plan of such a grid, in a folder of the test."""

    def plan(**fields: Any) -> GridPlan:
        return open_grid(write_grid(tmp_path / "grid.yaml", **fields), out=tmp_path / "out")

    return plan


@pytest.fixture(scope="session")
def run_here(caches: Any) -> Callable[..., Any]:
    """``run_here(plan)``: run a grid in this process."""

    def run(plan: GridPlan, **options: Any) -> Any:
        return run_grid(plan, crew=InProcess, tell=lambda message: None, **options)

    return run
