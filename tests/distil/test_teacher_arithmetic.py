"""A teacher in int8 against itself. Oracles: the whole models' logits and states, and a teacher that int8 ruins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from potstill.data.masking import IGNORED
from potstill.distil.teacher_arithmetic import agreement, in_int8


def model(seed: int) -> BertForMaskedLM:
    torch.manual_seed(seed)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return BertForMaskedLM(BertConfig(vocab_size=60, max_position_embeddings=40, **shape)).eval()


def batches(n: int, rows: int = 8, length: int = 20) -> Iterator[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    for _ in range(n):
        ids = rng.integers(5, 60, (rows, length))
        mask = (np.arange(length) < rng.integers(5, length + 1, rows)[:, None]).astype(np.int64)
        masked = (rng.random(ids.shape) < 0.3) & (mask == 1)
        yield {"input_ids": ids, "attention_mask": mask, "labels": np.where(masked, ids, IGNORED)}


def test_a_teacher_agrees_with_itself():
    found = agreement(model(0), model(0), batches(40))
    assert (found.first_choice, found.allows) == (1.0, True)
    assert found.kl == pytest.approx(0.0, abs=1e-6)
    assert found.cosine_distance == pytest.approx(0.0, abs=1e-6)


def test_agreement_is_that_of_the_whole_models_at_the_tokens_that_count():
    one, other, (batch,) = model(0), model(1), list(batches(1))
    found = agreement(one, other, [batch])
    inputs = {name: torch.from_numpy(batch[name]) for name in ("input_ids", "attention_mask")}
    masked, attended = torch.from_numpy(batch["labels"] != IGNORED), inputs["attention_mask"].bool()
    with torch.no_grad():
        first, second = one(**inputs, output_hidden_states=True), other(**inputs, output_hidden_states=True)
    p, q = (torch.distributions.Categorical(logits=outputs.logits[masked]) for outputs in (first, second))
    assert found.compared == int(masked.sum())
    assert found.kl == pytest.approx(float(torch.distributions.kl_divergence(p, q).mean()), rel=1e-4)
    assert found.first_choice == pytest.approx(float((p.probs.argmax(-1) == q.probs.argmax(-1)).float().mean()))
    cosine = torch.nn.functional.cosine_similarity(first.hidden_states[-1], second.hidden_states[-1], dim=-1)
    assert found.cosine_distance == pytest.approx(float((1 - cosine[attended]).mean()), rel=1e-4)
    assert not found.allows


def test_no_more_batches_are_read_than_a_thousand_tokens_need():
    read = 0

    def counted() -> Iterator[dict[str, np.ndarray]]:
        nonlocal read
        for batch in batches(200):
            read += 1
            yield batch

    found = agreement(model(0), model(0), counted())
    assert 1000 <= found.compared < 1100
    assert read < 60


def test_a_teacher_whose_weights_fit_8_bits_runs_in_them():
    taken, found = in_int8(model(0), batches(40))
    assert found.allows
    assert "so it runs in int8" in found.sentence()
    assert any(type(module).__name__ == "Int8Linear" for module in taken.modules())


def test_a_teacher_that_8_bits_ruin_stays_as_it_is():
    teacher: Any = model(0)
    with torch.no_grad():  # one column a thousand times as large leaves the others no step of their own
        for layer in teacher.bert.encoder.layer:
            layer.intermediate.dense.weight[:, 0] *= 1000
    taken, found = in_int8(teacher, batches(40))
    assert taken is teacher
    assert not found.allows
    assert "so it runs in float32" in found.sentence()


def test_fewer_tokens_than_a_thousand_are_no_ground_to_go_by():
    taken, found = in_int8(model(0), batches(2))
    assert found.compared < 1000
    assert not any(type(module).__name__ == "Int8Linear" for module in taken.modules())
    assert "which is fewer than 1,000, so it runs in float32" in found.sentence()


def test_all_attended_tokens_are_compared_where_the_student_learns_from_all():
    (batch,) = batches(1)
    assert agreement(model(0), model(1), [batch], "attended").compared == int(batch["attention_mask"].sum())
