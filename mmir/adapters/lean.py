"""Attention and gated MLPs of hosts that save less for the backward pass."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from .recompute import recomputed


@dataclass(frozen=True)
class Core:
    """What a part of a block computes between two of its linear layers.

    It has no large matrix product of its own, but autograd saves much in it: the matrix
    of attention, or the factors of a gate.

    Attributes:
        first: Name of the linear layer before. It is called once, with the input.
        last: Name of the linear layer after.
        after: Names of the modules that follow, one after the other, up to the output.
    """

    first: str
    last: str
    after: tuple[str, ...]

    def fits(self, part: nn.Module) -> bool:
        """Whether nothing but the modules in `after` follows the last layer."""
        return not getattr(part, 'add_identity', False)


CORES = {
    'AttentionWithRoPE': Core('qkv', 'proj', ('proj_drop',)),
    'WindowMSA': Core('qkv', 'proj', ('proj_drop',)),
    'SwiGLUFFN': Core('w12', 'w3', ('gamma2', 'dropout_layer')),
}
"""Class name of a part -> its core: EVA-02 of mmpretrain; Swin of all hosts."""


@contextmanager
def lean(block: nn.Module) -> Iterator[None]:
    """Compute the cores of a block again in the backward pass, for a while.

    Autograd then saves the output of the first linear layer and nothing else of a core.
    The values are the same.

    Args:
        block: A block of a transformer of any host.
    """
    with ExitStack() as stack:
        for part in block.modules():
            core = CORES.get(type(part).__name__)
            if core and core.fits(part):
                stack.enter_context(
                    instead(part, partial(_run, part, core, part.forward))
                )
        yield


def _run(
    part: nn.Module,
    core: Core,
    plain: Callable[..., Tensor],
    x: Tensor,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """Run a part by its own `forward`, its core under `recomputed`."""
    first, last = (part.get_submodule(name) for name in (core.first, core.last))
    # The host reads the shape and dtype of its input. Its values would be kept alive.
    shape = x.new_full((), float('nan')).expand(x.shape)

    def inner(given: Tensor) -> Tensor:
        with ExitStack() as stack:
            stack.enter_context(instead(first, lambda _: given))
            for module in (last, *map(part.get_submodule, core.after)):
                stack.enter_context(instead(module, _identity))
            return plain(shape, *args, **kwargs)

    out = last(recomputed(part, inner, first(x)))
    for name in core.after:
        out = part.get_submodule(name)(out)
    return out


def _identity(x: Tensor) -> Tensor:
    return x


@contextmanager
def instead(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Give a module another `forward` for a while; its hooks run as before."""
    former = module.__dict__.get('forward')
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if former is not None:
            module.forward = former
