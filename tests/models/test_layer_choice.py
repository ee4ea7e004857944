"""Layer choices: the published one by its numbers, the others by their definitions, all by what must hold of any."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import ModelError
from potstill.models.layer_choice import LAYER_CHOICES, choose_layers


@pytest.mark.parametrize(
    ("n_teacher", "n_student", "choice", "layers"),
    [
        (12, 6, "paper", (0, 2, 4, 7, 9, 11)),
        (6, 3, "paper", (0, 2, 5)),
        (12, 4, "paper", (0, 4, 7, 11)),
        (12, 1, "paper", (0,)),
        (6, 3, "even", (0, 2, 4)),
        (6, 3, "odd", (1, 3, 5)),
        (6, 2, "first", (0, 1)),
        (6, 2, "last", (4, 5)),
        (12, 4, "spread", (2, 5, 8, 11)),
        (12, 3, [0, 5, 11], (0, 5, 11)),
    ],
)
def test_each_choice_gives_the_layers_it_is_known_for(n_teacher, n_student, choice, layers):
    assert choose_layers(n_teacher, n_student, choice) == layers


@given(depths=st.integers(1, 48).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))))
@pytest.mark.parametrize("choice", ["paper", "first", "last", "spread"])
def test_choices_that_fit_any_depth_are_increasing_and_in_range(choice, depths):
    n_teacher, n_student = depths
    layers = choose_layers(n_teacher, n_student, choice)
    assert len(layers) == n_student
    assert sorted(set(layers)) == list(layers)
    assert layers[0] >= 0
    assert layers[-1] < n_teacher


@given(st.integers(2, 48).flatmap(lambda n: st.tuples(st.just(n), st.integers(2, n))))
def test_paper_keeps_the_first_and_the_last_layer(depths):
    layers = choose_layers(*depths, "paper")
    assert (layers[0], layers[-1]) == (0, depths[0] - 1)


@given(st.integers(1, 48))
def test_full_depth_takes_every_layer_in_order(n):
    assert all(choose_layers(n, n, choice) == tuple(range(n)) for choice in ("paper", "first", "last", "spread"))


@pytest.mark.parametrize(
    ("n_student", "choice", "said"),
    [
        (7, "paper", "1 to 6"),
        (0, "paper", "1 to 6"),
        (4, "even", "do not exist"),
        (3, "middle", "paper, even"),
        (3, [0, 2], "length of 3"),
        (3, [0, 2, 6], "found [6]"),
        (3, [-1, 2, 3], "found [-1]"),
        (3, [0, 2, 2], "each once"),
        (3, [4, 2, 0], "increasing"),
    ],
)
def test_choices_that_cannot_be_are_refused_with_the_reason(n_student, choice, said):
    with pytest.raises(ModelError) as refusal:
        choose_layers(6, n_student, choice)
    assert said in str(refusal.value)


def test_every_named_choice_is_tried_above():
    assert set(LAYER_CHOICES) == {"paper", "even", "odd", "first", "last", "spread"}
