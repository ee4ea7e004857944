"""Main effects, interactions and shares of the variance, against designs whose answer is known by construction."""

from __future__ import annotations

import numpy as np
import pytest

from potstill.analyse.ablation.effects import interactions, main_effects, variance_shares

LAYERS, HEADS = (2, 4, 6), (4, 12)


def test_main_effects_of_a_full_grid_are_its_marginal_means(full_grid, scores_of):
    settings = full_grid(layers=LAYERS, heads=HEADS)
    scores = scores_of(settings, lambda arm: 0.5 + 0.05 * arm["layers"] + 0.001 * arm["heads"])
    effects = {effect.field: effect for effect in main_effects(scores, settings, ["layers", "heads"], settings[-1])}
    table = scores.means.reshape(3, 2)
    assert [level.mean.value for level in effects["layers"].levels] == pytest.approx(table.mean(axis=1))
    assert [level.mean.value for level in effects["heads"].levels] == pytest.approx(table.mean(axis=0))
    assert [level.level for level in effects["layers"].levels] == list(LAYERS)
    assert (effects["layers"].n_sets, effects["heads"].n_sets) == (2, 3)
    assert effects["layers"].span == pytest.approx(0.2)


def test_changes_are_from_the_baselines_value_with_the_interval_of_the_resamples(full_grid, scores_of):
    settings = full_grid(layers=LAYERS, heads=HEADS)
    scores = scores_of(settings, lambda arm: 0.5 + 0.05 * arm["layers"])
    (effect,) = main_effects(scores, settings, ["layers"], {"layers": 6, "heads": 12})
    assert effect.reference == 6
    assert effect.levels[2].change is None
    change = effect.levels[0].change.difference
    drawn = scores.draws[:, [0, 1]].mean(axis=1) - scores.draws[:, [4, 5]].mean(axis=1)
    assert change.value == pytest.approx(-0.2)
    assert (change.low, change.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]))
    assert effect.levels[0].p_adjusted < 0.05


def test_a_hole_in_the_grid_is_left_out_of_the_comparison_and_not_averaged_over(full_grid, scores_of):
    """layers=6,heads=4 is missing: a mean over what is there would credit 6 layers with what 12 heads are worth."""
    settings = [arm for arm in full_grid(layers=LAYERS, heads=HEADS) if arm != {"layers": 6, "heads": 4}]
    scores = scores_of(settings, lambda arm: 0.5 + (0.1 if arm["heads"] == 12 else 0.0))
    effects = {effect.field: effect for effect in main_effects(scores, settings, ["layers", "heads"], settings[0])}
    assert effects["layers"].n_sets == 1, "only the arms of 12 heads have all three"
    assert [level.mean.value for level in effects["layers"].levels] == pytest.approx([0.6, 0.6, 0.6])
    assert effects["heads"].n_sets == 2
    assert [level.mean.value for level in effects["heads"].levels] == pytest.approx([0.5, 0.6])


def test_arms_that_change_one_thing_at_a_time_are_compared_with_the_arm_they_change(make_scores):
    """E3's design: each ablation against the one baseline."""
    base = {"freeze": 0, "epochs": 3, "batch": 16}
    settings = [base, *({**base, "freeze": n} for n in (2, 4)), *({**base, "epochs": n} for n in (1, 5))]
    scores = make_scores({"b": [0.9], "f2": [0.89], "f4": [0.86], "e1": [0.87], "e5": [0.92]}, noise=0.001)
    effects = main_effects(scores, settings, ["freeze", "epochs", "batch"], base)
    assert [effect.field for effect in effects] == ["freeze", "epochs"], "batch has one value"
    assert [level.mean.value for level in effects[0].levels] == pytest.approx([0.9, 0.89, 0.86])
    assert [level.level for level in effects[1].levels] == [1, 3, 5]
    assert [level.mean.value for level in effects[1].levels] == pytest.approx([0.87, 0.9, 0.92])


def test_arms_that_differ_in_more_than_a_field_say_nothing_of_it(make_scores):
    settings = [{"layers": 2, "heads": 4}, {"layers": 4, "heads": 12}]
    scores = make_scores({"a": [0.5], "b": [0.9]})
    assert main_effects(scores, settings, ["layers", "heads"], settings[0]) == []


def test_an_additive_grid_has_no_interaction_and_all_its_variance_in_the_fields(full_grid, scores_of):
    settings = full_grid(layers=LAYERS, heads=HEADS)
    scores = scores_of(settings, lambda arm: 0.5 + 0.05 * arm["layers"] + 0.02 * (arm["heads"] == 12))
    (found,) = interactions(scores, settings, ["layers", "heads"], settings[0])
    assert [contrast.change.difference.value for contrast in found.contrasts] == pytest.approx([0.0, 0.0], abs=1e-9)
    assert all(contrast.p_adjusted > 0.05 for contrast in found.contrasts)
    shares = variance_shares(scores, settings, ["layers", "heads"])
    # by hand: layers −0.1, 0, 0.1 in two arms each are 0.04; heads ∓0.01 in six arms are 0.0006
    assert shares.fields["layers"] == pytest.approx(0.04 / 0.0406)
    assert shares.fields["heads"] == pytest.approx(0.0006 / 0.0406)
    assert shares.pairs["layers", "heads"] == pytest.approx(0.0, abs=1e-12)
    assert shares.rest == pytest.approx(0.0, abs=1e-12)


