"""Fine-tuning as a stage: every kind of task, with and without a teacher, and what the run folder says of it."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from sklearn.metrics import f1_score, jaccard_score
from transformers import AutoTokenizer, BertForSequenceClassification, DistilBertForSequenceClassification

from potstill.errors import DivergedError, ModelError
from potstill.finetune import stage
from potstill.recipe import FinetuneJob
from potstill.runs import RunFolder

LEARNS = {"epochs": 12, "learning_rate": 0.01}


@pytest.fixture
def finetune(tiny: Any, caches: Any, encoders: Any, tmp_path: Path) -> Any:
    """Fine-tune the small student on a task by name; fields of the section by name."""
    tasks = {
        "reviews": {"files": tiny.reviews},
        "pairs": {"files": tiny.pairs, "text_columns": ["first", "second"]},
        "tags": {"files": tiny.tags, "label_columns": ["praise", "blame"]},
        "scores": {"files": tiny.scores, "label_columns": ["score"]},
    }

    def run(
        task: str = "reviews",
        *,
        out: str = "run",
        seed: int = 1,
        model: Path | None = None,
        teacher: Path | None = None,
        rows: Any = None,
        **section: Any,
    ) -> RunFolder:
        described = {**tasks[task], **(rows or {})}
        small = {"epochs": 2, "batch_size": 16, "max_length": 40, "learning_rate": 0.003, "evaluate_batch_size": 5}
        content = {
            "out": tmp_path / out,
            "seed": seed,
            "model": str(model or encoders["student"]),
            "teacher": None if teacher is None else str(teacher),
            "task": {"name": task, **described, "files": str(described["files"])},
            "finetune": {**small, **section},
        }
        return stage.run(FinetuneJob.model_validate(content))

    return run


def test_one_label_is_learnt(finetune):
    run = finetune("reviews", **LEARNS)
    predictions = run.predictions("test")
    assert predictions.problem_type == "single_label_classification"
    assert predictions.label_names == ("bad", "good")
    assert (predictions.targets == predictions.logits.argmax(axis=1)).mean() >= 0.9


def test_many_labels_are_learnt_and_measured(finetune):
    run = finetune("tags", **{**LEARNS, "epochs": 30})
    predictions = run.predictions("test")
    assert predictions.problem_type == "multi_label_classification"
    given = (predictions.logits > 0).astype(int)
    np.testing.assert_array_equal(predictions.predicted, given)
    stored = run.metrics()["test"]
    assert stored["f1_micro"] == pytest.approx(f1_score(predictions.targets, given, average="micro"))
    assert stored["jaccard_samples"] == pytest.approx(
        jaccard_score(predictions.targets, given, average="samples", zero_division=1)
    )
    assert stored["f1_micro"] > 0.8


def test_scores_are_learnt_and_measured(finetune):
    run = finetune("scores", **LEARNS)
    predictions = run.predictions("test")
    assert predictions.logits.shape == (12, 1)
    expected = pearsonr(predictions.targets, predictions.logits[:, 0]).statistic
    assert run.metrics()["test"]["pearsonr"] == pytest.approx(expected, abs=1e-5)
    assert expected > 0.7


@pytest.mark.parametrize("task", ["reviews", "pairs", "tags", "scores"])
def test_the_rows_of_every_kind_of_task_are_all_predicted(task, classifiers):
    run = RunFolder.open(classifiers[task])
    for split in ("selection", "test"):
        predictions = run.predictions(split)
        assert len(set(predictions.ids)) == len(predictions) == 12
        assert np.isfinite(predictions.logits).all()
        assert set(run.metrics()[split]) >= {run.manifest["metric"]}


def test_the_teacher_is_given_the_token_types_of_pairs_that_the_student_lacks(finetune, classifiers, monkeypatch):
    """Pitfall 10: in the second distillation, both segments reach the teacher, and none reaches the student."""
    teacher_forward, student_forward = (
        BertForSequenceClassification.forward,
        DistilBertForSequenceClassification.forward,
    )
    teacher_types, student_inputs = [], set()

    @functools.wraps(teacher_forward)
    def watch_teacher(self: Any, *arguments: Any, **inputs: Any) -> Any:
        teacher_types.append(inputs["token_type_ids"])
        return teacher_forward(self, *arguments, **inputs)

    @functools.wraps(student_forward)
    def watch_student(self: Any, *arguments: Any, **inputs: Any) -> Any:
        student_inputs.update(inputs)
        return student_forward(self, *arguments, **inputs)

    monkeypatch.setattr(BertForSequenceClassification, "forward", watch_teacher)
    monkeypatch.setattr(DistilBertForSequenceClassification, "forward", watch_student)
    run = finetune("pairs", teacher=classifiers["teacher-pairs"])
    assert len(teacher_types) == run.history()[-1]["step"] == 12, "once for every training batch"
    assert all(set(types.unique().tolist()) == {0, 1} for types in teacher_types)
    assert "input_ids" in student_inputs
    assert "token_type_ids" not in student_inputs


def test_a_teacher_of_the_whole_weight_is_what_is_learnt(finetune, classifiers):
    """The oracle is the teacher's stored logits: with weight 1 the student comes nearer to them than with weight 0."""
    target = RunFolder.open(classifiers["teacher-reviews"]).predictions("test").probabilities
    distance = {}
    for weight in (0.0, 1.0):
        run = finetune(
            "reviews", out=f"w{weight}", teacher=classifiers["teacher-reviews"], teacher_weight=weight, epochs=8
        )
        distance[weight] = float(np.abs(run.predictions("test").probabilities - target).mean())
    assert distance[1.0] < distance[0.0]


