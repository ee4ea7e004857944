"""``attend`` on the runs of the small main job: what it writes, what it says, what it refuses."""

from __future__ import annotations

import csv
import json
import shutil

import datasets
import numpy as np
import pytest

from potstill.analyse.attention.integrated_gradients import has_captum
from potstill.report.attention import stage as attention_stage
from potstill.report.attention.request import AttentionRequest

MEASURED = {"entropy_nats", "relative_entropy", "local", "special", "cls", "sep", "content", "function", "punctuation"}


def no_nan(constant):
    raise AssertionError(f"{constant} in JSON")


@pytest.fixture(scope="module")
def attended(potstill, classifiers, tmp_path_factory):
    """``attend`` with its defaults, on a sample of the training split."""
    out = tmp_path_factory.mktemp("attended")
    called = potstill(
        "attend", classifiers["reviews"], "--split", "train", "--sample", 24, "--out", out / "a", "--json"
    )
    assert called.code == 0, called.err
    return json.loads(called.out, parse_constant=no_nan), out / "a"


def test_a_sample_is_measured_and_some_of_it_shown(attended):
    numbers, out = attended
    assert numbers["n_texts"] == 24
    assert {model: set(measures) for model, measures in numbers["means"].items()} == {
        "before": MEASURED,
        "after": MEASURED,
    }
    assert np.array(numbers["distance"]["by_head"]).shape == (2, 4)
    assert 0 < numbers["distance"]["overall"]["low"] < numbers["distance"]["overall"]["high"] < 1
    assert len(numbers["texts"]) == 5
    assert {text["truth"] for text in numbers["texts"]} <= {"good", "bad"}
    assert sorted(file.name for file in out.iterdir()) == ["attention.html", "attention.json"]
    assert json.loads((out / "attention.json").read_text())["verdict"] == numbers["verdict"]
    assert numbers["verdict"].split(". ")[0] in (out / "attention.html").read_text(encoding="utf-8")


def test_what_every_token_receives_sums_to_one(attended):
    for text in attended[0]["texts"]:
        for layers in text["received"].values():
            np.testing.assert_allclose(np.sum(layers, axis=1), 1, atol=1e-3)
            assert {len(row) for row in layers} == {len(text["tokens"])}


def test_attributions_are_there_where_captum_is_and_complete(attended):
    for text in attended[0]["texts"]:
        if not has_captum():
            assert text["attribution"] is None
            continue
        found = text["attribution"]
        assert found["complete"]
        assert sum(found["values"]) == pytest.approx(found["output"] - found["baseline"] + found["delta"], abs=1e-4)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_and_another_draws_other_texts(potstill, classifiers, attended, tmp_path):
    flags = (classifiers["reviews"], "--split", "train", "--sample", 24, "--json", "--out", tmp_path / "again")
    again = json.loads(potstill("attend", *flags).out)
    assert {**again, "page": ""} == {**attended[0], "page": ""}
    other = json.loads(potstill("attend", *flags, "--seed", 2).out)  # over its own earlier files
    assert [text["text"] for text in other["texts"]] != [text["text"] for text in again["texts"]]


def test_texts_of_ones_own_are_shown_and_measured(potstill, classifiers, tmp_path):
    flags = ("--text", "a good film", "--text", "the dull story of <b>")
    called = potstill("attend", classifiers["reviews"], *flags, "--layer", 1, "--out", tmp_path / "own")
    assert called.code == 0, called.err
    numbers = json.loads((tmp_path / "own" / "attention.json").read_text())
    assert (numbers["n_texts"], numbers["sample"]) == (2, "those given")
    assert [text["truth"] for text in numbers["texts"]] == [None, None]
    assert "2 texts tell little of others" in called.err
    assert "distance" in called.out


def test_texts_of_ones_own_can_stand_beside_a_sample(classifiers, tmp_path):
    request = AttentionRequest(
        classifiers["reviews"], tmp_path / "both", texts=["a good film"], split="train", sample=30
    )
    numbers = attention_stage.attend(request)
    assert (numbers["n_texts"], len(numbers["texts"])) == (30, 1)


