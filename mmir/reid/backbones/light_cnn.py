"""`LightCNN`: network of 29 layers for faces, with maxima of feature maps.

[1] X. Wu, R. He, Z. Sun and T. Tan, "A light CNN for deep face representation with
noisy labels", IEEE Transactions on Information Forensics and Security, 2018.
"""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmir.registry import MODELS
from mmir.utils.errors import UserError

BLOCKS, WIDTHS = (1, 2, 3, 4), (48, 96, 192, 128)
"""Residual blocks and channels of each stage [1]."""


class MaxFeatureMap(nn.Module):
    """A convolution with twice the channels, and the maximum of both halves [1].

    Args:
        inputs (int): Input channels.
        outputs (int): Output channels.
        kernel (int): Side of the kernel in px, odd.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.filter = nn.Conv2d(inputs, 2 * outputs, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H, W)."""
        a, b = self.filter(x).chunk(2, 1)
        return torch.maximum(a, b)


class _Residual(nn.Module):
    """Two 3x3 layers and a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = MaxFeatureMap(channels, channels, 3)
        self.conv2 = MaxFeatureMap(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return x + self.conv2(self.conv1(x))


class _Group(nn.Module):
    """A 1x1 layer and a 3x3 layer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_a = MaxFeatureMap(inputs, inputs, 1)
        self.conv = MaxFeatureMap(inputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H, W)."""
        return self.conv(self.conv_a(x))


@MODELS.register_module()
class LightCNN(BaseModule):
    """Light CNN of 29 layers [1], for gray faces.

    The names of the layers are those of its published weights, which load; the
    classifier of these is left out.

    Args:
        size (int): Side of the image in px, a multiple of 16. 128 in [1].
        feature (bool): Whether the result is the feature of 256 channels [1], as a map
            of one pixel; else the map before it.
        width (float): Factor of the channels of the maps.
        init_cfg (Mapping, optional): See mmengine's `BaseModule`.

    Raises:
        UserError: The size is no multiple of 16.
    """

    def __init__(
        self,
        size: int = 128,
        feature: bool = True,
        width: float = 1.0,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if size % 16 or size < 16:
            raise UserError(f'size={size}: LightCNN needs a multiple of 16 px')
        widths = [round(width * w) for w in WIDTHS]
        self.conv1 = MaxFeatureMap(1, widths[0], 5)
        for k, (blocks, inputs) in enumerate(zip(BLOCKS, widths, strict=True), 1):
            stage = nn.Sequential(*(_Residual(inputs) for _ in range(blocks)))
            self.add_module(f'block{k}', stage)
            outputs = widths[min(k, 3)]
            self.add_module(f'group{k}', _Group(inputs, outputs))
        self.pool = nn.MaxPool2d(2)
        self.fc = None
        if feature:
            inside = (size // 16) ** 2 * widths[-1]
            self.fc = nn.ModuleDict(dict(filter=nn.Linear(inside, 512)))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Compute the feature or the map.

        Args:
            x (Tensor): Faces (N, 3, size, size), from 0 to 1. The mean of the
                channels is used, so three equal ones are a gray image.

        Returns:
            tuple[Tensor]: Shape (N, 256, 1, 1) or (N, 128, size / 16, size / 16).
        """
        x = self._pooled(self.conv1(x.mean(1, keepdim=True)))
        for k in range(1, 5):
            x = getattr(self, f'group{k}')(getattr(self, f'block{k}')(x))
            if k != 3:  # the third and fourth stage have one size
                x = self._pooled(x)
        if self.fc is None:
            return (x,)
        a, b = self.fc['filter'](x.flatten(1)).chunk(2, 1)
        return (torch.maximum(a, b)[..., None, None],)

    def _pooled(self, x: Tensor) -> Tensor:
        """Halve the map."""
        return self.pool(x)
