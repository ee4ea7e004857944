"""The statement of equal budget, from what runs recorded: equal ones say so, and nothing unequal passes for equal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from potstill.analyse.ablation.budget import ArmBudget, state_budget

ARM = ArmBudget(
    arm="base",
    rows={"train": 1000, "test": 400},
    data="same",
    seeds=(1, 2),
    tokens=(50_000, 50_010),
    steps=(63, 63),
    tokens_before={"distillation": 100_000, "pretraining the teacher": 20_000},
    precision=("fp32",),
)
SAME = replace(ARM, arm="other")


def test_equal_arms_are_said_to_be_equal_with_the_figures():
    told = state_budget([ARM, SAME], [])
    assert told.equal
    assert not told.undeclared
    assert told.sentence == (
        "All 2 arms were trained at equal budget: the same 1,000 training rows, the same 2 seeds, 50,000 to 50,010 "
        "tokens of fine-tuning, 100,000 tokens of distillation and 20,000 tokens of pretraining the teacher each."
    )
    assert told.remarks == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rows": {"train": 100, "test": 400}, "data": "less"}, "training rows 1,000 (base) and 100 (other)"),
        ({"data": "others"}, "1,000 training rows each, which are not the same rows or texts"),
        ({"seeds": (1, 3)}, "seeds 1 and 2 (base) and 1 and 3 (other)"),
        ({"tokens": (5_000, 5_001)}, "tokens of fine-tuning 100,010 (base) and 10,001 (other)"),
        (
            {"tokens_before": {"distillation": 50_000, "pretraining the teacher": 20_000}},
            "tokens of distillation 100,000 (base) and 50,000 (other)",
        ),
    ],
)
def test_arms_at_another_budget_are_told_even_where_nobody_declared_it(changes, said):
    """Pitfall 5, by what was recorded and not by what was planned."""
    arms = [ARM, replace(SAME, **changes)]
    told = state_budget(arms, [])
    assert not told.equal
    assert told.undeclared
    assert told.sentence.startswith("The arms are not at equal budget, which the grid does not declare: ")
    assert said in told.sentence
    declared = state_budget(arms, ["finetune.epochs"])
    assert not declared.equal
    assert not declared.undeclared
    assert "as declared for finetune.epochs" in declared.sentence


def test_a_last_batch_makes_no_difference_and_a_tenth_does():
    assert state_budget([ARM, replace(SAME, tokens=(50_300, 50_310))], []).equal
    assert not state_budget([ARM, replace(SAME, tokens=(55_000, 55_010))], []).equal


def test_steps_may_differ_and_are_told():
    told = state_budget([ARM, replace(SAME, steps=(250, 250))], [])
    assert told.equal
    assert told.remarks == ("Steps of the optimiser differ, from 63 to 250 a fine-tuning.",)


def test_arms_that_were_not_distilled_are_named():
    undistilled = {"distillation": 0, "pretraining the teacher": 20_000}
    told = state_budget([ARM, replace(SAME, tokens_before=undistilled)], [])
    assert told.equal, "what an arm goes without is what it is there for"
    assert told.remarks == ("Without distillation: other.",)


def test_another_arithmetic_is_told():
    told = state_budget([ARM, replace(SAME, precision=("bf16",))], [])
    assert told.remarks == ("The arithmetic of training differs: fp32 (base) and bf16 (other).",)


def test_a_declaration_that_changed_nothing_is_told():
    told = state_budget([ARM, SAME], ["finetune.patience"])
    assert told.equal
    assert told.remarks == (
        "finetune.patience was declared to change the budget, and what the runs recorded is equal.",
    )