@pytest.mark.parametrize("task", ["pairs", "tags", "scores"])
def test_every_kind_of_task_has_its_page(task, potstill, classifiers, tmp_path):
    called = potstill("attend", classifiers[task], "--show", 2, "--out", tmp_path / task, "--json")
    assert called.code == 0, called.err
    numbers = json.loads(called.out, parse_constant=no_nan)
    assert len(numbers["texts"]) == 2
    assert (numbers["texts"][0]["probability"] is None) == (task == "scores")
    assert len(numbers["texts"][0]["text"]) == 2 or task != "pairs"


def test_a_run_can_be_looked_at_alone_without_its_encoder(potstill, classifiers, tmp_path):
    called = potstill("attend", classifiers["reviews"], "--alone", "--out", tmp_path / "alone", "--json")
    assert called.code == 0, called.err
    numbers = json.loads(called.out)
    assert (set(numbers["means"]), numbers["changes"], numbers["distance"]) == ({"after"}, None, None)


def test_without_captum_all_else_is_there(classifiers, tmp_path, monkeypatch):
    monkeypatch.setattr(attention_stage, "has_captum", lambda: False)
    for module in ("observed_models", "integrated_gradients"):
        monkeypatch.setattr(f"potstill.analyse.attention.{module}.has_captum", lambda: False)
    request = AttentionRequest(classifiers["reviews"], tmp_path / "a", texts=["a good film"])
    numbers = attention_stage.attend(request)
    assert numbers["texts"][0]["attribution"] is None
    assert 'pip install "potstill[explain]"' in numbers["notes"][-1]
    assert "captum" not in numbers["versions"]
    assert "captum is missing" in (tmp_path / "a" / "attention.html").read_text(encoding="utf-8")


def test_long_texts_are_cut_and_told(potstill, classifiers, tmp_path):
    long = "good " * 60
    called = potstill("attend", classifiers["reviews"], "--text", long, "--tokens", 16, "--out", tmp_path / "long")
    assert called.code == 0, called.err
    assert "1 of 1 texts are longer than 40 tokens; attention is that of what is read" in called.err
    assert "1 of 1 texts shown have more than 16 tokens" in called.err
    page = (tmp_path / "long" / "attention.html").read_text(encoding="utf-8")
    assert "62 tokens, of which the model reads 40." in page
    assert "24 tokens in the middle stand together as one" in page


@pytest.mark.slow
def test_a_head_of_ours_over_windows_is_looked_into_window_by_window(potstill, small, encoders, task_flags, tmp_path):
    more = ("finetune.head={kind: hidden, pooling: mean}", "finetune.long_texts=mean", "finetune.window_overlap=4")
    flags = ("--model", encoders["student"], *task_flags["reviews"], "--out", tmp_path / "run")
    made = potstill("finetune", *flags, *small("finetune", "finetune.max_length=12", *more))
    assert made.code == 0, made.err
    long = "the good film and the bright day of one lovely old story was this"
    called = potstill("attend", tmp_path / "run", "--text", long, "--out", tmp_path / "a", "--json")
    assert called.code == 0, called.err
    numbers = json.loads(called.out)
    # 14 words in windows of ten that share four
    assert [(text["window"], text["n_windows"], len(text["tokens"])) for text in numbers["texts"]] == [
        (0, 2, 12),
        (1, 2, 12),
    ]
    assert (numbers["n_texts"], numbers["n_tokens"]) == (1, 24)
    assert "1 of 1 texts are read in more than one window of 12 tokens" in numbers["notes"][0]
    assert np.min(numbers["distance"]["by_head"]) > 0
    assert all(text["attribution"]["complete"] for text in numbers["texts"] if has_captum())
    page = (tmp_path / "a" / "attention.html").read_text(encoding="utf-8")
    assert "those of window 2 of 2; each output of the text is the mean of 2" in page


