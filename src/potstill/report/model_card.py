"""The model card: a README with the metadata that model hubs read, and the same figures in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from potstill.data.windows import Windows
from potstill.records import ProblemType
from potstill.report.evidence import Interval
from potstill.report.sentences import percent
from potstill.report.shell import environment
from potstill.runs import write_text

Purpose = Literal["text-classification", "fill-mask"]

_SNIPPET = """from transformers import {auto}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{folder}")
model = {auto}.from_pretrained("{folder}").eval()
batch = tokenizer({example}, truncation=True, max_length={max_length}, return_tensors="pt")
{reading}
"""
_READING: Mapping[ProblemType | None, str] = {
    "single_label_classification": "probabilities = {logits}.softmax(-1)  # in the order of id2label",
    "multi_label_classification": "probabilities = {logits}.sigmoid()  # in the order of id2label",
    "regression": "score = {logits}.squeeze(-1)",
    None: "logits = {logits}  # (texts, tokens, vocabulary)",
}
_OWN_SNIPPET = """from potstill.runtime.opening import open_predictor

predictor = open_predictor("path/to/this/folder")
{reading} = predictor.predict([{example}]).probabilities  # in the order of predictor.label_names
"""


@dataclass(frozen=True)
class ModelCard:
    """What a card says. Figures are those of the evaluation, never typed in.

    summary: one sentence saying what the model is; making: steps in words, in order; data_notes: what it was trained
    on, with what was dropped; limitations: what is known beyond what the figures here already tell.
    opens_with: what gives the model back, plain transformers, or potstill where it is of a kind of its own.
    max_length: in tokens, None where texts are never cut; windows: how longer ones are read, None where they are cut.
    language: as ISO 639-1 has it, None where it is not known.
    base_model, dataset_id: names on the hub, None for a local folder or file. license: its name on the hub, None when
    nobody said. metrics: by scikit-learn's names, on ``split``; intervals of 95%. truncated_share is in [0, 1].
    thresholds: label -> the probability from which it counts, logits being divided by temperature.
    """

    model_name: str
    summary: str
    created: str
    max_length: int | None
    windows: Windows | None = None
    purpose: Purpose = "text-classification"
    problem_type: ProblemType | None = None
    label_names: Sequence[str] = ()
    text_pair: bool = False
    base_model: str | None = None
    teacher: str | None = None
    license: str | None = None
    language: str | None = None
    tags: Sequence[str] = ("knowledge-distillation",)
    dataset_name: str = ""
    dataset_id: str | None = None
    dataset_config: str | None = None
    split: str = ""
    primary_metric: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    n_examples: int | None = None
    seeds: Sequence[int] = ()
    retention: float | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    temperature: float = 1.0
    n_parameters: int | None = None
    bytes_on_disk: int | None = None
    latency_ms: float | None = None
    truncated_share: float | None = None
    opens_with: Literal["transformers", "potstill"] = "transformers"
    making: Sequence[str] = ()
    data_notes: Sequence[str] = ()
    intended_use: str = ""
    limitations: Sequence[str] = ()
    recipe_yaml: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    citation: str = ""


def write_model_card(card: ModelCard, path: Path) -> None:
    """Write the card to ``path`` (a README.md), atomically."""
    write_text(path, render_model_card(card))


def render_model_card(card: ModelCard) -> str:
    """The card as Markdown with a YAML front matter."""
    markdown = environment(autoescape=False)
    markdown.filters |= {"line": _one_line, "fenced": _fenced}
    return markdown.get_template("model_card.md.j2").render(
        card=card,
        front_matter=yaml.safe_dump(metadata(card), sort_keys=False, allow_unicode=True),
        given=_given(card),
        snippet=_snippet(card),
        default_use=_default_use(card),
        costs=_costs(card),
        limits=[*_known_limits(card), *card.limitations],
        made_with=", ".join(f"{name} {version}" for name, version in card.versions.items()) or "potstill",
    )


def metadata(card: ModelCard) -> dict[str, Any]:
    """The front matter as plain data, with ``model-index`` where metrics were measured."""
    entries = {
        "license": card.license or "unknown",
        "language": card.language,
        "library_name": card.opens_with,
        "pipeline_tag": card.purpose,
        "base_model": card.base_model,
        "datasets": [card.dataset_id] if card.dataset_id else None,
        "metrics": list(_finite(card.metrics)) or None,
        "tags": list(dict.fromkeys(["potstill", *card.tags])),
    }
    described: dict[str, Any] = {name: value for name, value in entries.items() if value is not None}
    if _finite(card.metrics):
        described["model-index"] = [{"name": card.model_name, "results": [_result(card)]}]
    return described


def _result(card: ModelCard) -> dict[str, Any]:
    dataset = {
        "type": card.dataset_id or card.dataset_name,
        "name": card.dataset_name,
        "config": card.dataset_config,
        "split": card.split,
    }
    return {
        "task": {"type": card.purpose, "name": card.purpose.replace("-", " ").capitalize()},
        "dataset": {name: value for name, value in dataset.items() if value},
        "metrics": [
            {"type": name, "name": name, "value": float(value)} for name, value in _finite(card.metrics).items()
        ],
    }


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _given(card: ModelCard) -> str:
    if card.problem_type == "regression":
        return "one number"
    names = ", ".join(f"`{_one_line(name)}`" for name in card.label_names[:20])
    more = f" and {len(card.label_names) - 20} more" if len(card.label_names) > 20 else ""
    many = card.problem_type == "multi_label_classification"
    return f"{'any number' if many else 'one'} of {len(card.label_names)} labels: {names}{more}"


def _snippet(card: ModelCard) -> str:
    classifier = card.purpose == "text-classification"
    if card.opens_with == "potstill":
        return _OWN_SNIPPET.format(
            example='("First text.", "Second text.")' if card.text_pair else '"A text."',
            reading="scores" if card.problem_type == "regression" else "probabilities",
        )
    logits = "model(**batch).logits"
    if card.temperature != 1:
        logits = f"({logits} / {card.temperature:.6g})"
    return _SNIPPET.format(
        auto="AutoModelForSequenceClassification" if classifier else "AutoModelForMaskedLM",
        folder="path/to/this/folder",
        example='"First text.", "Second text."' if card.text_pair else '"A text."',
        max_length=card.max_length,
        reading=_READING[card.problem_type if classifier else None].format(logits=logits),
    )


def _default_use(card: ModelCard) -> str:
    if card.purpose == "fill-mask":
        return "Fine-tuning on a task of one's own, where a small and fast encoder is wanted."
    source = _one_line(card.dataset_name) or "its training data"
    return f"Texts like those of {source}. On others, measure before you rely on it."


def _costs(card: ModelCard) -> list[str]:
    figures = (
        (card.n_parameters, "{:,} parameters"),
        (None if card.bytes_on_disk is None else card.bytes_on_disk / 1e6, "{:.1f} MB of weights"),
        (card.latency_ms, "{:.1f} ms for one text on the machine that made it"),
    )
    return [words.format(value) for value, words in figures if value is not None]


def _known_limits(card: ModelCard) -> list[str]:
    """What follows from the figures themselves."""
    limits = []
    if card.truncated_share:
        limits.append(
            f"{percent(card.truncated_share)} of the texts it was measured on are longer than {card.max_length} tokens "
            "and were cut."
        )
    if card.retention is not None and card.retention < 1:
        limits.append(
            f"It is weaker than its teacher: {percent(1 - card.retention)} of the {card.primary_metric} is lost."
        )
    undefined = [name for name, value in card.metrics.items() if not math.isfinite(value)]
    if undefined:
        limits.append(f"Not defined on the texts it was measured on: {', '.join(undefined)}.")
    limits.append("It repeats what its training texts say, their errors and prejudices included.")
    return limits


def _one_line(text: object) -> str:
    """Text that stays in its line and its table cell, and is no markup."""
    escaped = str(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return " ".join(escaped.split())


def _fenced(text: str) -> str:
    """Text that does not end the fence around it."""
    return text.rstrip("\n").replace("```", "` ` `")
