"""The linear predictor, and the one function that opens a run of any kind."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from potstill.errors import ModelError
from potstill.models.linear import Features, LinearModel, save_linear
from potstill.runtime.linear_predictor import LinearPredictor
from potstill.runtime.opening import open_predictor


@pytest.fixture
def model():
    """Two features by hand: idf 1 and 2; without other words the text vector has length 1."""
    return LinearModel(
        Features(ngrams=(1, 1), sublinear=False),
        ("bad", "good"),
        np.array([1.0, 2.0]),
        np.array([[-3.0, 4.0]], dtype=np.float32),
        np.array([0.5]),
        ("no", "yes"),
        "single_label_classification",
    )


def test_logits_are_worked_by_hand(model):
    # good: vector (0, 1), odds 4.5; bad: (1, 0), -2.5; both: (1, 2)/√5, 5/√5 + 0.5; half of the odds for each side
    logits = LinearPredictor(model).predict(["Good", "bad", "good bad", "else"]).logits
    odds = np.array([4.5, -2.5, 5 / np.sqrt(5) + 0.5, 0.5])
    np.testing.assert_allclose(logits, np.stack([-odds / 2, odds / 2], axis=1), rtol=1e-6)


def test_a_pair_is_read_as_one_text_with_sep_between(model):
    predictor = LinearPredictor(model)
    np.testing.assert_array_equal(
        predictor.predict([("good", "bad")]).logits, predictor.predict(["good [SEP] bad"]).logits
    )


def test_words_are_counted_and_nothing_is_cut(model):
    predictions = LinearPredictor(model).predict(["a good, good film", "", "good " * 9000])
    assert predictions.n_tokens.tolist() == [3, 0, 9000]
    assert not predictions.truncated.any()
    assert predictions.ids.tolist() == ["0", "1", "2"]
    assert predictions.elapsed_s > 0


def test_no_texts_give_no_predictions(model):
    assert LinearPredictor(model).predict([]).logits.shape == (0, 2)


def test_a_run_opens_as_what_its_configuration_says(model, tmp_path):
    save_linear(model, tmp_path, tmp_path / ".work")
    predictor = open_predictor(tmp_path, max_length=4)
    assert isinstance(predictor, LinearPredictor)
    assert predictor.n_parameters == 3
    np.testing.assert_array_equal(predictor.predict(["good"]).logits, LinearPredictor(model).predict(["good"]).logits)


def test_what_is_no_linear_model_is_opened_as_a_torch_model(tmp_path):
    with pytest.raises(ModelError, match=r"no config\.json"):
        open_predictor(tmp_path)


def test_predicting_with_a_linear_model_loads_no_torch(model, tmp_path):
    # oracle: sys.modules of a fresh interpreter
    save_linear(model, tmp_path, tmp_path / ".work")
    program = (
        "import sys; from potstill.runtime.opening import open_predictor; "
        f"open_predictor({str(tmp_path)!r}).predict(['good']); "
        "print(*sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
