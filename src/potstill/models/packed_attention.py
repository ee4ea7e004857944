"""Packed batches: texts end to end, attention kept inside each text, on transformers' own models unmodified.

A model is switched once (:func:`run_packed`) to an attention function of ours in transformers' registry. From then on
it runs packed batches, and padded ones as with :func:`potstill.models.cpu_dropout.attend`: torch's "sdpa", but for
dropout on a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from potstill.data.batches import is_packed
from potstill.errors import ModelError
from potstill.models.checkpoints import quietly
from potstill.models.cpu_dropout import attend
from potstill.models.teacher import first_position, select_inputs

PACKED = "potstill_packed"
"""The name of our attention among transformers' implementations."""

MOST_PADDING = 0.1
"""Texts share a block while at most this share of its positions is padding."""

_OTHER_ATTENTION = ("position_bias", "sliding_window", "softcap")
"""What a family may ask of attention that is not done inside a pack."""


def run_packed(model: PreTrainedModel) -> None:
    """Switch ``model`` to packed attention: packed batches run packed, padded ones as with :func:`attend`.

    Two short texts are run packed and each alone. Raises ``ModelError``, with the model as it was, where the states
    differ: its attention does not come from transformers' registry, or it reads more than the tokens of one text.
    """
    before = model.config._attn_implementation
    AttentionInterface.register(PACKED, packed_attention)
    AttentionMaskInterface.register(PACKED, AttentionMaskInterface()["sdpa"])
    try:
        with quietly():
            model.set_attn_implementation(PACKED)
        _check_against_texts_alone(model)
    except ValueError as error:
        raise _unpackable(model, str(error)) from error
    except ModelError:
        model.set_attn_implementation(before)
        raise


