"""Initialization of the deltas of a layer."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmir.adapters.low_rank import LowRank

from .svd import truncated_factors


def _zero_a(a: Tensor, b: Tensor, *_: Tensor | None) -> None:
    nn.init.zeros_(a)
    nn.init.normal_(b, std=b[0].numel() ** -0.5)


def _zero_b(a: Tensor, b: Tensor, *_: Tensor | None) -> None:
    nn.init.normal_(a, std=a[..., 0].numel() ** -0.5)
    nn.init.zeros_(b)


def _residual(a: Tensor, b: Tensor, base: Tensor, kernel: Tensor | None) -> None:
    if kernel is None:
        raise ValueError(
            "delta init 'residual' needs the dense kernel: give kernel= to augment, or "
            'checkpoint= (a file or state dict with dense kernels) to factorize_ or '
            'augment_'
        )
    _check_room('residual', a, b, base)
    _, rows = truncated_factors(kernel, len(base) + len(b), 'A')
    nn.init.zeros_(a)
    b.copy_(rows[len(base) :].reshape(b.shape))


def _orth(a: Tensor, b: Tensor, base: Tensor, _: Tensor | None) -> None:
    _check_room('orth', a, b, base)
    known = base.to('cpu', torch.float64).T
    drawn = torch.randn(len(known), len(b), dtype=torch.float64)
    rows = torch.linalg.qr(torch.cat([known, drawn], dim=1)).Q.T
    nn.init.zeros_(a)
    b.copy_(rows[len(base) :].reshape(b.shape))


def _check_room(init: str, a: Tensor, b: Tensor, base: Tensor) -> None:
    """Check that there are directions the base does not use."""
    limit = min(a[..., 0].numel(), b[0].numel())
    if len(base) + len(b) > limit:
        raise ValueError(
            f'delta init {init!r} of rank {len(b)} beside a base of rank {len(base)}: '
            f'together at most {limit}, the full rank; take a lower rank or another '
            'init'
        )


DELTA_INITS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor | None], None]] = {
    'zero_A': _zero_a,
    'zero_B': _zero_b,
    'residual': _residual,
    'orth': _orth,
}
"""Functions that fill dA and dB, given B and the dense kernel (or None) as matrices."""


@torch.no_grad()
def new_delta(
    init: str,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    base: Tensor,
    kernel: Tensor | None,
) -> LowRank:
    """Create a delta with dA dB = 0.

    Args:
        init: Initialization:

            - `'zero_A'`: dA = 0, rows of dB random with a mean squared norm of 1; dA
              learns first.
            - `'zero_B'`: the converse.
            - `'residual'`: dA = 0, dB holds the right singular vectors of the dense
              kernel that follow those of the base.
            - `'orth'`: dA = 0, rows of dB orthonormal and orthogonal to those of B.
        shapes: Shapes of dA and dB.
        base: Factor B of the layer; determines device and dtype.
        kernel: Dense kernel as a matrix, or None if unknown.

    Returns:
        The delta.

    Raises:
        ValueError: `'residual'` has no kernel or one with NaN, or there are no free
            directions for `'residual'` or `'orth'`.
    """
    a, b = (base.new_empty(shape) for shape in shapes)
    DELTA_INITS[init](a, b, base.detach().flatten(1), kernel)
    return LowRank(a, b)


def check_init(init: str) -> None:
    """Check the name of an initialization.

    Raises:
        ValueError: `init` is not a key of `DELTA_INITS`.
    """
    if init not in DELTA_INITS:
        raise ValueError(
            f'unknown delta init {init!r}, available: {", ".join(DELTA_INITS)}'
        )
