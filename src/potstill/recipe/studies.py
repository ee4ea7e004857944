"""What a recipe may say of studies: pages on data and attention that ``potstill run`` adds to the report."""

from __future__ import annotations

from pydantic import Field

from potstill.recipe.sections import Section


class StudiesSection(Section):
    """Studies of each task that join the report as tabs; they may take minutes and never change a result."""

    data: bool = Field(
        False, description="A study of the task's rows as they are trained and measured on, as potstill explore makes."
    )
    attention: int | None = Field(
        None,
        ge=1,
        le=20_000,
        description="Texts of the reported split on which the student's attention is measured before and after "
        "fine-tuning, as potstill attend does; none when absent.",
    )
