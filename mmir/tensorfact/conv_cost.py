"""Multiply-accumulate operations (MACs) of convolutions."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmir.adapters.geometry import geometry_of

from .layer import TensorFactConv

Forward = Callable[[nn.Module, Tensor], Any]
Calls = dict[nn.Module, list[tuple[int, ...]]]


@torch.no_grad()
def record_calls(model: nn.Module, x: Tensor, forward: Forward | None = None) -> Calls:
    """Run a model once in evaluation mode and record the inputs of its convolutions.

    Args:
        model: Any model; its training flags are restored afterwards.
        x: Input, shape (N, C, H, W).
        forward: Calls the model as `forward(model, x)`. Default: `model(x)`.

    Returns:
        Input shapes (N, C, H, W) of every `nn.Conv2d`, one per call.
    """
    calls: Calls = defaultdict(list)

    def note(conv: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Record the input shape of a call."""
        shape = tuple(inputs[0].shape)
        calls[conv].append(shape if len(shape) == 4 else (1, *shape))

    flags = {module: module.training for module in model.modules()}
    hooks = [
        module.register_forward_pre_hook(note)
        for module in flags
        if isinstance(module, nn.Conv2d)
    ]
    try:
        model.eval()
        model(x) if forward is None else forward(model, x)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in flags.items():
            module.training = training
    return dict(calls)


@torch.no_grad()
def macs_of(
    conv: nn.Conv2d, rank: int | None, split: str, shapes: Sequence[tuple[int, ...]]
) -> int:
    """MACs of a convolution, counted by running one like it on the meta device.

    Args:
        conv: Convolution that gives the geometry.
        rank: Rank of the factors, run as two convolutions; None for a dense layer.
        split: Split of the factors.
        shapes: Input shapes (N, C, H, W), one per call.
    """
    # imports triton, which takes longer than the rest of mmir together
    from torch.utils.flop_counter import FlopCounterMode

    options = dict(**geometry_of(conv), bias=conv.bias is not None, device='meta')
    if rank is None:
        layer = nn.Conv2d(**options)
    else:
        layer = TensorFactConv(**options, rank=rank, split=split, mode='two_conv')
    with FlopCounterMode(display=False) as counter:
        for shape in shapes:
            layer(torch.empty(shape, device='meta'))
    return counter.get_total_flops() // 2
