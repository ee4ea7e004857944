"""Distillation as a stage: what it reads, what it leaves, and what it leaves alone."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, BertModel

from potstill.distil import stage, teacher_draws
from potstill.errors import RecipeError
from potstill.recipe.schema import DistilJob
from potstill.runs import RunFolder


@pytest.fixture
def distil(tiny: Any, caches: Any, tmp_path: Path) -> Any:
    """Run a small distillation; ``student``, ``distil`` and ``corpus`` are fields of those sections."""

    def run(
        *,
        out: str = "run",
        seed: int = 1,
        student: Any = None,
        distil: Any = None,
        teacher: Any = None,
        corpus: Any = None,
    ) -> RunFolder:
        content = {
            "out": tmp_path / out,
            "seed": seed,
            "teacher": {"model": str(teacher or tiny.teacher)},
            "corpus": {"source": str(tiny.corpus), "block_length": 32, **(corpus or {})},
            "student": {"layers": 2, **(student or {})},
            "distil": {"max_steps": 6, "batch_size": 8, "evaluate_steps": 3, **(distil or {})},
        }
        return stage.run(DistilJob.model_validate(content))

    return run


UNTRAINED = {"max_steps": None, "epochs": 0}


def test_the_teachers_files_are_only_read(distil, tiny):
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in tiny.teacher.iterdir()}
    distil()
    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in tiny.teacher.iterdir()} == before


def test_a_student_of_full_depth_that_is_not_trained_computes_its_teacher(distil, tiny):
    run = distil(student={"layers": 4}, distil=UNTRAINED)
    assert run.history() == []
    ids = torch.randint(5, 40, (3, 12), generator=torch.Generator().manual_seed(1))
    student, teacher = (AutoModelForMaskedLM.from_pretrained(folder).eval() for folder in (run.path, tiny.teacher))
    with torch.no_grad():
        torch.testing.assert_close(student(ids).logits, teacher(ids).logits, rtol=0, atol=1e-5)


def test_distillation_brings_the_student_nearer_to_its_teacher(distil):
    """Without the masked words, which a random teacher does not know, both other terms fall on held-out text."""
    settings = {"alpha_mlm": 0.0, "max_steps": 60, "evaluate_steps": 10, "learning_rate": 1e-3}
    validations = [record for record in distil(distil=settings).history() if "eval_loss" in record]
    for term in ("eval_kl", "eval_cosine"):
        assert validations[-1][term] < 0.9 * validations[0][term], term


def test_what_validation_watches_is_in_the_history(distil):
    run = distil()
    validations = [record for record in run.history() if "eval_loss" in record]
    assert [record["step"] for record in validations] == [3, 6]
    watched = {"eval_kl", "eval_mlm", "eval_cosine", "eval_perplexity", "eval_agreement", "eval_mlm_accuracy"}
    assert all(watched <= record.keys() for record in validations)
    last = validations[-1]
    assert last["eval_perplexity"] == pytest.approx(torch.tensor(last["eval_mlm"]).exp().item(), rel=1e-4)
    triple = 5 * last["eval_kl"] + 2 * last["eval_mlm"] + last["eval_cosine"]
    assert last["eval_loss"] == pytest.approx(triple, rel=1e-5)


def test_keep_best_restores_the_weights_of_the_best_validation(distil):
    run = distil(distil={"keep": "best", "learning_rate": 0.3, "warmup": 0.0, "evaluate_steps": 1})
    validations = {record["step"]: record["eval_loss"] for record in run.history() if "eval_loss" in record}
    best = run.manifest["best"]
    assert best["step"] == min(validations, key=validations.__getitem__)
    assert best["value"] == min(validations.values())


def test_hidden_states_of_other_width_are_learnt_through_a_projection_that_is_not_saved(distil, tiny):
    shape = {"hidden_size": 16, "heads": 2, "intermediate_size": 32, "initialise": "truncate"}
    weights = {"alpha_hidden_mse": 1.0, "alpha_cos": 0.0, "hidden_pairs": [[1, 2], [2, 4]]}
    run = distil(student=shape, distil=weights)
    assert "eval_hidden_mse" in [record for record in run.history() if "eval_loss" in record][-1]
    model, told = AutoModelForMaskedLM.from_pretrained(run.path, output_loading_info=True)
    assert model.config.hidden_size == 16
    assert not told["unexpected_keys"]


def test_every_kind_of_start_is_told_in_the_origins(distil):
    kinds = {
        "copy": lambda origin: origin.startswith(("bert.", "cls.")),
        "random": lambda origin: origin == "random",
    }
    for initialise, holds in kinds.items():
        run = distil(out=initialise, student={"initialise": initialise}, distil=UNTRAINED)
        origins = run.manifest["origins"]
        assert all(map(holds, origins.values()))
        assert set(load_file(run.path / "model.safetensors")) <= origins.keys()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(distil):
    first, second, other = (
        (distil(out=out, seed=seed).path / "model.safetensors").read_bytes()
        for out, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == second
    assert first != other


def test_the_place_of_teacher_and_run_does_not_count_as_other_work(distil, tiny, tmp_path):
    first = distil()
    moved = shutil.copytree(tiny.teacher, tmp_path / "moved")
    assert distil(teacher=moved).manifest["started"] == first.manifest["started"]


def test_a_finished_run_is_returned_without_a_model_being_opened(distil, monkeypatch):
    first = distil()
    monkeypatch.setattr(stage, "load_masked_lm", None)
    assert distil().manifest["finished"] == first.manifest["finished"]


def test_work_that_fails_lets_go_of_its_folder(distil, monkeypatch):
    """The exception is still held, as a notebook holds the last one: the same call must be able to go on."""
    saved = stage.save_model_folder

    def fail(*arguments: Any) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(stage, "save_model_folder", fail)
    with pytest.raises(RuntimeError) as held:
        distil()
    monkeypatch.setattr(stage, "save_model_folder", saved)
    assert distil().state == "finished"
    assert held.value is not None


def test_a_teacher_with_token_types_is_given_them_in_training(distil, monkeypatch):
    """Pitfall 10: the student's signature lacks them, the teacher's has them."""
    forward, seen = BertModel.forward, []

    @functools.wraps(forward)
    def watch(self: Any, *arguments: Any, **inputs: Any) -> Any:
        seen.append(inputs["token_type_ids"])
        return forward(self, *arguments, **inputs)

    monkeypatch.setattr(BertModel, "forward", watch)
    distil()
    assert seen
    assert all(types is not None for types in seen)


def test_a_run_that_another_process_finishes_meanwhile_is_not_trained_again(distil, tmp_path, monkeypatch):
    other = distil(out="other")
    before = {file: file.read_bytes() for file in other.path.rglob("*") if file.is_file()}
    prepare = stage._lesson

    def late(*arguments: Any) -> Any:
        prepared = prepare(*arguments)
        shutil.copytree(other.path, tmp_path / "run")
        return prepared

    monkeypatch.setattr(stage, "_lesson", late)
    monkeypatch.setattr(stage, "fit", None)
    assert distil().manifest == RunFolder.open(other.path).manifest
    assert {file: (tmp_path / "run" / file.relative_to(other.path)).read_bytes() for file in before} == before


@pytest.mark.slow
def test_a_streamed_corpus_trains_to_the_same_bits_as_a_counted_one(distil):
    counted, streamed = (distil(out=f"{streaming}", corpus={"streaming": streaming}) for streaming in (False, True))
    weights = [(run.path / "model.safetensors").read_bytes() for run in (counted, streamed)]
    assert weights[0] == weights[1]
    assert "streamed: texts are not counted ahead" in streamed.manifest["corpus"]["notes"]


# -- a teacher that runs once -----------------------------------------------------------------------------------------


def test_a_teacher_on_disk_teaches_what_a_live_one_does(distil):
    # oracle: the same steps with the teacher live; all classes are kept, and within one pass no draw repeats
    live = distil(out="live")
    stored = distil(out="stored", distil={"teacher_outputs": {"mask_draws": 1, "top_k": 10_000}})
    first, second = (load_file(run.path / "model.safetensors") for run in (live, stored))
    assert all(torch.allclose(first[name], second[name], atol=2e-3) for name in first)
    assert any("teacher's outputs for 1 draws" in note for note in stored.manifest["corpus"]["notes"])


def test_a_teacher_on_disk_runs_no_second_time(distil, monkeypatch: pytest.MonkeyPatch):
    stored = {"teacher_outputs": {"mask_draws": 2}, "max_steps": 12, "evaluate_steps": 12}
    distil(out="first", distil=stored)
    monkeypatch.setattr(teacher_draws, "_observe", lambda *_: pytest.fail("the teacher ran again"))
    distil(out="second", distil={**stored, "learning_rate": 1e-4})


def test_what_needs_more_of_the_teacher_than_is_stored_is_refused(distil):
    with pytest.raises(ValueError, match="alpha_logit_mse"):
        distil(distil={"teacher_outputs": {"mask_draws": 2}, "alpha_logit_mse": 1.0})


# -- a teacher in int8 ------------------------------------------------------------------------------------------------


IN_INT8 = {"teacher_precision": "int8"}


def test_a_teacher_in_int8_teaches_nearly_what_it_does_in_float32_and_its_agreement_is_told(distil):
    # oracle: the same steps with the teacher in float32
    settings = {"kl_positions": "attended"}  # the small corpus has too few masked tokens to compare
    exact, near = distil(out="exact", distil=settings), distil(out="near", distil={**settings, **IN_INT8})
    first, second = (load_file(run.path / "model.safetensors") for run in (exact, near))
    assert all(torch.allclose(first[name], second[name], atol=5e-3) for name in first)
    assert any(not torch.equal(first[name], second[name]) for name in first)
    (note,) = [note for note in near.manifest["corpus"]["notes"] if "in int8" in note]
    assert "so it runs in int8" in note


@pytest.mark.slow
def test_what_a_teacher_in_int8_said_is_kept_apart_from_what_it_said_in_float32(distil, monkeypatch):
    stored = {"teacher_outputs": {"mask_draws": 1}, "kl_positions": "attended"}
    distil(out="exact", distil=stored)
    written = []
    observe = teacher_draws._observe
    monkeypatch.setattr(teacher_draws, "_observe", lambda *given: written.append(1) or observe(*given))
    distil(out="near", distil={**stored, **IN_INT8})
    assert written


def test_int8_beside_training_in_bf16_is_refused_before_the_folder_is_touched(distil, tmp_path):
    with pytest.raises(RecipeError, match="is for training on a CPU in float32; found 'bf16 on"):
        distil(distil={"teacher_precision": "int8", "precision": "bf16"})
    assert not (tmp_path / "run").exists()