def test_what_only_two_fields_make_together_is_their_interaction(full_grid, scores_of):
    settings = full_grid(layers=(2, 6), heads=HEADS)
    scores = scores_of(settings, lambda arm: 0.5 + 0.1 * (arm == {"layers": 6, "heads": 12}))
    (found,) = interactions(scores, settings, ["layers", "heads"], {"layers": 2, "heads": 4})
    (contrast,) = found.contrasts
    assert found.cells == ((pytest.approx(0.5), pytest.approx(0.5)), (pytest.approx(0.5), pytest.approx(0.6)))
    # by hand: (0.6 − 0.5) − (0.5 − 0.5)
    assert contrast.change.difference.value == pytest.approx(0.1)
    drawn = scores.draws[:, 3] - scores.draws[:, 1] - scores.draws[:, 2] + scores.draws[:, 0]
    bounds = contrast.change.difference.low, contrast.change.difference.high
    assert bounds == pytest.approx(np.quantile(drawn, [0.025, 0.975]))
    assert contrast.p_adjusted < 0.05
    assert found.references == (2, 4)
    # by hand: one cell of four sticks out, so each of the three contrasts has the same square
    shares = variance_shares(scores, settings, ["layers", "heads"])
    assert [*shares.fields.values(), *shares.pairs.values()] == pytest.approx([1 / 3] * 3)


def test_the_shares_are_those_of_a_regression_on_centred_contrasts(full_grid, scores_of):
    # oracle: least squares of the arms' means on each block of contrasts of a balanced 2 × 3 × 2 design
    settings = full_grid(a=(1, 2), b=("x", "y", "z"), c=(True, False))
    values = dict(zip(map(str, settings), np.random.default_rng(2).random(12), strict=True))
    scores = scores_of(settings, lambda arm: values[str(arm)])
    shares = variance_shares(scores, settings, ["a", "b", "c"])
    means = scores.means - scores.means.mean()
    total = (means**2).sum()

    def explained(columns: list[np.ndarray]) -> float:
        design = np.column_stack([np.ones(12), *columns])
        fitted = design @ np.linalg.lstsq(design, means, rcond=None)[0]
        return float((fitted**2).sum()) / total

    def dummies(*fields: str) -> list[np.ndarray]:
        keys = [tuple(arm[field] for field in fields) for arm in settings]
        return [np.array([key == other for key in keys], dtype=float) for other in dict.fromkeys(keys)]

    for field in "abc":
        assert shares.fields[field] == pytest.approx(explained(dummies(field)))
    both = explained(dummies("a", "b")) - explained(dummies("a")) - explained(dummies("b"))
    assert shares.pairs["a", "b"] == pytest.approx(both)
    assert sum(shares.fields.values()) + sum(shares.pairs.values()) + shares.rest == pytest.approx(1.0)


def test_the_share_of_chance_is_that_of_arms_that_differ_by_seeds_alone(make_scores, full_grid):
    # the share expected is near 1 where nothing but seeds tells arms apart
    settings = full_grid(a=range(6), b=range(6))
    rng = np.random.default_rng(4)
    scores = make_scores({str(n): 0.5 + 0.01 * rng.standard_normal(4) for n in range(36)})
    assert variance_shares(scores, settings, ["a", "b"]).chance == pytest.approx(1.0, rel=0.35)
    one_seed = make_scores({str(n): [rng.random()] for n in range(36)})
    assert variance_shares(one_seed, settings, ["a", "b"]).chance is None


def test_a_grid_that_is_not_full_has_no_shares(full_grid, scores_of):
    settings = full_grid(layers=LAYERS, heads=HEADS)
    scores = scores_of(settings, lambda arm: float(arm["layers"]))
    assert variance_shares(scores.only(range(5)), settings[:5], ["layers", "heads"]) is None
    assert interactions(scores.only(range(5)), settings[:5], ["layers", "heads"], settings[0]) == []


def test_two_fields_of_a_full_grid_of_three_are_compared_over_the_third(full_grid, scores_of):
    settings = full_grid(a=(1, 2), b=(1, 2), c=(1, 2))
    scores = scores_of(settings, lambda arm: 0.1 * arm["a"] * arm["b"] + 0.3 * arm["c"])
    found = {pair.fields: pair for pair in interactions(scores, settings, ["a", "b", "c"], settings[0])}
    assert set(found) == {("a", "b"), ("a", "c"), ("b", "c")}
    assert found["a", "b"].n_sets == 2
    assert found["a", "b"].contrasts[0].change.difference.value == pytest.approx(0.1)
    assert found["a", "c"].contrasts[0].change.difference.value == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("levels", "ordered"),
    [((12, 4, 6), [4, 6, 12]), (("paper", "first"), ["first", "paper"]), ((96, None), [None, 96])],
)
def test_levels_come_in_their_order(full_grid, scores_of, levels, ordered):
    settings = full_grid(field=levels)
    scores = scores_of(settings, lambda arm: 0.5)
    (effect,) = main_effects(scores, settings, ["field"], settings[0])
    assert [level.level for level in effect.levels] == ordered
