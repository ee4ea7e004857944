"""What stands beside a text's attention: what it is, what the model says of it, and what of it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from potstill.analyse.attention.attribution import Attribution
from potstill.analyse.attention.shown import ExplainedText
from potstill.data.windows import Windows
from potstill.records import Predictions, ProblemType, Text
from potstill.report.attention.page import ShownAttribution, ShownText
from potstill.report.attention.sentences import attribution_sentence
from potstill.report.sentences import percent

TITLE_LETTERS = 70
"""A text is called by so much of its beginning."""

_POOLED = {"mean": "the mean", "max": "the highest"}


@dataclass(frozen=True)
class TextFacts:
    """What is known of one shown text.

    truth: in words, None where it is not known. target: the output that it is explained by, the one decided for;
    of many labels the likeliest. label, probability: of that output, the latter None for a number. n_tokens: before any
    was cut.
    """

    text: Text
    truth: str | None
    predicted: str
    target: int
    label: str
    probability: float | None
    is_likeliest: bool
    n_tokens: int
    truncated: bool


def facts_of(predictions: Predictions, texts: Sequence[Text], truths: Sequence[str | None]) -> list[TextFacts]:
    """The facts of each text, from what was predicted of it under the run's decisions."""
    kind, names, facts = predictions.problem_type, predictions.label_names, []
    for row, (text, truth) in enumerate(zip(texts, truths, strict=True)):
        likeliest = int(predictions.logits[row].argmax())
        target = int(predictions.predicted[row]) if kind == "single_label_classification" else likeliest
        facts.append(
            TextFacts(
                text=text,
                truth=truth,
                predicted=in_words(predictions.predicted[row], names, kind),
                target=target,
                label=names[target],
                probability=None if kind == "regression" else float(predictions.probabilities[row, target]),
                is_likeliest=target == likeliest,
                n_tokens=int(predictions.n_tokens[row]),
                truncated=bool(predictions.truncated[row]),
            )
        )
    return facts


def in_words(target: Any, label_names: Sequence[str], kind: ProblemType) -> str:
    """A target or a decision, as ``records.Predictions`` has it."""
    if kind == "regression":
        return f"{float(target):.3g}"
    if kind == "multi_label_classification":
        return ", ".join(name for name, carried in zip(label_names, target, strict=True) if carried) or "none"
    return label_names[int(target)]


def shown_text(facts: TextFacts, explained: ExplainedText, windows: Windows | None) -> ShownText:
    """One text of the viewer, or one window of it."""
    found, shown = explained.attribution, explained.attention
    bars = None
    if found is not None:
        sentence = attribution_sentence(found, facts.label, explained.agreement)
        bars = ShownAttribution(shown.gather(found.values), facts.label, sentence)
    notes = [_decided(facts), _window(explained, windows), _cut(facts, explained)]
    return ShownText(_title(facts, explained), [note for note in notes if note], shown, bars)


def numbers_of(facts: TextFacts, explained: ExplainedText) -> dict[str, Any]:
    """All figures of one text, or of one window of it, but its maps, as plain JSON values."""
    return {
        **asdict(facts),
        "window": explained.window,
        "n_windows": explained.n_windows,
        "tokens": explained.tokens,
        "received": {
            model: np.round(rows.astype(np.float64), 5).tolist() for model, rows in explained.received.items()
        },
        "attribution": _numbers_of_attribution(explained.attribution, explained.agreement),
    }


def _numbers_of_attribution(found: Attribution | None, agreement: float | None) -> Mapping[str, Any] | None:
    if found is None:
        return None
    return {
        "values": np.round(found.values, 6).tolist(),
        "output": found.output,
        "baseline": found.baseline,
        "delta": found.delta,
        "error": found.error,
        "complete": found.is_complete,
        "n_steps": found.n_steps,
        "rank_agreement": agreement,
    }


def _title(facts: TextFacts, explained: ExplainedText) -> str:
    text = facts.text if isinstance(facts.text, str) else " / ".join(facts.text)
    beginning = " ".join(text.split())
    beginning = beginning if len(beginning) <= TITLE_LETTERS else f"{beginning[:TITLE_LETTERS]}…"
    window = f" ({_numbered(explained)})" if explained.n_windows > 1 else ""
    return f"{explained.text + 1}. {beginning}{window}"


def _numbered(explained: ExplainedText) -> str:
    return f"window {explained.window + 1} of {explained.n_windows}"


def _decided(facts: TextFacts) -> str:
    """What the model says, and the truth."""
    sure = ""
    if facts.probability is not None:
        named = "" if facts.predicted == facts.label else f"{facts.label}: "
        by = "" if facts.is_likeliest else ", by the run's threshold"
        sure = f" ({named}{percent(facts.probability)}{by})"
    return f"Predicted: {facts.predicted}{sure}." + (f" True: {facts.truth}." if facts.truth else "")


def _window(explained: ExplainedText, windows: Windows | None) -> str:
    if windows is None or explained.n_windows == 1:
        return ""
    pooled = f"{_POOLED[windows.pooling]} of {explained.n_windows}"
    return f"Attention and output are those of {_numbered(explained)}; each output of the text is {pooled}."


def _cut(facts: TextFacts, explained: ExplainedText) -> str:
    """What of the text is not shown."""
    told = []
    if facts.truncated:
        told.append(f"{facts.n_tokens:,} tokens, of which the model reads {len(explained.tokens):,}.")
    if hidden := explained.attention.n_hidden:
        told.append(f"{hidden:,} tokens in the middle stand together as one: what they receive is added up.")
    return " ".join(told)
