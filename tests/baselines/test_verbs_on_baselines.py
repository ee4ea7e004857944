"""What the other verbs make of a BiLSTM and of a linear model, and what of fine-tuning neither takes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from potstill.data.windows import UNCUT, Windows, cut_windows
from potstill.decisions import read_decisions
from potstill.evaluate.metrics import compute_metrics
from potstill.runs import RunFolder
from potstill.runtime.opening import open_predictor
from potstill.runtime.torch_predictor import TorchPredictor

KINDS = ("bilstm", "tfidf")
TASKS = ("reviews", "tags")
SMALL = (
    "finetune.epochs=2",
    "finetune.max_length=40",
    "finetune.batch_size=16",
    "finetune.evaluate_batch_size=5",
    "bilstm.hidden_size=8",
    "bilstm.embedding_size=16",
)


@pytest.fixture(scope="module")
def make(potstill: Any, task_flags: Any) -> Callable[..., Any]:
    """Call the verb on a task by name, with fields over those that make it small."""

    def make(kind: str, task: str, out: Path, *fields: str) -> Any:
        given = (*(SMALL if kind == "bilstm" else ()), *fields)
        flags = [part for field in given for part in ("--set", field)]
        return potstill("baseline", kind, *task_flags[task], "--out", out, *flags)

    return make


@pytest.fixture(scope="module")
def made(make: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of each kind on one label of two and on many. Only to be read."""
    root = tmp_path_factory.mktemp("made")
    for kind in KINDS:
        for task in TASKS:
            called = make(kind, task, root / f"{kind}-{task}")
            assert called.code == 0, called.err
    return root


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one of them, to write into."""
    return lambda name: shutil.copytree(made / name, tmp_path / name)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_decisions_are_fitted_kept_and_obeyed_by_every_predictor(kind, task, copy, potstill):
    run = copy(f"{kind}-{task}")
    called = potstill("calibrate", run, "--thresholds", "f1")
    assert called.code == 0, called.err
    decisions = read_decisions(run)
    assert decisions is not None
    said = open_predictor(run).predict(["a good film", "a bad film"])
    assert said.temperature == decisions.temperature
    assert said.thresholds.tolist() == list(decisions.thresholds.values())
    assert "| threshold |" in (run / "README.md").read_text(encoding="utf-8")
    # oracle: the metrics of the stored logits under those decisions
    stored = RunFolder.open(run)
    metric = stored.manifest["metric"]
    expected = compute_metrics(decisions.apply(stored.raw_predictions("test")), [metric])[metric]
    called = potstill("evaluate", run, "--split", "test", "--json")
    assert called.code == 0, called.err
    assert json.loads(called.out)[metric] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_failures_are_studied_beside_a_teacher_and_shown_in_the_report(kind, copy, potstill, classifiers):
    run = copy(f"{kind}-reviews")
    called = potstill("failures", run, "--teacher", classifiers["teacher-reviews"], "--json")
    assert called.code == 0, called.err
    predictions = RunFolder.open(run).predictions("test")
    wrong = int((predictions.predicted != predictions.targets).sum())
    assert len(json.loads(called.out)["wrong"]) == wrong
    assert (run / "failures.html").is_file()
    assert potstill("report", run).code == 0


def test_both_are_compared_with_a_fine_tuned_model(made, potstill, classifiers):
    runs = [classifiers["reviews"], *(made / f"{kind}-reviews" for kind in KINDS)]
    called = potstill("compare", *runs, "--json")
    assert called.code == 0, called.err
    compared = json.loads(called.out)
    assert list(compared["arms"]) == [run.name for run in runs]
    assert all(costs["texts_per_s"] > 0 and costs["parameters"] > 0 for costs in compared["costs"].values())


@pytest.mark.parametrize(
    ("kind", "words"), [("bilstm", "has no layers of attention heads"), ("tfidf", "is a tfidf run")]
)
def test_there_is_no_attention_from_token_to_token_to_look_at(kind, words, made, potstill, tmp_path):
    refused = potstill("attend", made / f"{kind}-reviews", "--out", tmp_path / "page", "--text", "a good film")
    assert refused.code == 2
    assert words in refused.err
    assert not (tmp_path / "page").exists()


# -- the BiLSTM and the fields of fine-tuning --------------------------------------------------------------------------


@pytest.mark.slow
def test_long_texts_are_read_in_windows(make, tmp_path):
    fields = ("finetune.max_length=12", "finetune.long_texts=mean", "finetune.window_overlap=3")
    called = make("bilstm", "reviews", tmp_path / "run", *fields, "bilstm.weighting=attention")
    assert called.code == 0, called.err
    predictor = open_predictor(tmp_path / "run")
    assert isinstance(predictor, TorchPredictor)
    assert predictor.windows == Windows(3, "mean")
    # oracle: the mean of the model's logits on each window alone
    text = " ".join(["the good film was very old"] * 6)
    windows = cut_windows(predictor.tokenizer.encode([text], UNCUT), predictor.tokenizer, 12, 3)
    assert len(windows.owners) > 2
    apart = predictor.logits_of(windows.rows)
    np.testing.assert_allclose(predictor.predict([text]).logits[0], apart.mean(axis=0), rtol=0, atol=1e-5)
    assert not RunFolder.open(tmp_path / "run").predictions("test").truncated.any()


def test_windows_of_pairs_are_refused(make, tmp_path):
    refused = make("bilstm", "pairs", tmp_path / "run", "finetune.long_texts=max")
    assert refused.code == 2
    assert "windows are cut from single texts" in refused.err


@pytest.mark.slow
def test_every_epoch_is_kept_as_a_model_that_opens(make, tmp_path):
    called = make("bilstm", "reviews", tmp_path / "run", "finetune.keep_epochs=true", "finetune.keep=last")
    assert called.code == 0, called.err
    run = RunFolder.open(tmp_path / "run")
    assert run.manifest["kept_epochs"] == ["epochs/epoch-1", "epochs/epoch-2"]
    first, last, whole = (
        open_predictor(folder).predict(["a good film"]).logits
        for folder in (*(run.path / epoch for epoch in run.manifest["kept_epochs"]), run.path)
    )
    np.testing.assert_allclose(last, whole, rtol=0, atol=1e-6)
    assert np.abs(first - whole).max() > 1e-6


@pytest.mark.slow
def test_embeddings_that_are_frozen_stay_and_attention_trains_with_the_head(make, tmp_path):
    fields = ("finetune.freeze_embeddings=true", "finetune.rates.head=0.01", "finetune.keep=last")
    untrained = make("bilstm", "reviews", tmp_path / "before", *fields, "finetune.epochs=0")
    trained = make("bilstm", "reviews", tmp_path / "after", *fields)
    assert (untrained.code, trained.code) == (0, 0), trained.err
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("before", "after"))
    still = {name for name in before if before[name].equal(after[name])}
    assert still == {"bilstm.embeddings.weight"}
    rates = {row["part"]: row for row in RunFolder.open(tmp_path / "after").manifest["rates"]}
    assert list(rates) == ["embeddings", "layer 0", "head"]
    assert rates["embeddings"]["from_step"] is None
    # worked by hand: attention 16 · 16 + 16 + 16, classifier 2 · 16 + 2
    assert (rates["head"]["learning_rate"], rates["head"]["parameters"]) == (0.01, 288 + 34)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("finetune.strategy=freeze", "a BiLSTM begins from scratch"),
        ("finetune.strategy=gradual", "a BiLSTM begins from scratch"),
        ("finetune.freeze_layers=1", "a BiLSTM begins from scratch"),
        ("finetune.head={kind: linear}", "a head of its own"),
        ("finetune.packing=true", "padded, not packed"),
    ],
)
def test_what_suits_a_pretrained_transformer_alone_is_refused(field, words, make, tmp_path):
    refused = make("bilstm", "reviews", tmp_path / "run", field)
    assert refused.code == 2
    assert words in refused.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_fine_tuning_a_trained_bilstm_takes_strategies_but_no_other_head(made, potstill, task_flags, small, tmp_path):
    command = ("finetune", "--model", made / "bilstm-reviews", *task_flags["tags"])
    called = potstill(*command, "--out", tmp_path / "frozen", *small("finetune", "finetune.strategy=freeze"))
    assert called.code == 0, called.err
    before, after = (load_file(run / "model.safetensors") for run in (made / "bilstm-reviews", tmp_path / "frozen"))
    layer = "bilstm.layers.0.from_left.weight_hh_l0"
    assert before[layer].equal(after[layer])
    refused = potstill(*command, "--out", tmp_path / "x", *small("finetune", "finetune.head={kind: linear}"))
    assert refused.code == 2
    assert "keeps its own head" in refused.err


def test_weights_of_labels_are_those_of_fine_tuning(make, tmp_path):
    called = make("tfidf", "tags", tmp_path / "run", "class_weights={praise: 3}")
    assert called.code == 0, called.err
    assert RunFolder.open(tmp_path / "run").manifest["class_weights"] == {"praise": [1.0, 3.0], "blame": [1.0, 1.0]}
    for fields, words in ((["class_weights={prise: 3}"], "praise"), (["class_weights={praise: -1}"], "below 0")):
        refused = make("tfidf", "tags", tmp_path / "x", *fields)
        assert refused.code == 2
        assert words in refused.err
    refused = make("tfidf", "scores", tmp_path / "x", "class_weights=balanced")
    assert refused.code == 2
    assert "regression" in refused.err
