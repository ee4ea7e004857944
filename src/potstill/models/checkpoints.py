"""Opening a checkpoint so that nothing is missing, left over or of another size without somebody having allowed it."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from potstill.errors import ModelError
from potstill.models.bilstm import register_bilstm

_SHOWN = 6


@dataclass(frozen=True)
class Opened:
    """A model and the names of the tensors its checkpoint did not fill (absent or of another size), tied ones left out.

    base: those inside the encoder, the pooler excepted; pooler: those of the pooler; head: those on top of the encoder.
    """

    model: PreTrainedModel
    base: tuple[str, ...]
    pooler: tuple[str, ...]
    head: tuple[str, ...]


def open_checkpoint(auto_class: Any, source: str, **kwargs: Any) -> Opened:
    """Open ``source`` as ``auto_class`` in float32 and say what the checkpoint did not hold.

    Only safetensors, never code from the checkpoint. Raises ``ModelError`` when it cannot be opened, and when it holds
    encoder tensors that the model has no place for: a renamed layer must not pass for a missing one.
    """
    register_bilstm()
    # The library draws what is missing from the global generator; our own draws follow, and the generator is put back.
    with quietly(), torch.random.fork_rng(devices=[]):
        try:
            model, loading = auto_class.from_pretrained(
                source,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                use_safetensors=True,
                dtype=torch.float32,
                **kwargs,
            )
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelError(
                f"{source} cannot be opened as {auto_class.__name__}: {_first_line(error)}",
                do="give a folder with config.json and model.safetensors, or a model's name on the hub",
            ) from error
    unplaced = [name for name in loading["unexpected_keys"] if _belongs_to_encoder(name, model)]
    if unplaced:
        raise ModelError(
            f"{source} holds encoder tensors that {type(model).__name__} has no place for",
            found=listed(unplaced),
            do="check config.json against the checkpoint",
        )
    mismatched = [entry if isinstance(entry, str) else entry[0] for entry in loading["mismatched_keys"]]
    return _sorted_by_place(model, {*loading["missing_keys"], *mismatched})


def require_tensors(opened: Opened, source: str, *, missing: Collection[str]) -> None:
    """Raise ``ModelError`` naming the tensors in ``missing``, if there are any."""
    if missing:
        raise ModelError(
            f"{source} does not hold all the tensors of {type(opened.model).__name__}, or holds them in another size",
            found=listed(missing),
            do="nothing is filled in silently: check config.json and the names in model.safetensors",
        )


def draw_tensors(model: PreTrainedModel, names: Collection[str], seed: int) -> None:
    """Fill the named tensors afresh: normal with the configuration's deviation, norms 1, biases 0.

    Drawn in the order of the names from a generator of their own, so that the same seed gives the same tensors whatever
    happened before, and in every version of the libraries.
    """
    generator = torch.Generator().manual_seed(seed)
    deviation = float(getattr(model.config, "initializer_range", 0.02))
    with torch.no_grad():
        for name in sorted(names):
            tensor = model.get_parameter(name)
            if tensor.dim() > 1:
                tensor.copy_(torch.empty(tensor.shape).normal_(0.0, deviation, generator=generator))
            else:
                owner = model.get_submodule(name.rpartition(".")[0])
                is_norm_weight = name.endswith(".weight") and "norm" in type(owner).__name__.lower()
                tensor.fill_(1.0 if is_norm_weight else 0.0)


def listed(names: Collection[str]) -> str:
    """The first few names in order, and how many more there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(ordered[:_SHOWN]) + more


def encoder_prefix(model: PreTrainedModel) -> str:
    """How the encoder's tensors begin in ``model``: ``"bert."`` below a head, nothing in a bare encoder."""
    return "" if model.base_model is model else f"{model.base_model_prefix}."


def head_tensor_names(model: PreTrainedModel) -> tuple[str, ...]:
    """The parameters on top of the encoder, tied ones included, in the order of the model."""
    prefix = encoder_prefix(model)
    return tuple(
        name for name, _ in model.named_parameters(remove_duplicate=False) if prefix and not name.startswith(prefix)
    )


def accepted_by(module: nn.Module) -> frozenset[str]:
    """The names of the arguments that ``module.forward`` spells out."""
    return frozenset(inspect.signature(module.forward).parameters)


def _sorted_by_place(model: PreTrainedModel, unfilled: set[str]) -> Opened:
    prefix = encoder_prefix(model)
    in_encoder = {name for name in unfilled if name.startswith(prefix)}
    pooler = {name for name in in_encoder if name.removeprefix(prefix).startswith("pooler.")}
    tied = set(getattr(model, "all_tied_weights_keys", {}))
    return Opened(
        model,
        base=tuple(sorted(in_encoder - pooler)),
        pooler=tuple(sorted(pooler)),
        head=tuple(sorted(unfilled - in_encoder - tied)),
    )


def _belongs_to_encoder(name: str, model: PreTrainedModel) -> bool:
    """Whether a checkpoint's tensor, with or without the encoder's prefix, lies in a part that the encoder has."""
    inner = name.removeprefix(f"{model.base_model_prefix}.")
    parts = {child for child, _ in model.base_model.named_children()} - {"pooler"}
    return inner.partition(".")[0] in parts


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


@contextmanager
def quietly() -> Iterator[None]:
    """Hold back the library's progress bars and load report: what it would warn of is checked here and raised."""
    verbosity, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()
