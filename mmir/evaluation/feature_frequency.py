"""Spatial frequencies and energy of feature maps."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmir.data.spectrum import hann_window


class RadialPower(NamedTuple):
    """Power by spatial frequency, averaged over all directions.

    Attributes:
        frequency: Mean frequency in each ring, in cycles per pixel, shape (R,).
        power: Mean power of a Fourier coefficient in each ring, shape (R,).
        count: Number of coefficients in each ring, shape (R,). The sum of
            `power * count` is the mean square of the map (Parseval).
    """

    frequency: Tensor
    power: Tensor
    count: Tensor


def radial_power(x: Tensor) -> RadialPower:
    """Power spectrum of feature maps, averaged over images, channels and directions.

    Rings are as wide as the frequency step of the shorter side, so none is empty. The
    first one, around frequency 0, holds the mean of the map.

    Args:
        x: Maps (N, C, H, W). A step between opposite borders is structure, too; see
            `tapered`.

    Returns:
        Float64, on the device of `x`.

    Raises:
        ValueError: `x` is not (N, C, H, W) or is empty.
    """
    if x.ndim != 4 or not x.numel():
        raise ValueError(f'a map of shape {tuple(x.shape)}, not (N, C, H, W)')
    height, width = x.shape[2:]
    power = torch.fft.fft2(x.double(), norm='forward').abs().square().mean((0, 1))
    down, across = (
        torch.fft.fftfreq(n, device=x.device).double() for n in (height, width)
    )
    radius = torch.hypot(down[:, None], across[None]).flatten()
    ring = (radius * min(height, width) + 0.5).long()
    zeros = power.new_zeros(int(ring.max()) + 1)
    count = zeros.index_add(0, ring, torch.ones_like(radius))
    sums = (zeros.index_add(0, ring, v) for v in (radius, power.flatten()))
    frequency, mean = (total / count for total in sums)
    return RadialPower(frequency, mean, count)


def tapered(x: Tensor) -> Tensor:
    """Maps without mean and borders, for `radial_power`.

    Without a window, the step between opposite borders fills the high frequencies. The
    window is Hann's, scaled to a mean square of 1, so white noise keeps its power.

    Args:
        x: Maps (N, C, H, W).

    Returns:
        Maps (N, C, H, W), float64.
    """
    window = torch.from_numpy(hann_window(*x.shape[2:])).to(x.device)
    values = x.double()
    mean = (values * window).mean((2, 3), keepdim=True) / window.mean()
    return (values - mean) * (window / window.square().mean().sqrt())


def energy_map(x: Tensor) -> Tensor:
    """L2 norm over the channels at each position.

    Args:
        x: Maps (N, C, H, W).

    Returns:
        Shape (N, H, W), at least in float32.
    """
    return torch.linalg.vector_norm(
        x.to(torch.promote_types(x.dtype, torch.float32)), dim=1
    )
