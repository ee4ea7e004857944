"""What a recipe may say of decisions: a temperature and thresholds, fitted on each run's selection split."""

from __future__ import annotations

from pydantic import Field, model_validator

from potstill.decisions import Strategy, ThresholdRule
from potstill.errors import RecipeError
from potstill.recipe.sections import Section


class DecisionsSection(Section):
    """How every classifier turns logits into decisions; fitted on its selection split, never on the reported one."""

    thresholds: Strategy = Field(
        "none",
        description="By what each label's threshold is chosen (of two labels, the second's): none is 0.5; precision "
        "and recall hold at_least of the one and maximise the other.",
    )
    beta: float | None = Field(None, gt=0, description="Beta of f_beta: recall counts that many times as precision.")
    at_least: float | None = Field(None, gt=0, le=1, description="Precision or recall to hold.")
    false_positive_cost: float | None = Field(None, gt=0, description="Cost of a label wrongly given, for cost.")
    false_negative_cost: float | None = Field(None, gt=0, description="Cost of a label missed, for cost.")
    temperature: bool = Field(True, description="Fit a temperature, so that probabilities are calibrated.")

    @property
    def rule(self) -> ThresholdRule:
        """By what thresholds are chosen, as the rooms below know it."""
        numbers = self.model_dump(exclude={"thresholds", "temperature"})
        return ThresholdRule(self.thresholds, **numbers)

    @model_validator(mode="after")
    def _numbers_fit_the_strategy(self) -> DecisionsSection:
        try:
            _ = self.rule
        except RecipeError as unfit:
            raise ValueError(str(unfit).rstrip(".")) from unfit
        return self
