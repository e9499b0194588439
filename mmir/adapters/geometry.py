"""Geometry of a 2D convolution: what a stand-in for `nn.Conv2d` needs but a kernel."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

KernelShape = tuple[int, int, int, int]
"""Shape of a kernel: output channels, input channels per group, height, width."""

_NAMES = (
    'in_channels',
    'out_channels',
    'kernel_size',
    'stride',
    'padding',
    'dilation',
    'groups',
    'padding_mode',
)


class ConvGeometry(nn.Module):
    """Geometry of a 2D convolution: the attributes, checks and padding of Conv2d.

    Args:
        *args: Positional arguments of `nn.Conv2d` from `in_channels` to
            `padding_mode`.

    Raises:
        ValueError: `nn.Conv2d` rejects the geometry; its message is kept.
    """

    transposed = False
    output_padding = (0, 0)
    # nn.Conv2d's own code, so padding modes and strings behave the same. Hosts call it
    # to run the convolution with a different kernel.
    _conv_forward = nn.Conv2d._conv_forward

    def __init__(self, *args: Any) -> None:
        super().__init__()
        conv = nn.Conv2d(*args, device='meta')
        for name in (*_NAMES, '_reversed_padding_repeated_twice'):
            setattr(self, name, getattr(conv, name))

    @property
    def kernel_shape(self) -> KernelShape:
        """Shape of the dense kernel, (T, S, D2, D1)."""
        return (
            self.out_channels,
            self.in_channels // self.groups,
            *self.kernel_size,
        )

    def pad(self, x: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Pad `x` (..., C, H, W), except for zero padding, which is left to `conv2d`.

        Returns:
            The padded input, and the remaining `stride`, `padding` and `dilation` for
            `torch.nn.functional.conv2d`.
        """
        padding = self.padding
        if self.padding_mode != 'zeros':
            x = F.pad(x, self._reversed_padding_repeated_twice, self.padding_mode)
            padding = (0, 0)
        return x, {
            'stride': self.stride,
            'padding': padding,
            'dilation': self.dilation,
        }

    def extra_repr(self) -> str:
        """Geometry, formatted as by `nn.Conv2d`."""
        return nn.Conv2d.extra_repr(self)


def geometry_of(conv: nn.Module) -> dict[str, Any]:
    """Arguments of `nn.Conv2d` that reproduce the geometry of `conv`."""
    return {name: getattr(conv, name) for name in _NAMES}
