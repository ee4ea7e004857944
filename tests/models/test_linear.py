"""The linear model; the oracle is scikit-learn's own Pipeline."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline

from potstill.errors import DataError, ModelError
from potstill.finetune.class_weights import label_weights
from potstill.models.linear import Features, LinearModel, is_linear, open_linear, save_linear
from potstill.models.linear_fit import fit_features, fit_linear
from potstill.runtime.linear_predictor import LinearPredictor

WORDS = ["good", "bad", "film", "book", "the", "a", "very", "not", "seen", "1999"]
FEATURES = Features(ngrams=(1, 2), min_count=2)
PENALTY = 0.3
UNSEEN = ["", "not a word of it zzz", "Very GOOD film, not bad", " ".join(WORDS * 3), "good"]
KINDS = ["two labels", "three labels", "many labels", "regression"]


@pytest.fixture(scope="module")
def texts():
    draw = random.Random(1)
    return [" ".join(draw.choices(WORDS, k=draw.randint(3, 12))) for _ in range(80)]


def labels_of(kind, texts):
    """Targets as the task room gives them, their label names, the problem type and scikit-learn's estimator."""
    counts = np.array([[text.split().count(word) for word in ("good", "bad", "film")] for text in texts])
    noisy = counts + np.random.default_rng(0).normal(0, 0.5, counts.shape)
    logistic = LogisticRegression(C=1 / PENALTY, max_iter=1000)
    return {
        "two labels": (
            (noisy[:, 0] > noisy[:, 1]).astype(np.int64),
            ("no", "yes"),
            "single_label_classification",
            logistic,
        ),
        "three labels": (noisy.argmax(1), ("x", "y", "z"), "single_label_classification", logistic),
        "many labels": (
            (noisy > 1).astype(np.int8),
            ("x", "y", "z"),
            "multi_label_classification",
            OneVsRestClassifier(logistic),
        ),
        "regression": (noisy[:, 0].astype(np.float32), ("score",), "regression", Ridge(alpha=PENALTY)),
    }[kind]


