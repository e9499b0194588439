"""Blocks of the progressive decoder of salient-object detection."""

import torch
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn
from torch.nn.functional import batch_norm, gelu, interpolate
from torch.nn.modules.batchnorm import _BatchNorm


class UpStage(nn.Module):
    """Convolution 3x3 without bias, normalization, GELU, bilinear upsampling.

    Args:
        in_channels (int): Input channels.
        channels (int): Output channels.
        norm_cfg (dict): Config of the normalization.
    """

    def __init__(self, in_channels: int, channels: int, norm_cfg: dict) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.norm = build_norm_layer(norm_cfg, channels)[1]

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Compute the upsampled map.

        Args:
            x (Tensor): Shape (N, in_channels, h, w).
            size (tuple[int, int], optional): Height and width of the result. Default:
                twice those of `x`.

        Returns:
            Tensor: Shape (N, channels, *size).
        """
        x = gelu(normalize(self.norm, self.conv(x)))
        size = size or (2 * x.shape[-2], 2 * x.shape[-1])
        return interpolate(x, size, mode='bilinear', align_corners=True)


def normalize(norm: nn.Module, x: Tensor) -> Tensor:
    """Normalize; batch norm of a single value per channel uses its running statistics.

    A batch of one small image leaves one pixel at the deepest level. It has no
    variance, and PyTorch refuses it in training. SyncBN is left alone: the other GPUs
    have values too, and wait for this one.

    Args:
        norm (nn.Module): Normalization layer.
        x (Tensor): Shape (N, C, h, w).

    Returns:
        Tensor: Shape (N, C, h, w).
    """
    local = isinstance(norm, _BatchNorm) and not isinstance(norm, nn.SyncBatchNorm)
    if x.numel() == x.shape[1] and local and norm.running_mean is not None:
        stats = norm.running_mean, norm.running_var
        return batch_norm(x, *stats, norm.weight, norm.bias, eps=norm.eps)
    return norm(x)


class ConvNeXtBlock(nn.Module):
    """ConvNeXt block: 7x7 depthwise convolution, layer norm, MLP, layer scale.

    Liu et al., "A ConvNet for the 2020s" (arXiv 2201.03545), figure 4. The block is a
    residual one: ``x + gamma * MLP(LN(DWConv(x)))``.

    Args:
        channels (int): Input and output channels.
        ratio (int): Width of the MLP in `channels`.
        scale (float): Initial value of the layer scale gamma.
    """

    def __init__(self, channels: int, ratio: int = 4, scale: float = 1e-6) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, ratio * channels)
        self.reduce = nn.Linear(ratio * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block, (N, C, H, W) to (N, C, H, W)."""
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.reduce(gelu(self.expand(y))) * self.gamma
        return x + y.permute(0, 3, 1, 2)
