"""Layers of several YOLO families: units, pooling, RepConv and implicit layers."""

import torch
from mmcv.cnn import ConvModule, build_activation_layer, build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

NORM = dict(type='BN', eps=1e-3, momentum=0.03)
"""Batch norm of every YOLOv5 and YOLOv7 convolution."""


class ConvFactory:
    """Factory of the convolution + batch norm + activation units of all blocks.

    Args:
        act_cfg (dict): Activation: such as `SiLU`.
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

    @property
    def cfgs(self) -> dict[str, dict | None]:
        """The three configs, as keyword arguments of layers of the hosts."""
        return dict(
            conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg
        )

    def __call__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        padding: int | None = None,
    ) -> ConvModule:
        """Build a unit. Default padding: 'same' for an odd `kernel`."""
        return ConvModule(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=kernel // 2 if padding is None else padding,
            **self.cfgs,
        )


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
