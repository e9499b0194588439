"""Gradient checkpointing of modules with batch norms."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(module: nn.Module, *args: object) -> Tensor:
    """Call a module, and compute it again in the backward pass to save memory.

    The running statistics of batch norms are updated once. Outside of training nothing
    is recomputed.
    """
    if not module.training or not any(p.requires_grad for p in module.parameters()):
        return module(*args)

    def contexts() -> tuple:
        return nullcontext(), _fixed_statistics(module)

    return checkpoint(module, *args, use_reentrant=False, context_fn=contexts)


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
