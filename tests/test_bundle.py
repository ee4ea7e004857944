"""The bundle folder: what is refused at opening. Oracles: hashlib, and a bundle that was broken in one stated way."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from potstill.bundle import (
    LARGEST_DESCRIPTION,
    Bundle,
    Graph,
    Reading,
    Vocabulary,
    is_bundle,
    read_bundle,
    write_bundle,
)
from potstill.data.windows import Windows
from potstill.decisions import Decisions, ThresholdRule
from potstill.errors import BundleError

LABELS = ("bad", "fine", "good")
CONTENT = {"model.onnx": b"a graph\x00\x01", "tokenizer.json": b"{}"}


def a_bundle(**changed):
    values = {
        "name": "reviews",
        "problem_type": "single_label_classification",
        "label_names": LABELS,
        "reading": Reading(("text",), "pair", ("max_words:30",), 40, Windows(8, "max")),
        "graph": Graph("model.onnx", "fp32", ("input_ids", "attention_mask"), "logits", 18),
        "special_tokens": {"cls": "[CLS]", "pad": "[PAD]"},
        "pad_id": 0,
        "decisions": Decisions(
            LABELS, "single_label_classification", 1.5, None, ThresholdRule(), True, "selection", 7, "ab" * 32
        ),
        "gate": {"passed": True},
        "forced": False,
        "origin": {"run": "cd" * 32},
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()},
        "made_by": "0.0.0",
        "vocabulary": Vocabulary(40, 60),
    }
    return Bundle(**{**values, **changed})


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "bundle"
    path.mkdir()
    for name, content in CONTENT.items():
        (path / name).write_bytes(content)
    write_bundle(path, a_bundle())
    return path


def change(folder, **entries):
    content = json.loads((folder / "bundle.json").read_text())
    for name, value in entries.items():
        *path, last = name.split("__")
        inner = content
        for part in path:
            inner = inner[part]
        inner[last] = value
    (folder / "bundle.json").write_text(json.dumps(content))


def test_what_was_written_is_read(folder):
    assert read_bundle(folder) == a_bundle()
    assert is_bundle(folder)


def test_two_columns_are_a_pair_unless_they_are_joined():
    assert Reading(("a", "b"), "pair", (), 40, None).takes_pairs
    assert not Reading(("a", "b"), "sep", (), 40, None).takes_pairs
    assert not Reading(("a",), "pair", (), 40, None).takes_pairs


@pytest.mark.parametrize("name", sorted(CONTENT))
def test_one_flipped_bit_is_noticed(folder, name):
    content = bytearray(CONTENT[name])
    content[0] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=rf"{name} is not the file that the bundle was made with"):
        read_bundle(folder)


@pytest.mark.parametrize("name", sorted(CONTENT))
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"lacks the file {name}"):
        read_bundle(folder)


def test_a_newer_form_is_refused_with_what_to_do(folder):
    change(folder, format=2, potstill="9.9.9", label_names="of another form")
    with pytest.raises(BundleError, match=r"newer potstill \(9\.9\.9\).*found 'format 2'.*upgrade"):
        read_bundle(folder)


@pytest.mark.parametrize("form", [None, "1", 0, True, 1.5])
def test_a_form_that_is_no_number_is_refused(folder, form):
    change(folder, format=form)
    with pytest.raises(BundleError, match="does not say its format"):
        read_bundle(folder)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "sub/model.onnx", "..", ".", "", "a\\b", "bundle.json", ".hidden", "a\x00b"]
)
def test_no_name_leads_out_of_the_folder(folder, name):
    (folder.parent / "secret").write_bytes(b"x")
    files = json.loads((folder / "bundle.json").read_text())["files"]
    change(folder, files={**files, name: hashlib.sha256(b"x").hexdigest()})
    with pytest.raises(BundleError, match="none of the folder's own"):
        read_bundle(folder)


@pytest.mark.parametrize("name", ["model.onnx", "bundle.json"])
def test_a_link_is_refused_whatever_it_points_to(folder, name):
    elsewhere = folder.parent / "elsewhere"
    (folder / name).rename(elsewhere)
    (folder / name).symlink_to(elsewhere)
    with pytest.raises(BundleError, match="is a link"):
        read_bundle(folder)


BROKEN = {
    "labels of another number than thresholds": {"label_names": ["bad", "good"]},
    "a label twice": {"label_names": ["bad", "bad", "good"]},
    "no labels": {"label_names": []},
    "labels that are no list": {"label_names": "bad"},
    "a regression of three": {"problem_type": "regression", "decisions": None},
    "an unknown problem": {"problem_type": "ranking"},
    "no room for text": {"text__max_length": 3},
    "three columns": {"text__columns": ["a", "b", "c"]},
    "an unknown join": {"text__join": "glue"},
    "an unknown cleaning": {"text__cleaning": ["wash"]},
    "an unknown pooling": {"text__windows": {"overlap": 3, "pooling": "median"}},
    "an unknown input": {"graph__inputs": ["input_ids", "pixels"]},
    "a graph that is no file of it": {"graph__file": "other.onnx"},
    "an endless temperature": {"decisions__temperature": float("inf")},
    "decisions that are none": {"decisions": {"temperature": 1}},
    "text that is null": {"text": None},
    "a length that is infinite": {"text__max_length": float("inf")},
    "special tokens as a list": {"special_tokens": []},
    "a length in words": {"text__max_length": "forty"},
    "a length that is no whole number": {"text__max_length": 40.5},
    "a length of true": {"text__max_length": True},
    "a length beyond 32 bits": {"text__max_length": 2**31},
    "windows that would not move on": {"text__windows": {"overlap": 40, "pooling": "mean"}},
    "windows of pairs": {"text__columns": ["a", "b"]},
    "a padding below 0": {"pad_id": -1},
    "more pieces kept than there were": {"vocabulary": {"kept": 61, "of": 60}},
    "pieces as text": {"vocabulary": {"kept": "40", "of": 60}},
    "a label that is half of a surrogate pair": {"label_names": ["bad", "fine", "\ud800"], "decisions": None},
    "forced that is a word": {"forced": "no"},
    "a gate that it did not pass": {"gate": {"passed": False}},
    "a gate that was never asked": {"gate": {}},
    "a name that is a number": {"name": 7},
}


@pytest.mark.parametrize("changed", BROKEN.values(), ids=BROKEN)
def test_entries_that_contradict_are_refused(folder, changed):
    change(folder, **changed)
    with pytest.raises(BundleError, match="does not describe a bundle"):
        read_bundle(folder)


def test_a_bundle_that_was_forced_needs_no_gate_that_passed(folder):
    change(folder, forced=True, gate={"passed": False})
    assert read_bundle(folder).forced


def test_a_description_too_large_to_be_one_is_not_read(folder):
    with (folder / "bundle.json").open("r+b") as opened:
        opened.truncate(LARGEST_DESCRIPTION)  # what is added are zeros
    with pytest.raises(BundleError, match="not JSON"):
        read_bundle(folder)
    with (folder / "bundle.json").open("r+b") as opened:
        opened.truncate(2**33)  # a hole on disk: whoever reads it all needs as much memory
    with pytest.raises(BundleError, match="too large to be read; allowed: at most 16,777,216 bytes"):
        read_bundle(folder)


def test_a_name_too_long_for_any_file_is_refused_in_a_line(folder):
    files = json.loads((folder / "bundle.json").read_text())["files"]
    change(folder, files={**files, "a" * 100_000: "ab" * 32})
    with pytest.raises(BundleError, match="none of the folder's own") as refused:
        read_bundle(folder)
    assert len(str(refused.value)) < 1000


def test_a_folder_or_a_pipe_in_the_place_of_a_file_is_refused(folder):
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").mkdir()
    with pytest.raises(BundleError, match="no file at all"):
        read_bundle(folder)
    (folder / "model.onnx").rmdir()
    os.mkfifo(folder / "model.onnx")  # opened, it would wait for ever
    with pytest.raises(BundleError, match="no file at all"):
        read_bundle(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
@pytest.mark.parametrize("name", ["model.onnx", "bundle.json"])
def test_a_file_that_is_closed_to_us_is_named(folder, name):
    (folder / name).chmod(0)
    with pytest.raises(BundleError, match=rf"{name} cannot be read \(Permission denied\)"):
        read_bundle(folder)


@pytest.mark.parametrize("entry", sorted(a_bundle().to_dict()))
def test_every_entry_is_needed(folder, entry):
    content = json.loads((folder / "bundle.json").read_text())
    del content[entry]
    (folder / "bundle.json").write_text(json.dumps(content))
    with pytest.raises(BundleError, match=entry):
        read_bundle(folder)


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", "\x00", "[" * 100_000, '{"format": 1e999}'])
def test_a_description_that_is_none_is_refused(folder, content):
    (folder / "bundle.json").write_text(content)
    with pytest.raises(BundleError):
        read_bundle(folder)


def test_a_description_that_is_not_utf8_is_refused(folder):
    (folder / "bundle.json").write_bytes(b'{"format": "\xff"}')
    with pytest.raises(BundleError, match="not JSON"):
        read_bundle(folder)


def test_a_folder_without_a_description_says_how_to_make_one(tmp_path):
    with pytest.raises(BundleError, match="potstill export"):
        read_bundle(tmp_path)
    with pytest.raises(BundleError, match="there is no bundle at"):
        read_bundle(tmp_path / "nowhere")
    assert not is_bundle(tmp_path)


def test_a_list_where_a_digest_belongs_is_refused(folder):
    change(folder, files={**{name: [1] for name in CONTENT}})
    with pytest.raises(BundleError, match="SHA-256"):
        read_bundle(folder)