def test_pairs_of_ones_own_are_read_as_pairs(potstill, classifiers, tmp_path):
    flags = ("--text", "a good film", "--second", "the book was dull", "--out", tmp_path / "a", "--json")
    called = potstill("attend", classifiers["pairs"], *flags)
    assert called.code == 0, called.err
    (text,) = json.loads(called.out)["texts"]
    assert text["text"] == ["a good film", "the book was dull"]
    assert [token for token in text["tokens"] if token.startswith("[")] == ["[CLS]", "[SEP]", "[SEP]"]
    page = (tmp_path / "a" / "attention.html").read_text(encoding="utf-8")
    assert "potstill attend pairs --out a --text &#39;a good film&#39; --second &#39;the book was dull&#39;" in page


@pytest.mark.slow
def test_a_threshold_decides_which_output_is_explained(potstill, classifiers, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(classifiers["reviews"], run)
    assert potstill("calibrate", run, "--thresholds", "f1").code == 0
    decisions = json.loads((run / "decisions.json").read_text())
    ((second, _),) = decisions["thresholds"].items()
    flags = ("--text", "a nasty film", "--json")
    texts = []
    for threshold in (0.0, 1.0):  # the second label always, and never
        (run / "decisions.json").write_text(json.dumps({**decisions, "thresholds": {second: threshold}}))
        texts += json.loads(potstill("attend", run, *flags, "--out", tmp_path / str(threshold)).out)["texts"]
    assert [text["target"] for text in texts] == [1, 0]
    assert [text["predicted"] for text in texts] == [text["label"] for text in texts]
    assert sum(text["probability"] for text in texts) == pytest.approx(1, abs=1e-6)
    (overruled,) = [number for number, text in enumerate(texts) if not text["is_likeliest"]]
    pages = [(tmp_path / name / "attention.html").read_text(encoding="utf-8") for name in ("0.0", "1.0")]
    assert ["by the run's threshold" in page for page in pages] == [number == overruled for number in (0, 1)]


@pytest.mark.slow
def test_an_epoch_stands_beside_the_encoder_of_its_run(potstill, small, encoders, task_flags, tmp_path):
    flags = ("--model", encoders["student"], *task_flags["reviews"], "--out", tmp_path / "run")
    made = potstill("finetune", *flags, *small("finetune", "finetune.keep_epochs=true"))
    assert made.code == 0, made.err
    looked = [
        json.loads(potstill("attend", model, "--sample", 30, "--out", tmp_path / model.name, "--json").out)
        for model in (tmp_path / "run" / "epochs" / "epoch-1", tmp_path / "run" / "epochs" / "epoch-2")
    ]
    assert looked[0]["models"] == {"before": "before: student", "after": "after: run/epoch-1"}
    assert looked[0]["means"]["before"] == looked[1]["means"]["before"]
    assert looked[0]["distance"]["overall"]["value"] != looked[1]["distance"]["overall"]["value"]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("bilstm", "BilstmModel has no layers of attention heads; allowed: encoders of BERT's family"),
        ("tfidf", "is a tfidf run; attention is looked at in a fine-tuned transformer"),
    ],
)
def test_models_without_heads_are_refused(kind, said, potstill, task_flags, tmp_path):
    small = ("finetune.epochs=1", "finetune.max_length=40", "bilstm.hidden_size=4", "bilstm.embedding_size=8")
    fields = [part for field in small for part in ("--set", field)] if kind == "bilstm" else []
    made = potstill("baseline", kind, *task_flags["reviews"], "--out", tmp_path / "run", *fields)
    assert made.code == 0, made.err
    called = potstill("attend", tmp_path / "run", "--out", tmp_path / "out")
    assert called.code == 2
    assert said in called.err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def model_of_the_hub(classifiers, tmp_path):
    """A classifier as the hub's cache keeps it: no run of ours, under the folder of its name."""
    folder = tmp_path / "models--someone--tiny-reviews" / "snapshots" / "0a1b2c"
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(classifiers["reviews"] / name, folder)
    return folder


