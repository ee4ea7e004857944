"""The whole main job on a tiny teacher: the files it leaves, and that every figure in them is true."""

from __future__ import annotations

import csv
import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, matthews_corrcoef
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer, pipeline

pytestmark = pytest.mark.slow
ARMS = ("teacher", "student", "student-second", "copied", "random")
MODEL = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
RUN = MODEL | {"README.md", "history.jsonl", "manifest.json", "recipe.yaml"}
CLASSIFIER = RUN | {"metrics.json", "predictions/selection.parquet", "predictions/test.parquet"}


def files_of(folder: Path) -> set[str]:
    """Every file below ``folder`` but the trackers' logs."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name for name in names if not name.startswith("logs/")}


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def row_number(identity: str) -> int:
    return int(identity.rpartition("-")[2])


def runs_of(folder: Path, task: str) -> list[Path]:
    return sorted((folder / "tasks" / task).glob("*/seed-*"))


def manifest_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "manifest.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def runs(experiment: Any) -> list[Path]:
    """Every classifier of the experiment."""
    return [*runs_of(experiment.folder, "reviews"), *runs_of(experiment.folder, "pairs")]


def test_run_prints_where_the_page_is_and_nothing_else(experiment):
    assert experiment.called.out == f"{experiment.folder / 'report.html'}\n"


def test_run_leaves_exactly_its_stages_comparisons_and_page(experiment):
    root = experiment.folder
    assert {entry.name for entry in root.iterdir()} == {
        "recipe.yaml",
        "experiment.json",
        "report.html",
        "encoders",
        "tasks",
    }
    assert {entry.name for entry in (root / "encoders").iterdir()} == {"teacher", "student", "copied", "random"}
    for task, seeds in (("reviews", 2), ("pairs", 1)):
        entries = {entry.name for entry in (root / "tasks" / task).iterdir()}
        assert entries == {*ARMS, "comparison.json", "speed.json", "failures.json"}
        assert len(runs_of(root, task)) == seeds * len(ARMS)


def test_every_run_leaves_exactly_the_files_of_its_stage(experiment, runs):
    for encoder in (experiment.folder / "encoders").iterdir():
        assert files_of(encoder) == RUN, encoder
    for run in runs:
        assert files_of(run) == CLASSIFIER, run


def test_the_verbs_leave_exactly_the_files_of_their_stage(encoders, classifiers):
    for run in encoders.values():
        assert files_of(run) == RUN, run
    for run in classifiers.values():
        assert files_of(run) == CLASSIFIER | {"report.html"}, run


def test_every_row_of_the_report_split_is_predicted_once_with_its_own_label(runs, tiny):
    """Pitfall 11: 12 rows in batches of 5, so that the last one is partial."""
    for run in runs:
        rows = rows_of(tiny.reviews if "reviews" in run.parts else tiny.pairs)
        table = pq.read_table(run / "predictions" / "test.parquet").to_pydict()
        names = manifest_of(run)["label_names"]
        assert len(set(table["id"])) == len(table["id"]) == 12
        assert [names[target] for target in table["target"]] == [rows[row_number(id_)]["label"] for id_ in table["id"]]


def test_the_splits_are_disjoint_and_together_all_rows(runs):
    """Pitfall 4: the counts that are told are those of rows that are there."""
    for run in runs:
        counts = {split: facts["rows"] for split, facts in manifest_of(run)["data"]["counts"].items()}
        assert counts == {"train": 96, "selection": 12, "test": 12}
        ids = [
            set(pq.read_table(run / "predictions" / f"{split}.parquet")["id"].to_pylist())
            for split in counts
            if split != "train"
        ]
        assert [len(chosen) for chosen in ids] == [12, 12]
        assert not ids[0] & ids[1]


def test_all_arms_and_seeds_see_the_same_rows(experiment):
    """Pitfall 5."""
    for task in ("reviews", "pairs"):
        runs = runs_of(experiment.folder, task)
        assert len({manifest_of(run)["data"]["fingerprint"] for run in runs}) == 1
        ids = [pq.read_table(run / "predictions" / "test.parquet")["id"].to_pylist() for run in runs]
        assert all(same == ids[0] for same in ids)


def test_the_metrics_are_those_of_the_stored_predictions(runs):
    """Pitfall 3, by scikit-learn on the stored logits; the confusion matrix agrees with the accuracy."""
    for run in runs:
        table = pq.read_table(run / "predictions" / "test.parquet").to_pydict()
        predicted, target = np.array(table["logits"]).argmax(axis=1), np.array(table["target"])
        stored = json.loads((run / "metrics.json").read_text())["test"]
        assert stored["accuracy"] == accuracy_score(target, predicted)
        assert stored["f1_macro"] == pytest.approx(f1_score(target, predicted, average="macro"))
        assert stored["matthews_corrcoef"] == pytest.approx(matthews_corrcoef(target, predicted))
        assert confusion_matrix(target, predicted).trace() / len(target) == stored["accuracy"]


@pytest.fixture(scope="module")
def page(experiment: Any) -> str:
    """The words of the page, without its drawings."""
    written = (experiment.folder / "report.html").read_text(encoding="utf-8")
    shown = re.sub(r"<(script|style|svg).*?</\1>", " ", written, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", shown)).split())


def test_the_page_prints_the_median_of_the_stored_metrics(experiment, page):
    medians = []
    for arm in ARMS:
        metrics = (experiment.folder / "tasks" / "reviews" / arm).glob("seed-*/metrics.json")
        medians.append(np.median([json.loads(file.read_text())["test"]["accuracy"] for file in metrics]))
    row = page[page.index("reviews accuracy test") : page.index("pairs accuracy test")]
    assert [float(number) for number in re.findall(r"(?:test|%|\d) (\d\.\d{3})(?= \d\.\d{3} to)", row)] == [
        pytest.approx(median, abs=0.0005) for median in medians
    ]


def test_the_page_prints_the_splits_as_counted(page):
    """Pitfall 4."""
    assert "train 96 80.0% 48 48 selection 12 10.0% 6 6 test 12 10.0% 6 6" in page


@pytest.mark.parametrize("arm", ["teacher", "student"])
@pytest.mark.parametrize("task", ["reviews", "pairs"])
def test_a_run_opens_in_plain_transformers_with_the_stored_logits(arm, task, experiment, tiny):
    run = experiment.folder / "tasks" / task / arm / "seed-1"
    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(run).eval(),
        AutoTokenizer.from_pretrained(run),
    )
    rows = rows_of(tiny.reviews if task == "reviews" else tiny.pairs)
    table = pq.read_table(run / "predictions" / "test.parquet").to_pydict()
    columns = ("text",) if task == "reviews" else ("first", "second")
    for identity, stored in zip(table["id"], table["logits"], strict=True):
        texts = [rows[row_number(identity)][column] for column in columns]
        with torch.inference_mode():
            logits = model(**tokenizer(*texts, truncation=True, return_tensors="pt")).logits[0]
        np.testing.assert_allclose(logits.numpy(), stored, rtol=0, atol=1e-5)
    assert list(model.config.id2label.values()) == manifest_of(run)["label_names"]


def test_a_run_is_a_pipeline_of_transformers_with_its_own_labels(experiment, tiny):
    run = experiment.folder / "tasks" / "reviews" / "student" / "seed-1"
    table = pq.read_table(run / "predictions" / "test.parquet").to_pydict()
    texts = [rows_of(tiny.reviews)[row_number(identity)]["text"] for identity in table["id"]]
    said = pipeline("text-classification", model=str(run))(texts)
    assert [answer["label"] for answer in said] == [("bad", "good")[predicted] for predicted in table["predicted"]]


def test_an_encoder_opens_in_plain_transformers_without_a_missing_tensor(encoders):
    for run in encoders.values():
        _, told = AutoModelForMaskedLM.from_pretrained(run, output_loading_info=True)
        assert not any(told[keys] for keys in ("missing_keys", "unexpected_keys", "mismatched_keys"))


def test_the_student_without_distillation_is_its_teacher_layer_by_layer(experiment):
    """Pitfall 1, on the files themselves: layers 0 and 3 of the teacher's 4 are the student's 0 and 1."""
    teacher = load_file(experiment.folder / "encoders" / "teacher" / "model.safetensors")
    copied = load_file(experiment.folder / "encoders" / "copied" / "model.safetensors")
    for ours, theirs in ((0, 0), (1, 3)):
        for name, their_name in (("attention.q_lin", "attention.self.query"), ("ffn.lin2", "output.dense")):
            torch.testing.assert_close(
                copied[f"distilbert.transformer.layer.{ours}.{name}.weight"],
                teacher[f"bert.encoder.layer.{theirs}.{their_name}.weight"],
                rtol=0,
                atol=0,
            )


def test_the_origin_of_every_student_tensor_is_stored(experiment):
    """Pitfall 1: nothing random in a student that is initialised from its teacher, and nothing else in a random one."""
    for arm in ("student", "copied", "random"):
        run = experiment.folder / "encoders" / arm
        origins = manifest_of(run)["origins"]
        assert set(load_file(run / "model.safetensors")) <= set(origins)
        assert {origin == "random" for origin in origins.values()} == {arm == "random"}


def test_the_student_has_no_token_types_and_no_pooler(experiment):
    """Pitfall 10: what the second distillation has to give to the teacher alone."""
    names = set(load_file(experiment.folder / "encoders" / "student" / "model.safetensors"))
    assert not any("token_type" in name or "pooler" in name for name in names)


def test_every_arm_of_the_students_shape_has_its_size(experiment):
    sizes = {run.parent.name: manifest_of(run)["parameters"] for run in runs_of(experiment.folder, "pairs")}
    assert len({sizes[arm] for arm in ARMS if arm != "teacher"}) == 1
    assert sizes["student"] < sizes["teacher"]


def test_the_model_card_names_the_figures_of_its_run(runs):
    for run in runs:
        card = (run / "README.md").read_text(encoding="utf-8")
        assert "model-index" in card
        assert str(round(json.loads((run / "metrics.json").read_text())["test"]["accuracy"], 4)) in card


def test_the_page_needs_nothing_from_elsewhere(experiment):
    written = (experiment.folder / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=[\"'](?!data:|#|about:srcdoc)[^\"']+", written)
    assert str(experiment.folder) not in written, "no folders of the machine that made it"
