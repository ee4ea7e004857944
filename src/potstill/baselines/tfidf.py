"""The best linear model of a task's words: several penalties fitted, one chosen on the selection split, all kept."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import sklearn

from potstill.data.array_files import ArrayFiles, ArraySet, ArrayWriter
from potstill.data.cache import cache_folder
from potstill.data.tasks import Split, TaskData
from potstill.evaluate.metrics import Metric, compute_metrics
from potstill.evaluate.significance import number_or_none
from potstill.models.linear import Features, LinearModel
from potstill.models.linear_fit import Fit, fit_features, fit_linear
from potstill.records import Text
from potstill.runs import fingerprint
from potstill.runtime.linear_predictor import LinearPredictor


@dataclass(frozen=True)
class Search:
    """What is tried: features, and penalties from the strongest to the weakest, with the solver's settings.

    class_weights: what a row counts by its label, as ``fit_linear`` takes it; None counts all alike.
    """

    features: Features
    penalties: Sequence[float]
    class_weights: np.ndarray | None
    max_iterations: int


@dataclass(frozen=True)
class Chosen:
    """The model that did best on the selection split.

    tried: a row for each penalty, with the metric reached there. training_s: seconds that features and all fits took.
    notes: what whoever reads the result should know.
    """

    model: LinearModel
    penalty: float
    tried: Sequence[dict[str, float | None]]
    training_s: float
    notes: Sequence[str]


def fit_chosen(data: TaskData, search: Search, metric: Metric) -> Chosen:
    """Fit ``search`` on the training rows and take the model that is best by ``metric`` on the selection split.

    Of equals the strongest penalty is taken, and so it is where the metric is not defined for any. Nothing is drawn, so
    the result is found in the cache folder by whoever asks for the same again, with another seed for instance.
    """
    weights = None if search.class_weights is None else search.class_weights.tolist()
    asked = {**asdict(search), "class_weights": weights}
    identity = fingerprint("linear", asked, metric.name, data.fingerprint, sklearn.__version__)
    kept = ArrayFiles(cache_folder(None), "linear", identity).open_or_write(
        lambda writer: _write(_fit_chosen(data, search, metric), writer)
    )
    return _read(kept, data, search.features)


def _fit_chosen(data: TaskData, search: Search, metric: Metric) -> Chosen:
    started = time.perf_counter()
    task, train = data.task, data.splits["train"]
    vectorizer, features = fit_features(search.features, train.texts)
    vocabulary = tuple(vectorizer.get_feature_names_out().tolist())
    models, reached, notes = [], [], _notes_on_features(train.texts[0], vocabulary, search.features)
    for penalty in search.penalties:
        fitted = fit_linear(
            features,
            train.targets,
            task.label_names,
            task.problem_type,
            penalty=penalty,
            weights=search.class_weights,
            max_iterations=search.max_iterations,
        )
        models.append(_model(fitted, vocabulary, vectorizer.idf_, search.features, data))
        reached.append(_reached(models[-1], data.splits["selection"], metric))
        notes += [note for note in fitted.notes if note not in notes]
    best = _best(reached, metric.higher_is_better)
    tried = [
        {"penalty": penalty, metric.name: number_or_none(value)}
        for penalty, value in zip(search.penalties, reached, strict=True)
    ]
    notes.append(_choice(search.penalties, best, metric.name))
    return Chosen(models[best], search.penalties[best], tried, time.perf_counter() - started, notes)


def _reached(model: LinearModel, split: Split, metric: Metric) -> float:
    predictions = LinearPredictor(model).predict(split.texts).with_targets(split.targets, split.ids)
    return compute_metrics(predictions, [metric.name])[metric.name]


def _model(
    fitted: Fit, vocabulary: tuple[str, ...], idf: np.ndarray, features: Features, data: TaskData
) -> LinearModel:
    return LinearModel(
        features=features,
        vocabulary=vocabulary,
        idf=idf,
        coefficients=fitted.coefficients,
        intercepts=fitted.intercepts,
        label_names=data.task.label_names,
        problem_type=data.task.problem_type,
    )


def _best(reached: Sequence[float], higher_is_better: bool) -> int:
    """The place of the best value, the first of equals; undefined ones are worse than any, and the first if all are."""
    worth = [-math.inf if math.isnan(value) else value * (1 if higher_is_better else -1) for value in reached]
    return worth.index(max(worth))


def _notes_on_features(a_text: Text, vocabulary: Sequence[str], features: Features) -> list[str]:
    fewest, most = features.ngrams
    words = "single words" if most == 1 else f"{fewest} to {most} words in a row"
    notes = [f"{len(vocabulary):,} features: {words} that {features.min_count} or more training texts hold"]
    return notes if isinstance(a_text, str) else [*notes, "the two texts of a pair are joined by [SEP]"]


def _choice(penalties: Sequence[float], best: int, metric: str) -> str:
    """In words, which penalty was taken, and whether a better one may lie outside those tried."""
    listed = ", ".join(f"{penalty:g}" for penalty in penalties)
    chosen = f"penalty {penalties[best]:g} of {listed} is best by {metric} on the selection split"
    ends = {min(penalties): "weakest", max(penalties): "strongest"} if len(penalties) > 1 else {}
    return f"{chosen}; it is the {ends[penalties[best]]} tried" if penalties[best] in ends else chosen


def _write(chosen: Chosen, writer: ArrayWriter) -> None:
    model = chosen.model
    for part in ("idf", "coefficients", "intercepts"):
        writer.append(part, np.ascontiguousarray(getattr(model, part)))
    writer.append("vocabulary", np.frombuffer("\n".join(model.vocabulary).encode(), dtype=np.uint8))
    writer.facts.update(
        penalty=chosen.penalty,
        tried=list(chosen.tried),
        training_s=chosen.training_s,
        notes=list(chosen.notes),
    )


def _read(kept: ArraySet, data: TaskData, features: Features) -> Chosen:
    arrays, facts = {name: np.array(array) for name, array in kept.arrays.items()}, kept.facts
    vocabulary = tuple(arrays["vocabulary"].tobytes().decode().split("\n"))
    fitted = Fit(arrays["coefficients"], arrays["intercepts"])
    model = _model(fitted, vocabulary, arrays["idf"], features, data)
    notes = facts["notes"] if kept.written else [*facts["notes"], f"fitted before and {kept.kept}"]
    return Chosen(model, facts["penalty"], facts["tried"], facts["training_s"], notes)