def test_a_model_of_the_hub_is_looked_at_alone_or_beside_what_is_named(potstill, encoders, model_of_the_hub, tmp_path):
    flags = ("--text", "a good film", "--json")
    alone = json.loads(potstill("attend", model_of_the_hub, *flags, "--out", tmp_path / "alone").out)
    assert alone["models"] == {"after": "someone/tiny-reviews"}
    assert "name it with --before to see what changed" in " ".join(alone["notes"])
    beside = json.loads(
        potstill("attend", model_of_the_hub, *flags, "--before", encoders["student"], "--out", tmp_path / "beside").out
    )
    assert beside["models"]["before"] == "before: student"
    assert beside["distance"]["overall"]["value"] > 0
    assert beside["means"]["after"] == alone["means"]["after"]


def test_a_model_of_the_hub_does_not_tell_its_task(potstill, tiny, model_of_the_hub, tmp_path):
    called = potstill("attend", model_of_the_hub, "--out", tmp_path / "out")
    assert called.code == 2
    assert "does not tell which task it was fine-tuned on" in called.err
    with tiny.reviews.open(encoding="utf-8") as file:
        rows = [(row["text"], int(row["label"] == "good")) for row in csv.DictReader(file)]
    (tmp_path / "data" / "glue" / "sst2").mkdir(parents=True)
    for split in ("train", "validation"):
        columns = dict(zip(("sentence", "label"), map(list, zip(*rows, strict=True)), strict=True))
        datasets.Dataset.from_dict(columns).to_parquet(tmp_path / "data" / "glue" / "sst2" / f"{split}.parquet")
    flags = ("--task", "sst2", "--data-dir", tmp_path / "data", "--sample", 7, "--show", 3, "--json")
    drawn = potstill("attend", model_of_the_hub, *flags, "--out", tmp_path / "out")
    assert drawn.code == 0, drawn.err
    numbers = json.loads(drawn.out)
    assert (numbers["sample"], numbers["n_texts"], len(numbers["texts"])) == ("sst2, split validation", 7, 3)
    assert {text["truth"] for text in numbers["texts"]} <= {"negative", "positive"}


def test_other_rows_than_those_of_the_run_are_refused(potstill, small, encoders, tiny, tmp_path):
    rows = tmp_path / "reviews.csv"
    rows.write_bytes(tiny.reviews.read_bytes())
    flags = ("--model", encoders["student"], "--task", "mine", "--file", rows, "--out", tmp_path / "run")
    assert potstill("finetune", *flags, *small("finetune")).code == 0
    rows.write_text(rows.read_text().replace("the", "a"))
    called = potstill("attend", tmp_path / "run", "--out", tmp_path / "out")
    assert called.code == 2
    assert "are not those that" in called.err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--layer", 2), "no such layer; found 2; allowed: 0 to 1"),
        (("--head", 4), "no such head; found 4; allowed: 0 to 3"),
        (("--split", "nope"), "has no split 'nope'"),
        (("--before", "here", "--alone"), "an encoder to compare with was given"),
        (("--text", "a", "--split", "test"), "also where to draw texts from"),
        (("--text", "a", "--second", "b", "--second", "c"), "every text of a pair needs its other one"),
        (("--show", 21), "show is out of range; found 21; allowed: 1 to 20"),
        (("--task", "nope"), "nope"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused_before_anything_is_written(flags, said, potstill, classifiers, tmp_path):
    called = potstill("attend", classifiers["reviews"], *flags, "--out", tmp_path / "out")
    assert called.code == 2
    assert said in called.err
    assert not (tmp_path / "out").exists()


def test_a_base_that_is_gone_is_named_with_the_way_out(potstill, classifiers, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(classifiers["reviews"], run)
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "base_model": str(tmp_path / "gone")}))
    called = potstill("attend", run, "--out", tmp_path / "out")
    assert called.code == 2
    assert "there is no such model folder" in called.err
    assert "--before" in called.err
    assert "--alone" in called.err


def test_what_is_no_classifier_and_folders_of_others_are_refused(potstill, classifiers, encoders, tmp_path):
    called = potstill("attend", encoders["student"], "--out", tmp_path / "out")
    assert called.code == 2
    assert "looked at in a fine-tuned transformer" in called.err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    called = potstill("attend", classifiers["reviews"], "--out", tmp_path / "mine")
    assert called.code == 2
    assert "not empty" in called.err
