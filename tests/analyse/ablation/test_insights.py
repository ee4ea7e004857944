"""Sentences of an ablation: every figure in them is in the numbers beside them, and every word follows from those."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from potstill.analyse.ablation.effects import interactions, main_effects, variance_shares
from potstill.analyse.ablation.insights import (
    say_baseline,
    say_best,
    say_cost,
    say_effect,
    say_front,
    say_interaction,
    say_seeds,
    say_value,
    say_variance,
)
from potstill.analyse.ablation.pareto import pareto_front
from potstill.analyse.ablation.standings import rank_arms


def numbers_of(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for inner in value.values() for number in numbers_of(inner)]
    if isinstance(value, list | tuple):
        return [number for inner in value for number in numbers_of(inner)]
    return [float(value)] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_the_best_arm_is_named_with_its_figure_and_with_those_that_could_be_it(make_scores):
    scores = make_scores({"small": [0.60, 0.61], "twin": [0.800, 0.801], "large": [0.802, 0.803]}, "small")
    insight = say_best(scores, rank_arms(scores))
    assert insight.sentence.startswith("“large” has the best accuracy, 0.8025 (95% interval ")
    assert "the mean of 2 seeds on 100 rows. It comes first in " in insight.sentence
    assert insight.sentence.endswith("; “twin” cannot be told from it.")
    assert insight.numbers["arm"] == "large"
    alone = make_scores({"small": [0.60], "large": [0.95]})
    assert say_best(alone, rank_arms(alone)).sentence.endswith("chance does not explain its lead over any other.")


def test_arms_are_called_better_and_worse_only_beyond_chance(make_scores):
    scores = make_scores({"base": [0.7], "same": [0.701], "worse": [0.5], "better": [0.9]}, "base")
    insight = say_baseline(scores, rank_arms(scores))
    assert insight.sentence == (
        "Against the baseline “base” (0.7), 1 arm is better (better) and 1 arm is worse (worse); 1 cannot be told from "
        "it (at p < 0.05, corrected for 3 comparisons)."
    )
    of_loss = make_scores({"base": [0.7], "less": [0.5]}, "base", metric="log_loss")
    assert say_baseline(of_loss, rank_arms(of_loss)).numbers["better"] == ["less"]


def test_an_effect_says_every_value_and_the_largest_change(full_grid, scores_of):
    settings = full_grid(layers=(2, 4, 6), heads=(4, 12))
    scores = scores_of(settings, lambda arm: 0.5 + 0.05 * arm["layers"])
    layers, heads = main_effects(scores, settings, ["layers", "heads"], settings[-1])
    sentence = say_effect(scores, layers).sentence
    assert sentence.startswith(
        "layers: accuracy is 0.6 at 2, 0.7 at 4, 0.8 at 6, over 2 sets of arms alike in all else; "
        "from 6 to 2 it changes by -0.2"
    )
    assert sentence.endswith("and it rises with every step.")
    told = say_effect(scores, heads).sentence
    assert "does not change by more than chance explains" in told
    assert "every step" not in told


def test_an_interaction_is_claimed_only_beyond_chance(full_grid, scores_of):
    settings = full_grid(layers=(2, 6), heads=(4, 12))
    reference = settings[0]
    there = scores_of(settings, lambda arm: 0.5 + 0.2 * (arm == settings[-1]))
    (found,) = interactions(there, settings, ["layers", "heads"], reference)
    assert say_interaction(there, found).sentence.startswith(
        "What layers changes depends on heads: the step from 2 to 6 changes accuracy differently at heads 12 than at "
        "4, by +0.2"
    )
    absent = scores_of(settings, lambda arm: 0.5)
    (found,) = interactions(absent, settings, ["layers", "heads"], reference)
    assert (
        "Chance explains every sign that what layers changes depends on heads"
        in say_interaction(absent, found).sentence
    )


def test_the_variance_is_told_largest_first_and_sums_to_all(full_grid, scores_of):
    settings = full_grid(layers=(2, 4, 6), heads=(4, 12))
    scores = scores_of(settings, lambda arm: 0.5 + 0.01 * arm["layers"] + 0.01 * arm["heads"])
    shares = variance_shares(scores, settings, ["layers", "heads"])
    sentence = say_variance(shares, 6).sentence
    assert sum(int(share) for share in re.findall(r"(\d+)% (?:goes )?with", sentence)) == pytest.approx(100, abs=1)
    assert sentence.index("with heads") < sentence.index("with layers")


def test_the_front_is_told_cheapest_first_and_what_beats_the_baseline(make_scores):
    scores = make_scores({"large": [0.8], "small": [0.7], "base": [0.7]}, "base", noise=0.0)
    sentence = say_front(scores, pareto_front(scores, "parameters", [22_000_000, 5_000_000, 9_000_000])).sentence
    assert sentence == (
        "2 of 3 arms are on the front of accuracy against parameters: “small” (5 M, 0.7) and “large” (22 M, 0.8). "
        "The baseline is not: “small” is at least as good at no more cost."
    )


def test_seeds_are_told_apart_from_arms(make_scores):
    scores = make_scores({"a": [0.5, 0.6], "b": [0.8, 0.9]})
    insight = say_seeds(scores, encoders_once=True)
    assert insight.numbers["within_arm"] == pytest.approx(np.std([0.5, 0.6], ddof=1))
    assert insight.numbers["between_arms"] == pytest.approx(np.std([0.55, 0.85], ddof=1))
    assert "So few seeds say little" in insight.sentence
    assert insight.sentence.endswith("Each encoder was made once, so the chance in making it is in no interval.")
    assert "another seed would change is unknown" in say_seeds(make_scores({"a": [0.5], "b": [0.6]}), encoders_once=False).sentence  # fmt: skip # noqa: E501


def test_every_decimal_of_a_sentence_is_among_its_numbers(full_grid, scores_of):
    settings = full_grid(layers=(2, 4, 6), heads=(4, 12))
    scores = scores_of(settings, lambda arm: 0.4 + 0.013 * arm["layers"] + 0.0017 * arm["heads"] * arm["layers"])
    standings = rank_arms(scores)
    effects = main_effects(scores, settings, ["layers", "heads"], settings[0])
    pairs = interactions(scores, settings, ["layers", "heads"], settings[0])
    insights = [
        say_best(scores, standings),
        *(say_effect(scores, effect) for effect in effects),
        *(say_interaction(scores, pair) for pair in pairs),
    ]
    for insight in insights:
        known = numbers_of(insight.numbers)
        for text in re.findall(r"[-+−]?\d+\.\d+", insight.sentence):
            value = float(text)
            assert any(abs(value - number) <= 0.006 * abs(number) + 1e-3 for number in known), (text, insight.sentence)


@pytest.mark.parametrize(
    ("value", "said"),
    [(5e-05, "5e-05"), (2.0, "2"), (None, "none"), (True, "true"), ([0, 2, 5], "[0, 2, 5]"), ("paper", "paper")],
)
def test_values_are_said_as_they_are_written(value, said):
    assert say_value(value) == said


def test_costs_are_short():
    assert [say_cost(value) for value in (22_713_600, 12.34, 100_000)] == ["22.7 M", "12.3", "0.1 M"]


def test_an_arm_without_a_value_spoils_no_sentence(full_grid, scores_of):
    # a model that answers one number always has no correlation
    settings = full_grid(layers=(2, 4, 6), heads=(4, 12))
    scores = scores_of(
        settings,
        lambda arm: float("nan") if arm == settings[0] else 0.5 + 0.05 * arm["layers"],
        baseline="5",
        metric="pearsonr",
    )
    layers, heads = main_effects(scores, settings, ["layers", "heads"], settings[-1])
    assert layers.span == pytest.approx(0.1)
    said = say_effect(scores, layers).sentence
    assert "pearsonr is no value at 2, 0.7 at 4, 0.8 at 6" in said
    assert "from 6 to 4 it changes by -0.1" in said
    assert say_effect(scores, heads).sentence.endswith("from 12 to 4 the change has no value.")
    assert interactions(scores, settings, ["layers", "heads"], settings[-1]) == []
    assert variance_shares(scores, settings, ["layers", "heads"]) is None
    assert "nan" not in say_best(scores, rank_arms(scores)).sentence
