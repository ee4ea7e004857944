"""The page of a data study in a real browser: what its script shows is what the study found.

Chromium opens a copy of the page that ends in a script of the test's own, which does what a reader would do and leaves
what it saw in the document.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from potstill.analyse.data.rows import Part, Rows
from potstill.analyse.data.study import Study, study_rows
from potstill.data.tokens import TextTokenizer
from potstill.report.data.page import page_data, render_explore_page

pytestmark = pytest.mark.slow
NAMES = ("</script><b>", "plain & simple")
EARS = "<script>window.complaints = []; addEventListener('error', (event) => complaints.push(event.message));</script>"
ACT = """
<script>
const byId = (id) => document.getElementById(id);
const set = (id, value) => {
  byId(id).value = value;
  for (const name of ["input", "change"]) byId(id).dispatchEvent(new Event(name, {bubbles: true}));
};
const shown = () => [...document.querySelectorAll("li[data-kind]")].filter((item) => !item.hidden);
const seen = (() => { %s })();
const said = document.createElement("pre");
said.id = "said";
said.textContent = JSON.stringify({seen, complaints});
document.body.append(said);
</script>"""

Act = Callable[..., Any]


@pytest.fixture(scope="module")
def study() -> Study:
    from tokenizers import Tokenizer, models, pre_tokenizers

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "film", "the", "was", "long"]
    backend = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    draw = np.random.default_rng(2)
    texts = [" ".join(draw.choice(["a", "good", "film", "long", "<i>"], size=1 + i % 40)) for i in range(200)]
    texts += ["the same text", "The same text!", "the same text"]
    parts = (
        Part("train", texts, np.array([*(i % 2 for i in range(200)), 0, 1, 1])),
        Part("test", texts[:5], np.array([0, 1, 0, 1, 0])),
    )
    rows = Rows("study", parts, "train", "single_label_classification", NAMES)
    return study_rows(rows, TextTokenizer.from_backend(backend, max_length=64))


@pytest.fixture(scope="module")
def act(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Act:
    """Open the page, carry out the body of a function, and return what it returns; a script that complains fails."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("pages cannot be opened: chromium is not installed")
    page = render_explore_page(study, made={"created": "today", "seconds": 1, "versions": {}})
    root = tmp_path_factory.mktemp("browser")

    def do(body: str, width: int = 1280) -> Any:
        copy = root / "page.html"
        copy.write_text(page.replace("<head>", "<head>" + EARS).replace("</body>", ACT % body + "</body>"), "utf-8")
        said = json.loads(html.unescape(re.findall(r'<pre id="said">(.*?)</pre>', dumped(browser, copy, width))[0]))
        assert said["complaints"] == []
        return said["seen"]

    return do


def dumped(browser: str, page: Path, width: int) -> str:
    """The document after its scripts ran, without a network."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
    flags += [f"--user-data-dir={page.parent / 'profile'}", f"--window-size={width},900", "--dump-dom"]
    done = subprocess.run([browser, *flags, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def test_what_needs_the_script_appears_with_it(act):
    # oracle: the template hides what would do nothing without the script
    assert (
        act('return [".pick", ".find", ".filters"].map((name) => document.querySelector(name).hidden);') == [False] * 3
    )


def test_the_length_that_is_picked_says_what_it_cuts(act, study):
    # oracle: the study's own curves
    curves = page_data(study)["lengths"]
    start, end = act(
        'const says = () => [byId("length-at").value, byId("length-says").textContent];'
        'const start = says(); set("length-pick", 1); return [start, says()];'
    )
    assert start[0] == f"{study.length_choice.proposed} tokens"
    assert end[0] == f"{curves['at'][1]} tokens"
    for share, of in ((curves["truncated"]["train"][1], " of train"), (curves["padded"][1], " of all positions")):
        assert f"{100 * share:.1f}%{of}" in end[1]


def test_a_word_is_found_with_its_classes(act, study):
    # oracle: the list of the study
    film = next(word for word in study.words.listed if word.word == "film")
    found = act('set("word-find", "Film"); return byId("word-says").textContent;')
    assert found.startswith(f"film in {film.texts} texts")
    for name, held in zip(NAMES, film.by_class, strict=True):
        assert f"{name}{100 * held / study.balance.counts['train'][name]:.1f}%" in found
    assert act('set("word-find", "<b>"); return byId("word-says").textContent;') == "not among the listed words"


def test_examples_are_filtered_by_kind_and_by_text(act, study):
    counts = act(
        'const all = shown().length; set("example-kind", "contradiction"); const some = shown().length;'
        'set("example-kind", ""); set("example-text", "SAME TEXT"); '
        'return [all, some, shown().length, byId("example-count").textContent];'
    )
    kinds = [example.kind for example in study.duplicate_examples]
    same = [example for example in study.duplicate_examples if "same text" in example.rows[0].excerpt]
    assert counts == [len(kinds), kinds.count("contradiction"), len(same), f"{len(same)} of {len(kinds)} shown"]


def test_nothing_of_the_data_became_an_element(act):
    seen = act('set("word-find", "a"); return ["i", "b"].map((tag) => document.querySelectorAll(tag).length);')
    bars, bold = seen
    assert bars == 2 * act('set("word-find", "a"); return document.querySelectorAll(".found .bars").length;')
    # the labels of examples and the word looked up, which the page itself makes bold
    assert bold == act('set("word-find", "a"); return document.querySelectorAll(".facts b, .found b").length;')


def test_a_phone_scrolls_down_and_never_sideways(act):
    wide, inner = act("return [document.documentElement.scrollWidth, innerWidth];", width=500)
    assert inner <= 500
    assert wide <= inner
