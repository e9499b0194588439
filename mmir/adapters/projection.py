"""Linear layer of adapters."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Init = Literal['trunc_normal', 'xavier', 'linear', 'zero']


class Projection(nn.Module):
    """Linear layer y = x W^T + b.

    It is not an `nn.Linear`, so that neither `init_weights` of the hosts nor methods
    that adapt linear layers touch it.

    Args:
        in_features, out_features: Sizes of the last dimension.
        init: Initialization of the weight: `'trunc_normal'` with standard deviation
            0.02, `'xavier'` (uniform), `'linear'` (torch's default for a linear layer),
            `'zero'`. The bias is zero, except that `'xavier'` and `'linear'` have
            torch's default.
    """

    def __init__(
        self, in_features: int, out_features: int, init: Init = 'trunc_normal'
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        if init == 'trunc_normal':
            nn.init.trunc_normal_(self.weight, std=0.02)
        elif init == 'xavier':
            nn.init.xavier_uniform_(self.weight)
        bound = in_features**-0.5
        if init == 'linear':
            nn.init.uniform_(self.weight, -bound, bound)
        if init in ('xavier', 'linear'):
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Project `x` (..., in_features) to (..., out_features)."""
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Sizes."""
        return f'{self.weight.shape[1]}, {len(self.weight)}'
