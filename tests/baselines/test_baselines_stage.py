"""The baselines as stages: every kind of task, what is chosen on which split, and that they are arms like any other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score

from potstill import pipeline
from potstill.baselines import stage
from potstill.errors import DataError, ModelError, OtherRunError, RecipeError
from potstill.evaluate.stage import load_task_section
from potstill.recipe.baseline_jobs import BilstmJob, TfidfJob
from potstill.recipe.schema import TaskSection
from potstill.report.stage import write_card
from potstill.runs import RunFolder
from potstill.runtime.linear_predictor import LinearPredictor
from potstill.runtime.opening import open_predictor
from potstill.runtime.torch_predictor import TorchPredictor

TASKS = ("reviews", "pairs", "tags", "scores")
BILSTM = {"hidden_size": 8, "embedding_size": 16, "min_count": 1}
QUICK = {"epochs": 2, "batch_size": 16, "max_length": 40, "evaluate_batch_size": 5}


@pytest.fixture(scope="module")
def task(tiny: Any, caches: Any) -> Any:
    """The description of a task by name."""
    described = {
        "reviews": {"files": tiny.reviews},
        "pairs": {"files": tiny.pairs, "text_columns": ["first", "second"]},
        "tags": {"files": tiny.tags, "label_columns": ["praise", "blame"]},
        "scores": {"files": tiny.scores, "label_columns": ["score"]},
    }
    return lambda name: {"name": name, **described[name], "files": str(described[name]["files"])}


@pytest.fixture
def bilstm(task: Any, tiny: Any, tmp_path: Path) -> Any:
    """Train a small BiLSTM; fields of its section by name."""

    def run(name: str = "reviews", *, out: str = "bilstm", seed: int = 1, finetune: Any = None, **section: Any) -> Any:
        content = {
            "out": tmp_path / out,
            "seed": seed,
            "model": str(tiny.encoder),
            "task": task(name),
            "bilstm": {**BILSTM, **section},
            "finetune": {**QUICK, **(finetune or {})},
        }
        return stage.run(BilstmJob.model_validate(content))

    return run


@pytest.fixture
def tfidf(task: Any, tmp_path: Path) -> Any:
    """Fit a linear model; fields of its section by name."""

    def run(name: str = "reviews", *, out: str = "tfidf", seed: int = 1, metric: Any = None, **section: Any) -> Any:
        content = {"out": tmp_path / out, "seed": seed, "task": task(name), "metric": metric, "tfidf": section}
        return stage.run(TfidfJob.model_validate(content))

    return run


@pytest.mark.parametrize("name", TASKS)
def test_every_row_of_every_kind_of_task_is_predicted_by_both(name, bilstm, tfidf):
    for run in (bilstm(name), tfidf(name)):
        for split in ("selection", "test"):
            predictions = run.predictions(split)
            assert len(set(predictions.ids)) == len(predictions) == 12
            assert np.isfinite(predictions.logits).all()
            assert set(run.metrics()[split]) >= {run.manifest["metric"]}


def test_both_learn(bilstm, tfidf):
    for run in (bilstm(finetune={"epochs": 12, "learning_rate": 0.01}), tfidf()):
        predictions = run.predictions("test")
        assert accuracy_score(predictions.targets, predictions.predicted) >= 0.9


@pytest.mark.parametrize("kind", ["bilstm", "tfidf"])
def test_an_opened_run_predicts_what_it_stored(kind, bilstm, tfidf, task):
    run = (bilstm if kind == "bilstm" else tfidf)("pairs")
    rows = load_task_section(TaskSection.model_validate(task("pairs")), None).splits["test"]
    predictor = open_predictor(run.path, batch_size=5)
    assert isinstance(predictor, TorchPredictor if kind == "bilstm" else LinearPredictor)
    np.testing.assert_allclose(predictor.predict(rows.texts).logits, run.predictions("test").logits, rtol=0, atol=1e-6)
    assert list(predictor.label_names) == run.manifest["label_names"]


# -- the BiLSTM --------------------------------------------------------------------------------------------------------


def test_its_folder_is_that_of_a_fine_tuned_run(bilstm, classifiers):
    names = {entry.name for entry in classifiers["reviews"].iterdir()} - {"README.md", "report.html"}
    assert {entry.name for entry in bilstm().path.iterdir()} == names


def test_the_best_epoch_is_kept_and_chosen_on_the_selection_split(bilstm):
    run = bilstm(finetune={"epochs": 5, "learning_rate": 0.02})
    values = [record["eval_accuracy"] for record in run.history() if "eval_accuracy" in record]
    assert run.manifest["best"]["value"] == max(values) == run.metrics()["selection"]["accuracy"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(bilstm):
    runs = [bilstm(out=out, seed=seed) for out, seed in (("a", 1), ("b", 1), ("c", 2))]
    first, same, other = ((run.path / "model.safetensors").read_bytes() for run in runs)
    assert first == same
    assert first != other


def test_a_finished_run_is_returned_and_one_of_other_words_is_another(bilstm):
    first = bilstm()
    assert bilstm().manifest["finished"] == first.manifest["finished"]
    with pytest.raises(OtherRunError):
        bilstm(max_words=5)


def test_embeddings_of_the_teacher_are_its_table_and_stay_so_where_asked(bilstm, tiny):
    run = bilstm(tokens="teacher", embeddings="teacher", finetune={"freeze_embeddings": True})
    theirs = load_file(tiny.encoder / "model.safetensors")["embeddings.word_embeddings.weight"]
    ours = load_file(run.path / "model.safetensors")["bilstm.embeddings.weight"]
    assert torch.equal(ours[1:], theirs[1:])
    moved = bilstm(out="moved", tokens="teacher", embeddings="teacher")
    assert not torch.equal(load_file(moved.path / "model.safetensors")["bilstm.embeddings.weight"][1:], theirs[1:])


def test_vectors_of_a_file_and_their_coverage_are_told(bilstm, tmp_path):
    (tmp_path / "glove.txt").write_text("".join(f"{word} 1 {n} 3\n" for n, word in enumerate(("good", "bad", "the"))))
    run = bilstm(embeddings=str(tmp_path / "glove.txt"), finetune={"freeze_embeddings": True})
    config = json.loads((run.path / "config.json").read_text())
    assert config["embedding_size"] == 3
    (note,) = [note for note in run.manifest["notes"] if note.startswith("glove.txt, 3 wide: vectors for 3 of ")]
    assert re.search(r"3 of 2\d types \(\d+\.\d%\), which are [\d,]+ of the [\d,]+ tokens", note)
    number = json.loads((run.path / "tokenizer.json").read_text())["model"]["vocab"]["bad"]
    assert load_file(run.path / "model.safetensors")["bilstm.embeddings.weight"][number].tolist() == [1.0, 1.0, 3.0]


def test_another_content_of_the_vectors_is_another_run_and_another_place_is_not(bilstm, tmp_path):
    (tmp_path / "a.txt").write_text("good 1 2\nbad 2 1\n")
    (tmp_path / "b.txt").write_text("good 1 2\nbad 2 1\n")
    first, moved = (bilstm(embeddings=str(tmp_path / name), finetune={"epochs": 0}) for name in ("a.txt", "b.txt"))
    assert moved.manifest["fingerprint"] == first.manifest["fingerprint"]
    (tmp_path / "b.txt").write_text("good 1 2\nbad 2 9\n")
    changed = bilstm(out="changed", embeddings=str(tmp_path / "b.txt"), finetune={"epochs": 0})
    assert changed.manifest["fingerprint"] != first.manifest["fingerprint"]


@pytest.mark.parametrize("weighting", ["embeddings", "attention"])
def test_token_weights_are_inverse_document_frequencies_with_mean_one_over_the_tokens(weighting, bilstm, task):
    # oracle: scikit-learn's idf over the same words; the special tokens stand in every text
    run = bilstm(weighting=weighting, finetune={"epochs": 0})
    texts = load_task_section(TaskSection.model_validate(task("reviews")), None).splits["train"].texts
    vectorizer = TfidfVectorizer(token_pattern=r"\w+").fit(texts)
    idf = dict(zip(vectorizer.get_feature_names_out(), vectorizer.idf_, strict=True))
    n_tokens = sum(len(text.split()) + 2 for text in texts)
    mean = (sum(idf[word] for text in texts for word in text.split()) + 2 * len(texts)) / n_tokens
    vocabulary = json.loads((run.path / "tokenizer.json").read_text())["model"]["vocab"]
    weights = load_file(run.path / "model.safetensors")["bilstm.token_weights"]
    for word, expected in idf.items():
        assert float(weights[vocabulary[word]]) == pytest.approx(expected / mean, rel=1e-5)


def test_it_learns_from_a_teacher_that_reads_the_same_tokens(bilstm, classifiers, task, tiny, tmp_path):
    def taught(out: str, weight: float) -> float:
        content = {
            "out": tmp_path / out,
            "model": str(tiny.encoder),
            "teacher": str(classifiers["teacher-reviews"]),
            "task": task("reviews"),
            "bilstm": {**BILSTM, "tokens": "teacher"},
            "finetune": {**QUICK, "epochs": 8, "teacher_weight": weight, "keep": "last"},
        }
        run = stage.run(BilstmJob.model_validate(content))
        return float(np.abs(run.predictions("test").probabilities - target).mean())

    target = RunFolder.open(classifiers["teacher-reviews"]).predictions("test").probabilities
    assert taught("all", 1.0) < taught("none", 0.0)


def test_what_it_cannot_do_is_refused_before_anything_is_written(bilstm, classifiers, tiny, task, tmp_path):
    with pytest.raises(ValidationError, match="batches are padded, not packed"):
        bilstm(finetune={"packing": True})
    with pytest.raises(DataError, match="no file of word vectors"):
        bilstm(embeddings=str(tmp_path / "absent.txt"))
    with pytest.raises(DataError, match=r"bilstm\.min_count"):
        bilstm(min_count=10_000)
    content = {"out": tmp_path / "x", "teacher": str(classifiers["teacher-reviews"]), "task": task("reviews")}
    with pytest.raises(ModelError, match="different vocabularies"):
        stage.run(BilstmJob.model_validate({**content, "bilstm": BILSTM, "finetune": QUICK}))
    assert [entry.name for entry in tmp_path.iterdir()] == []


# -- TF-IDF and a linear model -----------------------------------------------------------------------------------------


def test_the_penalty_is_the_best_on_the_selection_split(tfidf, task):
    # oracle: scikit-learn, fitted and measured here; of equals the strongest
    run = tfidf(penalties=[100.0, 1.0, 0.01], min_count=1)
    data = load_task_section(TaskSection.model_validate(task("reviews")), None)
    train, selection = data.splits["train"], data.splits["selection"]
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(train.texts)
    reached = {}
    for penalty in (100.0, 1.0, 0.01):
        fitted = LogisticRegression(C=1 / penalty, max_iter=1000).fit(vectorizer.transform(train.texts), train.targets)
        reached[penalty] = accuracy_score(selection.targets, fitted.predict(vectorizer.transform(selection.texts)))
    assert {row["penalty"]: row["accuracy"] for row in run.manifest["tried"]} == reached
    best = max(reached, key=lambda penalty: (reached[penalty], penalty))
    assert run.metrics()["selection"]["accuracy"] == reached[best]
    assert any(
        note.startswith(f"penalty {best:g} of 100, 1, 0.01 is best by accuracy") for note in run.manifest["notes"]
    )


def test_an_end_of_the_penalties_is_told(tfidf):
    notes = tfidf(penalties=[1000.0, 1.0], metric="log_loss").manifest["notes"]
    assert any(note.endswith("it is the weakest tried") for note in notes)


def test_other_seeds_find_the_fit_and_give_the_same_model(tfidf, tmp_path, monkeypatch):
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    first = tfidf(out="one", seed=1)
    monkeypatch.setattr("potstill.baselines.tfidf.fit_linear", None)
    second = tfidf(out="two", seed=2)
    assert (first.path / "model.safetensors").read_bytes() == (second.path / "model.safetensors").read_bytes()
    assert first.manifest["training_s"] == second.manifest["training_s"]
    assert [run.manifest["seed"] for run in (first, second)] == [1, 2]


def test_pairs_are_said_to_be_joined(tfidf):
    assert "the two texts of a pair are joined by [SEP]" in tfidf("pairs").manifest["notes"]
    assert not any("[SEP]" in note for note in tfidf(out="single").manifest["notes"])


def test_a_text_without_a_frequent_word_is_refused_before_anything_is_written(tfidf, tmp_path):
    with pytest.raises(DataError, match=r"tfidf\.min_count"):
        tfidf(min_count=10_000)
    with pytest.raises(RecipeError, match="metric"):
        tfidf(metric="f1_nothing")
    assert list(tmp_path.iterdir()) == []


def test_it_is_fitted_and_evaluated_without_torch(task, caches, tmp_path):
    # oracle: sys.modules of a fresh interpreter
    content = {"out": str(tmp_path / "run"), "task": task("reviews")}
    program = (
        "import sys; from potstill.baselines import stage; from potstill.recipe.baseline_jobs import TfidfJob; "
        f"from potstill import pipeline; run = stage.run(TfidfJob.model_validate({content!r})); "
        "pipeline.evaluate(run.path, split='train'); print(*sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


# -- both among the others ---------------------------------------------------------------------------------------------

RECIPE = """\
name: lines
seeds: [1]
teacher: {{model: {tiny.teacher}}}
corpus: {{source: {tiny.corpus}, block_length: 32}}
student: {{layers: 2}}
distil: {{max_steps: 2, batch_size: 8}}
finetune: {{epochs: 1, batch_size: 16, max_length: 40, evaluate_batch_size: 5, packing: true, learning_rate: 0.003}}
baselines: [bilstm, tfidf]
bilstm: {{hidden_size: 8, embedding_size: 16, weighting: attention, finetune: {{epochs: 2}}}}
tasks: [{{name: reviews, files: {tiny.reviews}}}]
decisions: {{thresholds: f1}}
evaluate: {{resamples: 30, speed_texts: 8, speed_repeats: 1}}
"""


@pytest.fixture(scope="module")
def lines(potstill: Any, tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished experiment whose baselines are no transformers."""
    root = tmp_path_factory.mktemp("lines")
    (root / "recipe.yaml").write_text(RECIPE.format(tiny=tiny), encoding="utf-8")
    called = potstill("run", root / "recipe.yaml", "--out", root / "lines")
    assert called.code == 0, called.err
    return root / "lines"


