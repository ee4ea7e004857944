"""Texts of a request as rows of tokens, before they wait: counted for the queue's budget, and refused if too long."""

from __future__ import annotations

from collections.abc import Sequence

from potstill.data.tokens import Kept
from potstill.errors import DataError
from potstill.records import Text
from potstill.runtime.tokenised import Tokenised
from potstill.serve.predictor import ServedPredictor
from potstill.serve.refusals import RefusedError, not_taken, tokenisation_failed


def tokenise_texts(texts: Sequence[Text], predictor: ServedPredictor, *, truncate: bool, keep: Kept) -> Tokenised:
    """The texts as the predictor will compute them; of those that are cut, the start or the end is kept.

    Raises RefusedError for what the bundle does not take, and without ``truncate`` for a text that would be cut. A
    bundle that reads long texts in windows cuts none.
    """
    try:
        tokenised = predictor.tokenise(texts, keep)
    except DataError as error:
        raise not_taken(error) from error
    except Exception as error:  # the one type that tokenizers raises
        raise tokenisation_failed(error) from error
    if tokenised.truncated.any() and not truncate:
        row = int(tokenised.truncated.argmax())
        raise RefusedError(
            413,
            f"input {row} is too long: {tokenised.n_tokens[row]} tokens",
            allowed=f"at most {predictor.max_length}",
            do="shorten it, or send truncate: true",
            counted_as="tokenization",
        )
    return tokenised
