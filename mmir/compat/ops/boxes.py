"""Overlap of boxes: `bbox_overlaps`.

For onedl-mmcv 2.3.6 and mmcv 2.1.0 without compiled operators; delete it with
`mmir/compat/ops_finder.py`, which gives the reason.
"""

from torch import Tensor, maximum, minimum

from mmir.compat.ops import at_least_fp32


def area(boxes: Tensor, offset: int) -> Tensor:
    """Compute box areas.

    Args:
        boxes (Tensor): `x1, y1, x2, y2` along the last dimension, shape (..., 4).
        offset (int): 1 if a box includes both borders, else 0.

    Returns:
        Tensor: Shape (...).
    """
    width, height = (boxes[..., 2:] - boxes[..., :2] + offset).unbind(-1)
    return width * height


def intersection(boxes1: Tensor, boxes2: Tensor, offset: int) -> Tensor:
    """Compute the intersection areas of boxes with broadcastable shapes.

    Args:
        boxes1 (Tensor): `x1, y1, x2, y2` along the last dimension, shape (..., 4).
        boxes2 (Tensor): The same, shape (..., 4).
        offset (int): 1 if a box includes both borders, else 0.

    Returns:
        Tensor: Shape (...).
    """
    lower = maximum(boxes1[..., :2], boxes2[..., :2])
    upper = minimum(boxes1[..., 2:], boxes2[..., 2:])
    width, height = (upper - lower + offset).clamp(min=0).unbind(-1)
    return width * height


def iou(boxes1: Tensor, boxes2: Tensor, offset: int) -> Tensor:
    """Compute the IoU of boxes with broadcastable shapes.

    Args:
        boxes1 (Tensor): `x1, y1, x2, y2` along the last dimension, shape (..., 4).
        boxes2 (Tensor): The same, shape (..., 4).
        offset (int): 1 if a box includes both borders, else 0.

    Returns:
        Tensor: Shape (...); nan where both boxes are empty.
    """
    shared = intersection(boxes1, boxes2, offset)
    return shared / (area(boxes1, offset) + area(boxes2, offset) - shared)


def bbox_overlaps(
    bboxes1: Tensor,
    bboxes2: Tensor,
    ious: Tensor,
    mode: int,
    aligned: bool,
    offset: int,
) -> None:
    """Write pairwise or aligned box overlaps into `ious`.

    Args:
        bboxes1 (Tensor): Shape (m, 4).
        bboxes2 (Tensor): Shape (n, 4).
        ious (Tensor): Output, shape (m, n), or (m,) if `aligned`.
        mode (int): 0 for intersection over union, 1 for intersection over the area
            of `bboxes1`.
        aligned (bool): Compare row by row instead of all pairs.
        offset (int): 1 if a box includes both borders, else 0.
    """
    first, second = at_least_fp32(bboxes1), at_least_fp32(bboxes2)
    if not aligned:
        first = first[:, None]
    if mode == 0:
        ious.copy_(iou(first, second, offset))
    else:
        ious.copy_(intersection(first, second, offset) / area(first, offset))
