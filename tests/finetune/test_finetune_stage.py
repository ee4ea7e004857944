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
from potstill.finetune import stage, start
from potstill.recipe.schema import FinetuneJob
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.fixture
def own_cache(tmp_path, monkeypatch) -> Path:
    """A cache folder that no other test has filled."""
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def teacher_rows(monkeypatch) -> list[int]:
    """How many rows each call of a BERT classifier had; the students of these tests are DistilBERTs."""
    forward, calls = BertForSequenceClassification.forward, []

    @functools.wraps(forward)
    def count(self: Any, *arguments: Any, **inputs: Any) -> Any:
        calls.append(len(inputs["input_ids"]))
        return forward(self, *arguments, **inputs)

    monkeypatch.setattr(BertForSequenceClassification, "forward", count)
    return calls


@pytest.mark.parametrize(("outputs", "calls"), [("live", 12), ("disk", 20)])
def test_the_teacher_is_given_the_token_types_of_pairs_that_the_student_lacks(
    finetune, classifiers, own_cache, monkeypatch, outputs, calls
):
    """Pitfall 10: in the second distillation, both segments reach the teacher, and none reaches the student.

    Live it runs on each of 2 · 6 training batches, for the disk once on 96 rows in batches of 5.
    """
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
    run = finetune("pairs", teacher=classifiers["teacher-pairs"], teacher_outputs=outputs)
    assert len(teacher_types) == calls
    assert run.history()[-1]["step"] == 12
    assert all(set(types.unique().tolist()) == {0, 1} for types in teacher_types)
    assert "input_ids" in student_inputs
    assert "token_type_ids" not in student_inputs


def weights_of(run: RunFolder) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(run.path / "model.safetensors")


@pytest.mark.parametrize(
    "task", ["reviews", *(pytest.param(task, marks=pytest.mark.slow) for task in ("pairs", "tags", "scores"))]
)
def test_a_stored_teacher_teaches_what_a_live_one_does(finetune, classifiers, own_cache, task):
    """The oracle is the live teacher. AdamW's epsilon is large: a small one turns rounding into steps of full size."""
    teacher = classifiers[f"teacher-{task}"]
    choices = {"teacher": teacher, "teacher_weight": 0.7, "epsilon": 1e-3}
    live, disk = (finetune(task, out=kind, teacher_outputs=kind, **choices) for kind in ("live", "disk"))
    losses = [[record["loss"] for record in run.history() if "loss" in record] for run in (live, disk)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert len(losses[0]) > 5
    expected, found = weights_of(live), weights_of(disk)
    assert expected.keys() == found.keys()
    assert all(torch.allclose(found[name], expected[name], atol=1e-4) for name in expected)


@pytest.mark.slow
def test_a_second_run_and_another_seed_do_not_run_the_teacher(finetune, classifiers, own_cache, teacher_rows):
    first = finetune(teacher=classifiers["teacher-reviews"])
    assert sum(teacher_rows) == 96, "once on every training row"
    teacher_rows.clear()
    again, other = (finetune(out=f"s{seed}", seed=seed, teacher=classifiers["teacher-reviews"]) for seed in (1, 2))
    assert teacher_rows == []
    assert (first.path / "model.safetensors").read_bytes() == (again.path / "model.safetensors").read_bytes()
    assert other.manifest["seed"] == 2


@pytest.mark.parametrize(
    ("section", "kept"),
    [
        ({"epochs": 2}, True),
        ({"epochs": 1}, False),
        ({"max_steps": 6}, False),
        ({"max_steps": 7}, True),
        ({"epochs": 3, "teacher_outputs": "live"}, False),
        ({"epochs": 1, "teacher_outputs": "disk"}, True),
        ({"epochs": 0, "teacher_outputs": "disk"}, False),
        ({"epochs": 2, "teacher_weight": 0.0}, False),
    ],
)
def test_outputs_are_kept_where_they_are_met_more_than_once_or_asked_for(
    finetune, classifiers, own_cache, section, kept
):
    run = finetune(teacher=classifiers["teacher-reviews"], **section)
    assert bool(list(own_cache.glob("logits-*"))) == kept
    assert any("the teacher's logits of 96 rows" in note for note in run.manifest["notes"]) == kept


@pytest.mark.slow
def test_another_length_of_the_texts_is_another_set_of_outputs(finetune, classifiers, own_cache, teacher_rows):
    for max_length in (40, 12):
        finetune(out=f"m{max_length}", teacher=classifiers["teacher-reviews"], max_length=max_length)
    assert sum(teacher_rows) == 2 * 96
    assert len(list(own_cache.glob("logits-*.json"))) == len(list(own_cache.glob("texts-*.json"))) == 2


@pytest.mark.slow
def test_the_training_rows_are_tokenised_once_for_all_seeds(finetune, own_cache, monkeypatch):
    from potstill.data.tokens import TextTokenizer

    encode, calls = TextTokenizer.encode_chunks, []

    def count(self: Any, texts: Any, max_length: int) -> Any:
        calls.append(len(texts))
        return encode(self, texts, max_length)

    monkeypatch.setattr(TextTokenizer, "encode_chunks", count)
    runs = [finetune(out=f"s{seed}", seed=seed) for seed in (1, 2)]
    assert calls.count(96) == 1, "the other calls are predictions of 12 rows"
    notes = [[note for note in run.manifest["notes"] if note.startswith("train: ")] for run in runs]
    assert notes[0] == notes[1]
    assert "tokens of 96 texts kept in the cache folder as texts-" in notes[0][0]


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(finetune):
    runs = [finetune(out=out, seed=seed) for out, seed in (("a", 1), ("b", 1), ("c", 2))]
    first, second, other = ((run.path / "model.safetensors").read_bytes() for run in runs)
    assert first == second
    assert first != other
    np.testing.assert_array_equal(runs[0].predictions("test").logits, runs[1].predictions("test").logits)
    assert runs[0].metrics() == runs[1].metrics()


@pytest.mark.slow
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
    monkeypatch.setattr(start, "load_classifier", None)
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
