from __future__ import annotations

import ast
import math
import re
from dataclasses import replace

import huggingface_hub
import pytest

from potstill.data.windows import Windows
from potstill.report.model_card import ModelCard, render_model_card, write_model_card

CARD = ModelCard(
    model_name="cola-student",
    summary="A three-layer student of MiniLM, fine-tuned on CoLA.",
    created="2026-03-14",
    max_length=128,
    problem_type="single_label_classification",
    label_names=("unacceptable", "acceptable"),
    base_model="nreimers/MiniLM-L6-H384-uncased",
    teacher="minilm-l6, fine-tuned on the same task",
    license="apache-2.0",
    dataset_name="CoLA",
    dataset_id="nyu-mll/glue",
    dataset_config="cola",
    split="validation",
    primary_metric="matthews_corrcoef",
    metrics={"matthews_corrcoef": 0.391, "accuracy": 0.7383},
    intervals={"matthews_corrcoef": (0.358, 0.42)},
    n_examples=1043,
    seeds=(1, 2, 3),
    retention=0.846,
    n_parameters=17_390_000,
    bytes_on_disk=69_560_000,
    latency_ms=4.7,
    truncated_share=0.021,
    making=["Distilled for 3 epochs by the triple loss.", "Fine-tuned for 4 epochs; epoch 3 was best."],
    data_notes=["8,551 sentences; 2 without text were left out."],
    recipe_yaml="student:\n  layers: 3\n",
    versions={"potstill": "0.1.0", "torch": "2.13.0"},
)


def test_a_card_says_how_long_texts_are_read() -> None:
    windowed = render_model_card(replace(CARD, windows=Windows(32, "max"), truncated_share=0.0))
    assert "Inputs are cut at 128 tokens." in render_model_card(CARD)
    assert "more than 128 tokens in windows that share 32 and takes the maximum of their logits" in windowed
    assert "Inputs are cut" not in windowed
    assert "Inputs are never cut." in render_model_card(replace(CARD, max_length=None))


def parsed(card: ModelCard) -> huggingface_hub.ModelCardData:
    return huggingface_hub.ModelCard(render_model_card(card)).data


def test_the_hub_reads_every_metric_from_the_front_matter():
    # oracle: huggingface_hub's own parser
    results = parsed(CARD).eval_results
    assert {result.metric_type: result.metric_value for result in results} == CARD.metrics
    first = results[0]
    assert (first.task_type, first.dataset_type, first.dataset_config) == (
        "text-classification",
        "nyu-mll/glue",
        "cola",
    )
    assert (first.dataset_name, first.dataset_split) == ("CoLA", "validation")


def test_the_hub_reads_licence_tags_and_base_model():
    data = parsed(CARD)
    assert (data.license, data.base_model, data.model_name) == (CARD.license, CARD.base_model, CARD.model_name)
    assert {"potstill", "knowledge-distillation"} <= set(data.tags)
    assert data.pipeline_tag == "text-classification"


def test_a_local_model_on_local_data_still_has_valid_metadata():
    local = replace(
        CARD, base_model=None, dataset_id=None, dataset_config=None, dataset_name="my reviews", license=None
    )
    data = parsed(local)
    assert (data.base_model, data.datasets, data.license) == (None, None, "unknown")
    assert data.eval_results[0].dataset_type == "my reviews"


def test_a_metric_that_is_not_defined_is_no_result_and_is_told():
    undefined = replace(CARD, metrics={"accuracy": 0.7, "roc_auc": math.nan})
    assert [result.metric_type for result in parsed(undefined).eval_results] == ["accuracy"]
    assert "Not defined on the texts it was measured on: roc_auc." in render_model_card(undefined)


def test_figures_in_the_text_are_those_of_the_card():
    text = render_model_card(CARD)
    assert "| matthews_corrcoef | 0.3910 | 0.3580 to 0.4200 |" in text
    assert "| accuracy | 0.7383 | – |" in text
    assert "1,043 texts of `validation` of CoLA, median of 3 seeds" in text
    assert "keeps 84.6% of its teacher's matthews_corrcoef" in text
    assert "15.4% of the matthews_corrcoef is lost" in text
    assert "2.1% of the texts it was measured on are longer than 128 tokens" in text
    assert "17,390,000 parameters" in text


@pytest.mark.parametrize(
    ("changes", "reading"),
    [
        ({}, "softmax(-1)"),
        ({"problem_type": "multi_label_classification", "thresholds": {"acceptable": 0.31}}, "sigmoid()"),
        ({"problem_type": "regression", "label_names": ("score",)}, "squeeze(-1)"),
        ({"text_pair": True}, '"First text.", "Second text."'),
        ({"purpose": "fill-mask", "metrics": {}, "problem_type": None}, "AutoModelForMaskedLM"),
        ({"opens_with": "potstill", "text_pair": True}, '[("First text.", "Second text.")]'),
    ],
    ids=["one label", "many labels", "regression", "pair", "encoder", "a head of ours"],
)
def test_the_snippet_is_python_for_the_kind_of_model(changes, reading):
    text = render_model_card(replace(CARD, **changes))
    snippet = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
    ast.parse(snippet)
    assert reading in snippet


def test_a_card_says_what_opens_the_model():
    ours = replace(CARD, opens_with="potstill")
    assert parsed(CARD).to_dict()["library_name"] == "transformers"
    assert parsed(ours).to_dict()["library_name"] == "potstill"
    assert "Plain transformers opens it" in render_model_card(CARD)
    assert "Plain transformers opens it" not in render_model_card(ours)
    assert "open_predictor(" in render_model_card(ours)


def test_thresholds_travel_with_the_card():
    many = replace(CARD, problem_type="multi_label_classification", thresholds={"threat": 0.08, "insult": 0.5})
    assert "| threat | 0.080 |\n| insult | 0.500 |" in render_model_card(many)


def test_an_encoder_without_a_task_claims_no_figure():
    encoder = replace(CARD, purpose="fill-mask", metrics={}, problem_type=None, retention=None, truncated_share=None)
    assert "It was not evaluated on a task." in render_model_card(encoder)
    assert parsed(encoder).eval_results is None


def test_text_from_data_breaks_neither_table_nor_front_matter():
    hostile = replace(
        CARD,
        model_name="a: b # c\n---",
        label_names=("x|y", "<b>"),
        data_notes=["line one\nline two"],
        thresholds={"x|y": 0.5},
        problem_type="multi_label_classification",
        recipe_yaml="text: |\n  ```\n  # title\n",
    )
    text = render_model_card(hostile)
    assert parsed(hostile).model_name == hostile.model_name
    assert "| x\\|y | 0.500 |" in text
    assert "<b>" not in text
    assert "- line one line two" in text
    assert text.count("```") == 4


def test_the_card_is_written_where_asked_without_empty_stretches(tmp_path):
    write_model_card(CARD, tmp_path / "README.md")
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text == render_model_card(CARD)
    assert "\n\n\n" not in text
