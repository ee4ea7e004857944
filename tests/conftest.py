"""What every test lives under: no network, no quarrel over threads, and the research data where it is kept."""

from __future__ import annotations

import os
from pathlib import Path

# before anything imports a library that reads these
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The research data sets: $POTSTILL_DATA_DIR, or ``../shared/data`` beside the project; skips without them."""
    stated = os.environ.get("POTSTILL_DATA_DIR")
    folder = Path(stated) if stated else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the research data sets are not at {folder}; say where they are with POTSTILL_DATA_DIR")
    return folder
