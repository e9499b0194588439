"""Building blocks of YOLOv7: aggregation, downsampling and pooling."""

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmir.det.yolo.layers import ChainedPools, ConvFactory


class ELAN(BaseModule):
    """Efficient layer aggregation: two 1x1 branches and a chain of 3x3 convolutions.

    Args:
        conv (ConvFactory): Factory of the convolutions.
        in_channels (int): Channels C of the input.
        hidden (int): Channels of the two 1x1 branches.
        out_channels (int): Channels of the output.
        width (int): Channels of the chained 3x3 convolutions.
        depth (int): Number of chained convolutions.
        tap (int): Every `tap`-th of them is concatenated.
    """

    def __init__(
        self,
        conv: ConvFactory,
        in_channels: int,
        hidden: int,
        out_channels: int,
        *,
        width: int,
        depth: int,
        tap: int,
    ) -> None:
        super().__init__()
        self.tap = tap
        self.short_conv = conv(in_channels, hidden)
        self.main_conv = conv(in_channels, hidden)
        self.blocks = nn.ModuleList(
            conv(hidden if i == 0 else width, width, 3) for i in range(depth)
        )
        total = 2 * hidden + depth // tap * width
        self.final_conv = conv(total, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, out_channels, H, W)."""
        parts = [self.short_conv(x), self.main_conv(x)]
        chain = parts[-1]
        for i, block in enumerate(self.blocks, 1):
            chain = block(chain)
            if i % self.tap == 0:
                parts.append(chain)
        return self.final_conv(torch.cat(parts[::-1], dim=1))


class MaxPoolDownsample(BaseModule):
    """Downsampling by 2: a strided convolution next to a pooled 1x1 branch (MP).

    Args:
        conv (ConvFactory): Factory of the convolutions.
        in_channels (int): Channels C of the input.
        branch (int): Channels of each of the two branches.
    """

    def __init__(self, conv: ConvFactory, in_channels: int, branch: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2, 2)
        self.pool_conv = conv(in_channels, branch)
        self.stride_conv = nn.Sequential(
            conv(in_channels, branch), conv(branch, branch, 3, 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, 2 * branch, H/2, W/2), strided branch first."""
        return torch.cat([self.stride_conv(x), self.pool_conv(self.pool(x))], dim=1)


class SPPCSPC(BaseModule):
    """Spatial pyramid pooling with a cross-stage branch (YOLOv7-L and X).

    Args:
        conv (ConvFactory): Factory of the convolutions.
        in_channels (int): Channels C of the input.
        out_channels (int): Channels of the output and of all hidden layers.
    """

    def __init__(self, conv: ConvFactory, in_channels: int, out_channels: int) -> None:
        super().__init__()
        out = out_channels
        self.main_layers = nn.Sequential(
            conv(in_channels, out), conv(out, out, 3), conv(out, out)
        )
        self.pools = ChainedPools()
        self.fuse_layers = nn.Sequential(conv(4 * out, out), conv(out, out, 3))
        self.short_layer = conv(in_channels, out)
        self.final_conv = conv(2 * out, out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, out_channels, H, W)."""
        main = self.fuse_layers(torch.cat(self.pools(self.main_layers(x)), dim=1))
        return self.final_conv(torch.cat([main, self.short_layer(x)], dim=1))


class SPPTiny(BaseModule):
    """Spatial pyramid pooling of YOLOv7-tiny: 1x1 convolutions, pools in reverse.

    Args:
        conv (ConvFactory): Factory of the convolutions.
        in_channels (int): Channels C of the input.
        out_channels (int): Channels of the output and of all hidden layers.
    """

    def __init__(self, conv: ConvFactory, in_channels: int, out_channels: int) -> None:
        super().__init__()
        out = out_channels
        self.short_layer = conv(in_channels, out)
        self.main_layers = conv(in_channels, out)
        self.pools = ChainedPools()
        self.fuse_layers = conv(4 * out, out)
        self.final_conv = conv(2 * out, out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, out_channels, H, W)."""
        pooled = self.pools(self.main_layers(x))[::-1]
        fused = self.fuse_layers(torch.cat(pooled, dim=1))
        return self.final_conv(torch.cat([fused, self.short_layer(x)], dim=1))
