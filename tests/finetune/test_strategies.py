"""Strategies, heads and losses through the whole stage: what the run folder holds, and what opens it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.utils.class_weight import compute_class_weight
from transformers import AutoModelForSequenceClassification

from potstill.data.tokens import TextTokenizer
from potstill.errors import ModelError, RecipeError
from potstill.evaluate.stage import evaluate_run
from potstill.finetune import stage
from potstill.models.teacher import load_encoder
from potstill.recipe.schema import FinetuneJob
from potstill.runs import RunFolder
from potstill.runtime.torch_predictor import TorchPredictor

TEXTS = ["a good film", "this was a bad and dull book of the day", "very old"]


@pytest.fixture
def finetune(tiny: Any, caches: Any, encoders: Any, tmp_path: Path) -> Any:
    """Fine-tune the small student, a DistilBERT of 2 layers, on reviews or tags; fields of the section by name."""
    tasks = {"reviews": {"files": tiny.reviews}, "tags": {"files": tiny.tags, "label_columns": ["praise", "blame"]}}

    def run(task: str = "reviews", *, out: str = "run", arm: str = "student", model: Any = None, **section: Any) -> Any:
        small = {"epochs": 2, "batch_size": 16, "max_length": 40, "learning_rate": 0.003, "evaluate_batch_size": 5}
        described = {**tasks[task], "files": str(tasks[task]["files"])}
        content = {
            "out": tmp_path / out,
            "model": str(model or encoders[arm]),
            "task": {"name": task, **described},
            "finetune": {**small, **section},
        }
        return stage.run(FinetuneJob.model_validate(content))

    return run


def moved_from(run: RunFolder, encoder: Path) -> set[str]:
    """Names of the encoder's tensors that training changed."""
    before, after = load_encoder(encoder).state_dict(), load_file(run.path / "model.safetensors")
    prefix = next(name.split(".")[0] for name in after if "embeddings" in name)
    return {name for name, tensor in before.items() if not torch.equal(after[f"{prefix}.{name}"], tensor)}


def test_freezing_trains_the_head_alone_and_the_table_says_so(finetune, encoders, capsys):
    run = finetune(strategy="freeze")
    assert moved_from(run, encoders["student"]) == set()
    rows = run.manifest["rates"]
    assert [row["part"] for row in rows] == ["embeddings", "layer 0", "layer 1", "head"]
    assert [row["from_step"] for row in rows] == [None, None, None, 0]
    assert sum(row["parameters"] for row in rows) == run.manifest["parameters"]
    told = capsys.readouterr().err
    assert f"finetune reviews: head ({rows[-1]['parameters']:,} parameters): peak learning rate 0.003" in told
    assert "layer 1 to embeddings" in told
    assert "frozen" in told


def test_hybrid_with_rates_by_depth_is_stored_as_worked_by_hand(finetune, encoders):
    # oracle: 12 steps, a quarter of which is 3; 3e-3 halved once and twice
    run = finetune(strategy="hybrid", rates={"decay": 0.5, "embeddings": 1e-4})
    assert [(row["learning_rate"], row["from_step"]) for row in run.manifest["rates"]] == [
        (1e-4, 3), (7.5e-4, 3), (1.5e-3, 3), (3e-3, 0),
    ]  # fmt: skip
    assert len(moved_from(run, encoders["student"])) > 30


def test_frozen_layers_stay_and_the_others_move(finetune, encoders):
    run = finetune(freeze_layers=1)
    moved = moved_from(run, encoders["student"])
    assert moved
    assert all(name.startswith("transformer.layer.1.") for name in moved)


def test_more_frozen_layers_than_the_model_has_are_refused_before_anything_is_written(finetune, tmp_path):
    with pytest.raises(ModelError, match="allowed: 0 to 2"):
        finetune(freeze_layers=3)
    assert not (tmp_path / "run").exists()


HEADS: list[dict[str, Any]] = [
    {"kind": "linear"},
    {"kind": "linear", "pooling": "mean"},
    {"kind": "hidden", "pooling": "max", "size": 5, "activation": "gelu"},
]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: "-".join(map(str, head.values())))
@pytest.mark.parametrize("arm", ["student", pytest.param("teacher", marks=pytest.mark.slow)])
def test_a_head_of_ours_is_stored_and_opens(finetune, head, arm):
    run = finetune(arm=arm, head=head)
    predictions = run.predictions("test")
    opened = TorchPredictor.open(run.path)
    texts = stage.load_task_section(FinetuneJob.model_validate(run.recipe()).task, None).splits["test"].texts
    np.testing.assert_allclose(opened.predict(texts).logits, predictions.logits, atol=1e-4)
    assert run.manifest["opens_with"] == "potstill"
    assert run.manifest["head"]["kind"] == head["kind"]
    assert opened.n_parameters == run.manifest["parameters"]
    assert evaluate_run(run.path)["accuracy"] == run.metrics()["test"]["accuracy"]


@pytest.mark.slow
def test_a_head_of_ours_learns(finetune):
    predictions = finetune(head=HEADS[1], epochs=12, learning_rate=0.01).predictions("test")
    assert (predictions.targets == predictions.logits.argmax(axis=1)).mean() >= 0.9


