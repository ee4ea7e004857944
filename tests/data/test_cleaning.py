"""Cleaning steps against scikit-learn's loader of 20 Newsgroups, and against texts worked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets._twenty_newsgroups import (
    strip_newsgroup_footer,
    strip_newsgroup_header,
    strip_newsgroup_quoting,
)

from potstill.data.cleaning import (
    CLEANERS,
    check_steps,
    clean,
    join_lines,
    keep_words,
    remove_newsgroup_headers,
    remove_newsgroup_quotes,
    remove_newsgroup_signature,
)
from potstill.data.texts import select_texts
from potstill.errors import DataError

POST = """From: someone@example.org (Some One)
Subject: Re: orbits
Lines: 9

In article <1@example.org> other@example.org writes:
> the moon is far
| so is the sun
Somebody wrote:
It is nearer than it looks.

Really.

--
Some One, Example Inc.
"""

# pieces that the rules look at, put together at random, reach every branch of both implementations
pieces = st.lists(
    st.sampled_from(
        ["", "--", " - ", "> quoted", "| quoted", "In article x", "he wrote:", "a said: b", "plain words", " "]
    ),
    max_size=12,
).map("\n".join)


@given(pieces)
def test_quotes_go_as_in_scikit_learn(text: str) -> None:
    assert remove_newsgroup_quotes(text) == strip_newsgroup_quoting(text)


@given(pieces)
def test_signatures_go_as_in_scikit_learn(text: str) -> None:
    assert remove_newsgroup_signature(text) == strip_newsgroup_footer(text)


@given(pieces)
def test_headers_go_as_in_scikit_learn_where_there_are_headers(text: str) -> None:
    text = "From: a@example.org\n" + text
    assert remove_newsgroup_headers(text) == strip_newsgroup_header(text)


def test_a_text_without_headers_keeps_its_first_paragraph() -> None:
    assert remove_newsgroup_headers("First paragraph.\n\nSecond.") == "First paragraph.\n\nSecond."


def test_a_post_keeps_what_its_author_wrote() -> None:
    steps = ["newsgroup_headers", "newsgroup_signatures", "newsgroup_quotes"]
    assert list(clean([POST], steps).texts) == ["It is nearer than it looks.\n\nReally.\n"]


@pytest.mark.data
def test_real_posts_are_cleaned_as_in_scikit_learn(data_dir: Path) -> None:
    import pyarrow.parquet as pq

    for post in pq.read_table(data_dir / "20_newsgroups" / "test.parquet")["text"].to_pylist()[:1000]:
        assert remove_newsgroup_quotes(post) == strip_newsgroup_quoting(post)
        assert remove_newsgroup_signature(post) == strip_newsgroup_footer(post)
        assert remove_newsgroup_headers(post) == strip_newsgroup_header(post)


def test_line_breaks_become_single_spaces() -> None:
    assert join_lines("one<br /><br />two\r\n\n  three <BR>four") == "one two three four"


@given(st.text(alphabet="ab \n", max_size=60), st.integers(1, 10))
def test_max_words_keeps_the_first_words(text: str, n: int) -> None:
    assert keep_words(text, n).split() == text.split()[:n]
    assert text.startswith(keep_words(text, n))


def test_short_texts_are_dropped_and_counted() -> None:
    cleaned = clean(["x" * 50, "x" * 49, "  " + "x" * 49 + "  "], ["too_short"])
    assert cleaned.kept_indices.tolist() == [0]
    assert cleaned.counts == {"too_short": 2, "dropped": 2}


def test_a_number_after_the_name_replaces_the_default() -> None:
    assert list(clean(["one two three"], ["max_words:2"]).texts) == ["one two"]
    assert clean(["four"], ["too_short:4"]).kept_indices.tolist() == [0]


def test_both_texts_of_a_pair_are_cleaned_and_an_emptied_pair_goes() -> None:
    cleaned = clean([("a\nb", "c"), ("a", " \n")], ["line_breaks"])
    assert list(cleaned.texts) == [("a b", "c")]
    assert cleaned.kept_indices.tolist() == [0]


@given(st.lists(pieces, max_size=8), st.lists(st.sampled_from(sorted(CLEANERS)), max_size=4))
def test_every_text_is_kept_or_counted_as_dropped(texts: list[str], steps: list[str]) -> None:
    cleaned = clean(texts, steps)
    assert len(cleaned.texts) + cleaned.counts["dropped"] == len(texts)
    assert all(str(text).strip() for text in cleaned.texts)
    assert np.all(np.diff(cleaned.kept_indices) > 0)


@given(st.lists(pieces, max_size=8), st.lists(st.sampled_from(sorted(CLEANERS)), max_size=4))
def test_texts_cleaned_when_read_are_those_cleaned_at_once(texts: list[str], steps: list[str]) -> None:
    # oracle: each step applied to every text, in memory
    at_once = list(texts)
    for _, step in check_steps(steps):
        at_once = [step(text) for text in at_once]
    left = [(row, text) for row, text in enumerate(at_once) if text.strip()]
    expected = [text for _, text in left]
    cleaned = clean(texts, steps)
    assert list(zip(cleaned.kept_indices.tolist(), cleaned.texts, strict=True)) == left
    assert cleaned.texts[:] == [cleaned.texts[place] for place in range(len(left))] == expected
    assert list(select_texts(cleaned.texts, np.arange(len(left))[::-1])) == expected[::-1]


@pytest.mark.parametrize(
    ("step", "said"),
    [("line_brakes", "did you mean 'line_breaks'"), ("max_words:none", "above 0"), ("line_breaks:3", "no number")],
)
def test_an_unknown_step_is_refused(step: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        clean(["text"], [step])