def model_of(texts, targets, label_names, problem_type, **settings):
    vectorizer, features = fit_features(FEATURES, texts)
    fitted = fit_linear(features, targets, label_names, problem_type, penalty=PENALTY, **settings)
    vocabulary = tuple(vectorizer.get_feature_names_out().tolist())
    model = LinearModel(
        FEATURES, vocabulary, vectorizer.idf_, fitted.coefficients, fitted.intercepts, label_names, problem_type
    )
    return model, fitted


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_are_those_of_scikit_learns_pipeline_after_saving_and_opening(kind, texts, tmp_path):
    targets, label_names, problem_type, estimator = labels_of(kind, texts)
    save_linear(model_of(texts, targets, label_names, problem_type)[0], tmp_path, tmp_path / ".work")
    found = LinearPredictor(open_linear(tmp_path)).predict([*texts, *UNSEEN]).probabilities
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, max_features=200_000, sublinear_tf=True)
    pipeline = make_pipeline(vectorizer, estimator).fit(
        texts, targets.astype(np.float64 if kind == "regression" else int)
    )
    predict = pipeline.predict if kind == "regression" else pipeline.predict_proba
    expected = predict([*texts, *UNSEEN]).reshape(len(found), -1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert np.ptp(expected) > 0.3


def test_a_folder_holds_json_and_safetensors_and_nothing_else(texts, tmp_path):
    targets, label_names, problem_type, _ = labels_of("three labels", texts)
    model, _ = model_of(texts, targets, label_names, problem_type)
    save_linear(model, tmp_path, tmp_path / ".work")
    assert {file.name for file in tmp_path.iterdir() if file.is_file()} == {
        "config.json",
        "vocabulary.json",
        "model.safetensors",
    }
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["id2label"] == {"0": "x", "1": "y", "2": "z"}
    assert is_linear(tmp_path)
    opened = open_linear(tmp_path)
    assert (opened.vocabulary, opened.features) == (model.vocabulary, FEATURES)
    assert opened.n_parameters == 3 * len(model.vocabulary) + 3


@pytest.mark.parametrize("kind", ["two labels", "three labels", "many labels"])
def test_balanced_weights_are_scikit_learns(kind, texts):
    # oracle: scikit-learn's own class_weight
    targets, label_names, problem_type, _ = labels_of(kind, texts)
    weights = label_weights("balanced", targets, label_names, problem_type)
    _, fitted = model_of(texts, targets, label_names, problem_type, weights=weights)
    _, features = fit_features(FEATURES, texts)
    balanced = LogisticRegression(C=1 / PENALTY, max_iter=1000, class_weight="balanced")
    if kind == "many labels":
        expected = np.vstack([each.coef_ for each in OneVsRestClassifier(balanced).fit(features, targets).estimators_])
    else:
        expected = balanced.fit(features, targets).coef_
    np.testing.assert_allclose(fitted.coefficients, expected, rtol=0, atol=1e-4)
    _, plain = model_of(texts, targets, label_names, problem_type)
    assert np.abs(plain.coefficients - expected).max() > 1e-3


def test_a_row_of_twice_the_weight_counts_as_two(texts):
    # oracle: the same model of texts in which those rows stand twice
    targets, label_names, problem_type, _ = labels_of("two labels", texts)
    _, features = fit_features(FEATURES, texts)
    weighed = fit_linear(features, targets, label_names, problem_type, penalty=1.0, weights=np.array([1.0, 2.0]))
    twice = np.repeat(np.arange(len(texts)), 1 + targets)
    repeated = fit_linear(features[twice], targets[twice], label_names, problem_type, penalty=1.0)
    np.testing.assert_allclose(weighed.coefficients, repeated.coefficients, rtol=0, atol=1e-3)


def test_where_all_training_rows_have_one_label_it_is_always_predicted_and_that_is_told(texts):
    model, fitted = model_of(texts, np.full(80, 1), ("x", "y", "z"), "single_label_classification")
    assert LinearPredictor(model).predict(UNSEEN).predicted.tolist() == [1] * len(UNSEEN)
    assert fitted.notes == ["every training row is y: always predicted"]


@pytest.mark.parametrize("n_present", [2, 3])
def test_a_label_without_training_rows_is_never_predicted_and_that_is_told(texts, n_present):
    # oracle: the model of the labels that are there
    targets, present, problem_type, _ = labels_of("two labels" if n_present == 2 else "three labels", texts)
    names = ("absent", *present)
    model, fitted = model_of(texts, targets + 1, names, problem_type)
    found = LinearPredictor(model).predict(texts).probabilities
    expected = LinearPredictor(model_of(texts, targets, present, problem_type)[0]).predict(texts).probabilities
    np.testing.assert_allclose(found[:, 1:], expected, atol=1e-6)
    assert found[:, 0].max() < 1e-12
    assert fitted.notes == ["no training row is absent: never predicted"]


def test_labels_that_all_or_no_rows_carry_are_given_always_or_never(texts):
    targets, _, problem_type, _ = labels_of("many labels", texts)
    constant = np.stack([np.zeros(80), targets[:, 0], np.ones(80)], axis=1).astype(np.int8)
    model, fitted = model_of(texts, constant, ("none", "some", "all"), problem_type)
    predicted = LinearPredictor(model).predict(texts).predicted
    assert predicted[:, [0, 2]].tolist() == [[0, 1]] * 80
    assert fitted.notes == ["no training row is none: never predicted", "every training row is all: always predicted"]


def test_a_solver_that_needed_more_steps_is_told(texts):
    targets, label_names, problem_type, _ = labels_of("three labels", texts)
    _, fitted = model_of(texts, targets, label_names, problem_type, max_iterations=1)
    assert fitted.notes == ["penalty 0.3: the solver stopped at its most iterations; raise tfidf.max_iterations"]


def test_texts_without_a_frequent_feature_are_refused():
    with pytest.raises(DataError, match=r"tfidf\.min_count"):
        fit_features(Features(min_count=3), ["one text", "another"])


def test_damaged_and_mixed_folders_are_refused(texts, tmp_path):
    targets, label_names, problem_type, _ = labels_of("three labels", texts)
    model, _ = model_of(texts, targets, label_names, problem_type)
    for name, content, words in (
        ("vocabulary.json", '["a", "b"]', "belong together"),
        ("vocabulary.json", "[", "opens"),
        ("model.safetensors", "x", "opens"),
        ("config.json", '{"model_type": "potstill_tfidf"}', "opens"),
    ):
        save_linear(model, tmp_path, tmp_path / ".work")
        (tmp_path / name).write_text(content)
        with pytest.raises(ModelError, match=words):
            open_linear(tmp_path)
    (tmp_path / "vocabulary.json").unlink()
    with pytest.raises(ModelError, match="opens"):
        open_linear(tmp_path)
    assert not is_linear(tmp_path / "absent")
