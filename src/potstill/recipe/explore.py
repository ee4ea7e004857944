"""What ``potstill explore`` may be asked: the data to study, and what to say of its tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from potstill.recipe.schema import Positive, TaskSection
from potstill.recipe.sections import Section


class ExploreJob(Section):
    """A task or a corpus to study, and where the page goes."""

    out: Path = Field(description="Folder of the page and of explore.json.")
    data_dir: Path | None = Field(
        None, description="Folder with local copies of known data sets, such as glue/cola/train.parquet."
    )
    task: TaskSection | None = Field(None, description="A task of the catalogue, or a name of your own with files.")
    corpus: str | None = Field(
        None, description="Unlabelled text: docstrings, a known corpus, a hub name, or a txt, csv, jsonl, parquet file."
    )
    corpus_column: str = Field("text", description="Column that holds the text of the corpus.")
    tokenizer: str | None = Field(
        "minilm-l6", description="Tokenizer: minilm-l6, a folder with tokenizer.json, or a hub name; null for none."
    )
    batch_size: Positive = Field(32, description="Rows per batch, for what is said of padding.")

    @model_validator(mode="after")
    def _one_thing_to_study(self) -> Self:
        if (self.task is None) == (self.corpus is None):
            raise ValueError("name either a task (or files) or a corpus to study")
        return self
