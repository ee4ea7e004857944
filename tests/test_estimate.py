"""The arithmetic of ``--dry-run`` for models that are no transformers; the oracles are the models themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from potstill.estimate import LstmShape
from potstill.models.bilstm import BilstmConfig, new_bilstm


@pytest.mark.parametrize("layers", [1, 2])
def test_the_parameters_of_a_bilstm_are_those_of_its_matrices(layers: int):
    shape = {"vocab_size": 50, "embedding_size": 12, "hidden_size": 6, "num_hidden_layers": layers}
    model = new_bilstm(BilstmConfig(**shape), seed=1).bilstm
    matrices = [tensor.numel() for tensor in model.parameters() if tensor.dim() > 1 and min(tensor.shape) > 1]
    assert LstmShape(layers, 12, 6, 50).parameters == sum(matrices)


def test_a_recipe_with_both_is_estimated_before_it_is_run(potstill: Any, tiny: Any, tmp_path: Any):
    (tmp_path / "vectors.txt").write_text("good 1 2 3\n")
    recipe = f"""\
name: lines
teacher: {{model: {tiny.teacher}}}
corpus: {{source: {tiny.corpus}, block_length: 32}}
student: {{layers: 2}}
finetune: {{max_length: 40}}
baselines: [bilstm, tfidf]
bilstm: {{hidden_size: 8, max_words: 100, embeddings: {tmp_path / "vectors.txt"}}}
tfidf: {{max_features: 50}}
tasks: [{{name: reviews, files: {tiny.reviews}}}]
"""
    (tmp_path / "recipe.yaml").write_text(recipe, encoding="utf-8")
    called = potstill("run", tmp_path / "recipe.yaml", "--dry-run", "--json")
    assert called.code == 0, called.err
    rows = {row["stage"]: row for row in json.loads(called.out)}
    bilstm, tfidf = rows["reviews: BiLSTM with attention, seed 1"], rows["reviews: TF-IDF and a linear model, seed 1"]
    assert (bilstm["rows"], tfidf["rows"]) == (96, 96)
    assert bilstm["parameters"] == 100 * 3 + 2 * 4 * 8 * (3 + 8) + 16**2
    assert tfidf["parameters"] == 2 * 50
    assert all(row["minutes"] >= 0 for row in rows.values())
    assert not (tmp_path / "lines").exists()


def test_studies_are_rows_of_the_plan_without_a_time(potstill: Any, tiny: Any, tmp_path: Any):
    # oracle: how the task's rows were made, 120 of which a tenth is reported
    recipe = f"""\
name: studied
teacher: {{model: {tiny.teacher}}}
corpus: {{source: {tiny.corpus}, block_length: 32}}
student: {{layers: 2}}
finetune: {{max_length: 40}}
baselines: []
studies: {{data: true, attention: 500}}
tasks: [{{name: reviews, files: {tiny.reviews}}}]
"""
    (tmp_path / "recipe.yaml").write_text(recipe, encoding="utf-8")
    flags = ("run", tmp_path / "recipe.yaml", "--out", tmp_path / "out", "--dry-run")
    called = potstill(*flags, "--json")
    assert called.code == 0, called.err
    *_, data, attention, total = json.loads(called.out)
    assert (data["stage"], attention["stage"]) == ("reviews: study of its rows", "reviews: study of its attention")
    assert (data["rows"], attention["rows"]) == (120, 12)
    assert {row["state"] for row in (data, attention)} == {"to do; its time is not estimated"}
    assert {row["minutes"] for row in (data, attention)} == {None}
    assert total["stage"] == "all that is to do, without the studies"
    without = json.loads(potstill(*flags, "--json", "--set", "studies={}").out)
    assert (len(without), without[-1]["stage"]) == (3 + 1, "all that is to do")
    assert without[-1]["minutes"] == pytest.approx(sum(row["minutes"] for row in without[:-1]))