@pytest.mark.slow
def test_both_are_arms_of_the_comparison_with_speed_and_size(lines):
    comparison = json.loads((lines / "tasks/reviews/comparison.json").read_text())
    speed = json.loads((lines / "tasks/reviews/speed.json").read_text())
    for arm in ("bilstm", "tfidf"):
        assert comparison["arms"][arm]["changes"]["accuracy"]["retention"]["value"] > 0
        assert speed[arm]["latency_ms"]["p50"] > 0
        assert speed[arm]["tokens_per_s"]["median"] > 0
    assert {entry.name for entry in (lines / "encoders").iterdir()} == {"student"}


@pytest.mark.slow
def test_every_arm_is_given_decisions_by_the_rule_of_the_recipe(lines):
    asked = {
        arm.name: json.loads((arm / "seed-1" / "decisions.json").read_text())["asked"]
        for arm in (lines / "tasks/reviews").iterdir()
        if arm.is_dir()
    }
    assert set(asked) == {"teacher", "student", "bilstm", "tfidf"}
    assert all(rule == asked["teacher"] for rule in asked.values())


@pytest.mark.slow
def test_their_page_and_cards_say_what_they_are(lines):
    page = (lines / "report.html").read_text(encoding="utf-8")
    assert "BiLSTM with attention" in page
    assert "TF-IDF and a linear model: penalty" in page
    cards = {arm: (lines / f"tasks/reviews/{arm}/seed-1/README.md").read_text() for arm in ("bilstm", "tfidf")}
    assert "a bidirectional LSTM with attention, trained on the task alone." in cards["bilstm"]
    assert "a linear model over TF-IDF of words, trained on the task alone." in cards["tfidf"]
    assert "Inputs are never cut." in cards["tfidf"]
    for card in cards.values():
        assert "open_predictor" in card
        assert "library_name: potstill" in card
        assert "knowledge-distillation" not in card


