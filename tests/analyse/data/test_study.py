from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from potstill.analyse.data.study import study_rows

words = st.sampled_from(["good", "bad", "film", "the", "a", "It's", "!", "größe", "的", "1993", "<br />"])
texts = st.lists(words, max_size=12).map(" ".join)
labelled = st.lists(st.tuples(texts, st.integers(0, 1)), min_size=2, max_size=20)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(labelled, labelled, st.integers(1, 7))
def test_a_study_does_not_depend_on_the_size_of_chunks(make_rows, letters, train, test, size):
    rows = make_rows({"train": tuple(zip(*train, strict=True)), "test": tuple(zip(*test, strict=True))})
    one, other = (study_rows(rows, letters, chunk_texts=n) for n in (size, 1000))
    assert asdict(one) == asdict(other)


@pytest.mark.parametrize(
    ("problem_type", "targets", "names"),
    [
        ("single_label_classification", [0, 1, 1, 0], ("no", "yes")),
        ("multi_label_classification", [[0, 1], [1, 1], [0, 0], [0, 1]], ("x", "y")),
        ("regression", [1.0, 2.5, 3.0, 2.5], ()),
        (None, None, ()),
    ],
)
def test_every_kind_of_data_gives_a_study_that_json_holds(make_rows, letters, problem_type, targets, names):
    rows = make_rows(
        {"train": (["a good film", "a bad film", "", "A good film!"], targets)}, names, problem_type=problem_type
    )
    study = study_rows(rows, letters, tokenizer_name="letters")
    read = json.loads(json.dumps(asdict(study), allow_nan=False))
    assert read["rows"] == {"train": 4}
    assert (study.balance is not None, study.scores is not None) == (bool(names), problem_type == "regression")
    assert study.duplicates[1].repeated == {"train": 1}
    assert study.looks["train"]["empty"] == 1


def test_pairs_are_studied_as_one(make_rows, letters):
    rows = make_rows({"train": ([("a cat", "a dog"), ("A cat.", "a dog"), ("a", "cat a dog")], [0, 1, 1])})
    study = study_rows(rows, letters)
    assert study.duplicates[1].contradicting_texts == 1
    assert study.duplicate_examples[0].rows[0].excerpt == "a cat ⇥ a dog"


def test_without_a_tokenizer_nothing_is_said_of_tokens(make_rows):
    study = study_rows(make_rows({"train": (["a", "b"], [0, 1])}), None)
    assert (study.tokens, study.length_choice) == (None, None)
    assert [unit.unit for unit in study.lengths] == ["words", "characters"]


def test_words_and_length_are_those_of_the_split_that_training_sees(make_rows, letters):
    # property: what the other split holds changes neither
    train = (["a good film", "a bad film"], [1, 0])
    studies = [
        study_rows(make_rows({"train": train, "test": (other, [0, 1])}), letters)
        for other in (["x", "y"], ["other words here " * 20, "and there"])
    ]
    assert studies[0].words == studies[1].words
    assert studies[0].length_choice.proposed == studies[1].length_choice.proposed


def test_progress_is_told(make_rows):
    told: list[str] = []
    study_rows(make_rows({"train": (["a", "b"], [0, 1])}), None, tell=told.append)
    assert told[0] == "reading 2 texts of train"