def test_a_hidden_layer_like_the_familys_own_opens_in_plain_transformers(finetune):
    # oracle: the stored predictions, made by the head of 5 units
    run = finetune(head={"kind": "hidden", "size": 5})
    assert run.manifest["opens_with"] == "transformers"
    model, info = AutoModelForSequenceClassification.from_pretrained(run.path, output_loading_info=True)
    assert type(model).__name__ == "DistilBertForSequenceClassification"
    assert not info["missing_keys"]
    labels, problem = ("bad", "good"), "single_label_classification"
    predictor = TorchPredictor(model, TextTokenizer.open(run.path), labels, problem)
    texts = stage.load_task_section(FinetuneJob.model_validate(run.recipe()).task, None).splits["test"].texts
    np.testing.assert_allclose(predictor.predict(texts).logits, run.predictions("test").logits, atol=1e-4)
    assert model.num_parameters() == run.manifest["parameters"]


def test_the_default_head_is_transformers_own(finetune):
    run = finetune()
    config = json.loads((run.path / "config.json").read_text())
    assert config["architectures"] == ["DistilBertForSequenceClassification"]
    assert run.manifest["opens_with"] == "transformers"
    rates = {row["learning_rate"] for row in run.manifest["rates"]}
    assert rates == {0.003}


@pytest.mark.slow
def test_packed_texts_train_a_pooled_head_as_padded_ones_do(finetune):
    """AdamW's epsilon is large: a small one turns rounding into steps of full size."""
    choices = {"head": {"kind": "linear", "pooling": "mean"}, "epsilon": 1e-3, "kernels": "auto", "dropout": 0.0}
    runs = [finetune(out=str(packing), packing=packing, **choices) for packing in (True, False)]
    assert runs[0].manifest["throughput"]["finetune"]["padding"] == 0
    assert "packed" not in (runs[0].path / "config.json").read_text()
    assert np.isfinite(runs[0].predictions("test").logits).all()
    assert runs[0].manifest["tokens_seen"] == runs[1].manifest["tokens_seen"]


def test_a_run_with_a_head_of_ours_is_fine_tuned_on(finetune):
    head = {"kind": "linear", "pooling": "mean"}
    first = finetune(out="first", head=head)
    second = finetune(out="second", model=first.path, head=head, epochs=0)
    np.testing.assert_allclose(second.predictions("test").logits, first.predictions("test").logits, atol=1e-5)


@pytest.mark.slow
def test_balanced_weights_are_those_of_the_training_rows_and_change_what_is_learnt(finetune):
    # oracle: scikit-learn on the rows as the run counted them
    plain, run = finetune(out="plain"), finetune(class_weights="balanced")
    counted = run.manifest["data"]["counts"]["train"]["labels"]
    rows = np.repeat(list(counted), list(counted.values()))
    expected = compute_class_weight("balanced", classes=np.array(["bad", "good"]), y=rows)
    assert [run.manifest["class_weights"][name] for name in ("bad", "good")] == pytest.approx(expected, rel=1e-6)
    assert plain.manifest["class_weights"] is None


@pytest.mark.slow
def test_weights_by_label_and_focus_change_the_loss(finetune):
    runs = {
        name: finetune(out=name, **choices)
        for name, choices in {
            "plain": {}, "weighed": {"class_weights": {"good": 20.0}}, "focal": {"focal_gamma": 2.0},
        }.items()
    }  # fmt: skip
    good = {name: run.predictions("test").probabilities[:, 1].mean() for name, run in runs.items()}
    assert good["weighed"] > good["plain"] + 0.1
    first = {name: run.history()[0]["loss"] for name, run in runs.items()}
    assert first["focal"] < first["plain"], "(1 − p)² is below 1"


@pytest.mark.slow
def test_many_labels_take_weights_and_focus(finetune):
    run = finetune("tags", class_weights={"praise": 3.0}, focal_gamma=1.0)
    assert run.manifest["class_weights"] == {"praise": [1.0, 3.0], "blame": [1.0, 1.0]}
    assert np.isfinite(run.predictions("test").logits).all()


def test_a_label_that_there_is_not_is_refused_before_anything_is_written(finetune, tmp_path):
    with pytest.raises(RecipeError, match=r"found 'goood'; did you mean 'good'\?"):
        finetune(class_weights={"goood": 2.0})
    assert not (tmp_path / "run").exists()


def test_every_epoch_is_kept_and_opens_with_the_figures_of_the_table(finetune):
    # oracle: each model predicts the selection split again
    run = finetune(keep_epochs=True, epochs=3, keep="best", learning_rate=0.01)
    assert run.manifest["kept_epochs"] == ["epochs/epoch-1", "epochs/epoch-2", "epochs/epoch-3"]
    rows = run.manifest["epochs"]
    split = stage.load_task_section(FinetuneJob.model_validate(run.recipe()).task, None).splits["selection"]
    for place, row in zip(run.manifest["kept_epochs"], rows, strict=True):
        predicted = TorchPredictor.open(run.path / place).predict(split.texts).predicted
        assert (predicted == split.targets).mean() == pytest.approx(row["accuracy"])
    kept = next(row for row in rows if row["kept"])
    weights = [load_file(run.path / place / "model.safetensors") for place in run.manifest["kept_epochs"]]
    final = load_file(run.path / "model.safetensors")
    assert all(torch.equal(weights[kept["epoch"] - 1][name], tensor) for name, tensor in final.items())
    assert run.manifest["choice"].startswith(f"Epoch {kept['epoch']} of 3 is kept")


def test_epochs_are_not_kept_unless_asked_for_but_told(finetune):
    run = finetune()
    assert not (run.path / "epochs").exists()
    assert [row["epoch"] for row in run.manifest["epochs"]] == [1, 2]
    assert run.manifest["choice"].startswith("The last of 2 epochs is kept")
