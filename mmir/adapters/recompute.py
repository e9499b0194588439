"""Gradient checkpointing of modules with batch norms."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(module: nn.Module, call: Callable, *args: Any, **kwargs: Any) -> Any:
    """Call a function, and compute it again in the backward pass to save memory.

    Args:
        module: Module to which the function belongs. The running statistics of its
            batch norms are updated once.
        call: The function.
        *args: Its arguments.
        **kwargs: Its keyword arguments.
    """
    ran: list[bool] = []

    def run(*inputs: Any, **options: Any) -> Any:
        if torch.compiler.is_compiling():  # a graph updates statistics once
            return call(*inputs, **options)
        with _fixed_statistics(module) if ran else nullcontext():
            ran.append(True)
            return call(*inputs, **options)

    return checkpoint(run, *args, use_reentrant=False, **kwargs)


@contextmanager
def _fixed_statistics(module: nn.Module) -> Iterator[None]:
    """Update copies of the running statistics, which are thrown away."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    former = [dict(norm._buffers) for norm in norms]
    try:
        for norm in norms:
            for key, buffer in norm._buffers.items():
                norm._buffers[key] = None if buffer is None else buffer.clone()
        yield
    finally:
        for norm, buffers in zip(norms, former, strict=True):
            norm._buffers.update(buffers)
