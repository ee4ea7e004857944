from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.analyse.data.duplicate_examples import EXCERPT_CHARACTERS, SHOWN_ROWS, duplicate_examples
from potstill.analyse.data.duplicates import DuplicateFinder, Overlap, Placed, count_duplicates
from potstill.analyse.data.rows import read_chunks, read_words

LONG = "it was the best of times it was the worst of times it was the age of wisdom it was the age of foolishness"


def grouped(rows, size=3):
    finder = DuplicateFinder()
    for part in rows.parts:
        for chunk in read_chunks(part, size):
            finder.add(chunk)
    return finder.groups()


def find(rows, size=3):
    return count_duplicates(rows, Placed.of(rows), grouped(rows, size))


def examples(rows, most=15, size=3):
    return duplicate_examples(rows, Placed.of(rows), grouped(rows, size), most)


def level(rows, name):
    return next(of for of in find(rows) if of.name == name)


def test_hand_made_duplicates_are_counted_within_and_across(make_rows):
    # oracle: counted by hand
    rows = make_rows(
        {
            "train": (["Good film", "Good film", "good film!", "a bad one", ""], [1, 1, 0, 0, 0]),
            "test": (["Good film", "A BAD ONE", "new here", "", ""], [1, 1, 0, 0, 0]),
        }
    )
    identical, normalised = level(rows, "identical"), level(rows, "normalised")
    assert identical.repeated == {"train": 1, "test": 0}
    assert identical.shared["test"]["train"] == Overlap(1, 0)
    assert identical.shared["train"]["test"] == Overlap(2, 0)
    assert (identical.contradicting_texts, identical.contradicting_rows) == (0, 0)
    assert normalised.repeated == {"train": 2, "test": 0}
    assert normalised.shared["test"]["train"] == Overlap(2, 2)  # "Good film" is 1 and 0 in train, "a bad one" is 0
    assert normalised.shared["train"]["test"] == Overlap(4, 2)
    assert (normalised.contradicting_texts, normalised.contradicting_rows) == (2, 4)


def test_texts_with_a_word_changed_are_near(make_rows):
    words = LONG.split()
    other = " ".join([*words[:-1], "folly"])
    rows = make_rows({"train": ([LONG], [1]), "test": ([other, LONG.upper()], [0, 1])})
    found = find(rows)
    assert [of.shared["test"]["train"].rows for of in found] == [0, 1, 2]
    assert [of.contradicting_texts for of in found] == [0, 0, 1]


texts = st.sampled_from(["a b", "A b!", "a  b", "c", "C", "d e", "", " ", "!!", "!", "a b\n"])
labelled = st.lists(st.tuples(texts, st.integers(0, 1)), min_size=1, max_size=25)


def pairs_by_hand(rows, key):
    """What two nested loops over all rows say: repeated, shared and labelled otherwise, contradicting rows."""
    flat = [
        (part.name, key(text), target)
        for part in rows.parts
        for text, target in zip(part.texts, part.targets.tolist(), strict=True)
        if text.strip()
    ]
    repeated = {part.name: 0 for part in rows.parts}
    for i, (part, text, _) in enumerate(flat):
        repeated[part] += any(of == part and other == text for of, other, _ in flat[:i])
    shared = {
        (part.name, other.name): Overlap(
            sum(any(o == other.name and t == text for o, t, _ in flat) for p, text, _ in flat if p == part.name),
            sum(
                any(o == other.name and t == text and label != own for o, t, label in flat)
                for p, text, own in flat
                if p == part.name
            ),
        )
        for part in rows.parts
        for other in rows.parts
        if part is not other
    }
    contradicting = [text for part, text, label in flat if any(t == text and other != label for _, t, other in flat)]
    learnt = [text for part, text, _ in flat if part == rows.learnt and text in contradicting]
    return repeated, shared, len(set(contradicting)), len(learnt)


@settings(max_examples=60, deadline=None)
@given(labelled, labelled, st.integers(1, 9))
def test_counts_are_those_of_two_loops_over_all_rows(make_rows, train, test, size):
    rows = make_rows({"train": tuple(zip(*train, strict=True)), "test": tuple(zip(*test, strict=True))})
    keys = {"identical": str, "normalised": lambda text: tuple(read_words(text)) or "".join(text.split())}
    found = {of.name: of for of in find(rows, size)}
    for name, key in keys.items():
        repeated, shared, n_texts, n_rows = pairs_by_hand(rows, key)
        of = found[name]
        assert of.repeated == repeated
        assert {(a, b): overlap for a, others in of.shared.items() for b, overlap in others.items()} == shared
        assert (of.contradicting_texts, of.contradicting_rows) == (n_texts, n_rows)


@settings(max_examples=40, deadline=None)
@given(labelled, st.integers(1, 9))
def test_nothing_depends_on_the_size_of_chunks(make_rows, train, size):
    rows = make_rows({"train": tuple(zip(*train, strict=True))})
    assert find(rows, size) == find(rows, 1000)
    assert examples(rows, 15, size) == examples(rows, 15, 1000)


def test_examples_show_what_is_wrong_with_them(make_rows):
    texts = ["same here", "same here", "same here", "Same here!", "twice", "twice", "x" * 500, "x" * 500]
    rows = make_rows({"train": (texts, [0, 0, 0, 1, 1, 1, 0, 0]), "test": (["twice"], [1])})
    found = examples(rows)
    assert [(example.kind, example.level, example.size) for example in found] == [
        ("contradiction", "normalised", 4),
        ("shared", "identical", 3),
        ("repeated", "identical", 3),
        ("repeated", "identical", 3),
        ("repeated", "identical", 2),
    ]
    contradiction = found[0]
    assert {row.label for row in contradiction.rows} == {"no", "yes"}
    assert contradiction.rows[0].id == "train-000000"
    assert {row.part for row in found[1].rows} == {"train", "test"}
    assert len(found[-1].rows[0].excerpt) == EXCERPT_CHARACTERS


def test_many_labels_contradict_when_their_sets_differ(make_rows):
    rows = make_rows(
        {"train": (["a b", "a b", "c", "c"], [[1, 0], [1, 1], [1, 0], [1, 0]])},
        ("x", "y"),
        "multi_label_classification",
    )
    assert level(rows, "identical").contradicting_texts == 1


def test_scores_contradict_when_they_differ(make_rows):
    rows = make_rows({"train": (["a b", "a b", "c", "c"], [1.5, 1.0, 2.0, 2.0])}, problem_type="regression")
    assert level(rows, "identical").contradicting_rows == 2


def test_unlabelled_texts_repeat_and_never_contradict(make_rows):
    rows = make_rows({"texts": (["a b", "a b", "A B", ""], None)}, problem_type=None)
    found = level(rows, "normalised")
    assert (found.repeated, found.contradicting_texts) == ({"texts": 2}, 0)


@pytest.mark.parametrize("texts", [[], ["only one"], ["", ""]])
def test_few_or_empty_texts_are_no_exception(make_rows, texts):
    rows = make_rows({"texts": (texts, None)}, problem_type=None)
    found = find(rows)
    assert [of.repeated["texts"] for of in found] == [0, 0, 0]
    assert examples(rows) == []


def test_examples_are_the_largest_and_no_more_than_asked_for(make_rows):
    texts = [f"text {number}" for number in range(9) for _ in range(number)]
    found = examples(make_rows({"texts": (texts, None)}, problem_type=None), most=3)
    assert [example.size for example in found] == [8, 7, 6]
    assert {len(example.rows) for example in found} == {SHOWN_ROWS}
