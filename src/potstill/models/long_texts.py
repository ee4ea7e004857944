"""How a classifier reads texts longer than it takes: an entry of its ``config.json``, obeyed by every predictor."""

from __future__ import annotations

from dataclasses import asdict

from transformers import PreTrainedModel

from potstill.data.windows import WINDOWS_ENTRY, Windows


def keep_windows(model: PreTrainedModel, windows: Windows | None) -> None:
    """Write into the configuration of ``model`` that it reads long texts in ``windows``; None that it cuts them."""
    if windows is not None:
        setattr(model.config, WINDOWS_ENTRY, asdict(windows))
    elif hasattr(model.config, WINDOWS_ENTRY):
        delattr(model.config, WINDOWS_ENTRY)


def windows_of(model: PreTrainedModel) -> Windows | None:
    """What ``keep_windows`` wrote; None for a model that cuts long texts."""
    kept = getattr(model.config, WINDOWS_ENTRY, None)
    return None if kept is None else Windows(**kept)
