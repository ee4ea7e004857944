"""Bad input through the command line: exit code 2, one line on stderr that helps, and an output folder left alone."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WHITESPACE_ROWS = "text,label\nfine film,good\n  ,bad\ndull day,bad\n"
REVIEWS = "text,label\n" + "fine film,good\ndull day,bad\n" * 10


@pytest.fixture
def refused(potstill: Any, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """Run a command that must be refused; returns the one line it said. The output folder ``out`` must not appear."""

    def run(*arguments: object, exit_code: int = 2) -> str:
        capfd.readouterr()
        called = potstill(*arguments)
        leaked = capfd.readouterr()
        assert called.code == exit_code, called
        assert called.out == leaked.out == leaked.err == "", "only the one line on stderr"
        assert called.err.startswith("potstill: ")
        assert called.err.count("\n") == 1, called.err
        assert "Traceback" not in called.err
        return called.err

    return run


@pytest.fixture
def finetune_refused(refused: Callable[..., str], tiny: Any, tmp_path: Path) -> Callable[..., str]:
    """Fine-tuning on a file of this content has to be refused without a trace of an output folder."""

    def run(content: str | bytes, *flags: object, name: str = "rows.csv") -> str:
        file = tmp_path / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        out = tmp_path / "out"
        said = refused("finetune", "--model", tiny.teacher, "--task", "mine", "--file", file, "--out", out, *flags)
        assert not out.exists()
        return said

    return run


def test_a_missing_file_is_named(refused, tiny, tmp_path):
    out = tmp_path / "out"
    said = refused("finetune", "--model", tiny.teacher, "--task", "x", "--file", tmp_path / "no.csv", "--out", out)
    assert f"no such file: {tmp_path / 'no.csv'}" in said
    assert not out.exists()


def test_a_missing_corpus_is_named(refused, tiny, tmp_path):
    said = refused("distil", "--teacher", tiny.teacher, "--corpus", tmp_path / "no.txt", "--out", tmp_path / "out")
    assert f"no such file: {tmp_path / 'no.txt'}" in said
    assert not (tmp_path / "out").exists()


def test_a_missing_model_is_named(refused, tiny, tmp_path):
    said = refused("pretrain", "--model", tmp_path / "no", "--corpus", tiny.corpus, "--out", tmp_path / "out")
    assert str(tmp_path / "no") in said
    assert not (tmp_path / "out").exists()


def test_a_missing_recipe_is_named(refused, tmp_path):
    assert str(tmp_path / "no.yaml") in refused("run", tmp_path / "no.yaml", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["evaluate", "report", "compare"])
def test_a_folder_that_is_no_run_is_refused(verb, refused, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    others = [tmp_path / "other"] if verb == "compare" else []
    assert "not a run folder" in refused(verb, tmp_path, *others)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["notes.txt"]


def test_an_empty_file_is_refused(finetune_refused):
    assert "is empty" in finetune_refused("")


def test_a_file_with_a_header_alone_is_refused(finetune_refused):
    assert "has no rows" in finetune_refused("text,label\n")


def test_an_empty_corpus_is_refused(refused, tiny, tmp_path):
    (tmp_path / "corpus.txt").write_text("\n\n  \n")
    said = refused("distil", "--teacher", tiny.teacher, "--corpus", tmp_path / "corpus.txt", "--out", tmp_path / "out")
    assert "holds no text" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flag", ["--text-column", "--label-column"])
def test_a_wrong_column_names_the_nearest_one(flag, finetune_refused):
    said = finetune_refused(REVIEWS, flag, "labl" if flag == "--label-column" else "txt")
    assert "has no column" in said
    assert ("'label'" if flag == "--label-column" else "'text'") in said


def test_a_label_that_is_not_in_the_list_is_named_with_its_row(finetune_refused):
    said = finetune_refused(REVIEWS + "odd one,ugly\n", "--set", "task.label_names=[bad, good]")
    assert "row 21" in said
    assert "'ugly'" in said
    assert "bad, good" in said


def test_one_class_only_is_refused(finetune_refused):
    assert "one class only" in finetune_refused("text,label\n" + "fine film,good\n" * 12)


def test_a_row_without_text_is_named(finetune_refused):
    assert "row 2 has no text" in finetune_refused(WHITESPACE_ROWS)


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz"])
def test_text_that_is_not_utf8_is_placed(name, finetune_refused):
    content = REVIEWS.encode() + "café,good\n".encode("latin-1")
    said = finetune_refused(gzip.compress(content) if name.endswith(".gz") else content, name=name)
    assert "is not UTF-8 at byte" in said
    assert "line 22" in said
    assert "iconv" in said


def test_a_corpus_that_is_not_utf8_is_placed(refused, tiny, tmp_path):
    (tmp_path / "corpus.txt").write_bytes(b"a fine day\na caf\xe9 in town\n")
    said = refused("pretrain", "--model", tiny.teacher, "--corpus", tmp_path / "corpus.txt", "--out", tmp_path / "out")
    assert "line 2" in said
    assert "0xe9" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "row"), [("rows.csv", "dull day,nan\n"), ("rows.jsonl", '{"text": "dull day", "label": NaN}\n')]
)
def test_a_nan_label_is_named_with_its_row(name, row, finetune_refused):
    good = REVIEWS if name == "rows.csv" else '{"text": "a film", "label": 0.5}\n{"text": "a day", "label": 1.5}\n' * 5
    said = finetune_refused(good + row, name=name)
    assert f"row {21 if name == 'rows.csv' else 11}" in said
    assert "no label" in said


def test_a_text_of_a_megabyte_is_named_with_its_row(finetune_refused):
    said = finetune_refused(REVIEWS + "word " * 210_000 + ",good\n")
    assert "row 21 has a text of 1,05" in said
    assert "max_words" in said


def test_a_task_that_nobody_knows_names_the_nearest(refused, tiny, tmp_path):
    said = refused("finetune", "--model", tiny.teacher, "--task", "colla", "--out", tmp_path / "out")
    assert "'cola'" in said
    assert not (tmp_path / "out").exists()


def test_local_copies_that_are_missing_are_named(refused, tiny, tmp_path):
    arguments = ("--model", tiny.teacher, "--task", "cola", "--data-dir", tmp_path, "--out", tmp_path / "out")
    assert "glue/cola/train.parquet is missing" in refused("finetune", *arguments)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="session")
def foreign_classifier(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of the same task whose tokenizer gives two words each other's ids."""
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("foreign")
    config = BertConfig.from_pretrained(tiny.teacher)
    config.id2label, config.label2id = {0: "bad", 1: "good"}, {"bad": 0, "good": 1}
    config.problem_type = "single_label_classification"
    BertForSequenceClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny.teacher).save_pretrained(folder)
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    words = content["model"]["vocab"]
    words["film"], words["book"] = words["book"], words["film"]
    file.write_text(json.dumps(content))
    return folder


