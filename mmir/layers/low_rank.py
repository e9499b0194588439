"""Named low-rank additions to the kernel of one layer."""

import re

from torch import Tensor, nn


class Delta(nn.Module):
    """A low-rank addition dK = fold(dA dB) to a kernel.

    Args:
        a: Initial factor dA, shape (T, S, dr).
        b: Initial factor dB, shape (dr, D2, D1).

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


def _zero_a(a: Tensor, b: Tensor) -> None:
    """Set dA = 0, dB ~ N(0, 1/DD): the output does not change, dA learns first."""
    nn.init.zeros_(a)
    nn.init.normal_(b, std=b[0].numel() ** -0.5)


DELTA_INITS = {'zero_A': _zero_a}


def check_delta(name: str, init: str, taken: nn.ModuleDict) -> None:
    """Check the name and the initialisation of a delta to be added.

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
