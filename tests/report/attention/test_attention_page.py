"""The attention page: whole, self-contained, bounded, and with every text as text."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from potstill.analyse.attention.change import summarise
from potstill.analyse.attention.distance import collect, measure_text
from potstill.analyse.attention.shown import GAP, ShownAttention, quantise, restore
from potstill.analyse.attention.token_kinds import KINDS
from potstill.report.attention.page import (
    AttentionEvidence,
    ShownAttribution,
    ShownText,
    render_attention_page,
    verdict_of,
    viewer_data,
)

ATTACK = '</script><script>alert("x")</script>&'


class Reader(HTMLParser):
    """Collects what a page shows, its tags, ids and links, and notes tags that do not close in order."""

    VOID = frozenset(("meta", "link", "br", "hr", "img", "input", "wbr"))

    def __init__(self) -> None:
        super().__init__()
        self.open, self.unbalanced, self.ids, self.links, self.tags, self.text = [], [], [], [], [], ""

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[name] for name in ("href", "src", "xlink:href") if name in given]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        self.text += data


def read(page):
    reader = Reader()
    reader.feed(page)
    return reader


def maps_of(n, seed):
    logits = np.random.default_rng(seed).normal(scale=3, size=(2, 3, n, n))
    shares = np.exp(logits)
    return (shares / shares.sum(axis=-1, keepdims=True)).astype(np.float32)


def evidence_of(*, paired=True, word="film", n_texts=24):
    """Two layers of three heads over texts of six tokens, two of them shown."""
    models = ("before", "after") if paired else ("after",)
    kinds = np.array([KINDS.index(kind) for kind in ("cls", "content", "function", "content", "punctuation", "sep")])
    sample = collect(
        measure_text({model: maps_of(6, 10 * text + seed) for seed, model in enumerate(models)}, kinds, reach=1)
        for text in range(n_texts)
    )
    shown = ShownAttention(
        tokens=["[CLS]", word, "##x", GAP, ".", "[SEP]"],
        special=np.array([True, False, False, False, False, True]),
        starts=np.array([True, True, False, True, True, True]),
        n_tokens=np.array([1, 1, 1, 9, 1, 1]),
        maps={model: quantise(maps_of(6, seed)) for seed, model in enumerate(models)},
    )
    bars = ShownAttribution(np.array([0, 1.5, -0.25, 0.1, 0, 0]), "pos", "The bars sum to 1.35 of 1.35.")
    return AttentionEvidence(
        title=f"Attention of {word}",
        created="2026-03-14 09:26",
        names={model: f"{model}: {word}" for model in models},
        change=summarise(sample, reach=1, seed=1),
        sample="reviews, split test",
        by="fine-tuning",
        texts=[ShownText(f"1. {word}", [f"Predicted: {word}."], shown, bars), ShownText("2.", [], shown)],
        head=(1, 2),
        notes=[f"note {word}"],
        command=f"potstill attend {word}",
        versions={"torch": word},
    )


@pytest.fixture(scope="module")
def page():
    return render_attention_page(evidence_of())


def data_of(page):
    return json.loads(re.search(r'id="attention-data">(.*?)</script>', page, re.DOTALL).group(1))


def test_the_page_is_balanced_html_without_a_doubled_id(page):
    reader = read(page)
    assert reader.unbalanced == []
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    assert {link[1:] for link in reader.links if link.startswith("#")} <= set(reader.ids)


def test_the_page_asks_nothing_of_the_network(page):
    assert [link for link in read(page).links if not link.startswith(("#", "data:"))] == []
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|<iframe|<script src|import\(", page)


def test_texts_are_never_put_into_markup(page):
    assert "innerHTML" not in page
    assert "insertAdjacentHTML" not in page
    attacked = render_attention_page(evidence_of(word=ATTACK))
    assert read(attacked).tags.count("script") == 2  # the data and the viewer
    assert data_of(attacked)["texts"][0]["tokens"][1] == ATTACK
    assert ATTACK in read(attacked).text


def test_the_viewers_maps_are_those_that_were_read(page):
    data = data_of(page)
    stored = np.frombuffer(base64.b64decode(data["texts"][0]["maps"]["after"]), np.uint8).reshape(2, 3, 6, 6)
    np.testing.assert_allclose(restore(stored), maps_of(6, 1), atol=0.004)
    assert (data["layers"], data["heads"], data["layer"], data["head"]) == (2, 3, 1, 2)
    assert data["texts"][0]["counts"] == [1, 1, 1, 9, 1, 1]
    assert data["texts"][0]["attribution"]["values"] == [0, 1.5, -0.25, 0.1, 0, 0]
    assert data["texts"][1]["attribution"] is None


def test_the_mean_of_all_heads_can_be_what_the_page_opens_with():
    assert viewer_data(replace(evidence_of(), head=(0, None)))["head"] == -1


def test_the_page_says_the_verdict_and_draws_the_distance(page):
    text = read(page).text
    assert all(sentence in text for sentence in verdict_of(evidence_of()))
    assert "Jensen–Shannon distance between before and after" in text
    assert "Share on content words: change in points" in text
    assert "Heads that changed most" in text
    assert "note film" in text


def test_a_model_alone_is_not_compared_with_anything():
    text = read(render_attention_page(evidence_of(paired=False))).text
    assert "Heads that changed most" not in text
    assert "Share on content words (%)" in text
    assert "What changed" not in text


def test_few_texts_have_a_page_without_intervals():
    text = read(render_attention_page(evidence_of(n_texts=3))).text
    assert "with 95% bootstrap intervals" not in text
    assert "nan" not in text.replace("finance", "")


def test_without_captum_the_page_says_how_to_get_it():
    said = "Integrated gradients are left out: captum is missing."
    assert said in read(render_attention_page(replace(evidence_of(), no_attribution=said))).text


def test_the_same_evidence_gives_the_same_page(page):
    assert render_attention_page(evidence_of()) == page
