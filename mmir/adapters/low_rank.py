"""Low-rank update of a kernel or matrix: the adapter of LoRA and its relatives."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class LowRank(nn.Module):
    """Low-rank update A B of the kernel of a layer.

    Args:
        a: Initial factor A; its last axis is the rank.
        b: Initial factor B; its first axis is the rank.

    Attributes:
        enabled: Whether the layer applies it; not part of the state dict.
    """

    def __init__(self, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.A = nn.Parameter(a)
        self.B = nn.Parameter(b)
        self.enabled = True

    @property
    def rank(self) -> int:
        """Inner dimension of A B."""
        return self.B.shape[0]

    def extra_repr(self) -> str:
        """Rank, and whether it is switched off."""
        return f'rank={self.rank}' + ('' if self.enabled else ', off')


@torch.no_grad()
def new_low_rank(
    a_shape: Sequence[int], b_shape: Sequence[int], like: Tensor
) -> LowRank:
    """Create an update without effect: A is zero, B is drawn.

    Args:
        a_shape: Shape of A; the last side is the rank.
        b_shape: Shape of B; the first side is the rank. Its rows have a squared norm of
            1 on average.
        like: Tensor of the base; gives device and dtype.

    Returns:
        The update. At first only A has a nonzero gradient.
    """
    b = like.new_empty(tuple(b_shape))
    nn.init.normal_(b, std=b[0].numel() ** -0.5)
    return LowRank(like.new_zeros(tuple(a_shape)), b)


HALF = (torch.float16, torch.bfloat16)
"""Dtypes whose kernels are computed in float32."""


def describe_cuts(asked: int | None, ranks: Mapping[str, int]) -> dict[str, str]:
    """Describe the layers whose rank is lower than requested.

    Args:
        asked: Rank in the config; None for rules that adapt to each layer.
        ranks: Rank of each layer by name.

    Returns:
        Note for `TrainableReport`, or an empty dict.
    """
    cut = {name: rank for name, rank in ranks.items() if asked and rank < asked}
    if not cut:
        return {}
    some = ', '.join(f'{name} {rank}' for name, rank in list(cut.items())[:4])
    more = ', ...' if len(cut) > 4 else ''
    return {
        f'rank {asked} cut to the full rank of {len(cut)} of {len(ranks)} layers': (
            some + more
        )
    }
