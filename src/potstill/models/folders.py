"""A model on disk, as transformers lays it out: configuration, safetensors, tokenizer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from potstill.errors import StorageError
from potstill.models.checkpoints import quietly
from potstill.runs import storage_errors

OURS = "potstill_"
"""How the model types begin that potstill tells transformers of; without it the Auto classes refuse them."""


def save_model_folder(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, work: Path) -> None:
    """Write model and tokenizer into ``folder`` file by file, each whole or not at all.

    They are written to ``work`` first: a full disk raises StorageError and leaves ``folder`` as it was.
    """
    partial = work / "export"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with storage_errors(folder), quietly():
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
            for file in sorted(partial.iterdir()):
                file.replace(folder / file.name)
            partial.rmdir()
    except SafetensorError as failure:
        raise StorageError(
            f"the weights could not be written to {folder} ({failure})", do="free some space and start again"
        ) from failure


def count_parameters(model: PreTrainedModel) -> int:
    """Parameters of the model; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def opens_with(model: PreTrainedModel) -> Literal["transformers", "potstill"]:
    """What gives a stored model back: plain transformers, or potstill where the model is of a type of its own."""
    return "potstill" if model.config.model_type.startswith(OURS) else "transformers"
