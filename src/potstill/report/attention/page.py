"""The attention page: what every head of every layer looks at, before and after, and what changed over a sample."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from potstill.analyse.attention.change import AttentionChange, HeadMeans
from potstill.analyse.attention.shown import ShownAttention
from potstill.evaluate.significance import Interval
from potstill.report.attention.figures import draw_heads
from potstill.report.attention.sentences import attention_verdict, signed
from potstill.report.sentences import percent
from potstill.report.shell import embed_json, fill_page
from potstill.report.tables import Cell, Table
from potstill.runs import write_text

MOST_CHANGED = 8
"""Heads in the table of those that changed most."""


@dataclass(frozen=True)
class ShownAttribution:
    """Integrated gradients of one shown text, ``(T,)`` as its tokens: towards which output, how complete."""

    values: np.ndarray
    target: str
    sentence: str


@dataclass(frozen=True)
class ShownText:
    """One text of the viewer: its title, what is to be said of it, and what is to be drawn."""

    title: str
    notes: Sequence[str]
    attention: ShownAttention
    attribution: ShownAttribution | None = None


@dataclass(frozen=True)
class AttentionEvidence:
    """What the page is made from.

    names: model (``before``, ``after``) → what it is called. change: over the sample; sample: what that is, in words;
    by: what made the difference, in words. head: the ``(layer, head)`` that the page opens with, head None for the mean
    of all heads. no_attribution: why there is none, empty where there is one.
    """

    title: str
    created: str
    names: Mapping[str, str]
    change: AttentionChange
    sample: str
    by: str
    texts: Sequence[ShownText]
    head: tuple[int, int | None]
    notes: Sequence[str] = ()
    no_attribution: str = ""
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


def write_attention_page(evidence: AttentionEvidence, path: Path) -> None:
    """Write the page to ``path``, atomically."""
    write_text(path, render_attention_page(evidence))


def render_attention_page(evidence: AttentionEvidence) -> str:
    """The page as HTML text; texts travel as escaped JSON and become text nodes, never markup."""
    change = evidence.change
    return fill_page(
        "attention.html.j2",
        title=evidence.title,
        styles=("attention.css",),
        scripts=("attention_maps.js", "attention_drawing.js", "attention.js"),
        evidence=evidence,
        change=change,
        verdict=verdict_of(evidence),
        paired=change.changes is not None,
        measures=_measures_table(evidence),
        most_changed=_most_changed(evidence) if change.changes is not None else None,
        figures=_figures(change),
        viewer=embed_json(viewer_data(evidence)),
    )


def verdict_of(evidence: AttentionEvidence) -> list[str]:
    """The sentences at the head of the page, the most important first."""
    return attention_verdict(evidence.change, of=evidence.sample, by=evidence.by)


def viewer_data(evidence: AttentionEvidence) -> dict[str, Any]:
    """What the viewer draws from, as plain JSON values; maps are base64 of their bytes, row after row."""
    layer, head = evidence.head
    n_layers, n_heads = next(iter(evidence.texts[0].attention.maps.values())).shape[:2]
    return {
        "models": [{"key": key, "name": name} for key, name in evidence.names.items()],
        "layers": n_layers,
        "heads": n_heads,
        "layer": layer,
        "head": -1 if head is None else head,
        "texts": [_viewer_text(text) for text in evidence.texts],
    }


def _viewer_text(text: ShownText) -> dict[str, Any]:
    shown = text.attention
    return {
        "title": text.title,
        "notes": list(text.notes),
        "tokens": shown.tokens,
        "special": shown.special.astype(int).tolist(),
        "starts": shown.starts.astype(int).tolist(),
        "counts": shown.n_tokens.tolist(),
        "maps": {model: base64.b64encode(maps.tobytes()).decode("ascii") for model, maps in shown.maps.items()},
        "attribution": None if text.attribution is None else _viewer_attribution(text.attribution),
    }


def _viewer_attribution(attribution: ShownAttribution) -> dict[str, Any]:
    return {
        "values": [round(float(value), 6) for value in attribution.values],
        "target": attribution.target,
        "sentence": attribution.sentence,
    }


def _measure_names(change: AttentionChange) -> dict[str, str]:
    near = f"share on tokens at most {change.reach} away" if change.reach else "share on the token itself"
    return {
        "entropy_nats": "entropy of a row (nats)",
        "relative_entropy": "entropy, share of the most",
        "local": near,
        "content": "share on content words",
        "function": "share on function words",
        "punctuation": "share on punctuation",
        "special": "share on [CLS] and [SEP]",
        "cls": "share on [CLS]",
        "sep": "share on [SEP]",
    }


def _measures_table(evidence: AttentionEvidence) -> Table:
    """Measures down, models across, then the change and what attention spread evenly would give."""
    change = evidence.change
    rows = []
    if change.distance is not None:
        blank = [Cell("–")] * len(change.models)
        moved = _number(change.distance.overall, "{:.3f}", "{:.3f}")
        rows.append([Cell("Jensen–Shannon distance"), *blank, moved, Cell("–")])
    for name, title in _measure_names(change).items():
        form = "{:.2f}" if name == "entropy_nats" else "{:.1%}"
        cells = [_number(change.means[model][name].overall, form, form) for model in change.models]
        if change.changes is not None:
            cells.append(_difference(change.changes[name].overall, name))
        even = change.uniform.get(name)
        rows.append([Cell(title), *cells, Cell("–") if even is None else Cell(percent(even), sort=even)])
    columns = ["measure", *(evidence.names[model] for model in change.models)]
    columns += ["change"] if change.changes is not None else []
    caption = "Means over all tokens of the sample and over all heads"
    caption += ", with 95% bootstrap intervals over texts." if _has_intervals(change) else "."
    return Table([*columns, "if spread evenly"], rows, caption)


def _has_intervals(change: AttentionChange) -> bool:
    overall = change.means[change.models[0]]["local"].overall
    return overall.low == overall.low  # a bound that could not be placed is NaN


def _most_changed(evidence: AttentionEvidence) -> Table:
    change = evidence.change
    assert change.distance is not None
    shown = {"local": f"≤ {change.reach} away", "content": "content words", "special": "[CLS], [SEP]"}
    rows = []
    for layer, head in change.ranked_heads()[:MOST_CHANGED]:
        moved = float(change.distance.by_head[layer, head])
        cells = [_from_to([change.means[model][name] for model in change.models], layer, head) for name in shown]
        rows.append([Cell(f"layer {layer}, head {head}"), Cell(f"{moved:.3f}", sort=moved), *cells])
    return Table(["head", "distance", *shown.values()], rows, "Shares before and after.")


def _from_to(measures: Sequence[HeadMeans], layer: int, head: int) -> Cell:
    before, after = (float(means.by_head[layer, head]) for means in measures)
    return Cell(f"{percent(before)} → {percent(after)}", sort=after - before)


def _number(interval: Interval, form: str, bound_form: str) -> Cell:
    between = f"{bound_form.format(interval.low)} to {bound_form.format(interval.high)}"
    return Cell(form.format(interval.value), between if interval.low == interval.low else "", sort=interval.value)


def _difference(interval: Interval, name: str) -> Cell:
    scale, form, unit = (1, "{:+.2f}", "") if name == "entropy_nats" else (100, "{:+.1f}", " points")
    value, low, high = (signed(form.format(scale * number)) for number in (interval.value, interval.low, interval.high))
    return Cell(value + unit, f"{low} to {high}" if interval.low == interval.low else "", sort=interval.value)


def _figures(change: AttentionChange) -> list[Markup]:
    """The distance of every head, then what became of the shares; of a single model the shares themselves."""
    near = f"tokens at most {change.reach} away" if change.reach else "the token itself"
    titles = {
        "local": f"Share on {near}",
        "content": "Share on content words",
        "special": "Share on [CLS] and [SEP]",
        "relative_entropy": "Entropy, share of the most",
    }
    if change.distance is None or change.changes is None:
        (model,) = change.models
        return [
            _grid(100 * change.means[model][name].by_head, f"{title} (%)", "{:.0f}") for name, title in titles.items()
        ]
    return [
        _grid(change.distance.by_head, "Jensen–Shannon distance between before and after"),
        *(
            _grid(100 * change.changes[name].by_head, f"{title}: change in points", "{:+.0f}")
            for name, title in titles.items()
        ),
    ]


def _grid(values: np.ndarray, title: str, form: str = "{:.2f}") -> Markup:
    return Markup(draw_heads(values, title=title, form=form))