def test_a_teacher_with_another_tokenizer_is_refused(refused, tiny, foreign_classifier, tmp_path):
    arguments = ("--model", tiny.teacher, "--teacher", foreign_classifier, "--task", "x", "--file", tiny.reviews)
    said = refused("finetune", *arguments, "--max-length", 40, "--out", tmp_path / "out")
    assert "different vocabularies" in said
    assert "book" in said
    assert not (tmp_path / "out").exists()


@pytest.fixture
def pickled(tiny: Any, tmp_path: Path) -> Path:
    """A model folder whose weights are a pickle, as older checkpoints are."""
    import torch

    folder = tmp_path / "pickled"
    shutil.copytree(tiny.teacher, folder)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize("verb", ["pretrain", "distil", "finetune", "run"])
@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_pickle_is_refused_with_how_to_convert_it(verb, what, refused, tiny, pickled, tmp_path):
    model = pickled if what == "folder" else pickled / "pytorch_model.bin"
    flags = verbs(tiny, tmp_path)[verb]
    flags += {"run": ("--set", f"teacher.model={model}"), "distil": ("--teacher", model)}.get(verb, ("--model", model))
    said = refused(verb, *flags, "--out", tmp_path / "out")
    assert "pickle" in said
    assert "save_pretrained" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("verb", "flags", "allowed"),
    [
        ("distil", ("--layers", 9), "1 to 4"),
        ("distil", ("--layers", 2, "--layer-choice", "[0, 9]"), "0 to 3"),
        ("run", ("--set", "student.layers=9"), "1 to 4"),
    ],
)
def test_more_layers_than_the_teacher_has_are_refused(verb, flags, allowed, refused, tiny, tmp_path):
    said = refused(verb, *verbs(tiny, tmp_path)[verb], *flags, "--out", tmp_path / "out")
    assert allowed in said
    assert not (tmp_path / "out").exists()


