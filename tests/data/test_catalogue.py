"""The catalogue against the published facts about its tasks, and against its own rules."""

from __future__ import annotations

import subprocess
import sys

import pytest

from potstill.data.catalogue import CATALOGUE, LISTED_ONLY, get_task
from potstill.data.cleaning import check_steps
from potstill.errors import DataError
from potstill.evaluate.metrics import find_metric

GLUE = {"cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"}


def test_every_task_of_the_issue_is_known() -> None:
    others = {"imdb", "dbpedia_14", "20_newsgroups", "uci_news_aggregator", "jigsaw_toxicity", "docstrings"}
    assert set(CATALOGUE) == GLUE | others
    assert set(LISTED_ONLY) == {"squad"}


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_a_task_keeps_the_rules_of_its_problem_type(name: str) -> None:
    task = CATALOGUE[name]
    assert task.name == name
    assert 1 <= len(task.text_columns) <= 2
    assert task.metric == task.metrics[0]
    assert len(set(task.label_names)) == len(task.label_names)
    assert task.citation
    assert task.language == "en", "every one of these papers is about English texts"
    check_steps(task.cleaning)
    if task.problem_type == "multi_label_classification":
        assert task.label_columns == task.label_names
    if task.problem_type == "regression":
        assert task.label_names == ("score",)


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_a_task_names_metrics_that_evaluate_knows(name: str) -> None:
    task = CATALOGUE[name]
    for metric in task.metrics:
        find_metric(metric, task.problem_type, len(task.label_names) or 3)


@pytest.mark.parametrize("name", sorted(GLUE))
def test_glue_reports_on_validation_and_hides_its_test_split(name: str) -> None:
    task = CATALOGUE[name]
    assert task.report_split == "validation"
    assert ("test" in task.hidden_splits) == (name != "mrpc")


# numbers of labels as in the papers cited: GLUE table 1, Zhang et al. table 3, Lang, Maas et al., Jigsaw
@pytest.mark.parametrize(
    ("name", "n_labels"),
    [
        ("cola", 2),
        ("mnli", 3),
        ("stsb", 1),
        ("imdb", 2),
        ("dbpedia_14", 14),
        ("20_newsgroups", 20),
        ("uci_news_aggregator", 4),
        ("jigsaw_toxicity", 6),
    ],
)
def test_a_task_has_its_published_number_of_labels(name: str, n_labels: int) -> None:
    assert len(CATALOGUE[name].label_names) == n_labels


def test_newsgroups_are_in_alphabetical_order() -> None:
    names = CATALOGUE["20_newsgroups"].label_names
    assert list(names) == sorted(names)


def test_an_unknown_task_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(DataError, match="did you mean 'imdb'") as caught:
        get_task("imbd")
    assert caught.value.exit_code == 2


def test_squad_is_listed_and_refused() -> None:
    with pytest.raises(DataError, match="squad is listed, but cannot be loaded yet"):
        get_task("squad")


def test_reading_the_catalogue_imports_nothing_heavy() -> None:
    code = "import sys, potstill.data.catalogue; print([m for m in ('numpy', 'datasets', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_module_of_the_way_in_imports_torch_transformers_or_datasets() -> None:
    modules = ("formats", "sources", "cleaning", "splits", "catalogue", "labels", "texts", "custom", "tasks", "corpora")
    imports = "; ".join(f"import potstill.data.{module}" for module in modules)
    code = f"import sys; {imports}; print([m for m in ('torch', 'transformers', 'datasets') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
