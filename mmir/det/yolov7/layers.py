"""Building blocks of YOLOv7: aggregation, downsampling, pooling, implicit layers."""

import torch
from mmcv.cnn import ConvModule, build_activation_layer, build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

NORM = dict(type='BN', eps=1e-3, momentum=0.03)
"""Batch norm of every YOLOv7 convolution."""


class ConvFactory:
    """Factory of the convolution + batch norm + activation units of all blocks.

    Args:
        act_cfg (dict): Activation: `SiLU` in L and X, `LeakyReLU` 0.1 in tiny.
        norm_cfg (dict, optional): Normalization. Default: `NORM`.
        conv_cfg (dict, optional): Convolution. To factorize a model, use `TensorFact`
            with `mmir.Adapted` instead, which leaves 1x1 convolutions dense.
    """

    def __init__(
        self,
        act_cfg: dict,
        norm_cfg: dict | None = None,
        conv_cfg: dict | None = None,
    ) -> None:
        self.act_cfg = dict(act_cfg)
        self.norm_cfg = dict(norm_cfg or NORM)
        self.conv_cfg = conv_cfg

    def __call__(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1
    ) -> ConvModule:
        """Build a unit, with 'same' padding for an odd `kernel`."""
        return ConvModule(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=kernel // 2,
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
        )


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


class ChainedPools(nn.Module):
    """Max pooling with kernels 5, 9 and 13, each computed from the previous one."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return `[x, pool5(x), pool9(x), pool13(x)]`, each with the shape of `x`."""
        outs = [x]
        for _ in range(3):
            outs.append(self.pool(outs[-1]))
        return outs


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


class RepConv(BaseModule):
    """Re-parameterizable convolution: parallel 3x3 and 1x1 branches, then activation.

    An identity branch (batch norm only) is added if input and output channels match.

    Args:
        in_channels (int): Channels C of the input.
        out_channels (int): Channels of the output.
        act_cfg (dict): Activation after the sum.
        norm_cfg (dict, optional): Normalization. Default: `NORM`.
        conv_cfg (dict, optional): Convolution of the 3x3 branch.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        act_cfg: dict,
        norm_cfg: dict | None = None,
        conv_cfg: dict | None = None,
    ) -> None:
        super().__init__()
        norm_cfg = norm_cfg or NORM
        common = dict(norm_cfg=norm_cfg, act_cfg=None)
        self.rbr_dense = ConvModule(
            in_channels, out_channels, 3, padding=1, conv_cfg=conv_cfg, **common
        )
        self.rbr_1x1 = ConvModule(in_channels, out_channels, 1, **common)
        self.rbr_identity = (
            build_norm_layer(norm_cfg, in_channels)[1]
            if in_channels == out_channels
            else None
        )
        self.act = build_activation_layer(dict(act_cfg, inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, out_channels, H, W)."""
        out = self.rbr_dense(x) + self.rbr_1x1(x)
        if self.rbr_identity is not None:
            out = out + self.rbr_identity(x)
        return self.act(out)


class Implicit(nn.Module):
    """Learned vector, added to or multiplied with every position.

    Args:
        channels (int): Length C of the vector.
        mean (float): Mean of the initial values: 0 to add, 1 to multiply.
        std (float): Standard deviation of the initial values.
    """

    def __init__(self, channels: int, mean: float, std: float = 0.02) -> None:
        super().__init__()
        self.multiply = mean != 0
        self.implicit = nn.Parameter(torch.empty(1, channels, 1, 1))
        nn.init.normal_(self.implicit, mean=mean, std=std)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return x * self.implicit if self.multiply else x + self.implicit
