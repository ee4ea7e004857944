"""The verbs export and predict on the command line. Oracles: exit codes, files, and uninterrupted work."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from potstill.bundle import read_bundle

PROGRAM = "from potstill.cli.main import main; main()"


def command(*arguments, **named):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)], capture_output=True, check=False, timeout=300, **named
    )


@pytest.mark.slow
def test_export_prints_what_the_gate_found(potstill, classifiers, tmp_path):
    called = potstill("export", classifiers["reviews"], "--out", tmp_path / "bundle", "--format", "fp32")
    assert called.code == 0, called.err
    for words in ("largest logit difference", "share of labels flipped", "agreement on good"):
        assert words in called.out
    assert called.out.splitlines()[-1] == str(tmp_path / "bundle")


@pytest.mark.slow
def test_of_a_regression_values_are_told_and_of_labels_flips(bundles):
    from potstill.cli.ship import _gate_rows

    said = {task: [row["figure"] for row in _gate_rows(read_bundle(bundles[task]).gate)] for task in bundles}
    change, flips = "change of a value in deviations of the targets", "share of labels flipped"
    for task, figures in said.items():
        assert (change in figures, flips in figures) == (task == "scores", task != "scores")


@pytest.mark.slow
def test_a_bundle_outside_the_tolerance_ends_with_exit_code_3(potstill, classifiers, tmp_path):
    from potstill.runs import RunFolder, write_predictions

    run = shutil.copytree(classifiers["reviews"], tmp_path / "run")
    stored = RunFolder.open(run).raw_predictions("selection")
    write_predictions(run / "predictions" / "selection.parquet", replace(stored, logits=-stored.logits))
    refused = potstill("export", run, "--out", tmp_path / "bundle", "--format", "fp32")
    assert refused.code == 3
    assert "largest logit difference" in refused.err
    assert not (tmp_path / "bundle").exists()


def test_predict_adds_columns_and_tells_counts(potstill, bundles, tiny, tmp_path):
    out = tmp_path / "out.csv"
    called = potstill("predict", bundles["reviews"], tiny.reviews, "-o", out, "--json")
    assert called.code == 0, called.err
    assert json.loads(called.out)["predicted"] == 120
    with out.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["text", "label", "predicted", "probability_bad", "probability_good"]
    with tiny.reviews.open(newline="") as stream:
        assert [row["text"] for row in rows] == [row["text"] for row in csv.DictReader(stream)]
    assert "120 of 120 rows predicted" in called.err


def test_predict_takes_pairs_from_two_columns(potstill, bundles, tiny, tmp_path):
    out = tmp_path / "out.jsonl"
    called = potstill("predict", bundles["pairs"], tiny.pairs, "-o", out, "--top-k", 1, "--prefix", "p_")
    assert called.code == 0, called.err
    first = json.loads(out.read_text().splitlines()[0])
    assert list(first) == ["first", "second", "label", "p_predicted", "p_label_1", "p_probability_1"]


def test_standard_input_goes_to_standard_output(bundles):
    done = command("predict", bundles["reviews"], "--format", "txt", input=b"good film\n\nbad film\n")
    assert done.returncode == 0, done.stderr.decode()
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["text"] for row in rows] == ["good film", "bad film"]
    said = done.stderr.decode()
    assert "bad row 2 of standard input: no text" in said
    assert "2 of 3 rows predicted; 1 bad rows" in said


def test_a_file_goes_to_standard_output_and_its_bad_rows_aside(bundles, tmp_path):
    (tmp_path / "rows.csv").write_text('text\ngood film\n" "\n')
    done = command("predict", bundles["reviews"], tmp_path / "rows.csv", "--bad", tmp_path / "bad.jsonl")
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().splitlines()[0] == "text,predicted,probability_bad,probability_good"
    bad = json.loads((tmp_path / "bad.jsonl").read_text())
    assert (bad["file"], bad["row"]) == (str(tmp_path / "rows.csv"), 2)


def test_a_work_of_bad_rows_alone_ends_with_exit_code_2(potstill, bundles, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"review": "a film"}\n' * 3)
    called = potstill("predict", bundles["reviews"], tmp_path / "rows.jsonl", "-o", tmp_path / "out.jsonl")
    assert called.code == 2
    assert "not one row could be predicted" in called.err
    assert len((tmp_path / "out.jsonl.bad.jsonl").read_text().splitlines()) == 3


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full is Linux's")  # noqa: PTH110
def test_a_full_disk_behind_standard_output_is_no_traceback(bundles, tmp_path):
    (tmp_path / "rows.txt").write_text("good film\n" * 10)
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "predict", str(bundles["reviews"]), str(tmp_path / "rows.txt")],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=300,
        )
    said = done.stderr.decode()
    assert done.returncode == 1, said
    assert "no space left" in said
    assert "Traceback" not in said
    assert "Exception ignored" not in said


def test_whoever_reads_may_have_enough(bundles, tmp_path):
    (tmp_path / "rows.txt").write_text("good film\n" * 20_000)
    running = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "predict", str(bundles["reviews"]), str(tmp_path / "rows.txt")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.readline()
    running.stdout.close()
    said = running.stderr.read().decode()
    assert running.wait(120) == 1
    assert "Traceback" not in said


REFUSED = {
    "no bundle": (("{tmp}/nowhere", "{reviews}", "-o", "{tmp}/out.csv"), "there is no bundle"),
    "no file": (("{bundle}", "{tmp}/no.csv", "-o", "{tmp}/out.csv"), "no such file"),
    "no such column": (("{bundle}", "{reviews}", "-o", "{tmp}/out.csv", "--text-column", "txt"), "no column 'txt'"),
    "no such format": (("{bundle}", "{reviews}", "-o", "{tmp}/out.xls"), "no known format"),
    "too many labels": (("{bundle}", "{reviews}", "-o", "{tmp}/out.csv", "--top-k", "5"), "1 to 2"),
    "an unknown engine": (("{bundle}", "{reviews}", "-o", "{tmp}/out.csv", "--engine", "abacus"), "no such inference"),
    "stdin to a file": (("{bundle}", "-o", "{tmp}/out.csv"), "standard input"),
    "stdin of no format": (("{bundle}",), "--format"),
    "two files to stdout": (("{bundle}", "{reviews}", "{reviews}"), "several files to one file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_predicted_is_one_line_and_exit_code_2(name, potstill, bundles, tiny, tmp_path):
    arguments, expected = REFUSED[name]
    places = {"tmp": tmp_path, "bundle": bundles["reviews"], "reviews": tiny.reviews}
    called = potstill("predict", *(argument.format(**places) for argument in arguments))
    assert called.code == 2, called
    assert expected in called.err
    assert called.err.count("\n") == 1, called.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_work_that_was_killed_goes_on_and_ends_with_the_same_bytes(bundles, tmp_path):
    rows, whole, out = tmp_path / "rows.csv", tmp_path / "whole.csv", tmp_path / "out.csv"
    with rows.open("w") as stream:
        stream.write("text,n\n")
        for number in range(40_000):
            stream.write(f"{'' if number % 1000 == 7 else 'the good story was ' + 'dull ' * (number % 7)},{number}\n")
    done = command("predict", bundles["reviews"], rows, "-o", whole)
    assert done.returncode == 0, done.stderr.decode()
    kills = 0
    while not out.exists():
        running = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "predict", str(bundles["reviews"]), str(rows), "-o", str(out)],
            stderr=subprocess.DEVNULL,
        )
        if kills < 3 and committed_more(tmp_path / "out.csv.unfinished" / "journal.json", running):
            os.kill(running.pid, signal.SIGKILL)
            kills += 1
        assert running.wait(300) in (0, -signal.SIGKILL)
    assert kills == 3
    assert out.read_bytes() == whole.read_bytes()
    bad = [(tmp_path / f"{name}.csv.bad.jsonl").read_bytes() for name in ("out", "whole")]
    assert bad[0] == bad[1]
    assert len(bad[0].splitlines()) == 40


def committed_more(journal, running):
    """Whether rows were committed since the start, or nothing more will be."""

    def rows():
        return json.loads(journal.read_text())["state"]["rows"] if journal.exists() else 0

    before = rows()
    while running.poll() is None:
        if rows() > before:
            return True
        time.sleep(0.01)
    return False


def test_a_missing_extra_is_named(potstill, bundles, monkeypatch):
    from potstill import shipping

    def missing(*arguments, **named):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(shipping, "export", missing)
    called = potstill("export", "run", "--out", "bundle")
    assert (called.code, "pip install 'potstill[train]'" in called.err) == (2, True)
