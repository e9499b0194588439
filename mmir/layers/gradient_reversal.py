"""`GradientReversal`: features that a classifier cannot tell the domain of.

[1] Y. Ganin et al., "Domain-adversarial training of neural networks", JMLR 2016 (DANN).
"""

from math import exp
from typing import Any

import torch
from torch import Tensor, nn


class _Reverse(torch.autograd.Function):
    """Identity with a gradient times `-rate`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: float) -> Tensor:
        """Return `x`, as another tensor."""
        ctx.rate = rate
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Reverse the gradient."""
        return -ctx.rate * grad, None


class GradientReversal(nn.Module):
    """Gradient reversal layer [1]: identity whose gradient is multiplied by `-rate`.

    Attributes:
        rate (float): Factor, 1 at first. :func:`dann_rate` is its usual schedule.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rate = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Return the values of `x`.

        Args:
            x (Tensor): Features of any shape.

        Returns:
            Tensor: The same values.
        """
        return _Reverse.apply(x, self.rate)


def dann_rate(progress: float) -> float:
    """Rate of gradient reversal during training: `2 / (1 + exp(-10 p)) - 1` [1].

    Args:
        progress (float): Share p of the training that is done, from 0 to 1.

    Returns:
        float: From 0 to 0.9999.
    """
    return 2 / (1 + exp(-10 * progress)) - 1