def test_a_layer_choice_that_is_no_list_is_refused(refused, tiny, tmp_path):
    said = refused("distil", *verbs(tiny, tmp_path)["distil"], "--layer-choice", "[0, 2", "--out", tmp_path / "out")
    assert "student.layer_choice" in said
    assert not (tmp_path / "out").exists()


def test_a_teacher_without_a_head_is_sent_to_pretrain(refused, tiny, tmp_path):
    said = refused("distil", "--teacher", tiny.encoder, "--corpus", tiny.corpus, "--out", tmp_path / "out")
    assert "potstill pretrain" in said
    assert not (tmp_path / "out").exists()


def test_an_unknown_key_in_a_recipe_names_the_nearest_known_one(refused, tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: x\ntasks: [{name: cola}]\ndistil: {temprature: 3}\n")
    said = refused("run", tmp_path / "recipe.yaml", "--out", tmp_path / "out")
    assert "'distil.temprature'" in said
    assert "'temperature'" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("override", "expected"),
    [("distil.temprature=3", "'temperature'"), ("distil.temperature=hot", "'hot'"), ("distil.temperature", "a=b")],
)
def test_an_override_that_is_wrong_is_named(override, expected, refused, tiny, tmp_path):
    arguments = ("--teacher", tiny.teacher, "--corpus", tiny.corpus, "--out", tmp_path / "out")
    said = refused("distil", *arguments, "--set", override)
    assert expected.replace("a=b", "field=value") in said
    assert not (tmp_path / "out").exists()


def verbs(tiny: Any, tmp_path: Path) -> dict[str, tuple[object, ...]]:
    """For every verb that makes something, arguments that would work."""
    recipe = tmp_path / "small.yaml"
    recipe.write_text(
        f"name: x\nteacher: {{model: {tiny.teacher}}}\ncorpus: {{source: {tiny.corpus}, block_length: 32}}\n"
        f"student: {{layers: 2}}\nfinetune: {{max_length: 40}}\ntasks: [{{name: x, files: {tiny.reviews}}}]\n"
    )
    return {
        "pretrain": ("--model", tiny.teacher, "--corpus", tiny.corpus, "--set", "corpus.block_length=32"),
        "distil": ("--teacher", tiny.teacher, "--corpus", tiny.corpus, "--set", "corpus.block_length=32"),
        "finetune": ("--model", tiny.teacher, "--task", "x", "--file", tiny.reviews, "--max-length", 40),
        "run": (recipe,),
    }


@pytest.mark.parametrize("verb", ["pretrain", "distil", "finetune", "run"])
@pytest.mark.parametrize("kind", ["folder", "own recipe", "file"])
def test_an_output_folder_that_holds_something_else_is_left_untouched(verb, kind, refused, tiny, tmp_path):
    out = tmp_path / "precious"
    if kind != "file":
        out.mkdir()
    mine = {"folder": out / "thesis.txt", "own recipe": out / "recipe.yaml", "file": out}[kind]
    mine.write_text("years of work")
    layers = ("--layers", 2) if verb == "distil" else ()
    said = refused(verb, *verbs(tiny, tmp_path)[verb], *layers, "--out", out)
    assert str(out) in said
    assert mine.read_text() == "years of work"
    assert kind == "file" or [entry.name for entry in out.iterdir()] == [mine.name]


def test_more_tokens_than_the_model_takes_are_refused(refused, tiny, tmp_path):
    arguments = ("--model", tiny.teacher, "--task", "x", "--file", tiny.reviews, "--out", tmp_path / "out")
    assert "4 to 64" in refused("finetune", *arguments, "--max-length", 65)
    assert not (tmp_path / "out").exists()


def test_blocks_longer_than_the_model_takes_are_refused(refused, tiny, tmp_path):
    arguments = ("--teacher", tiny.teacher, "--corpus", tiny.corpus, "--layers", 2, "--out", tmp_path / "out")
    assert "8 to 64" in refused("distil", *arguments, "--set", "corpus.block_length=128")
    assert not (tmp_path / "out").exists()


