"""Origins: what is written can be read back, and a student that is not what its origins say is found out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import ModelError
from potstill.models.origins import RANDOM, HeadCut, Origin, origin_table, verify_origins
from potstill.models.student import initialise_student

words = st.text("abyz_019", min_size=1, max_size=5)
names = st.lists(words, min_size=1, max_size=4).map(".".join)
cuts = st.lists(
    st.one_of(st.integers(1, 99), st.builds(HeadCut, *(st.integers(1, 9) for _ in range(4)))), max_size=2
).map(tuple)


@given(st.builds(Origin, names, st.none() | names, cuts))
def test_an_origin_reads_back_as_it_was_written(origin):
    assert Origin.parse(str(origin)) == origin


@pytest.mark.parametrize("text", ["", "copied from the teacher", "truncated(a[8 leading])"])
def test_what_is_no_origin_is_refused(text):
    with pytest.raises(ModelError):
        Origin.parse(text)


def test_a_sum_with_token_type_0_is_computed_by_hand():
    tensors = {"positions": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "types": torch.tensor([[10.0, 20.0], [0.0, 0.0]])}
    expected = torch.tensor([[11.0], [13.0]])
    assert torch.equal(Origin("positions", "types", (2, 1)).compute(tensors), expected)


@pytest.fixture
def teacher_and_student(tiny_masked_lm):
    teacher = tiny_masked_lm("bert")
    return teacher, initialise_student(teacher, n_layers=2)


def test_a_tensor_that_was_tampered_with_is_found_by_name(teacher_and_student):
    teacher, student = teacher_and_student
    name = "distilbert.transformer.layer.1.ffn.lin2.weight"
    with torch.no_grad():
        student.model.get_parameter(name)[0, 0] += 1e-3
    with pytest.raises(ModelError) as found:
        verify_origins(student.model, teacher, student.origins)
    assert name in str(found.value)


def test_a_student_that_was_never_initialised_is_found_out(teacher_and_student):
    teacher, student = teacher_and_student
    fresh = type(student.model)(student.model.config)
    with pytest.raises(ModelError, match="not what their origins say"):
        verify_origins(fresh, teacher, student.origins)


def test_another_teacher_is_found_out(teacher_and_student, tiny_masked_lm):
    _, student = teacher_and_student
    other = tiny_masked_lm("bert")
    with torch.no_grad():
        other.bert.encoder.layer[0].intermediate.dense.bias.add_(1.0)
    with pytest.raises(ModelError, match=r"layer\.0\.ffn\.lin1\.bias"):
        verify_origins(student.model, other, student.origins)


def test_a_missing_origin_and_an_origin_too_many_are_errors(teacher_and_student):
    teacher, student = teacher_and_student
    fewer = {name: origin for name, origin in student.origins.items() if name != "vocab_transform.bias"}
    with pytest.raises(ModelError, match=r"no origin.*vocab_transform\.bias"):
        verify_origins(student.model, teacher, fewer)
    with pytest.raises(ModelError, match="does not have"):
        verify_origins(student.model, teacher, {**student.origins, "pooler.bias": RANDOM})


def test_an_origin_the_teacher_does_not_hold_is_an_error(teacher_and_student):
    teacher, student = teacher_and_student
    with pytest.raises(ModelError, match=r"teacher has no such tensor.*bert\.pooler\.dense\.bias"):
        verify_origins(student.model, teacher, {**student.origins, "vocab_transform.bias": "bert.pooler.dense.bias"})


def test_the_table_counts_every_tensor_once_and_names_the_layers(teacher_and_student):
    _, student = teacher_and_student
    rows = origin_table(student.origins)
    assert sum(row.n_tensors for row in rows) == len(student.origins)
    assert ("distilbert.transformer.layer.1", "bert.encoder.layer.3", "copied", 16) in rows
    assert ("distilbert.embeddings", "bert.embeddings", "copied, token type 0 added", 1) in rows
    assert {row.teacher for row in origin_table(dict.fromkeys(student.origins, RANDOM))} == {"—"}
