"""Pretraining as a stage: a head first, then everything, and what the run folder says of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from potstill.pretrain import stage
from potstill.recipe.schema import PretrainJob
from potstill.runs import RunFolder


def encoder_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """The encoder's tensors, with or without the prefix that a head puts before them; a pooler left out."""
    tensors = {name.removeprefix("bert."): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(("cls.", "pooler."))}


@pytest.fixture
def pretrain(tiny: Any, caches: Any, tmp_path: Path) -> Any:
    """Run a small pretraining; fields of its section by name."""

    def run(model: Path, *, out: str = "run", seed: int = 1, corpus: Any = None, **section: Any) -> RunFolder:
        fields = {"head_steps": 3, "max_steps": 4, "batch_size": 8, **section}
        content = {
            "out": tmp_path / out,
            "seed": seed,
            "model": str(model),
            "corpus": {"source": str(tiny.corpus), "block_length": 32, **(corpus or {})},
            "pretrain": fields,
        }
        return stage.run(PretrainJob.model_validate(content))

    return run


def test_the_head_alone_leaves_the_encoder_bit_for_bit(pretrain, tiny):
    run = pretrain(tiny.encoder, max_steps=None, epochs=0)
    assert run.manifest["head_was_new"]
    before, after = encoder_tensors(tiny.encoder), encoder_tensors(run.path)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [record["step"] for record in run.history()][-1] == 3


def test_training_everything_moves_every_layer(pretrain, tiny):
    before, after = encoder_tensors(tiny.encoder), encoder_tensors(pretrain(tiny.encoder).path)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith("encoder.layer") and name.endswith("weight")} <= moved


def test_a_model_with_a_head_is_trained_in_one_phase(pretrain, tiny):
    run = pretrain(tiny.teacher)
    assert not run.manifest["head_was_new"]
    assert max(record["step"] for record in run.history()) == 4


def test_the_history_counts_on_through_both_phases(pretrain, tiny):
    run = pretrain(tiny.encoder)
    steps = [record["step"] for record in run.history()]
    assert steps == sorted(steps)
    assert steps[-1] == 3 + 4


def test_no_training_at_all_gives_the_model_back(pretrain, tiny):
    run = pretrain(tiny.teacher, max_steps=None, epochs=0)
    before, after = load_file(tiny.teacher / "model.safetensors"), load_file(run.path / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in after)
    assert run.manifest["best"] is None


def test_from_scratch_keeps_the_shape_and_none_of_the_weights(pretrain, tiny):
    run = pretrain(tiny.teacher, from_scratch=True, max_steps=None, epochs=0)
    before, after = encoder_tensors(tiny.teacher), encoder_tensors(run.path)
    assert {name: tensor.shape for name, tensor in before.items()} == {n: t.shape for n, t in after.items()}
    assert not any(torch.equal(before[name], after[name]) for name in before if name.endswith("query.weight"))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(pretrain, tiny):
    first, second, other = (
        (pretrain(tiny.encoder, out=out, seed=seed).path / "model.safetensors").read_bytes()
        for out, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == second
    assert first != other


def test_the_manifest_tells_what_was_read_and_what_it_took(pretrain, tiny):
    manifest = pretrain(tiny.encoder).manifest
    texts = tiny.corpus.read_text().splitlines()
    assert manifest["corpus"]["notes"][0] == f"{len(texts)} texts, {sum(map(len, texts)):,} characters"
    assert manifest["parameters"] == sum(t.numel() for t in load_file(tiny.teacher / "model.safetensors").values())
    assert manifest["tokens_seen"] > 0
    assert manifest["training_s"] > 0


def test_a_finished_run_is_returned_without_a_model_being_opened(pretrain, tiny, monkeypatch):
    first = pretrain(tiny.encoder)
    monkeypatch.setattr(stage, "load_masked_lm", None)
    assert pretrain(tiny.encoder).manifest == json.loads((first.path / "manifest.json").read_text())


def test_a_run_that_another_process_finishes_meanwhile_is_not_trained_again(pretrain, tiny, tmp_path, monkeypatch):
    other = pretrain(tiny.teacher, out="other")
    before = {file: file.read_bytes() for file in other.path.rglob("*") if file.is_file()}
    prepare = stage._text

    def late(*arguments: Any) -> Any:
        prepared = prepare(*arguments)
        shutil.copytree(other.path, tmp_path / "run")
        return prepared

    monkeypatch.setattr(stage, "_text", late)
    monkeypatch.setattr(stage, "fit", None)
    assert pretrain(tiny.teacher).manifest == RunFolder.open(other.path).manifest
    assert {file: (tmp_path / "run" / file.relative_to(other.path)).read_bytes() for file in before} == before


@pytest.mark.slow
def test_a_streamed_corpus_trains_to_the_same_bits_as_a_counted_one(pretrain, tiny):
    counted, streamed = (
        pretrain(tiny.teacher, out=f"{streaming}", corpus={"streaming": streaming}) for streaming in (False, True)
    )
    weights = [(run.path / "model.safetensors").read_bytes() for run in (counted, streamed)]
    assert weights[0] == weights[1]
    assert "streamed: texts are not counted ahead" in streamed.manifest["corpus"]["notes"]
