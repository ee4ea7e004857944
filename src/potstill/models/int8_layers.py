"""Linear layers in int8 for models that only run forward on a CPU."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


class Int8Linear(nn.Module):
    """A linear map whose weights are int8 and whose inputs are turned into 8 bits as they come.

    Weights: symmetric, one scale for each output. Inputs: asymmetric, one scale for all rows of a call, which is read
    from their least and largest value (dynamic quantisation). Output and bias stay float32. No gradient passes. The
    buffers tell one layer from another; what is computed with is packed for the processor.
    """

    def __init__(self, linear: nn.Linear) -> None:
        """From the float32 weights of ``linear``, ``(out, in)``; a row of zeros keeps its zeros."""
        super().__init__()
        weight = linear.weight.detach().float()
        scales = (weight.abs().amax(dim=1) / 127).clamp_min(torch.finfo(torch.float32).tiny).double()
        zeros = torch.zeros(len(scales), dtype=torch.long)
        with warnings.catch_warnings():
            # torch means to drop this kind of tensor; nothing else in it multiplies in int8 in one pass (docs/log.md).
            warnings.simplefilter("ignore", UserWarning)
            quantised = torch.quantize_per_channel(weight, scales, zeros, axis=0, dtype=torch.qint8)
        self.register_buffer("weight", quantised.int_repr())
        self.register_buffer("scales", scales)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().float())
        self._packed = torch.ops.quantized.linear_prepack(quantised, self.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """``(…, in)`` float32 → ``(…, out)`` float32."""
        outputs: Tensor = torch.ops.quantized.linear_dynamic(inputs, self._packed, reduce_range=False)
        return outputs


def int8_encoder(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of ``model`` in evaluation mode whose encoder's linear layers are :class:`Int8Linear`.

    Embeddings, norms and whatever follows the encoder, the projection to the vocabulary above all, stay as they are
    and are shared with ``model``.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    twin: PreTrainedModel = copy.deepcopy(model, shared).eval()
    for module in list(twin.base_model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                setattr(module, name, Int8Linear(child))
    return twin
