"""Integrated gradients: complete, nothing for what the baseline keeps, and captum's own check agrees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from potstill.analyse.attention.attribution import TOLERANCE, Attribution, rank_agreement

pytest.importorskip("captum", reason="captum is not installed (extra explain)")

from captum.attr import LayerIntegratedGradients

from potstill.analyse.attention.integrated_gradients import STEPS, attribute, has_captum

FAMILIES = ("bert", "distilbert", "roberta", "electra", "mpnet")


@pytest.mark.parametrize("family", FAMILIES)
def test_values_sum_to_the_difference_from_the_baseline(family, tiny_classifier, rows_of_ids, wordpiece):
    model = tiny_classifier(family)
    found = attribute(model, rows_of_ids([[2, 10, 11, 12, 13, 14, 3]]), 0, wordpiece, target=1)
    with torch.inference_mode():
        output = float(model(torch.tensor([[2, 10, 11, 12, 13, 14, 3]])).logits[0, 1])
        baseline = float(model(torch.tensor([[2, 0, 0, 0, 0, 0, 3]]), torch.ones(1, 7)).logits[0, 1])
    assert (found.output, found.baseline) == pytest.approx((output, baseline), abs=1e-5)
    assert abs(found.values.sum() - (output - baseline)) <= TOLERANCE * np.abs(found.values).sum()
    assert found.is_complete
    assert found.values.shape == (7,)
    assert found.n_steps in STEPS


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_that_the_baseline_keeps_add_nothing(family, tiny_classifier, rows_of_ids, byte_level):
    # of this tokenizer [PAD] is 1, as of RoBERTa, whose family would count the baseline's positions anew
    found = attribute(tiny_classifier(family), rows_of_ids([[0, 10, 2, 12, 2]]), 0, byte_level, target=0)
    assert found.values[[0, 2, 4]].tolist() == [0, 0, 0]
    assert np.all(found.values[[1, 3]] != 0)


def test_the_error_is_captums_own_delta(tiny_classifier, rows_of_ids, wordpiece):
    model, ids = tiny_classifier("bert"), torch.tensor([[2, 10, 11, 3]])
    found = attribute(model, rows_of_ids(ids.tolist()), 0, wordpiece, target=2)
    method = LayerIntegratedGradients(lambda ids: model(ids).logits, model.bert.embeddings)
    values, delta = method.attribute(
        ids, torch.tensor([[2, 0, 0, 3]]), target=2, n_steps=found.n_steps, return_convergence_delta=True
    )
    np.testing.assert_allclose(found.values, values[0].sum(dim=-1).detach(), atol=1e-5)
    assert found.delta == pytest.approx(float(delta), abs=1e-4)


def test_other_rows_change_nothing(tiny_classifier, rows_of_ids, wordpiece):
    model = tiny_classifier("distilbert")
    alone = attribute(model, rows_of_ids([[2, 10, 11, 3]]), 0, wordpiece, target=0)
    among = attribute(model, rows_of_ids([[2, 20, 21, 22, 23, 3], [2, 10, 11, 3]]), 1, wordpiece, target=0)
    np.testing.assert_allclose(alone.values, among.values, atol=1e-6)


def test_captum_is_found_where_it_is_installed():
    assert has_captum()


def test_an_incomplete_attribution_knows_it():
    found = Attribution(np.array([1.0, -0.5]), 0, output=1.0, baseline=0.4, n_steps=50)
    assert found.delta == pytest.approx(0.5 - 0.6)
    assert found.error == pytest.approx(0.1 / 1.5)
    assert not found.is_complete


def test_rank_agreement_is_spearmans_without_special_tokens():
    values, received = np.array([9.0, -3, 1, 2, 9]), np.array([0.5, 0.2, 0.1, 0.05, 0.15])
    special = np.array([True, False, False, False, True])
    expected = spearmanr([3, 1, 2], [0.2, 0.1, 0.05]).statistic
    assert rank_agreement(values, received, special) == pytest.approx(expected)
    assert rank_agreement(values[:3], received[:3], special[:3]) is None
    assert rank_agreement(np.zeros(5), received, special) is None
