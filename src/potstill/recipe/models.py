"""What a recipe may say of its models: which teacher, and a student of which shape."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from potstill.recipe.sections import Section

Size = Annotated[int, Field(gt=0)]


class TeacherSection(Section):
    """The large model."""

    model: str = Field("minilm-l6", description="minilm-l6 (installed with potstill[demo]), a folder, or a hub name.")


class StudentSection(Section):
    """The small model's shape and where its weights come from."""

    layers: Size = Field(6, description="Transformer layers.")
    layer_choice: Literal["paper", "even", "odd", "first", "last", "spread"] | tuple[int, ...] = Field(
        "paper", description="Teacher layers copied: a named choice or a list of layer numbers from 0."
    )
    initialise: Literal["copy", "truncate", "random"] = Field(
        "copy", description="Weights from the teacher, from its leading rows and columns, or at random."
    )
    hidden_size: Size | None = Field(None, description="Width; the teacher's when absent.")
    heads: Size | None = Field(None, description="Attention heads; the teacher's when absent.")
    intermediate_size: Size | None = Field(None, description="Feed-forward width; the teacher's when absent.")
    copy_mlm_transform: bool = Field(True, description="Copy the teacher's transform before the vocabulary too.")


class GivenStudentSection(StudentSection):
    """The student of an experiment: distilled to a shape, or given as a model that is one already."""

    model: str | None = Field(
        None,
        description="A student that is distilled already: a run, a folder or a hub name. Nothing is distilled into it; "
        "the other fields then shape the baselines alone.",
    )

    @property
    def shape(self) -> StudentSection:
        """What a distillation is asked for."""
        return StudentSection.model_validate(self.model_dump(exclude={"model"}))
