"""`LightCNN`: a small network for faces, whose units compete in pairs.

[1] X. Wu, R. He, Z. Sun and T. Tan, "A light CNN for deep face representation with
noisy labels", IEEE TIFS 2018.
"""

from collections.abc import Mapping
from typing import Any

import torch
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn

from mmir.registry import MODELS
from mmir.utils.errors import UserError

STRIDE = 16


class MaxFeatureMap(nn.Module):
    """A layer of twice the outputs, of which the larger of each pair is kept [1].

    Output c is the maximum of the outputs c and c + C of the layer.

    Args:
        filter: Convolution or linear layer with 2 C outputs.
    """

    def __init__(self, filter: nn.Module) -> None:
        super().__init__()
        self.filter = filter

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer: (N, C_in, ...) to (N, C, ...)."""
        return torch.maximum(*self.filter(x).chunk(2, 1))


def _conv(inputs: int, outputs: int, kernel: int) -> MaxFeatureMap:
    return MaxFeatureMap(
        nn.Conv2d(inputs, 2 * outputs, kernel, padding=kernel // 2)
    )  # fmt: skip


class _Residual(nn.Module):
    """Two layers whose output is added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels, channels, 3)
        self.conv2 = _conv(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x)) + x


class _Group(nn.Module):
    """A 1x1 and a 3x3 layer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_a, self.conv = _conv(inputs, inputs, 1), _conv(inputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv_a(x))


@MODELS.register_module()
class LightCNN(BaseBackbone):
    """LightCNN with 29 layers [1], for gray images of aligned faces.

    A 5x5 layer, four stages of residual blocks and a linear layer. Every layer is a
    :class:`MaxFeatureMap`; there are no norms. With images of 128x128 pixels it has
    12,573,280 parameters. Modules are named as in the published checkpoints, so these
    load.

    Args:
        size (int): Height and width of the images in pixels, a multiple of 16.
        feature_channels (int): Channels of the feature.
        blocks (Sequence[int]): Residual blocks of each stage.
        channels (Sequence[int]): Channels of the first layer and behind each stage.
        dropout (float): Probability of a channel of the feature to be zeroed, in
            training.
        init_cfg (Mapping, optional): See mmengine's `BaseModule`.

    Raises:
        UserError: The size is no multiple of 16.
    """

    def __init__(
        self,
        size: int = 128,
        feature_channels: int = 256,
        blocks: tuple[int, ...] = (1, 2, 3, 4),
        channels: tuple[int, ...] = (48, 96, 192, 128, 128),
        dropout: float = 0.0,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if size % STRIDE or size < STRIDE:
            raise UserError(f'size={size} must be a multiple of {STRIDE}')
        self.size = size
        self.conv1 = _conv(1, channels[0], 5)
        for index, count in enumerate(blocks):
            inputs, outputs = channels[index : index + 2]
            stage = nn.Sequential(*(_Residual(inputs) for _ in range(count)))
            self.add_module(f'block{index + 1}', stage)
            self.add_module(f'group{index + 1}', _Group(inputs, outputs))
        self.stages = len(blocks)
        # ceil_mode as published; equal for sizes that are a multiple of 16
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        places = (size // STRIDE) ** 2
        self.fc = MaxFeatureMap(
            nn.Linear(channels[-1] * places, 2 * feature_channels)
        )  # fmt: skip
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature of each face.

        Args:
            x (Tensor): Gray images (N, 1, size, size).

        Returns:
            tuple[Tensor]: Features (N, feature_channels).

        Raises:
            UserError: The images are not gray or have another size.
        """
        if x.shape[1:] != (1, self.size, self.size):
            raise UserError(
                f'LightCNN was built for gray images of {self.size}x{self.size} pixels,'
                f' got {tuple(x.shape[1:])}; load them with color_type="grayscale", '
                'resize them, or set `size`'
            )
        x = self.pool(self.conv1(x))
        for index in range(1, self.stages + 1):
            x = getattr(self, f'group{index}')(getattr(self, f'block{index}')(x))
            if index != 3:  # the third stage keeps the size
                x = self.pool(x)
        return (self.drop(self.fc(x.flatten(1))),)
