"""An LSTM layer by torch's fused kernel, on weights that lie, and are sized, as cuDNN is fast with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

ALIGNMENT = 8  # of sizes: the tensor cores' fast kernels want multiples of it, which 1150 is not

States = tuple[Tensor, Tensor]  # h and c, [1, B, units] each


def fused_lstm(inputs: Tensor, states: States, weights: Sequence[Tensor], training: bool) -> tuple[Tensor, States]:
    """Return the outputs [T, B, units] for `inputs` [T, B, width], and the states after the last of them.

    `weights` are a layer's, as nn.LSTM has them: input to hidden [4 units, width], hidden to hidden [4 units, units],
    and two biases [4 units].
    """
    if computed_in_tf32(inputs):
        return aligned_lstm(inputs, states, weights, training)
    if inputs.device.type == "cuda":
        weights = in_one_block(weights)
    return _kernel(inputs, states, weights, training)


def computed_in_tf32(inputs: Tensor) -> bool:
    """Say whether cuDNN multiplies a layer's float32 in TF32."""
    return inputs.device.type == "cuda" and inputs.dtype == torch.float32 and torch.backends.cudnn.allow_tf32


def aligned_lstm(inputs: Tensor, states: States, weights: Sequence[Tensor], training: bool) -> tuple[Tensor, States]:
    """Return what `fused_lstm` does, computed with sizes that are multiples of ALIGNMENT.

    On an H200 a layer of 1150 units took about a third less time in TF32 so; in float32 it took a little more. The
    weights of the units that are added are 0, and so are these units at all times: nothing depends on them.
    """
    units, width = states[0].shape[2], inputs.shape[2]
    more, wider = -units % ALIGNMENT, -width % ALIGNMENT
    into, recurrent, *biases = (weight.unflatten(0, (4, units)) for weight in weights)  # of the four gates
    sized = [F.pad(into, (0, wider, 0, more)), F.pad(recurrent, (0, more, 0, more))]
    sized += [F.pad(bias, (0, more)) for bias in biases]
    block = in_one_block([weight.flatten(0, 1) for weight in sized])
    before = tuple(F.pad(state, (0, more)) for state in states)
    outputs, (h, c) = _kernel(F.pad(inputs, (0, wider)), before, block, training)
    # cuDNN wants the states that it is given to be contiguous.
    return outputs[..., :units], (h[..., :units].contiguous(), c[..., :units].contiguous())


def in_one_block(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return copies of `tensors`, one after the other in one block of memory.

    cuDNN wants a layer's weights so: else torch warns, and moves them at each pass in a thousand small calls.
    """
    block = torch.cat([tensor.flatten() for tensor in tensors])
    pieces = block.split([tensor.numel() for tensor in tensors])
    return [piece.view_as(tensor) for piece, tensor in zip(pieces, tensors, strict=True)]


def _kernel(inputs: Tensor, states: States, weights: Sequence[Tensor], training: bool) -> tuple[Tensor, States]:
    # As nn.LSTM itself calls it for one layer with biases, in one direction. torch.func.functional_call would do the
    # same, but has nn.LSTM move all parameters into one new block of memory, before each pass and after it, on CUDA.
    outputs, h, c = torch.lstm(inputs, states, weights, True, 1, 0.0, training, False, False)
    return outputs, (h, c)
