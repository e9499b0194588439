"""Named low-rank additions to the kernel of one layer, and how they start."""

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .svd import truncated_factors


class Delta(nn.Module):
    """A low-rank addition dK = fold(dA dB) to a kernel.

    Args:
        a: Initial factor dA, shaped as A of the layer with dr in place of r.
        b: Initial factor dB, likewise; `(dr, D2, D1)` under `ts_dd`.

    Attributes:
        enabled: Whether the layer adds this delta; not part of the state dict.
    """

    def __init__(self, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.A = nn.Parameter(a)
        self.B = nn.Parameter(b)
        self.enabled = True

    @property
    def rank(self) -> int:
        """Inner dimension dr."""
        return self.B.shape[0]

    def extra_repr(self) -> str:
        """Rank, and whether the delta is switched off."""
        return f'rank={self.rank}' + ('' if self.enabled else ', off')


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
    """Check that there are directions which the base does not use."""
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
"""Fill dA and dB, given the matrix of B and that of the dense kernel, if known."""


@torch.no_grad()
def new_delta(
    init: str,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    base: Tensor,
    kernel: Tensor | None,
) -> Delta:
    """Make a delta with dA dB = 0.

    Args:
        init: `'zero_A'`: dA = 0, rows of dB drawn with a squared norm of 1 on average;
            dA learns first. `'zero_B'`: the converse. `'residual'`: dA = 0, dB the
            right singular vectors of the dense kernel which follow those of the base.
            `'orth'`: dA = 0, rows of dB orthonormal and orthogonal to those of B.
        shapes: Shapes of dA and dB.
        base: Factor B of the layer; gives device and dtype.
        kernel: Matrix of the dense kernel, or None if unknown.

    Returns:
        The delta.

    Raises:
        ValueError: If `'residual'` has no kernel or one with NaN, or `'residual'` or
            `'orth'` find no free directions.
    """
    a, b = (base.new_empty(shape) for shape in shapes)
    DELTA_INITS[init](a, b, base.detach().flatten(1), kernel)
    return Delta(a, b)


def check_delta(name: str, init: str, taken: nn.ModuleDict) -> None:
    """Check the name and the initialization of a delta to be added.

    Args:
        name: Becomes a part of keys of the state dict.
        init: Key of `DELTA_INITS`.
        taken: Deltas the layer has.

    Raises:
        ValueError: If `name` is taken or no identifier, or `init` is unknown.
    """
    word = isinstance(name, str) and re.fullmatch(r'[A-Za-z_]\w*', name)
    if not word or hasattr(nn.ModuleDict, name):
        raise ValueError(f'{name!r} cannot name a delta, use a word such as "ir"')
    if name in taken:
        raise ValueError(f'there is a delta {name!r} already, give another name')
    if init not in DELTA_INITS:
        raise ValueError(
            f'unknown delta init {init!r}, available: {", ".join(DELTA_INITS)}'
        )
