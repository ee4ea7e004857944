"""A run beside the encoder it came from, on runs of the small main job."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from potstill.analyse.attention.distance import collect
from potstill.analyse.attention.integrated_gradients import has_captum
from potstill.analyse.attention.observed_models import ObservedModels
from potstill.data.windows import Windows
from potstill.errors import ModelError
from potstill.runtime.torch_predictor import TorchPredictor

TEXTS = ["a good film and a lovely day", "the book was dull", "nasty nasty story of the cold day"]


def observe(run, before=None, max_length=40, windows=None):
    predictor = TorchPredictor.open(run, max_length=max_length)
    predictor.windows = windows
    models = ObservedModels.of(predictor)
    return models if before is None else models.beside(str(before))


def measured(models, texts=TEXTS):
    return collect(models.measure(models.predictor.encode(texts), reach=2))


def explained(models, texts, targets, most_rows=20):
    return models.explain(models.predictor.encode(texts), targets, most_tokens=16, most_rows=most_rows)


def copied(folder: Path, to: Path) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        if file.is_file():
            (to / file.name).write_bytes(file.read_bytes())
    return to


def test_a_run_beside_itself_did_not_move(classifiers):
    sample = measured(observe(classifiers["reviews"], classifiers["reviews"]))
    assert not sample.distance.any()
    for name, before in sample.sums["before"].items():
        np.testing.assert_array_equal(before, sample.sums["after"][name])


def test_fine_tuning_moved_attention(classifiers, encoders):
    models = observe(classifiers["reviews"], encoders["student"])
    sample = measured(models)
    assert models.shape == (2, 4)
    assert sample.distance.shape == (3, 2, 4)
    assert sample.distance.min() > 0


def test_the_order_of_the_texts_changes_nothing(classifiers, encoders):
    models = observe(classifiers["reviews"], encoders["student"])
    forth, back = measured(models), measured(models, TEXTS[::-1])
    np.testing.assert_array_equal(forth.distance, back.distance[::-1])


def test_an_explained_text_tells_what_its_tokens_receive(classifiers):
    (text,) = explained(observe(classifiers["reviews"]), ["a good film"], [1])
    assert text.tokens == ["[CLS]", "a", "good", "film", "[SEP]"]
    assert (text.text, text.window, text.n_windows) == (0, 0, 1)
    assert set(text.received) == {"after"}
    np.testing.assert_allclose(text.received["after"].sum(axis=-1), 1, atol=1e-5)
    assert (text.attribution is not None) == has_captum()


def test_a_text_in_windows_is_measured_over_all_of_them(classifiers, encoders):
    models = observe(classifiers["reviews"], encoders["student"], max_length=6, windows=Windows(2, "mean"))
    texts = models.predictor.encode(TEXTS)
    assert np.bincount(texts.owners).tolist() == [3, 1, 3]  # 7, 4 and 7 words in windows of four, two of them shared
    whole = collect(models.measure(texts, reach=2))
    alone = collect(models.measure(dataclasses.replace(texts, owners=np.arange(len(texts.owners))), reach=2))
    assert whole.n_rows.tolist() == [18, 6, 18]
    for text in range(3):
        windows = texts.owners == text
        np.testing.assert_allclose(whole.distance[text], alone.distance[windows].sum(axis=0))
        for model in ("before", "after"):
            expected = alone.sums[model]["local"][windows].sum(axis=0)
            np.testing.assert_allclose(whole.sums[model]["local"][text], expected)
        assert whole.uniform["content"][text] == pytest.approx(alone.uniform["content"][windows].sum())


def test_a_text_that_fits_one_window_is_measured_as_without_windows(classifiers, encoders):
    plain = measured(observe(classifiers["reviews"], encoders["student"]))
    windowed = measured(observe(classifiers["reviews"], encoders["student"], windows=Windows(2, "max")))
    np.testing.assert_array_equal(plain.distance, windowed.distance)


def test_the_windows_that_are_looked_into_are_those_of_the_highest_output(classifiers):
    models = observe(classifiers["reviews"], max_length=6, windows=Windows(2, "max"))
    texts = models.predictor.encode(TEXTS)
    outputs = models.predictor.logits_of(texts.rows)
    chosen = explained(models, TEXTS, [0, 1, 1], most_rows=3)
    assert [text.text for text in chosen] == [0, 1, 2]
    assert [text.n_windows for text in chosen] == [3, 1, 3]
    for text, target in zip(chosen, (0, 1, 1), strict=True):
        assert text.window == int(outputs[texts.owners == text.text, target].argmax())
    every = explained(models, TEXTS, [0, 1, 1])
    assert [(text.text, text.window) for text in every] == [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1), (2, 2)]


def test_an_encoder_with_other_words_or_heads_is_refused(classifiers, encoders, tmp_path):
    with pytest.raises(ModelError, match="4 layers of 4 heads"):
        observe(classifiers["reviews"], encoders["teacher"])
    other = copied(encoders["student"], tmp_path / "other")
    content = json.loads((other / "tokenizer.json").read_text())
    content["model"]["vocab"] = {
        {"good": "gold"}.get(token, token): number for token, number in content["model"]["vocab"].items()
    }
    (other / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="different vocabularies"):
        observe(classifiers["reviews"], other)
