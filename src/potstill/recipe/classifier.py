"""What a recipe may say of a classifier: which parts train, from when on and how fast, its head, and its loss."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from potstill.recipe.sections import Section

Rate = Annotated[float, Field(gt=0)]
LabelName = Annotated[str, BeforeValidator(str)]
"""A label as a key; YAML reads one that is called 0 as a number."""


def _not_negative(weights: str | dict[str, float]) -> str | dict[str, float]:
    negative = [] if isinstance(weights, str) else [name for name, weight in weights.items() if weight < 0]
    if negative:
        raise ValueError(f"the weight of {negative[0]!r} is below 0")
    return weights


ClassWeights = Annotated[Literal["none", "balanced"] | dict[LabelName, float], AfterValidator(_not_negative)]


class RatesSection(Section):
    """Peak learning rates by depth; a part without one of its own has learning_rate, times decay for each step down."""

    decay: float = Field(
        1.0, gt=0, le=1, description="Factor from each part to the one below it: head, layers from the top, embeddings."
    )
    embeddings: Rate | None = Field(None, description="Peak rate of the embeddings.")
    early: Rate | None = Field(None, description="Peak rate of the lower half of the layers; of 5 layers, of 2.")
    late: Rate | None = Field(None, description="Peak rate of the other layers.")
    head: Rate | None = Field(None, description="Peak rate of the head, a pooler included.")


class HeadSection(Section):
    """What stands on top of the encoder."""

    kind: Literal["own", "linear", "hidden"] = Field(
        "own",
        description="The head that transformers has for the family (own), one linear map, or one hidden layer before "
        "it; linear and hidden draw a head even for a model that has one of its own.",
    )
    pooling: Literal["cls", "mean", "max"] = Field(
        "cls", description="What a head of ours reads: the first token's state, or mean or maximum over all tokens."
    )
    size: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Width of the hidden layer; the encoder's when absent."
    )
    activation: Literal["relu", "gelu", "tanh"] = Field("relu", description="Activation of the hidden layer.")

    @model_validator(mode="after")
    def _fits_the_kind(self) -> Self:
        if self.kind == "own" and self.pooling != "cls":
            raise ValueError(f"pooling: {self.pooling} needs a head of the kind linear or hidden")
        if self.kind != "hidden" and self.size is not None:
            raise ValueError("size is that of the hidden layer, so it needs kind: hidden")
        return self


class ClassifierSection(Section):
    """Which parts of a classifier train, and on what loss."""

    strategy: Literal["full", "freeze", "hybrid", "gradual"] = Field(
        "full",
        description="What trains: everything (full), the head alone (freeze), the head first and then everything "
        "(hybrid), or one part more at a time from the top (gradual, Howard & Ruder 2018).",
    )
    head_share: float = Field(
        0.25, gt=0, lt=1, description="With hybrid, the share of the steps in which the head trains alone."
    )
    unfreeze_share: float = Field(
        0.5, gt=0, lt=1, description="With gradual, the share of the steps after which everything trains."
    )
    freeze_layers: int = Field(0, ge=0, description="Lowest layers that never train.")
    freeze_embeddings: bool | None = Field(
        None, description="Whether the embeddings never train; when absent, they do not where lowest layers do not."
    )
    rates: RatesSection = RatesSection()
    head: HeadSection = HeadSection()
    class_weights: ClassWeights = Field(
        "none",
        description="Weight of each label in the loss: none, balanced (scikit-learn's, from the training rows), or by "
        "label, those not named having 1; of many labels, the weight of a label where it is given.",
    )
    focal_gamma: float = Field(
        0.0,
        ge=0,
        description="γ of the focal loss (Lin et al. 2017), which counts less what is decided already; 0: off.",
    )
    long_texts: Literal["cut", "mean", "max"] = Field(
        "cut",
        description="Texts longer than max_length: cut, or read in windows, in training each with its text's label, in "
        "prediction with the mean or the maximum of their logits. Single texts only.",
    )
    window_overlap: int = Field(32, ge=0, description="Tokens that neighbouring windows share.")
    keep_epochs: bool = Field(False, description="Keep the model of every epoch, below epochs/ in the run.")
