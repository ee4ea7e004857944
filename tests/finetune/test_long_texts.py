"""Oracles: the model on each window alone, pooled by numpy; transformers' own loading of the stored configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from potstill.data.windows import UNCUT, Windows, cut_windows
from potstill.errors import DataError
from potstill.finetune import stage
from potstill.recipe.schema import FinetuneJob
from potstill.report.stage import write_card
from potstill.runtime.torch_predictor import TorchPredictor


@pytest.fixture
def run(tiny: Any, caches: Any, encoders: Any, tmp_path: Path) -> Any:
    def run(model: str | None = None, **section: Any) -> Any:
        name = "-".join(str(value) for value in section.values())
        settings = {"epochs": 1, "batch_size": 16, "max_length": 12, "learning_rate": 0.003, **section}
        task = {"name": "own", "files": str(tiny.reviews)}
        content = {"out": tmp_path / f"run-{name}", "model": model or str(encoders["student"]), "task": task}
        return stage.run(FinetuneJob.model_validate({**content, "finetune": settings}))

    return run


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_a_stored_model_reads_long_texts_in_the_windows_it_was_trained_on(run, pooling: str) -> None:
    stored = run(long_texts=pooling, window_overlap=3)
    predictor = TorchPredictor.open(stored.path)
    assert predictor.windows == Windows(3, pooling)  # type: ignore[arg-type]
    text = " ".join(["the cat sat on the mat and the dog lay on the rug"] * 4)
    said = predictor.predict([text])
    cut = cut_windows(predictor.tokenizer.encode([text], UNCUT), predictor.tokenizer, 12, 3)
    assert len(cut.owners) > 2
    apart = [predictor.logits_of(cut.rows)[i] for i in range(len(cut.owners))]
    expected = np.mean(apart, axis=0) if pooling == "mean" else np.max(apart, axis=0)
    np.testing.assert_allclose(said.logits[0], expected, atol=1e-5)
    assert not said.truncated.any()
    assert said.n_tokens.tolist() == cut.n_tokens.tolist()


def test_windows_train_on_every_token_and_are_told(run) -> None:
    cut, windowed = run(long_texts="cut"), run(long_texts="mean", window_overlap=0)
    assert windowed.manifest["tokens_seen"] > cut.manifest["tokens_seen"]
    assert any("are read in windows" in note for note in windowed.manifest["data"]["notes"])
    assert cut.predictions("test").truncated.any()
    assert not windowed.predictions("test").truncated.any()
    assert "potstill_windows" not in json.loads((cut.path / "config.json").read_text())
    write_card(windowed.path)
    assert "tokens in windows that share 0" in (windowed.path / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_fine_tuning_a_windowed_model_anew_can_cut_again(run) -> None:
    windowed = run(long_texts="mean", window_overlap=2)
    assert TorchPredictor.open(run(model=str(windowed.path), long_texts="cut").path).windows is None


def test_windows_without_room_are_refused_before_anything_is_written(run, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="windows overlap too much; found 10"):
        run(long_texts="mean", window_overlap=10)
    assert not list(tmp_path.glob("run-*"))
