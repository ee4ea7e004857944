"""A bundle as the server asks it. Oracles: the bundle's predictor, and texts as training made them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from potstill.bundle import FORMAT, read_bundle, write_bundle
from potstill.data.texts import SEPARATOR
from potstill.data.windows import Windows
from potstill.errors import BundleError, DataError, PotstillError
from potstill.runtime.bundle_predictor import BundlePredictor
from potstill.runtime.tokenised import join_tokenised
from potstill.serve.bundles import Bundles, NamedFolder
from potstill.serve.opened_bundle import OpenedBundle

TEXTS = ("a good film", "the story was very dull and bad " * 20, "good", "")


@pytest.fixture
def copied(bundles: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """A bundle of one's own, with what its description says of reading changed."""

    def copy(task: str = "reviews", **reading: Any) -> Path:
        folder = tmp_path / task
        shutil.copytree(bundles[task], folder)
        if reading:
            bundle = read_bundle(folder)
            write_bundle(folder, replace(bundle, reading=replace(bundle.reading, **reading)))
        return folder

    return copy


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("task", ["reviews", "tags", "scores"])
def test_it_says_what_the_predictor_says_however_its_texts_are_cut_up(task, alone, bundles):
    opened = OpenedBundle.open(bundles[task], threads=1)
    expected = BundlePredictor.open(bundles[task], threads=1).predict(TEXTS)
    one, other = opened.tokenise(TEXTS[:3], "start"), opened.tokenise(TEXTS[3:], "start")
    rows = join_tokenised([other, one.between(1, 3), one.between(0, 1)])
    said = opened.classify(rows, alone=alone)
    order = [3, 1, 2, 0]
    np.testing.assert_allclose(said.logits, expected.logits[order], atol=1e-5)
    for name in ("n_tokens", "truncated"):
        np.testing.assert_array_equal(getattr(said, name), getattr(expected, name)[order])
    np.testing.assert_allclose(said.predicted.astype(float), expected.predicted[order].astype(float), atol=1e-5)


def test_the_end_of_a_long_text_can_be_kept(bundles):
    opened = OpenedBundle.open(bundles["reviews"], threads=1)
    text = "film " * 60 + "a good story"
    ends = [opened.classify(opened.tokenise([given], "end"), alone=True).logits for given in (text, "dull " + text)]
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-5)
    tail = opened.tokenise([text], "end").rows.row(0)
    assert tail[1:-1].tolist() == opened.tokenise([text[-200:]], "end").rows.row(0)[1:-1].tolist()


def test_texts_are_joined_and_cleaned_as_for_training(copied, bundles):
    opened = OpenedBundle.open(
        copied(columns=("title", "body"), join="sep", cleaning=("line_breaks", "max_words:6")), threads=1
    )
    given = opened.tokenise([("good", "a\nfilm of a sort to see"), ("", "bad"), "dull\nstory"], "start")
    (expected,) = BundlePredictor.open(bundles["reviews"], threads=1).tokenise(
        [f"good{SEPARATOR}a film of a", "bad", "dull story"]
    )
    assert [given.rows.row(i).tolist() for i in range(3)] == [expected.rows.row(i).tolist() for i in range(3)]


def test_windows_are_those_of_the_bundle(copied):
    opened = OpenedBundle.open(copied(windows=Windows(4, "max")), threads=1)
    rows = opened.tokenise(TEXTS, "start")
    assert rows.owners is not None
    assert not rows.truncated.any()
    whole = opened.classify(rows, alone=True).logits
    parts = [opened.classify(rows.between(i, i + 1), alone=False).logits for i in range(len(TEXTS))]
    np.testing.assert_allclose(whole, np.concatenate(parts), atol=1e-5)


@pytest.mark.parametrize(
    ("task", "texts", "says"),
    [
        ("reviews", ["a", ("a", "b")], "input 1 is a pair; allowed: this bundle takes single texts"),
        ("pairs", [("a", "b"), "a"], "input 1 is a single text; allowed: this bundle takes pairs"),
    ],
)
def test_what_it_does_not_take_is_named_by_its_place(task, texts, says, bundles):
    with pytest.raises(DataError, match=says):
        OpenedBundle.open(bundles[task], threads=1).tokenise(texts, "start")


def test_cleaning_that_leaves_nothing_is_told(copied):
    opened = OpenedBundle.open(copied(cleaning=("too_short:20",)), threads=1)
    with pytest.raises(DataError, match="input 1 holds nothing to read: cleaning left no text"):
        opened.tokenise(["a text of more than twenty characters", "short"], "start")


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)


def newer(folder: Path) -> None:
    content = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**content, "format": FORMAT + 1}))


def lead_out(folder: Path) -> None:
    content = json.loads((folder / "bundle.json").read_text())
    content["files"]["../model.onnx"] = "0" * 64
    (folder / "bundle.json").write_text(json.dumps(content))


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a flipped bit": (flip_a_bit, "model.onnx is not the file"),
    "a missing file": (lambda folder: (folder / "tokenizer.json").unlink(), "lacks the file tokenizer.json"),
    "a newer form": (newer, "newer potstill"),
    "a path that leads out": (lead_out, "none of the folder's own"),
    "no description": (lambda folder: (folder / "bundle.json").unlink(), "is not a bundle"),
    "a description that is none": (lambda folder: (folder / "bundle.json").write_bytes(b"\xff{"), "is not JSON"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_bundle_is_refused_at_the_start(damage, copied):
    folder = copied()
    harm, says = DAMAGES[damage]
    harm(folder)
    with pytest.raises(BundleError, match=says):
        Bundles([NamedFolder("reviews", folder)], OpenedBundle.open)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bundle_that_is_damaged_later_leaves_the_old_one_at_work(damage, copied, fake, tmp_path):
    folder = copied()
    with fake.running({"reviews": None}, tmp_path, open_predictor=OpenedBundle.open) as running:
        before = running.client.post("/predict", json={"inputs": "a good film"}).json()
        DAMAGES[damage][0](folder)
        running.reload()
        fake.until(lambda: running.metric("potstill_reloads_total", model="reviews", result="failed") == 1)
        assert running.client.post("/predict", json={"inputs": "a good film"}).json() == before
        assert running.client.get("/health").status_code == 200


def test_a_run_is_no_bundle(classifiers):
    with pytest.raises(PotstillError, match="potstill export RUN --out BUNDLE"):
        OpenedBundle.open(classifiers["reviews"])
