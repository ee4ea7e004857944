"""Stored outputs of a masked-language teacher against the teacher run live, and what is found or computed again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM

from potstill.data.batches import BatchKey
from potstill.data.masking import IGNORED
from potstill.data.token_files import Blocks, build_blocks
from potstill.data.tokens import TextTokenizer
from potstill.data.training_batches import MaskedBlocks, Masking
from potstill.distil import teacher_draws
from potstill.distil.losses import kl_divergence, top_k_kl_divergence, top_k_log_probabilities
from potstill.distil.objective import DistillationObjective
from potstill.distil.teacher_draws import KeptOutputs, StoredDraws, store_draws
from potstill.errors import ModelError

Make = Callable[..., MaskedBlocks]
KEPT = KeptOutputs(temperature=2.0, top_k=5, hidden=True, precision="fp32")


def build_teacher(**changes: Any) -> BertForMaskedLM:
    torch.manual_seed(2)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    positions = {"max_position_embeddings": 64, "initializer_range": 0.5}
    return BertForMaskedLM(BertConfig(vocab_size=120, **positions, **{**shape, **changes})).eval()


@pytest.fixture
def blocks(tiny: Any, tmp_path: Path) -> Blocks:
    texts = tiny.corpus.read_text(encoding="utf-8").splitlines()[:40]
    return build_blocks(texts, TextTokenizer.open(tiny.teacher), 16, tmp_path, key="k")


@pytest.fixture
def make(tiny: Any, blocks: Blocks) -> Make:
    def build(
        mask_draws: int | None = 2,
        seed: int = 1,
        batch_size: int = 6,
        share: float = 0.2,
        batch_tokens: int | None = None,
    ) -> MaskedBlocks:
        return MaskedBlocks(
            blocks,
            blocks.token_counts,
            np.arange(len(blocks)),
            TextTokenizer.open(tiny.teacher),
            Masking(share=share),
            batch_size=batch_size,
            batch_tokens=batch_tokens,
            seed=seed,
            mask_draws=mask_draws,
        )

    return build


@pytest.fixture
def store(blocks: Blocks, tmp_path: Path) -> Callable[..., StoredDraws]:
    def run(teacher: BertForMaskedLM, batches: MaskedBlocks, kept: KeptOutputs = KEPT, key: str = "") -> StoredDraws:
        return store_draws(teacher, batches, kept, blocks_fingerprint=key or blocks.fingerprint, cache_dir=tmp_path)

    return run


def counted_calls(teacher: BertForMaskedLM) -> list[int]:
    calls: list[int] = []
    teacher.bert.register_forward_hook(
        lambda module, args, kwargs, output: calls.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    return calls


def live(teacher: BertForMaskedLM, batch: dict[str, np.ndarray], positions: str = "masked") -> tuple[Tensor, Tensor]:
    """The oracle: the whole model on the batch; its logits where KL is taken, and its states at the attended tokens."""
    tensors = {name: torch.from_numpy(array) for name, array in batch.items() if not name.startswith("teacher")}
    labels = tensors.pop("labels")
    with torch.no_grad():
        output = teacher(**tensors, output_hidden_states=True)
    attended = tensors["attention_mask"].bool()
    chosen = attended & (labels != IGNORED) if positions == "masked" else attended
    return output.logits[chosen], output.hidden_states[-1][attended]


def all_keys(batches: MaskedBlocks) -> Iterator[BatchKey]:
    for draw in range(batches.plan.draws or 0):
        yield from batches.plan.keys(draw)


@pytest.mark.parametrize(("positions", "batch_tokens"), [("masked", None), ("attended", None), ("masked", 64)])
def test_what_is_kept_is_what_the_live_teacher_says(
    store, make: Make, positions: Any, batch_tokens: int | None, monkeypatch
) -> None:
    monkeypatch.setattr(teacher_draws, "_ROWS_AT_ONCE", 7)
    teacher, batches = build_teacher(), make(batch_tokens=batch_tokens)
    stored = store(teacher, batches, replace(KEPT, positions=positions))
    for key in all_keys(batches):
        logits, states = live(teacher, batches[key], positions)
        expected, said = top_k_log_probabilities(logits, 5, 2.0), stored.of(key)
        assert {name: array.dtype.name for name, array in said.items()} == {
            "teacher_indices": "int64",
            "teacher_log_probabilities": "float16",
            "teacher_log_tail": "float32",
            "teacher_hidden": "float16",
        }
        np.testing.assert_array_equal(said["teacher_indices"], expected.indices)
        np.testing.assert_allclose(said["teacher_log_probabilities"], expected.log_probabilities, rtol=2e-3, atol=1e-4)
        np.testing.assert_allclose(said["teacher_log_tail"], expected.log_tail, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(said["teacher_hidden"], states, rtol=2e-3, atol=1e-3)


def test_kl_from_a_later_epochs_batches_is_that_against_the_live_teacher(store, make: Make) -> None:
    teacher, student, batches = build_teacher(), build_teacher(num_hidden_layers=1), make()
    batches.teacher = store(teacher, batches, replace(KEPT, top_k=120))
    for key in batches.plan.keys(5):
        batch = batches[key]
        said = [torch.from_numpy(batch[f"teacher_{name}"]) for name in ("indices", "log_probabilities", "log_tail")]
        taught, learnt = live(teacher, batch)[0], live(student, batch)[0]
        found = top_k_kl_divergence(learnt, *said, 2.0)
        torch.testing.assert_close(found, kl_divergence(learnt, taught, 2.0), rtol=5e-3, atol=1e-3)


def test_hidden_states_are_kept_on_request_only(store, make: Make) -> None:
    stored = store(build_teacher(), make(), replace(KEPT, hidden=False))
    assert "teacher_hidden" not in stored.of(BatchKey(0, 0, np.arange(6)))


def test_the_teacher_runs_once_for_each_batch_of_each_draw_and_never_again(store, make: Make) -> None:
    teacher, batches = build_teacher(), make()
    calls = counted_calls(teacher)
    first = store(teacher, batches)
    assert len(calls) == 2 * len(batches.plan)
    again = store(teacher, make())
    assert len(calls) == 2 * len(batches.plan)
    for key in all_keys(batches):
        assert all(np.array_equal(first.of(key)[name], again.of(key)[name]) for name in first.of(key))


def test_one_more_draw_is_computed_alone(store, make: Make) -> None:
    teacher = build_teacher()
    store(teacher, make(2))
    calls = counted_calls(teacher)
    store(teacher, make(3))
    assert len(calls) == len(make().plan)


def test_a_killed_computation_goes_on_with_the_draw_it_was_at(store, make: Make, tmp_path: Path) -> None:
    teacher, batches = build_teacher(), make()
    calls = counted_calls(teacher)

    def interrupt(*_: object) -> None:
        if len(calls) == len(batches.plan) + 2:
            raise KeyboardInterrupt

    handle = teacher.bert.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        store(teacher, batches)
    handle.remove()
    assert len(list(tmp_path.glob("draws-*.json"))) == 1
    assert not list(tmp_path.glob("*.partial-*"))
    calls.clear()
    store(teacher, batches)
    assert len(calls) == len(batches.plan)


def test_everything_that_decides_the_outputs_is_part_of_the_key(store, make: Make, tmp_path: Path) -> None:
    teacher = build_teacher()
    store(teacher, make(1))
    others = [
        (build_teacher(layer_norm_eps=1e-6), make(1), {}),
        (teacher, make(1, seed=2), {}),
        (teacher, make(1, batch_size=5), {}),
        (teacher, make(1, share=0.3), {}),
        (teacher, make(1), {"key": "another corpus"}),
        *(
            (teacher, make(1), {"kept": replace(KEPT, **change)})
            for change in ({"temperature": 1.0}, {"top_k": 4}, {"positions": "attended"}, {"hidden": False})
        ),
    ]
    for number, (other, batches, more) in enumerate(others, start=2):
        store(other, batches, **more)
        assert len(list(tmp_path.glob("draws-*.json"))) == number


def test_a_damaged_draw_is_computed_again(store, make: Make, tmp_path: Path) -> None:
    teacher, batches = build_teacher(), make()
    store(teacher, batches)
    path = min(tmp_path.glob("draws-*.log_probabilities.npy"))
    path.write_bytes(path.read_bytes()[:-2])
    calls = counted_calls(teacher)
    store(teacher, batches)
    assert len(calls) == len(batches.plan)


def test_a_vocabulary_beyond_65536_entries_takes_wider_indices(store, make: Make, tmp_path: Path) -> None:
    store(build_teacher(), make(1), replace(KEPT, top_k=2))
    store(build_large(), make(1), replace(KEPT, top_k=2))
    types = {np.load(path).dtype.name for path in tmp_path.glob("draws-*.indices.npy")}
    assert types == {"uint16", "int32"}


def build_large() -> BertForMaskedLM:
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=70_000,
        hidden_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=4,
        max_position_embeddings=64,
    )
    return BertForMaskedLM(config).eval()


def test_batches_whose_draws_do_not_repeat_are_refused(store, make: Make) -> None:
    with pytest.raises(ValueError, match="draws repeat"):
        store(build_teacher(), make(None))


def test_only_draws_that_training_meets_are_computed(store: Any, make: Make, blocks: Blocks, tmp_path: Path) -> None:
    batches = make(4)
    few = store_draws(
        build_teacher(), batches, KEPT, blocks_fingerprint=blocks.fingerprint, passes=1.5, cache_dir=tmp_path
    )
    assert "outputs for 2 draws" in few.sentence(1.5)


def test_the_mass_that_is_not_kept_is_told(store: Any, make: Make) -> None:
    # oracle: the tail masses that the batches bring along
    batches = make(1)
    stored = store(build_teacher(), batches)
    tails = np.concatenate([np.exp(stored.of(key)["teacher_log_tail"]) for key in batches.plan.keys(0)])
    assert f"on average {tails.mean():.1%} of a distribution lies beyond its 5 likeliest tokens" in stored.sentence(1.0)


def test_the_sentence_tells_size_and_time(store, make: Make) -> None:
    teacher, batches = build_teacher(), make()
    first, again = store(teacher, batches), store(teacher, batches)
    first.teacher_s = again.teacher_s = 4.0
    assert "outputs for 2 draws of the masks kept in the cache folder, 0.0" in first.sentence(10.0)
    assert "computed in 0 s; in 10 passes that saves about 20 s" in again.sentence(10.0)


# -- learning from what was stored ------------------------------------------------------------------------------------


def gradients(objective: DistillationObjective, batch: dict[str, np.ndarray]) -> tuple[dict[str, float], list[Tensor]]:
    """The sums of the terms on a small student, and the gradient of their weighted sum by parameter."""
    torch.manual_seed(3)
    config = DistilBertConfig(vocab_size=120, dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=64)
    student = DistilBertForMaskedLM(config).eval()
    sums = objective(student, {name: torch.from_numpy(array) for name, array in batch.items()})
    torch.stack([objective.weights[name] * total for name, total in sums.items()]).sum().backward()
    return {name: float(total.detach()) for name, total in sums.items()}, [p.grad for p in student.parameters()]


@pytest.mark.parametrize("positions", ["masked", "attended"])
def test_stored_outputs_teach_what_the_live_teacher_does(make: Make, store: Any, positions: Any):
    # oracle: the live teacher; every class of the vocabulary is stored, so only float16 tells them apart
    teacher, batches = build_teacher(), make()
    objective = DistillationObjective(teacher, {"kl": 5.0, "mlm": 2.0, "cosine": 1.0}, kl_positions=positions)
    (key,) = next(iter(batches.plan))
    expected, live_gradients = gradients(objective, batches[key])
    batches.teacher = store(teacher, batches, replace(KEPT, top_k=120, positions=positions))
    calls = counted_calls(teacher)
    found, stored_gradients = gradients(objective, batches[key])
    assert calls == []
    assert found == pytest.approx(expected, rel=2e-3)
    for ours, theirs in zip(stored_gradients, live_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)


def test_few_stored_classes_are_a_lower_bound(make: Make, store: Any):
    # oracle: the data-processing inequality
    teacher, batches = build_teacher(), make()
    objective = DistillationObjective(teacher, {"kl": 1.0}, kl_positions="masked")
    (key,) = next(iter(batches.plan))
    full, _ = gradients(objective, batches[key])
    batches.teacher = store(teacher, batches, replace(KEPT, top_k=3))
    few, _ = gradients(objective, batches[key])
    assert 0 < few["kl"] < full["kl"]


def test_states_that_were_not_stored_are_missed(make: Make, store: Any):
    teacher, batches = build_teacher(), make()
    batches.teacher = store(teacher, batches, replace(KEPT, hidden=False))
    (key,) = next(iter(batches.plan))
    with pytest.raises(ModelError, match="hidden states were not stored"):
        gradients(DistillationObjective(teacher, {"cosine": 1.0}), batches[key])


def test_batches_of_another_size_are_not_taken_from_disk(store, make: Make) -> None:
    teacher = build_teacher()
    calls = counted_calls(teacher)
    for batch_tokens in (None, 64, 96):
        before = len(calls)
        store(teacher, make(batch_tokens=batch_tokens))
        assert len(calls) > before
