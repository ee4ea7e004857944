"""Texts as tokens before the queue, and what is refused there. Oracle: the fake's tokenizer."""

from __future__ import annotations

from typing import Any

import pytest

from potstill.data.windows import Windows
from potstill.serve.refusals import RefusedError
from potstill.serve.tokenised_texts import tokenise_texts

LONG = " ".join(["the good"] + ["film"] * 9 + ["was bad"])


def tokenised(predictor: Any, *texts: Any, truncate: bool = True, keep: Any = "start") -> Any:
    return tokenise_texts(texts, predictor, truncate=truncate, keep=keep)


def test_special_tokens_count(predictor):
    done = tokenised(predictor, "the good film", ("good", "bad"), "xyz")
    assert done.n_tokens.tolist() == done.costs.tolist() == [5, 5, 5]
    assert not done.truncated.any()


def test_a_long_text_is_refused_where_it_must_not_be_cut(predictor):
    with pytest.raises(RefusedError, match="input 1 is too long: 15 tokens; allowed: at most 12") as refused:
        tokenised(predictor, "good", LONG, truncate=False)
    assert (refused.value.status, refused.value.kind) == (413, "validation")


@pytest.mark.parametrize(
    ("keep", "first", "last"), [("start", ["the", "good"], ["film"]), ("end", ["film"], ["was", "bad"])]
)
def test_the_start_or_the_end_of_a_long_text_is_computed(predictor, keep, first, last):
    done = tokenised(predictor, LONG, keep=keep)
    assert (done.n_tokens.tolist(), done.truncated.tolist(), done.costs.tolist()) == ([15], [True], [12])
    predictor.classify(done, alone=True)
    read = predictor.calls[-1][0].split()
    assert (read[: len(first)], read[-len(last) :]) == (first, last)


def test_a_bundle_with_windows_reads_everything(fake):
    done = tokenised(fake.FakePredictor(windows=Windows(2)), LONG, "good", truncate=False)
    assert done.truncated.tolist() == [False, False]
    assert done.costs.tolist() == [24, 3], "two windows of twelve tokens, the special ones among them"


def test_what_the_bundle_does_not_take_is_refused_without_its_words(fake):
    with pytest.raises(RefusedError, match="input 0 is a pair") as refused:
        tokenised(fake.FakePredictor(takes_pairs=False), ("my diary", "b"))
    assert (refused.value.status, refused.value.kind) == (422, "validation")
    assert "diary" not in str(refused.value)


def test_a_tokenizer_that_fails_is_told_without_its_words(fake):
    class Failing(fake.FakePredictor):
        def tokenise(self, texts: Any, keep: Any) -> Any:
            raise Exception(f"cannot stand {texts}")

    with pytest.raises(RefusedError) as refused:
        tokenised(Failing(), "my diary")
    assert (refused.value.status, refused.value.kind) == (422, "tokenizer")
    assert "diary" not in str(refused.value)
