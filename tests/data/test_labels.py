"""Labels by name and by number, and every label that is not one, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.labels import infer_label_names, infer_problem_type, read_targets, refuse_one_class
from potstill.errors import DataError

SINGLE, MULTI, SCORES = "single_label_classification", "multi_label_classification", "regression"


@pytest.mark.parametrize("values", [["no", "yes"], [0, 1], ["0", "1"], [0.0, 1.0], ["0.0", " yes "], [False, True]])
def test_names_and_numbers_mean_the_same_label(values: list[object]) -> None:
    targets = read_targets({"label": values}, ("no", "yes"), SINGLE, "a.csv")
    assert targets.tolist() == [0, 1]
    assert targets.dtype == np.int64


def test_names_that_are_numbers_are_names() -> None:
    assert read_targets({"label": [1, "3", 2.0]}, ("1", "2", "3"), SINGLE, "a.csv").tolist() == [0, 2, 1]
    with pytest.raises(DataError, match="row 1: the label in column 'label' is not in the list; found '0'"):
        read_targets({"label": [0]}, ("1", "2", "3"), SINGLE, "a.csv")


@given(st.lists(st.sampled_from(["a", "b", "10", "9"]), min_size=1))
def test_inferred_names_read_their_own_labels(values: list[str]) -> None:
    numeric = [value.isdecimal() for value in values]
    if any(numeric) and not all(numeric):
        with pytest.raises(DataError, match="mixes numbers and names"):
            infer_label_names({"label": values}, SINGLE, "a.csv")
        return
    names = infer_label_names({"label": values}, SINGLE, "a.csv")
    targets = read_targets({"label": values}, names, SINGLE, "a.csv")
    assert [names[target] for target in targets] == values


def test_inferred_numbers_are_sorted_by_value() -> None:
    assert infer_label_names({"label": ["10", "9", "1"]}, SINGLE, "a.csv") == ("1", "9", "10")


def test_scores_become_floats() -> None:
    targets = read_targets({"score": ["0.5", 3, 2.25]}, ("score",), SCORES, "a.csv")
    assert targets.tolist() == [0.5, 3.0, 2.25]
    assert targets.dtype == np.float32


def test_several_columns_become_one_row_of_flags_each() -> None:
    targets = read_targets({"a": [0, "1"], "b": [True, 0.0]}, ("a", "b"), MULTI, "a.csv")
    assert targets.tolist() == [[0, 1], [1, 0]]
    assert targets.dtype == np.int8


def test_one_column_of_lists_becomes_flags() -> None:
    assert read_targets({"l": [["b"], [], ["a", "b"]]}, ("a", "b"), MULTI, "a").tolist() == [[0, 1], [0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("columns", "names"),
    [({"tags": [["toxic"], []]}, ("toxic",)), ({"toxic": [0, 1]}, ("toxic",)), ({"t": [[], []]}, ())],
)
def test_many_labels_are_two_or_more(columns: dict, names: tuple[str, ...]) -> None:
    # of one column scikit-learn's micro F1 is the accuracy, and its Jaccard index over samples is refused
    found = names[0] if names else "none"
    with pytest.raises(DataError, match=rf"a\.csv: a task of many labels needs two or more; found '{found}'"):
        read_targets(columns, names, MULTI, "a.csv")


@pytest.mark.parametrize("value", [None, float("nan"), "", "  ", "NaN"])
@pytest.mark.parametrize(("problem_type", "names"), [(SINGLE, ("0", "1")), (SCORES, ("score",))])
def test_a_missing_label_is_refused_with_its_row(value: object, problem_type: str, names: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"a.csv, row 2 has no label in column 'label'"):
        read_targets({"label": [0, value]}, names, problem_type, "a.csv")


def test_a_missing_flag_is_refused_with_its_row() -> None:
    with pytest.raises(DataError, match="row 2 has no label in column 'b'"):
        read_targets({"a": [0, 1], "b": [1, None]}, ("a", "b"), MULTI, "a.csv")


def test_a_label_outside_the_list_is_refused_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r"row 3: .*not in the list; found 'sprot'; .*did you mean 'sport'"):
        read_targets({"label": ["sport", "news", "sprot"]}, ("news", "sport"), SINGLE, "a.csv")
    with pytest.raises(DataError, match=r"row 1: .*not in the list; found '2'"):
        read_targets({"label": [2]}, ("news", "sport"), SINGLE, "a.csv")
    with pytest.raises(DataError, match=r"found '0.5'"):
        read_targets({"label": [0.5]}, ("news", "sport"), SINGLE, "a.csv")


@pytest.mark.parametrize("value", ["high", "inf", [1]])
def test_a_score_that_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(DataError, match="row 1: the score in column 'label' is no finite number"):
        read_targets({"label": [value]}, ("score",), SCORES, "a.csv")


def test_a_flag_that_is_neither_0_nor_1_is_refused() -> None:
    with pytest.raises(DataError, match=r"row 2: column 'a'.*found '2'; allowed: 0 or 1"):
        read_targets({"a": [1, 2], "b": [0, 0]}, ("a", "b"), MULTI, "a.csv")


@pytest.mark.parametrize(
    ("columns", "names", "problem_type"),
    [
        ({"label": [-1, -1]}, ("neg", "pos"), SINGLE),
        ({"label": [-1.0, -1.0]}, ("score",), SCORES),
        ({"a": [-1, -1], "b": [-1, -1]}, ("a", "b"), MULTI),
    ],
)
def test_hidden_labels_are_refused(columns: dict, names: tuple[str, ...], problem_type: str) -> None:
    with pytest.raises(DataError, match="is -1 in every row, so they are hidden"):
        read_targets(columns, names, problem_type, "test.parquet")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"label": ["a", "b"]}, SINGLE),
        ({"label": [1, 2]}, SINGLE),
        ({"label": ["1.0", "2.0"]}, SINGLE),
        ({"label": ["1.5", "2"]}, SCORES),
        ({"label": [0.25]}, SCORES),
        ({"a": [0], "b": [1]}, MULTI),
        ({"label": [["a"], []]}, MULTI),
    ],
)
def test_the_problem_type_follows_from_the_look_of_the_labels(columns: dict, expected: str) -> None:
    assert infer_problem_type(columns)[0] == expected


def test_a_column_of_text_is_no_label() -> None:
    with pytest.raises(DataError, match="does not look like a label; found '600 distinct values in 600 rows'"):
        infer_label_names({"text": [f"text {number}" for number in range(600)]}, SINGLE, "a.csv")


@pytest.mark.parametrize(
    ("targets", "names", "said"),
    [
        (np.array([1, 1]), ("neg", "pos"), "all 2 rows are 'pos'"),
        (np.array([0.5, 0.5], dtype=np.float32), ("score",), "all 2 rows are 0.5"),
        (np.array([[0, 1], [0, 1]], dtype=np.int8), ("a", "b"), "all 2 rows are"),
    ],
)
def test_one_class_only_is_refused(targets: np.ndarray, names: tuple[str, ...], said: str) -> None:
    with pytest.raises(DataError, match=f"one class only: {said}"):
        refuse_one_class(targets, names, "train.csv")