def test_a_teacher_of_another_task_is_refused_before_anything_is_written(finetune, classifiers, tmp_path):
    with pytest.raises(ModelError, match="labels"):
        finetune("reviews", teacher=classifiers["teacher-pairs"])
    assert not (tmp_path / "run").exists()


def test_keep_best_is_decided_on_the_selection_split_alone(finetune):
    """Pitfall 2: the best value is the maximum over the validations, and that of the stored selection predictions."""
    run = finetune("reviews", keep="best", epochs=6, learning_rate=0.02)
    values = {record["step"]: record["eval_accuracy"] for record in run.history() if "eval_accuracy" in record}
    best = run.manifest["best"]
    assert best["value"] == max(values.values()) == run.metrics()["selection"]["accuracy"]
    assert best["step"] == min(step for step, value in values.items() if value == best["value"])


def test_patience_ends_training_early(finetune):
    run = finetune("reviews", keep="best", patience=1, epochs=30, learning_rate=1e-7)
    assert run.manifest["stopped_early"]
    assert run.history()[-1]["epoch"] < 30


def test_the_metric_that_was_asked_for_is_stored_and_compared_by(finetune):
    run = finetune("reviews", metric="log_loss")
    assert run.manifest["metric"] == "log_loss"
    predictions = run.predictions("test")
    expected = -np.log(predictions.probabilities[np.arange(12), predictions.targets]).mean()
    assert run.metrics()["test"]["log_loss"] == pytest.approx(expected, rel=1e-5)


def test_no_epochs_leave_the_encoder_as_it_was(finetune, encoders):
    from safetensors.torch import load_file

    run = finetune("reviews", epochs=0)
    before, after = load_file(encoders["student"] / "model.safetensors"), load_file(run.path / "model.safetensors")
    shared = before.keys() & after.keys()
    assert len(shared) > 30
    assert all(torch.equal(before[name], after[name]) for name in shared)


def test_texts_that_are_cut_are_counted_and_told(finetune, tiny):
    run = finetune("reviews", max_length=10)
    tokenizer = AutoTokenizer.from_pretrained(tiny.teacher)
    predictions = run.predictions("test")
    texts = [line.rpartition(",")[0] for line in tiny.reviews.read_text().splitlines()[1:]]
    rows = [int(identity.rpartition("-")[2]) for identity in predictions.ids]
    lengths = [len(tokenizer(texts[row])["input_ids"]) for row in rows]
    assert predictions.n_tokens.tolist() == lengths
    assert predictions.truncated.tolist() == [length > 10 for length in lengths]
    assert any("longer than 10 tokens and were cut" in note for note in run.manifest["data"]["notes"])
    assert AutoTokenizer.from_pretrained(run.path).model_max_length == 10


def test_labels_keep_the_order_in_which_they_are_named(finetune):
    run = finetune("reviews", rows={"label_names": ["good", "bad"]})
    config = json.loads((run.path / "config.json").read_text())
    assert config["id2label"] == {"0": "good", "1": "bad"}


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(finetune):
    runs = [finetune(out=out, seed=seed) for out, seed in (("a", 1), ("b", 1), ("c", 2))]
    first, second, other = ((run.path / "model.safetensors").read_bytes() for run in runs)
    assert first == second
    assert first != other
    np.testing.assert_array_equal(runs[0].predictions("test").logits, runs[1].predictions("test").logits)
    assert runs[0].metrics() == runs[1].metrics()


def test_a_limit_takes_a_sample_that_every_seed_shares(finetune):
    runs = [finetune(out=f"s{seed}", seed=seed, rows={"limits": {"train": 30, "test": 6}}) for seed in (1, 2)]
    for run in runs:
        assert {split: facts["rows"] for split, facts in run.manifest["data"]["counts"].items()} == {
            "train": 30,
            "selection": 12,
            "test": 6,
        }
        assert any("30 of 96 rows" in note for note in run.manifest["data"]["notes"])
    assert runs[0].predictions("test").ids.tolist() == runs[1].predictions("test").ids.tolist()


def test_a_failed_run_can_go_on_while_its_exception_is_held(finetune):
    """As in a notebook, which keeps the last exception and with it every frame."""
    with pytest.raises(DivergedError) as held:
        finetune("reviews", learning_rate=1e30, warmup=0)
    with pytest.raises(DivergedError):
        finetune("reviews", learning_rate=1e30, warmup=0)
    assert held.value.exit_code == 1


def test_a_finished_run_is_returned_without_a_model_being_opened(finetune, monkeypatch):
    first = finetune("reviews")
    monkeypatch.setattr(stage, "load_classifier", None)
    assert finetune("reviews").manifest["finished"] == first.manifest["finished"]


def test_a_run_that_another_process_finishes_meanwhile_is_not_trained_again(finetune, tmp_path, monkeypatch):
    other = finetune(out="other")
    before = {file: file.read_bytes() for file in other.path.rglob("*") if file.is_file()}
    prepare = stage._lesson

    def late(*arguments: Any) -> Any:
        prepared = prepare(*arguments)
        shutil.copytree(other.path, tmp_path / "run")
        return prepared

    monkeypatch.setattr(stage, "_lesson", late)
    monkeypatch.setattr(stage, "fit", None)
    assert finetune().manifest == RunFolder.open(other.path).manifest
    assert {file: (tmp_path / "run" / file.relative_to(other.path)).read_bytes() for file in before} == before
