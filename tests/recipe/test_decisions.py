"""The recipe's section of decisions: absent by default, and as strict as the rule behind it."""

from __future__ import annotations

from typing import Any

import pytest

from potstill.decisions import ThresholdRule
from potstill.errors import RecipeError
from potstill.recipe.decisions import DecisionsSection
from potstill.recipe.schema import Recipe
from potstill.recipe.sections import build

SMALLEST: dict[str, Any] = {"name": "mine", "tasks": [{"name": "cola"}]}


def test_a_recipe_that_says_nothing_has_no_decisions():
    assert build(Recipe, SMALLEST, where="x").decisions is None


def test_the_section_is_the_rule_below_it():
    section = DecisionsSection(thresholds="precision", at_least=0.9)
    assert section.rule == ThresholdRule("precision", at_least=0.9)
    assert section.temperature


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"thresholds": "precision"}, "decisions: thresholds by precision need at_least"),
        ({"thresholds": "f1", "beta": 2}, "decisions: thresholds by f1 have no use for beta"),
        ({"thresholds": "best"}, "decisions.thresholds"),
        ({"threshold": "f1"}, "did you mean 'thresholds'"),
        ({"thresholds": "f_beta", "beta": 0}, "decisions.beta"),
    ],
)
def test_what_cannot_be_fitted_is_refused_by_its_name(fields: dict[str, Any], message: str):
    with pytest.raises(RecipeError, match=message):
        build(Recipe, {**SMALLEST, "decisions": fields}, where="x")
