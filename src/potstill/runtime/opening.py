"""The one way to open a finished run for prediction, whatever kind of model it holds."""

from __future__ import annotations

from pathlib import Path

from potstill.models.linear import is_linear
from potstill.records import Predictor


def open_predictor(
    folder: str | Path,
    *,
    batch_size: int = 32,
    max_length: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> Predictor:
    """The predictor of a finished run, or of any classifier in a folder or on the hub; ``config.json`` says its kind.

    Batches, lengths, device and dtype are those of a torch model; a linear one, for which torch is not loaded, has none
    of them. Raises ``ModelError`` for what cannot be opened.
    """
    if is_linear(folder):
        from potstill.runtime.linear_predictor import LinearPredictor

        return LinearPredictor.open(folder)
    from potstill.runtime.torch_predictor import TorchPredictor

    return TorchPredictor.open(folder, batch_size=batch_size, max_length=max_length, device=device, dtype=dtype)