def encoder_inputs(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the encoder of ``model`` is called with on ``batch``, padded or packed.

    Raises ``ModelError`` for a packed batch and a model that is not switched: its attention would mix the texts.
    """
    inputs: dict[str, Any] = select_inputs(model, batch)
    if not is_packed(batch):
        return inputs
    if model.config._attn_implementation != PACKED:
        raise ModelError(
            f"{type(model).__name__} was given a packed batch and attends across its texts",
            found=model.config._attn_implementation,
            allowed=PACKED,
            do="switch it with run_packed, or pad the batch",
        )
    positions = batch["position_ids"] + first_position(model)
    return inputs | {"position_ids": positions, "packing": Packing.of(batch["sequence_starts"])}


@dataclass(frozen=True)
class Packing:
    """Where the texts of a packed batch lie; worked out once for all layers.

    starts: ``(n + 1,)`` int32 on the model's device; text i lies between ``starts[i]`` and ``starts[i + 1]``.
    lengths: ``(n,)`` tokens of each text, on the host.
    """

    starts: Tensor
    lengths: np.ndarray

    @classmethod
    def of(cls, starts: Tensor) -> Packing:
        """The packing of a batch's ``sequence_starts``; on a GPU this waits for them."""
        return cls(starts, np.diff(starts.cpu().numpy()))

    @cached_property
    def blocks(self) -> _Blocks:
        """The texts in blocks of like length, for attention without a kernel of its own."""
        return _Blocks.of(self.lengths, self.starts.device)


@dataclass(frozen=True)
class _Blocks:
    """The texts of a pack side by side in blocks: like padded batches, each of texts of like length.

    The places of all blocks are numbered end to end, row by row.

    tokens: ``(n_places,)`` int64, the token of the pack that fills each place; on padding, the first one of its text.
    places: ``(n_tokens,)`` int64, the place of each token of the pack.
    shapes: texts and width of each block.
    attended: of each block ``(texts, 1, 1, width)`` bool, false on padding; None where all texts are of one length.
    """

    tokens: Tensor
    places: Tensor
    shapes: tuple[tuple[int, int], ...]
    attended: tuple[Tensor | None, ...]

    @classmethod
    def of(cls, lengths: np.ndarray, device: torch.device) -> _Blocks:
        starts = np.cumsum(lengths) - lengths
        attended, tokens = [], []
        for rows in like_lengths(lengths):
            columns = np.arange(lengths[rows].max())
            attended.append(columns < lengths[rows, None])
            tokens.append(starts[rows, None] + np.where(attended[-1], columns, 0))
        flat_tokens, flat_attended = (np.concatenate([part.ravel() for part in parts]) for parts in (tokens, attended))
        places = np.empty(lengths.sum(), dtype=np.int64)
        places[flat_tokens[flat_attended]] = np.flatnonzero(flat_attended)
        masks = (None if mask.all() else torch.from_numpy(mask[:, None, None]).to(device) for mask in attended)
        return cls(
            tokens=torch.from_numpy(flat_tokens).to(device),
            places=torch.from_numpy(places).to(device),
            shapes=tuple((part.shape[0], part.shape[1]) for part in tokens),
            attended=tuple(masks),
        )

    def split(self, states: Tensor) -> list[Tensor]:
        """``(1, heads, n_tokens, size)`` as one ``(texts, heads, width, size)`` per block."""
        filled = states[0].transpose(0, 1).index_select(0, self.tokens)
        parts = filled.split([texts * width for texts, width in self.shapes])
        return [part.unflatten(0, shape).transpose(1, 2) for part, shape in zip(parts, self.shapes, strict=True)]

    def join(self, parts: list[Tensor]) -> Tensor:
        """One ``(texts, width, heads, size)`` per block as ``(1, n_tokens, heads, size)``, padding left behind."""
        return torch.cat([part.flatten(0, 1) for part in parts]).index_select(0, self.places).unsqueeze(0)


def like_lengths(lengths: np.ndarray, most_padding: float = MOST_PADDING) -> list[np.ndarray]:
    """Groups of row numbers, longest rows first, each row once.

    A group takes the next shorter rows while padding all of it to its longest leaves at most ``most_padding`` of the
    positions empty.
    """
    order = np.argsort(-lengths, kind="stable")
    groups = []
    while len(order):
        sorted_lengths = lengths[order]
        positions = sorted_lengths[0] * np.arange(1, len(order) + 1)
        # The mean of ever shorter rows only falls, so the share of padding only rises.
        size = int(np.searchsorted(1 - np.cumsum(sorted_lengths) / positions, most_padding, side="right"))
        groups.append(order[:size])
        order = order[size:]
    return groups


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    packing: Packing | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention as transformers' registry calls it: states ``(batch, length, heads, size)``, and no weights.

    Without ``packing`` it is :func:`attend`. With it the batch is one pack, query, key and value are
    ``(1, heads, n_tokens, size)``, and each token sees the tokens of its own text. ``options`` are those of "sdpa";
    ``scaling`` and ``dropout`` are honoured. Raises ``ModelError`` for a mask or a bias besides.

    Half-precision tensors on a recent GPU go to torch's variable-length kernel where there is no dropout. That path is
    not covered by the tests, which have no GPU; ``benchmarks/packed_attention.py`` checks it on one.
    """
    if packing is None:
        return attend(module, query, key, value, attention_mask, **options)
    asked = [name for name in _OTHER_ATTENTION if options.get(name) is not None]
    if attention_mask is not None or asked:
        raise ModelError(
            f"{type(module).__name__} asks for more than attention inside each text of a pack",
            found=", ".join(asked) or "a mask",
            do="pad the batches",
        )
    if _fits_varlen(query, options.get("dropout", 0.0)):
        return _in_one_kernel(query, key, value, packing, options.get("scaling")), None
    return _in_blocks(module, query, key, value, packing.blocks, options), None


def _in_blocks(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, blocks: _Blocks, options: Mapping[str, Any]
) -> Tensor:
    split = zip(*(blocks.split(states) for states in (query, key, value)), blocks.attended, strict=True)
    return blocks.join([attend(module, *block, **options)[0] for block in split])


def _fits_varlen(query: Tensor, dropout: float) -> bool:
    """Whether the flash kernel behind ``varlen_attn`` takes this: half precision, heads of 8 to 256, no dropout."""
    if not query.is_cuda or query.dtype not in (torch.float16, torch.bfloat16) or dropout > 0:
        return False
    size = query.shape[-1]
    return size % 8 == 0 and size <= 256 and torch.cuda.get_device_capability(query.device) >= (8, 0)


def _in_one_kernel(query: Tensor, key: Tensor, value: Tensor, packing: Packing, scaling: float | None) -> Tensor:
    q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))
    longest = int(packing.lengths.max())
    states = varlen_attn(q, k, v, packing.starts, packing.starts, longest, longest, scale=scaling)
    return torch.as_tensor(states).unsqueeze(0)


def _check_against_texts_alone(model: PreTrainedModel) -> None:
    if model.config._attn_implementation != PACKED:
        raise _unpackable(model, "its attention does not come from transformers' registry")
    encoder, was_training = model.base_model, model.training
    known = [token for token in range(6) if token != model.config.pad_token_id][:5]
    ids = torch.tensor([known], device=model.device)
    pack = {
        "input_ids": ids,
        "position_ids": torch.tensor([[0, 1, 2, 0, 1]], device=model.device),
        "sequence_starts": torch.tensor([0, 3, 5], dtype=torch.int32, device=model.device),
    }
    model.eval()
    try:
        with torch.inference_mode():
            packed = encoder(**encoder_inputs(model, pack)).last_hidden_state
            alone = [encoder(input_ids=text).last_hidden_state for text in (ids[:, :3], ids[:, 3:])]
    except (TypeError, RuntimeError, ModelError) as error:
        raise _unpackable(model, str(error)) from error
    finally:
        model.train(was_training)
    if not torch.allclose(packed, torch.cat(alone, dim=1), atol=1e-4):
        raise _unpackable(model, "other states than each text has alone")


def _unpackable(model: PreTrainedModel, found: str) -> ModelError:
    return ModelError(f"{type(model).__name__} cannot run packed batches", found=found, do="pad its batches")
