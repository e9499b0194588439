"""Regions of an image of a pedestrian: center, sub-center, outer."""

import torch
from torch import Tensor

from mmir.utils.errors import UserError

REGIONS = ('center', 'sub_center', 'outer')
_CENTER = ((1 / 9, 8 / 9), (1 / 3, 2 / 3))  # rows, columns; fractions of the image
_SUB_CENTER = ((1 / 18, 17 / 18), (1 / 9, 8 / 9))


def pedestrian_regions(rows: int, cols: int) -> Tensor:
    """Assign each patch of an image to a region.

    The center is the trunk of a person in the middle of the image, the sub-center a
    frame around it, and the outer region the rest. A grid of 18x9 patches has 42, 70
    and 50 of them. The extents are ours, not those of TMPA.

    Args:
        rows (int): Rows of patches.
        cols (int): Columns of patches.

    Returns:
        Tensor: Index into :data:`REGIONS` (rows, cols), int64.

    Raises:
        UserError: The grid is too small for a center.
    """
    regions = torch.full((rows, cols), 2)
    for index, box in ((1, _SUB_CENTER), (0, _CENTER)):
        (top, bottom), (left, right) = (
            [round(edge * size) for edge in edges]
            for edges, size in zip(box, (rows, cols), strict=True)
        )
        regions[top:bottom, left:right] = index
    if not (regions == 0).any():
        raise UserError(
            f'{rows}x{cols} patches are too few for three regions; use a finer grid'
        )
    return regions
