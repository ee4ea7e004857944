"""Shapes of texts: all that clients send, and one sentence for everything else. Oracle: the shapes as published."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from potstill.serve.inputs import EMPTY, WRONG, Inputs, read_hugging_face, read_own, read_tei

READERS = (read_tei, read_hugging_face, read_own)


@pytest.mark.parametrize(
    ("value", "texts", "is_batch"),
    [
        ("a", ("a",), False),
        (["a"], ("a",), False),
        (["a", "b"], (("a", "b"),), False),
        ([["a"]], ("a",), True),
        ([["a"], ["b", "c"]], ("a", ("b", "c")), True),
        ([["a", ""]], (("a", ""),), True),
    ],
)
def test_a_flat_list_of_two_is_one_pair_and_a_list_of_lists_a_batch(value, texts, is_batch):
    assert read_tei(value) == Inputs(texts, is_batch)


@pytest.mark.parametrize(
    ("value", "texts", "is_batch"),
    [
        ("a", ("a",), False),
        (["a", "b"], ("a", "b"), True),
        ({"text": "a"}, ("a",), False),
        ({"text": "a", "text_pair": "b"}, (("a", "b"),), False),
        ([{"text": "a", "text_pair": "b"}, "c"], (("a", "b"), "c"), True),
    ],
)
def test_hugging_face_has_a_list_of_texts_and_pairs_by_name(value, texts, is_batch):
    assert read_hugging_face(value) == Inputs(texts, is_batch)


@pytest.mark.parametrize(
    ("value", "texts", "is_batch"),
    [("a", ("a",), False), (["a", "b"], ("a", "b"), True), (["a", ["b", "c"]], ("a", ("b", "c")), True)],
)
def test_own_lists_mix_texts_and_pairs(value, texts, is_batch):
    assert read_own(value) == Inputs(texts, is_batch)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("value", [[], ""])
def test_nothing_is_empty(read, value):
    with pytest.raises(PydanticCustomError) as refused:
        read(value)
    assert refused.value.type == EMPTY


@pytest.mark.parametrize(
    ("read", "value", "sentence"),
    [
        (read_tei, [["a"], [""]], "input 1 cannot be empty"),
        (read_tei, [["", ""]], "input 0 cannot be empty"),
        (read_tei, [[]], "input 0 cannot be empty"),
        (read_hugging_face, ["a", {"text": ""}], "input 1 cannot be empty"),
        (read_own, ["a", ["", ""]], "input 1 cannot be empty"),
    ],
)
def test_an_empty_text_is_named_by_its_place(read, value, sentence):
    with pytest.raises(PydanticCustomError) as refused:
        read(value)
    assert (refused.value.type, refused.value.message()) == (EMPTY, sentence)


WRONG_VALUES = (None, 3, 2.5, True, {}, {"a": "b"}, [1], [None], [["a", 1]], [[["a"]]], ["a", "b", "c", 4], [["a"] * 3])


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("value", WRONG_VALUES, ids=repr)
def test_what_is_no_text_is_refused_in_one_sentence(read, value):
    with pytest.raises(PydanticCustomError) as refused:
        read(value)
    assert refused.value.type == WRONG
    assert "allowed:" in refused.value.message()


def test_half_of_a_surrogate_pair_is_no_text():
    with pytest.raises(PydanticCustomError, match="input 1 is not Unicode: half of a surrogate pair at character 3"):
        read_tei([["a"], ["abc\ud800"]])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize("read", READERS)
@given(value=JSON)
def test_any_json_is_texts_or_a_complaint(read: Any, value: Any):
    try:
        read_inputs = read(value)
    except PydanticCustomError as refused:
        kind, read_inputs = refused.type, None
    if read_inputs is None:
        assert kind in (EMPTY, WRONG)
        return
    assert read_inputs.texts
    parts = [part for text in read_inputs.texts for part in ([text] if isinstance(text, str) else text)]
    assert all(isinstance(part, str) for part in parts)
