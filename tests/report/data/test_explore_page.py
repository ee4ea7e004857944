from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, replace
from html.parser import HTMLParser

import numpy as np
import pytest

from potstill.analyse.data.rows import Part, Rows
from potstill.analyse.data.study import Study, study_rows
from potstill.report.data.figures import draw_boxes, draw_correlation, draw_histogram, draw_shares
from potstill.report.data.page import page_data, render_explore_page
from potstill.report.data.sentences import count_of, length_reason, method_notes, share_of, verdict, warnings

VOID = {"meta", "link", "br", "hr", "img", "input", "wbr"}
MADE = {"created": "2026-03-14T09:26:00+00:00", "seconds": 1.5, "versions": {"python": "3.11"}}
NASTY = "<b>bold</b> </script><script>alert(1)</script> & “quoted” <!-- "
NAMES = ("</script>", "<i>good</i>")


class Reader(HTMLParser):
    """Collects a page's tags, ids, links and text by element, and what does not close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given[name] or "" for name in ("href", "src", "xlink:href") if name in given]
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        else:
            self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def rows(problem_type: str | None = "single_label_classification") -> Rows:
    texts = [
        NASTY,
        NASTY,
        "a good film",
        "A good film!",
        "the film was long and dull",
        "",
        "Фильм длинный и скучный",
    ] * 4
    draw = np.random.default_rng(1)
    targets = {
        "single_label_classification": draw.integers(2, size=len(texts)),
        "multi_label_classification": draw.integers(2, size=(len(texts), 2)).astype(np.int8),
        "regression": draw.random(len(texts)).astype(np.float32),
        None: None,
    }[problem_type]
    names = NAMES if problem_type not in (None, "regression") else ()
    first = "texts" if problem_type is None else "train"
    parts = [Part(first, texts, targets)]
    if targets is not None:
        parts.append(Part("test", texts[:9], targets[:9]))
    return Rows(f"<b>{first}", tuple(parts), first, problem_type, names, notes=("note with <b>",))  # type: ignore[arg-type]


KINDS = ["single_label_classification", "multi_label_classification", "regression", None]


@pytest.fixture(scope="module")
def letters():
    from tokenizers import Tokenizer, models, pre_tokenizers

    from potstill.data.tokens import TextTokenizer

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "film", "the", "was", "long"]
    backend = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return TextTokenizer.from_backend(backend, max_length=64)


@pytest.fixture(scope="module")
def studies(letters) -> dict[str | None, Study]:
    return {kind: study_rows(rows(kind), letters, tokenizer_name="letters") for kind in KINDS}


@pytest.fixture(scope="module")
def pages(studies) -> dict[str | None, str]:
    return {kind: render_explore_page(study, made=MADE) for kind, study in studies.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_balanced_html_without_a_doubled_id(pages, kind):
    reader = read(pages[kind])
    assert (reader.unbalanced, reader.open) == ([], [])
    assert len(reader.ids) == len(set(reader.ids))


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_asks_nothing_of_the_network(pages, kind):
    assert [link for link in read(pages[kind]).links if not link.startswith(("#", "data:"))] == []
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|<iframe|<script src|innerHTML", pages[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_the_navigation_reaches_every_section(pages, kind):
    reader = read(pages[kind])
    assert {"verdict", "rows", "lengths", "length", "words", "duplicates", "looks", "method"} <= set(reader.ids)
    assert {link[1:] for link in reader.links if link.startswith("#") and len(link) > 1} <= set(reader.ids)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_and_labels_cannot_end_a_script_or_become_elements(pages, kind):
    # oracle: a parser of HTML; what comes from the data is text and nothing else
    reader = read(pages[kind])
    assert reader.tags.count("script") == 2
    assert "<b>bold</b> </script><script>alert(1)</script> & “quoted” <!--" in reader.text
    assert not {"i"} & set(reader.tags)
    assert not any("alert(1)" in script for script in reader.scripts if not script.lstrip().startswith("{"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_data_of_the_page_is_json_and_what_the_study_says(pages, studies, kind):
    (embedded,) = re.findall(
        r'<script type="application/json" id="explore-data">(.*?)</script>', pages[kind], re.DOTALL
    )
    assert json.loads(embedded) == json.loads(json.dumps(page_data(studies[kind])))
    assert not set(embedded) & set("<>&")


def test_words_are_found_with_the_texts_of_their_classes(studies):
    study = studies["single_label_classification"]
    data = page_data(study)["words"]
    assert data["classes"] == list(NAMES)
    assert data["class_texts"] == [study.balance.counts["train"][name] for name in NAMES]
    film = next(entry for entry in data["listed"] if entry[0] == "film")
    assert film[1] == sum(film[2:]) == 12


def test_a_page_without_tokenizer_has_no_length_to_choose():
    page = render_explore_page(study_rows(rows(), None), made=MADE)
    assert "The length to choose" not in page
    assert "No tokenizer was named" in page


@pytest.mark.slow
def test_many_classes_fit_on_the_page():
    # 60 classes: figures show some, tables all
    texts = [f"text number {i}" for i in range(120)]
    names = tuple(f"class {i:02d} of a long name" for i in range(60))
    part = Part("train", texts, np.arange(120) % 60)
    page = render_explore_page(
        study_rows(Rows("many", (part,), "train", "single_label_classification", names), None), made=MADE
    )
    assert all(name in page for name in names)
    for figure in ("Share of each label", "Words by class of train", "Classes by their words"):
        assert f"{figure}: the first 40 of 60" in page


def test_warnings_tell_leaks_contradictions_and_strange_texts(studies):
    # oracle: how the rows were made: the nine rows of test are the first of train, one of them empty
    said = " ".join(warnings(studies["single_label_classification"]))
    assert "Leakage: 8 of 9 texts of test (88.9%) are in train too, 8 identically and 8 in the same words" in said
    assert "Contradictions:" in said
    assert "5 texts (13.5%) without any text." in said
    assert "mostly in another script than Latin" in said


def test_a_text_under_another_id_is_warned_of_within_a_split_and_between_any_two():
    # oracle: by hand; test holds both texts of selection, one with another label and one with other signs
    parts = (
        Part("train", ["a good film", "one dull day", "a good film", "A good film!"], np.array([1, 0, 1, 1])),
        Part("selection", ["cold old tea", "warm new milk"], np.array([0, 1])),
        Part("test", ["cold old tea", "Warm new milk!", "plain bread", "very plain soup"], np.array([1, 1, 0, 0])),
    )
    study = study_rows(Rows("mine", parts, "train", "single_label_classification", ("a", "b")), None)
    assert [sentence for sentence in warnings(study) if sentence.startswith(("Leakage", "Repeats"))] == [
        "Leakage: 2 of 4 texts of test (50.0%) are in selection too, 1 identically and 2 in the same words; "
        "1 of them with another label.",
        "Repeats: 2 of 4 texts of train (50.0%) repeat an earlier one, 1 identically and 2 in the same words.",
    ]


def test_clean_data_has_no_warnings(letters):
    texts = ["one good film", "two dull films", "three long films", "four short films"]
    part = Part("train", texts, np.array([0, 1, 0, 1]))
    study = study_rows(Rows("clean", (part,), "train", "single_label_classification", ("a", "b")), letters)
    assert warnings(study) == []


def test_imbalance_absent_classes_and_shift_are_warned_of():
    part = Part("train", [f"text {i} of train" for i in range(24)], np.array([0] * 22 + [1] * 2))
    other = Part("test", [f"{i} other" for i in range(4)], np.array([1, 1, 1, 1]))
    study = study_rows(Rows("x", (part, other), "train", "single_label_classification", ("a", "b")), None)
    said = " ".join(warnings(study))
    assert "a has 11 times the texts of b (22 and 2)" in said
    assert "No text of test carries a." in said
    assert "differs by up to 91.7% between train and test" in said


def test_the_reason_names_the_neighbours_of_the_proposed_length(letters):
    # oracle: 100 texts of 10, 20, … 1,000 tokens; 95 are at most 950 long, and the limit is 64
    texts = ["a " * n for n in range(10, 1010, 10)]
    part = Part("texts", texts)
    study = study_rows(Rows("long", (part,), "texts"), letters)
    assert length_reason(study).startswith(
        "64 tokens is all that the tokenizer's model takes, and it cuts 94.0% of the texts and"
    )
    wide = study_rows(Rows("long", (part,), "texts"), replace(letters, max_length=4096))
    assert length_reason(wide).startswith(
        "952 tokens is the shortest length that cuts at most 5% of the texts: it cuts 5.0%"
    )
    assert "768 would cut 24.0%" in length_reason(wide)
    assert "1000 would cut 0.0%" in length_reason(wide)


def test_sentences_are_of_the_numbers(studies):
    assert verdict(studies[None]).startswith("28 unlabelled texts.")
    assert verdict(studies["regression"]).startswith("37 texts (28 train, 9 test), each with a score.")
    assert any("Word counts are exact." in note for note in method_notes(studies[None]))
    assert (count_of(1, "text"), count_of(1200, "text")) == ("1 text", "1,200 texts")
    assert (share_of(1, 10_000), share_of(0, 5), share_of(1, 4)) == ("<0.1%", "0.0%", "25.0%")


def test_what_the_tokenizer_does_not_know_is_told_in_a_whole_sentence(letters, studies, pages):
    assert f"{studies[None].tokens.unknown:,} of them (" in pages[None]
    assert "stand for what it does not know." in pages[None]
    part = Part("texts", ["a good film", "the film"])
    known = render_explore_page(study_rows(Rows("x", (part,), "texts"), letters, tokenizer_name="letters"), made=MADE)
    assert "; none of them stands for something that it does not know." in known


def test_forgotten_words_are_told(letters):
    study = study_rows(rows(), letters, most_words=4)
    (told,) = [note for note in method_notes(study) if "can be too low by up to" in note]
    assert told.endswith("the number of different words is exact.")
    many = replace(study, words=replace(study.words, different_error=0.004))
    assert any("has a standard error of 0.4%" in note for note in method_notes(many))
    assert "about" in render_explore_page(many, made=MADE)


def test_json_and_page_come_from_the_same_study(studies, pages):
    study = studies["single_label_classification"]
    assert json.loads(json.dumps(asdict(study)))["words"]["different"] == study.words.different
    assert f"{study.words.different:,} different ones" in pages["single_label_classification"]


FIGURES = [
    lambda: draw_shares({"train": {"<a>": 0.7, "b": 0.3}, "test": {"<a>": 0.5, "b": 0.5}}, title="Shares"),
    lambda: draw_histogram([0, 5, 10, 90], {"train": [3, 4, 1], "test": [0, 0, 0]}, title="Words", unit="words"),
    lambda: draw_boxes(study_rows(rows(), None).lengths[0].classes, title="Boxes", unit="words"),
    lambda: draw_correlation([[1.0, -0.5], [-0.5, 1.0]], ["<a>", "b"], title="Correlation"),
    lambda: draw_correlation([[1.0, None], [None, 1.0]], ["a", "b"], title="Undefined"),
]


@pytest.mark.parametrize("draw", FIGURES)
def test_a_figure_is_well_formed_named_and_the_same_each_time(draw):
    svg = draw()
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label")
    assert "#010203" not in svg
    assert svg == draw()


def test_the_last_bar_says_how_far_it_reaches():
    svg = FIGURES[1]()
    assert "words; last bar: 10 to 89" in svg
