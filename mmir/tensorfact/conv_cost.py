"""Multiply-accumulate operations of convolutions."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmir.adapters.geometry import geometry_of

from .layer import TensorFactConv

Forward = Callable[[nn.Module, Tensor], Any]
Calls = dict[nn.Module, list[tuple[int, ...]]]


@torch.no_grad()
def record_calls(model: nn.Module, x: Tensor, forward: Forward | None = None) -> Calls:
    """Run a model once in evaluation and note what its convolutions get.

    Args:
        model: Any model; its training flags are as before afterwards.
        x: Input, shape (N, C, H, W).
        forward: How the model is called, `forward(model, x)`; None for `model(x)`.

    Returns:
        Shapes (N, C, H, W) of the inputs of every `nn.Conv2d`, one per call.
    """
    calls: Calls = defaultdict(list)

    def note(conv: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Keep the shape of the input of a call."""
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
    """Operations of a convolution, counted by running one like it on `meta`.

    Args:
        conv: Convolution whose geometry counts.
        rank: Of its factors, computed as two convolutions; None for a dense one.
        split: Split of the factors.
        shapes: Shapes of the inputs (N, C, H, W), one per call.
    """
    options = dict(**geometry_of(conv), bias=conv.bias is not None, device='meta')
    if rank is None:
        layer = nn.Conv2d(**options)
    else:
        layer = TensorFactConv(**options, rank=rank, split=split, mode='two_conv')
    with FlopCounterMode(display=False) as counter:
        for shape in shapes:
            layer(torch.empty(shape, device='meta'))
    return counter.get_total_flops() // 2
