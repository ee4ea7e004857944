"""TF-IDF of words under a linear model, kept as plain arrays and names. No torch, no pickle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from potstill.data.texts import SEPARATOR
from potstill.errors import ModelError
from potstill.records import PROBLEM_TYPES, ProblemType, Text
from potstill.runs import storage_errors, write_json

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer

MODEL_TYPE = "potstill_tfidf"
"""What the ``model_type`` of ``config.json`` says of such a model."""

CONFIG, VOCABULARY, WEIGHTS = "config.json", "vocabulary.json", "model.safetensors"


@dataclass(frozen=True)
class Features:
    """How texts become numbers, in scikit-learn's words.

    ngrams: fewest and most words in a row that count as one feature. min_count: texts from which on one is known.
    max_features: features at most, the most frequent ones. sublinear: 1 + ln(n) for n occurrences in a text.
    """

    ngrams: tuple[int, int] = (1, 2)
    min_count: int = 2
    max_features: int = 200_000
    sublinear: bool = True


@dataclass(frozen=True)
class LinearModel:
    """A fitted model of ``k`` outputs over ``v`` features.

    vocabulary: the v features in the order of the columns. idf: ``(v,)`` float64. coefficients: ``(rows, v)`` float32
    and intercepts: ``(rows,)`` float64, with a row for each output; for one label of two there is a single row, whose
    value is the log-odds of the second label.
    """

    features: Features
    vocabulary: tuple[str, ...]
    idf: np.ndarray
    coefficients: np.ndarray
    intercepts: np.ndarray
    label_names: tuple[str, ...]
    problem_type: ProblemType

    @property
    def n_parameters(self) -> int:
        """What was learnt from labels: coefficients and intercepts."""
        return int(self.coefficients.size + self.intercepts.size)

    def logits(self, features: csr_matrix) -> np.ndarray:
        """``(n, k)`` float32 of features ``(n, v)``: their softmax or sigmoid are scikit-learn's probabilities."""
        values = features @ self._by_feature + self.intercepts
        if values.shape[1] < len(self.label_names):
            values = np.hstack([-values / 2, values / 2])
        return values.astype(np.float32)

    @cached_property
    def _by_feature(self) -> np.ndarray:
        """``(v, rows)`` in the type and order in which scipy multiplies without a copy of all of it."""
        return np.ascontiguousarray(self.coefficients.T, dtype=np.float64)

    def vectorizer(self) -> TfidfVectorizer:
        """scikit-learn's vectorizer as it was fitted."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(
            ngram_range=self.features.ngrams, sublinear_tf=self.features.sublinear, vocabulary=self.vocabulary
        )
        vectorizer.idf_ = self.idf
        return vectorizer


def joined(texts: Iterable[Text]) -> Iterator[str]:
    """The texts as single strings, a pair with [SEP] between its two."""
    return (text if isinstance(text, str) else SEPARATOR.join(text) for text in texts)


def save_linear(model: LinearModel, folder: Path, work: Path) -> None:
    """Write ``model`` into ``folder`` file by file, each whole or not at all: names in JSON, numbers in safetensors.

    ``config.json`` says what it is, its labels and its problem type, in the words transformers uses for them.
    """
    labels = {str(index): name for index, name in enumerate(model.label_names)}
    named = {"model_type": MODEL_TYPE, "problem_type": model.problem_type, "id2label": labels}
    config = {**named, "features": asdict(model.features)}
    arrays = {"idf": model.idf, "coefficients": model.coefficients, "intercepts": model.intercepts}
    partial = work / "export"
    shutil.rmtree(partial, ignore_errors=True)
    with storage_errors(folder):
        partial.mkdir(parents=True)
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, partial / WEIGHTS)
        (partial / WEIGHTS).replace(folder / WEIGHTS)
        partial.rmdir()
    write_json(folder / VOCABULARY, list(model.vocabulary))
    write_json(folder / CONFIG, config)


def is_linear(folder: str | Path) -> bool:
    """Whether ``folder`` holds such a model, by its ``config.json``."""
    try:
        content = json.loads((Path(folder).expanduser() / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("model_type") == MODEL_TYPE


def open_linear(folder: str | Path) -> LinearModel:
    """The model in ``folder``, as it was saved; ModelError where a file is absent, damaged or of another model."""
    folder = Path(folder).expanduser()
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        vocabulary = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
        arrays = load_file(folder / WEIGHTS)
        model = LinearModel(
            features=Features(**{**config["features"], "ngrams": tuple(config["features"]["ngrams"])}),
            vocabulary=tuple(vocabulary),
            idf=arrays["idf"],
            coefficients=arrays["coefficients"],
            intercepts=arrays["intercepts"],
            label_names=tuple(config["id2label"][str(index)] for index in range(len(config["id2label"]))),
            problem_type=config["problem_type"],
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(
            f"{folder} holds no linear model that opens: {type(error).__name__}: {error}", do="make it again"
        ) from error
    _require_whole(model, folder)
    return model


def _require_whole(model: LinearModel, folder: Path) -> None:
    n_features, n_labels = len(model.vocabulary), len(model.label_names)
    rows = {n_labels, 1} if n_labels == 2 and model.problem_type == "single_label_classification" else {n_labels}
    if (
        model.problem_type not in PROBLEM_TYPES
        or model.idf.shape != (n_features,)
        or model.coefficients.shape not in {(row, n_features) for row in rows}
        or model.intercepts.shape != model.coefficients.shape[:1]
    ):
        raise ModelError(f"the files of the linear model in {folder} do not belong together", do="make it again")
