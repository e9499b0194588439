"""RoIAlign with average and maximum pooling: `roi_align_forward` and `_backward`.

Based on torchvision's operator, which samples the same points. For onedl-mmcv 2.3.6 and
mmcv 2.1.0 without compiled operators; delete it with `mmir/compat/ops_finder.py`,
which gives the reason.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import roi_align

from mmir.compat.ops import at_least_fp32

_MAX = 0  # pool_mode of mmcv; 1 is the average


@dataclass(frozen=True)
class _Pooling:
    """Binning and sampling of regions.

    Attributes:
        height (int): Number of bins along y.
        width (int): Number of bins along x.
        spatial_scale (float): Feature pixels per unit of the regions.
        sampling_ratio (int): Samples along each side of a bin; one per pixel if not
            positive.
        aligned (bool): Whether pixel centers are at half-integer coordinates.
    """

    height: int
    width: int
    spatial_scale: float
    sampling_ratio: int
    aligned: bool

    def average(self, input: Tensor, rois: Tensor) -> Tensor:
        """Return the bin averages (regions, channels, height, width)."""
        size = (self.height, self.width)
        return roi_align(
            input, rois, size, self.spatial_scale, self.sampling_ratio, self.aligned
        )

    def samples(self, input: Tensor, rois: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return all samples of regions that share one sampling grid.

        Returns:
            Tensor: Shape (regions, channels, height, width, samples per bin), row by
            row within a bin.
        """
        rows, columns = grid
        size = (self.height * rows, self.width * columns)
        points = roi_align(input, rois, size, self.spatial_scale, 1, self.aligned)
        points = points.unflatten(3, (self.width, columns))
        points = points.unflatten(2, (self.height, rows))
        return points.transpose(3, 4).flatten(4)

    def bins(self, rois: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the start, bin size and sampling grid of each region.

        Returns:
            tuple[Tensor, Tensor, Tensor]: Each (regions, 2), vertical and horizontal.
            The grid is int64.
        """
        corners = rois[:, 1:] * self.spatial_scale - (0.5 if self.aligned else 0)
        start, end = corners[:, [1, 0]], corners[:, [3, 2]]
        extent = end - start
        if not self.aligned:  # legacy rule, as in torchvision
            extent = extent.clamp(min=1)
        size = extent / extent.new_tensor([self.height, self.width])
        if self.sampling_ratio > 0:
            grid = torch.full_like(size, self.sampling_ratio)
        else:
            grid = size.ceil()
        return start, size, grid.long()


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write pooled features into `output`.

    He et al., Mask R-CNN, ICCV 2017, section 3.

    Args:
        input (Tensor): Shape (batch, channels, height, width).
        rois (Tensor): Image index, x1, y1, x2, y2, shape (n, 5).
        output (Tensor): Shape (n, channels, aligned_height, aligned_width). Regions
            without extent have no samples and give 0.
        argmax_y (Tensor): For max pooling, shaped like `output`: row of the selected
            sample in the grid of its bin (the compiled operator stores the
            coordinate, which loses precision in float16).
        argmax_x (Tensor): The same for the column.
        aligned_height (int): Number of bins along y.
        aligned_width (int): Number of bins along x.
        spatial_scale (float): Feature pixels per unit of `rois`.
        sampling_ratio (int): Samples along each side of a bin; one per pixel if not
            positive.
        pool_mode (int): 0 for maximum, 1 for average.
        aligned (bool): Whether pixel centers are at half-integer coordinates.
    """
    pooling = _Pooling(
        aligned_height, aligned_width, spatial_scale, sampling_ratio, aligned
    )
    features = at_least_fp32(input)
    regions = rois.to(features.dtype)
    if pool_mode != _MAX:
        output.copy_(pooling.average(features, regions))
        return
    grids = pooling.bins(regions)[2]
    for grid in grids.unique(dim=0).tolist():
        if min(grid) <= 0:
            continue
        member = (grids == grids.new_tensor(grid)).all(1).nonzero()[:, 0]
        best, index = pooling.samples(features, regions[member], grid).max(-1)
        output[member] = best.to(output.dtype)
        argmax_y[member] = (index // grid[1]).to(argmax_y.dtype)
        argmax_x[member] = (index % grid[1]).to(argmax_x.dtype)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add the gradient w.r.t. the input to `grad_input`.

    Args:
        grad_output (Tensor): Shape (n, channels, aligned_height, aligned_width).
        rois (Tensor): Image index, x1, y1, x2, y2, shape (n, 5).
        argmax_y (Tensor): Written by `roi_align_forward`.
        argmax_x (Tensor): Written by `roi_align_forward`.
        grad_input (Tensor): Output, shape (batch, channels, height, width).
        aligned_height (int): Number of bins along y.
        aligned_width (int): Number of bins along x.
        spatial_scale (float): Feature pixels per unit of `rois`.
        sampling_ratio (int): Samples along each side of a bin.
        pool_mode (int): 0 for maximum, 1 for average.
        aligned (bool): Whether pixel centers are at half-integer coordinates.
    """
    pooling = _Pooling(
        aligned_height, aligned_width, spatial_scale, sampling_ratio, aligned
    )
    gradient = at_least_fp32(grad_output)
    regions = rois.to(gradient.dtype)
    if pool_mode == _MAX:
        chosen = torch.stack([argmax_y, argmax_x], dim=-1).to(gradient.dtype)
        grad_input.add_(_spread(gradient, regions, chosen, pooling, grad_input.shape))
        return
    # The average is linear in the input, so its gradient is the same at any input.
    leaf = gradient.new_zeros(grad_input.shape).requires_grad_()
    with torch.enable_grad():
        pooled = pooling.average(leaf, regions)
    grad_input.add_(torch.autograd.grad(pooled, leaf, gradient)[0])


def _spread(
    gradient: Tensor,
    rois: Tensor,
    chosen: Tensor,
    pooling: _Pooling,
    shape: torch.Size,
) -> Tensor:
    """Distribute the gradient of each maximum to the four pixels it interpolates.

    Args:
        gradient (Tensor): Shape (n, channels, aligned height, aligned width).
        rois (Tensor): Shape (n, 5).
        chosen (Tensor): Row and column of the samples in the grid of their bin,
            shape (n, channels, aligned height, aligned width, 2).
        pooling (_Pooling): The bins.
        shape (torch.Size): (batch, channels, height, width) of the input.

    Returns:
        Tensor: Gradient of that shape.
    """
    batch, channels, *extent = shape
    start, size, grid = (each[:, None, None, None] for each in pooling.bins(rois))
    steps = [torch.arange(n).to(rois) for n in (pooling.height, pooling.width)]
    corner = torch.stack(torch.meshgrid(*steps, indexing='ij'), dim=-1)
    point = start + (corner + (chosen + 0.5) / grid.clamp(min=1)) * size
    extent = torch.tensor(extent, device=point.device)
    inside = ((point >= -1) & (point <= extent)).all(-1) & (grid > 0).all(-1)
    gradient = gradient * inside
    point = torch.minimum(point.clamp(min=0), extent - 1)
    low = point.floor().long()
    share = point - low
    high = torch.minimum(low + 1, extent - 1)
    image = rois[:, 0].long()[:, None, None, None]
    plane = image * channels + torch.arange(channels).to(image)[:, None, None]
    result = gradient.new_zeros(batch * channels, *shape[2:])
    sides = ((low, 1 - share), (high, share))
    for y, part_y in sides:
        for x, part_x in sides:
            place = (plane.expand_as(gradient), y[..., 0], x[..., 1])
            part = gradient * part_y[..., 0] * part_x[..., 1]
            result.index_put_(place, part, accumulate=True)
    return result.view(shape)
