"""A run beside the encoder it came from, on runs of the small main job."""

from __future__ import annotations

import json

import numpy as np
import pytest

from potstill.analyse.attention.distance import collect
from potstill.analyse.attention.integrated_gradients import has_captum
from potstill.analyse.attention.observed_models import ObservedModels
from potstill.errors import ModelError

TEXTS = ["a good film and a lovely day", "the book was dull", "nasty nasty story of the cold day"]


def measured(models, texts=TEXTS):
    return collect(models.measure(models.encode(texts), reach=2))


def test_a_run_beside_itself_did_not_move(classifiers):
    run = classifiers["reviews"]
    models = ObservedModels.open(run, before=str(run), max_length=40)
    sample = measured(models)
    assert not sample.distance.any()
    for name, before in sample.sums["before"].items():
        np.testing.assert_array_equal(before, sample.sums["after"][name])


def test_fine_tuning_moved_attention(classifiers, encoders):
    models = ObservedModels.open(classifiers["reviews"], before=str(encoders["student"]), max_length=40)
    sample = measured(models)
    assert models.shape == (2, 4)
    assert sample.distance.shape == (3, 2, 4)
    assert sample.distance.min() > 0


def test_the_order_of_the_texts_changes_nothing(classifiers, encoders):
    models = ObservedModels.open(classifiers["reviews"], before=str(encoders["student"]), max_length=40)
    forth, back = measured(models), measured(models, TEXTS[::-1])
    np.testing.assert_array_equal(forth.distance, back.distance[::-1])


def test_an_explained_text_tells_what_its_tokens_receive(classifiers):
    models = ObservedModels.open(classifiers["reviews"], before=None, max_length=40)
    (text,) = models.explain(["a good film"], [1], 16)
    assert text.tokens == ["[CLS]", "a", "good", "film", "[SEP]"]
    assert set(text.received) == {"after"}
    np.testing.assert_allclose(text.received["after"].sum(axis=-1), 1, atol=1e-5)
    assert (text.attribution is not None) == has_captum()


def test_an_encoder_with_other_words_or_heads_is_refused(classifiers, encoders, tmp_path):
    with pytest.raises(ModelError, match="4 layers of 4 heads"):
        ObservedModels.open(classifiers["reviews"], before=str(encoders["teacher"]), max_length=40)
    other = tmp_path / "other"
    other.mkdir()
    for file in encoders["student"].iterdir():
        if file.is_file():
            (other / file.name).write_bytes(file.read_bytes())
    content = json.loads((other / "tokenizer.json").read_text())
    content["model"]["vocab"] = {
        {"good": "gold"}.get(token, token): number for token, number in content["model"]["vocab"].items()
    }
    (other / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="different vocabularies"):
        ObservedModels.open(classifiers["reviews"], before=str(other), max_length=40)