@pytest.mark.slow
def test_running_again_does_nothing_and_the_verbs_take_the_runs(lines, potstill, tmp_path):
    before = {file: file.stat().st_mtime_ns for file in lines.rglob("model.safetensors")}
    assert potstill("run", lines / "recipe.yaml", "--out", lines).code == 0
    assert {file: file.stat().st_mtime_ns for file in lines.rglob("model.safetensors")} == before
    arms = [lines / "tasks/reviews" / arm for arm in ("tfidf", "bilstm")]
    compared = potstill("compare", *arms, "--json", "--no-speed")
    assert compared.code == 0, compared.err
    assert set(json.loads(compared.out)["arms"]) == {"tfidf", "bilstm"}
    for arm in arms:
        evaluated = potstill("evaluate", arm / "seed-1", "--split", "train", "--json")
        assert evaluated.code == 0, evaluated.err
        assert json.loads(evaluated.out)["accuracy"] > 0.4


@pytest.mark.slow
def test_the_verb_makes_runs_with_page_and_card(potstill, tiny, tmp_path):
    small = ("--set", "finetune.epochs=1", "--set", "bilstm.hidden_size=4", "--set", "finetune.max_length=40")
    made = potstill("baseline", "bilstm", "--task", "reviews", "--file", tiny.reviews, "--out", tmp_path / "a", *small)
    assert made.code == 0, made.err
    assert "words are known" in made.err
    made = potstill("baseline", "tfidf", "--task", "reviews", "--file", tiny.reviews, "--out", tmp_path / "b")
    assert made.code == 0, made.err
    for run in (tmp_path / "a", tmp_path / "b"):
        assert {"README.md", "report.html", "metrics.json"} <= {entry.name for entry in run.iterdir()}
    refused = potstill("baseline", "tfidf", "--task", "x", "--model", tiny.encoder, "--out", tmp_path / "c")
    assert refused.code == 2
    assert "'model'" in refused.err
    reported = potstill("report", tmp_path / "b")
    assert reported.code == 0, reported.err


def test_a_linear_run_is_no_encoder(tfidf, bilstm, potstill, tiny, tmp_path):
    tfidf()
    flags = ("--task", "reviews", "--file", tiny.reviews, "--out", tmp_path / "x")
    refused = potstill("finetune", "--model", tmp_path / "tfidf", *flags)
    assert refused.code == 2
    assert "no encoder in it" in refused.err


def test_a_trained_bilstm_is_fine_tuned_like_any_encoder(bilstm, task, tmp_path):
    from potstill.finetune import stage as finetune_stage
    from potstill.recipe.schema import FinetuneJob

    first = bilstm()
    job = {"out": tmp_path / "again", "model": str(first.path), "task": task("tags"), "finetune": QUICK}
    again = finetune_stage.run(FinetuneJob.model_validate(job))
    assert set(again.metrics()) == {"selection", "test"}
    assert type(open_predictor(again.path)) is TorchPredictor
    write_card(again.path)
    assert "a bidirectional LSTM with attention, fine-tuned from bilstm." in (again.path / "README.md").read_text()
    assert pipeline.evaluate(again.path, split="test")["f1_micro"] >= 0
