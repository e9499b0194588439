"""`ShuffleAttention`: attention over channels and positions, group by group.

[1] Q.-L. Zhang and Y.-B. Yang, "SA-Net: shuffle attention for deep convolutional neural
networks", ICASSP 2021.
"""

import torch
from torch import Tensor, nn

from mmir.utils.errors import UserError


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave groups of channels: 0, 1, 2, 3 in two groups become 0, 2, 1, 3.

    Args:
        x (Tensor): Map (N, C, H, W).
        groups (int): Number of groups, a divisor of C.

    Returns:
        Tensor: The same shape.
    """
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class ShuffleAttention(nn.Module):
    """Shuffle attention [1].

    The channels are split into groups, and each group into halves a and b::

        a' = a * sigmoid(w1 * mean(a) + b1)   mean over positions
        b' = b * sigmoid(w2 * GN(b) + b2)     GN: each channel over its positions

    A channel shuffle in two groups follows, by which information passes between the
    groups. The weights are those of a group, 3C / groups in number, and all groups
    share them. In the beginning, w = 0 and b = 1.

    Args:
        channels (int): Number of channels C.
        groups (int): Number of groups. Twice it must divide C.
        shuffle (bool): Whether to shuffle; False is an ablation of TOPLight.

    Raises:
        UserError: C is no multiple of twice the groups.
    """

    def __init__(self, channels: int, groups: int = 64, shuffle: bool = True) -> None:
        super().__init__()
        if groups < 1 or channels % (2 * groups):
            raise UserError(
                f'groups={groups}: shuffle attention splits each group into halves, so '
                f'{2 * groups} must divide the {channels} channels'
            )
        self.groups, self.shuffle = groups, shuffle
        half = channels // (2 * groups)
        self.scale = nn.Parameter(torch.zeros(2, half, 1, 1))  # w1, w2
        self.shift = nn.Parameter(torch.ones(2, half, 1, 1))  # b1, b2
        self.norm = nn.GroupNorm(half, half)

    def forward(self, x: Tensor) -> Tensor:
        """Weight channels and positions.

        Args:
            x (Tensor): Map (N, C, H, W).

        Returns:
            Tensor: The same shape.
        """
        shape = x.shape
        groups = x.reshape(-1, shape[1] // self.groups, *shape[2:])
        a, b = groups.chunk(2, 1)
        means = a.mean((2, 3), keepdim=True)
        a = a * torch.sigmoid(self.scale[0] * means + self.shift[0])
        b = b * torch.sigmoid(self.scale[1] * self.norm(b) + self.shift[1])
        out = torch.cat([a, b], 1).reshape(shape)
        return channel_shuffle(out, 2) if self.shuffle else out
