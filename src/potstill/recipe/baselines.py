"""The sections of a recipe about models that are no transformers: what every comparison should begin with."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from potstill.recipe.sections import Section


class BilstmSection(Section):
    """A bidirectional LSTM with additive attention, trained on the task alone."""

    tokens: Literal["words", "teacher"] = Field(
        "words", description="What it reads: words of the training texts, or the tokens of the teacher."
    )
    min_count: int = Field(2, gt=0, description="Occurrences in the training texts from which on a word is known.")
    max_words: int = Field(30_000, gt=0, description="Words known at most, the most frequent ones.")
    embeddings: str = Field(
        "scratch",
        description="Vectors to begin with: scratch, teacher (its own table), or a text file as GloVe is distributed; "
        "finetune.freeze_embeddings keeps them as they are.",
    )
    embedding_size: int = Field(300, gt=0, description="Width of embeddings from scratch; others bring their own.")
    hidden_size: int = Field(128, gt=0, description="Width of the LSTM's states in each direction.")
    layers: int = Field(1, gt=0, description="LSTM layers.")
    dropout: float = Field(0.3, ge=0, lt=1, description="Dropout on embeddings, between layers and before the head.")
    weighting: Literal["none", "embeddings", "attention"] = Field(
        "none",
        description="What a token's inverse document frequency multiplies: its embedding, its attention, or nothing.",
    )

    @property
    def vectors_file(self) -> str | None:
        """The file of word vectors, where embeddings come from one."""
        return None if self.embeddings in ("scratch", "teacher") else self.embeddings


class BilstmArmSection(BilstmSection):
    """The baseline bilstm: a bidirectional LSTM with additive attention, trained on each task alone."""

    finetune: dict[str, Any] = Field(
        default_factory=dict,
        description="Fields of finetune for it. Lengths, windows, batches, class weights, metric and machine are "
        "those of the other arms; how it learns is its own: learning rate 1e-3, 10 epochs, the best of them kept.",
    )


class TfidfSection(Section):
    """The baseline tfidf: counts of words and word pairs, weighted, under a linear model of scikit-learn."""

    ngrams: tuple[int, int] = Field((1, 2), description="Fewest and most words in a row that count as one feature.")
    min_count: int = Field(2, gt=0, description="Training texts from which on a feature is known.")
    max_features: int = Field(200_000, gt=0, description="Features at most, the most frequent ones.")
    sublinear: bool = Field(True, description="Count 1 + ln(n) for n occurrences in a text.")
    penalties: tuple[float, ...] = Field(
        (10.0, 1.0, 0.1, 0.01),
        min_length=1,
        description="Strengths of the L2 penalty that are tried; the best on the selection split is kept.",
    )
    max_iterations: int = Field(1000, gt=0, description="Steps of the solver at most; told where it needed more.")

    @model_validator(mode="after")
    def _can_be_fitted(self) -> Self:
        fewest, most = self.ngrams
        if not 1 <= fewest <= most:
            raise ValueError("ngrams are a range of words in a row, such as [1, 2]")
        if min(self.penalties) <= 0 or len(set(self.penalties)) < len(self.penalties):
            raise ValueError("penalties are different numbers above 0")
        return self
