"""`CBAM`: attention over channels, then over positions.

[1] S. Woo, J. Park, J.-Y. Lee and I. S. Kweon, "CBAM: convolutional block attention
module", ECCV 2018.
"""

import torch
from torch import Tensor, nn


class CBAM(nn.Module):
    """Convolutional block attention module [1].

    With a shared MLP without biases and a 7x7 convolution without bias::

        x = x * sigmoid(MLP(mean of positions) + MLP(max of positions))
        x = x * sigmoid(conv(mean of channels, max of channels))

    Args:
        channels (int): Number of channels C.
        ratio (int): C over the hidden channels of the MLP.
    """

    def __init__(self, channels: int, ratio: int = 16) -> None:
        super().__init__()
        hidden = channels // ratio
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Weight channels and positions.

        Args:
            x (Tensor): Map (N, C, H, W).

        Returns:
            Tensor: The same shape.
        """
        mean, most = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        x = x * torch.sigmoid(self.mlp(mean) + self.mlp(most))
        both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.conv(both))
