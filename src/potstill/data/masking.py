"""Which tokens are hidden from a masked-language model, and what stands in their place. numpy only.

Every draw comes from the generator passed in, and only positions that may be masked consume draws: the width of the
padding changes nothing, and the same generator gives the same masks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from potstill.errors import DataError

IGNORED = -100
"""Label of a position that is not predicted; the value that cross-entropy leaves out."""

PROPORTIONS = (0.8, 0.1, 0.1)
"""Shares of the chosen tokens that become [MASK], another token, or stay (Devlin et al. 2019, section 3.1)."""


def mask_weights(token_counts: np.ndarray, special_ids: Collection[int], smoothing: float = 0.7) -> np.ndarray:
    """How strongly each token of the vocabulary attracts masking: count^-smoothing, ``(vocab,)`` float64.

    ``token_counts`` are occurrences in the corpus; a token never seen counts as seen once. Special tokens get 0, which
    everywhere in this module means "never masked". ``smoothing`` 0 is uniform masking, 0.7 is that of the DistilBERT
    source (after XLM and word2vec).
    """
    weights = np.maximum(token_counts, 1).astype(np.float64) ** -smoothing
    weights[np.fromiter(special_ids, dtype=np.int64, count=len(special_ids))] = 0.0
    return weights


def choose_masked(
    input_ids: np.ndarray,
    attended: np.ndarray | None,
    weights: np.ndarray,
    rng: np.random.Generator,
    *,
    fraction: float = 0.15,
    exact: bool = True,
    word_starts: np.ndarray | None = None,
) -> np.ndarray:
    """The tokens to predict, a bool mask in the shape of ``input_ids``: ``(batch, length)``, or packed in one row.

    attended: nonzero where there is text, None for everywhere. weights: ``(vocab,)`` from :func:`mask_weights`.
    exact: exactly round(fraction · maskable tokens) of the whole batch, at least 1, drawn at once and without
    replacement; otherwise each token by its own draw, so that the number holds on average.
    word_starts: ``(vocab,)`` bool, true where a token begins a word. Words are then drawn whole, each by the mean
    weight of its tokens, as many as fit in the number above (at least one word).
    """
    if not 0.0 < fraction < 1.0:
        raise DataError("the fraction of masked tokens is out of range", found=fraction, allowed="between 0 and 1")
    token_weights = weights[input_ids].ravel()
    if attended is not None:
        token_weights = np.where(attended.ravel() != 0, token_weights, 0.0)
    positions = np.flatnonzero(token_weights)
    mask = np.zeros(input_ids.size, dtype=bool)
    if len(positions):
        maskable = token_weights[positions]
        units = np.arange(len(positions))
        if word_starts is not None:
            units = _word_numbers(input_ids, positions, word_starts)
        mask[positions] = _draw_units(units, maskable, rng, fraction, exact)[units]
    return mask.reshape(input_ids.shape)


def _word_numbers(input_ids: np.ndarray, positions: np.ndarray, word_starts: np.ndarray) -> np.ndarray:
    """The number of the word that each maskable position belongs to, from 0.

    A token goes on with the word before it if it begins none itself and follows a maskable token of the same row.
    """
    length = input_ids.shape[-1]
    begins = word_starts[input_ids.ravel()[positions]]
    begins[0] = True
    begins[1:] |= (np.diff(positions) != 1) | (positions[1:] % length == 0)
    return np.cumsum(begins) - 1


def _draw_units(
    units: np.ndarray, weights: np.ndarray, rng: np.random.Generator, fraction: float, exact: bool
) -> np.ndarray:
    """Which units (tokens or words) are chosen, ``(n_units,)`` bool.

    The exact draw is a race: unit i arrives after an exponential time of rate w_i and the first to arrive win, which is
    sampling without replacement with probability proportional to weight (Efraimidis and Spirakis 2006).
    """
    sizes = np.bincount(units)
    unit_weights = np.bincount(units, weights=weights) / sizes
    if not exact:
        share = fraction * len(units) * unit_weights / (unit_weights * sizes).sum()
        return rng.random(len(sizes)) < share
    wanted = max(1, round(fraction * len(units)))
    arrival = rng.exponential(size=len(sizes)) / unit_weights
    order = np.argsort(arrival, kind="stable")
    winners = max(1, int(np.searchsorted(np.cumsum(sizes[order]), wanted, side="right")))
    chosen = np.zeros(len(sizes), dtype=bool)
    chosen[order[:winners]] = True
    return chosen


def corrupt(
    input_ids: np.ndarray,
    mask: np.ndarray,
    rng: np.random.Generator,
    *,
    mask_id: int,
    vocab_size: int,
    special_ids: Collection[int],
    proportions: tuple[float, float, float] = PROPORTIONS,
) -> np.ndarray:
    """A copy of ``input_ids`` in which each token under ``mask`` became [MASK], another token, or stayed.

    Each masked token draws for itself with the three ``proportions``; the other token is uniform over the vocabulary
    without the special tokens.
    """
    if min(proportions) < 0 or abs(sum(proportions) - 1.0) > 1e-9:
        raise DataError("the three proportions of masking do not add up to 1", found=proportions)
    chosen = np.flatnonzero(mask)
    ordinary = np.ones(vocab_size, dtype=bool)
    ordinary[np.fromiter(special_ids, dtype=np.int64, count=len(special_ids))] = False
    candidates = np.flatnonzero(ordinary)
    draws = rng.random(len(chosen))
    others = candidates[rng.integers(len(candidates), size=len(chosen))]
    original = input_ids.ravel()[chosen]
    kept_or_other = np.where(draws < proportions[0] + proportions[1], others, original)
    corrupted = input_ids.copy()
    corrupted.flat[chosen] = np.where(draws < proportions[0], mask_id, kept_or_other)
    return corrupted


def mask_batch(
    batch: Mapping[str, np.ndarray],
    rng: np.random.Generator,
    *,
    weights: np.ndarray,
    mask_id: int,
    special_ids: Collection[int],
    fraction: float = 0.15,
    exact: bool = True,
    proportions: tuple[float, float, float] = PROPORTIONS,
    word_starts: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """The batch for masked-language modelling: ``input_ids`` corrupted, and ``labels`` beside them.

    labels: int64, the original id at each chosen position, -100 elsewhere. Everything else in ``batch`` passes through.
    The vocabulary's size is that of ``weights``.
    """
    input_ids = batch["input_ids"]
    attended = batch.get("attention_mask")
    mask = choose_masked(input_ids, attended, weights, rng, fraction=fraction, exact=exact, word_starts=word_starts)
    corrupted = corrupt(
        input_ids,
        mask,
        rng,
        mask_id=mask_id,
        vocab_size=len(weights),
        special_ids=special_ids,
        proportions=proportions,
    )
    labels = np.where(mask, input_ids, IGNORED).astype(np.int64)
    return {**batch, "input_ids": corrupted, "labels": labels}