def test_a_corpus_of_one_block_is_refused(refused, tiny, tmp_path):
    (tmp_path / "corpus.txt").write_text("a fine day and a film\n")
    arguments = ("--teacher", tiny.teacher, "--corpus", tmp_path / "corpus.txt", "--layers", 2)
    assert "one block" in refused("distil", *arguments, "--set", "corpus.block_length=32", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("override", "expected"),
    [("finetune.metric=acuracy", "accuracy"), ("finetune.metric=pearsonr", "is not known for"), ("seed=-1", "seed")],
)
def test_a_setting_that_does_not_fit_the_task_is_refused(override, expected, refused, tiny, tmp_path):
    flags = verbs(tiny, tmp_path)["finetune"]
    assert expected in refused("finetune", *flags, "--set", override, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stage", ["pretrain", "distil", "finetune"])
def test_a_tracker_that_is_not_installed_is_refused(stage, refused, tiny, tmp_path):
    flags = (*verbs(tiny, tmp_path)[stage], *(("--layers", 2) if stage == "distil" else ()))
    said = refused(stage, *flags, "--set", f"{stage}.report_to=[wandbb]", "--out", tmp_path / "out")
    assert "'wandbb'" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("finetune.max_length=65", "4 to 64"),
        ("finetune.max_length=4", "5 or more"),
        ("finetune.metric=acuracy", "accuracy"),
        ("finetune.metric=pearsonr", "is not known for"),
        ("finetune.report_to=[wandbb]", "'wandbb'"),
        ("distil.report_to=[wandbb]", "'wandbb'"),
        ("distil.hidden_pairs=[[3, 4]]", "0 to 2"),
        ("student.heads=3", "not a multiple of its heads"),
        ("pretrain.report_to=[wandbb]", "'wandbb'"),
        ("corpus={source: corpus.csv, streaming: true}", "no such file"),
    ],
)
def test_run_refuses_what_a_late_stage_would_before_the_first(override, expected, refused, tiny, tmp_path):
    recipe = verbs(tiny, tmp_path)["run"][0]
    recipe.write_text(recipe.read_text().replace("student:", "pretrain: {head_steps: 3}\nstudent:"))
    assert expected in refused("run", recipe, "--set", override, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_layer_pair_the_student_lacks_is_refused(refused, tiny, tmp_path):
    flags = (*verbs(tiny, tmp_path)["distil"], "--layers", 2, "--set", "distil.alpha_hidden_mse=1")
    said = refused("distil", *flags, "--set", "distil.hidden_pairs=[[3, 4]]", "--out", tmp_path / "out")
    assert "0 to 2" in said
    assert not (tmp_path / "out").exists()


def test_several_files_without_their_splits_are_refused(refused, tiny, tmp_path):
    arguments = ("--model", tiny.teacher, "--task", "x", "--file", tiny.reviews, "--file", tiny.pairs)
    assert "--file train=" in refused("finetune", *arguments, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_recipe_with_wrong_rows_in_its_last_task_is_refused_before_anything_is_made(refused, tiny, tmp_path):
    out = tmp_path / "out"
    tasks = (
        f"tasks=[{{name: a, files: {tiny.reviews}}}, {{name: b, files: {tiny.pairs}, text_columns: [frist, second]}}]"
    )
    assert "'first'" in refused("run", *verbs(tiny, tmp_path)["run"], "--set", tasks, "--out", out)
    assert not out.exists()


def test_an_init_over_a_file_is_refused(refused, tmp_path):
    (tmp_path / "recipe.yaml").write_text("mine")
    assert "is there already" in refused("init", tmp_path / "recipe.yaml")
    assert (tmp_path / "recipe.yaml").read_text() == "mine"


def test_runs_measured_on_other_rows_cannot_be_compared(refused, classifiers):
    said = refused("compare", classifiers["reviews"], classifiers["pairs"], "--no-speed")
    assert "not trained and measured on the same rows" in said


def test_an_encoder_cannot_be_compared(refused, encoders, classifiers):
    assert "is a distil run" in refused("compare", classifiers["reviews"], encoders["student"])


def test_an_encoder_cannot_be_evaluated(refused, encoders):
    assert "is a distil run" in refused("evaluate", encoders["student"])


def test_a_run_is_not_evaluated_on_rows_that_changed_since(potstill, refused, tiny, tmp_path):
    rows = shutil.copy(tiny.reviews, tmp_path / "rows.csv")
    flags = ("--model", tiny.teacher, "--task", "x", "--file", rows, "--max-length", 40, "--epochs", 0)
    assert potstill("finetune", *flags, "--out", tmp_path / "run").code == 0
    before = (tmp_path / "run" / "metrics.json").read_bytes()
    with rows.open("a") as stream:
        stream.write("one fine film,good\n")
    assert "not those that" in refused("evaluate", tmp_path / "run")
    assert (tmp_path / "run" / "metrics.json").read_bytes() == before


def test_a_split_that_does_not_exist_names_those_that_do(refused, classifiers):
    assert "selection, test, train" in refused("evaluate", classifiers["reviews"], "--split", "tset")
