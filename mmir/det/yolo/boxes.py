"""Box decoding and IoU of YOLOv5 and YOLOv7."""

import math

import torch
from torch import Tensor


def decode(raw: Tensor, cells: Tensor, anchors: Tensor, stride: Tensor) -> Tensor:
    """Decode raw predictions into boxes in pixels.

    `xy = (2 s(t) - 0.5 + cell) * stride` and `wh = (2 s(t))^2 * anchor`, with s the
    logistic function and `cell` the integer index of the grid cell.

    Args:
        raw (Tensor): (..., >=4), the first four entries are x, y, w, h.
        cells (Tensor): (..., 2), column and row of the cell.
        anchors (Tensor): (..., 2), anchor width and height in pixels.
        stride (Tensor): Stride in pixels, broadcastable to (..., 2).

    Returns:
        Tensor: (..., 4), cx, cy, w, h in pixels.
    """
    s = raw[..., :4].sigmoid() * 2
    center = (s[..., :2] - 0.5 + cells) * stride
    return torch.cat([center, s[..., 2:].square() * anchors], dim=-1)


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Convert (..., 4) boxes from center and size to corners."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def complete_iou(pred: Tensor, target: Tensor, eps: float = 1e-7) -> Tensor:
    """Compute the complete IoU (CIoU) of matched boxes.

    `CIoU = IoU - d^2 / c^2 - alpha v` with `v = 4/pi^2 (atan w/h - atan w'/h')^2` and
    `alpha = v / (v - IoU + 1 + eps)`, held constant in the backward pass. Source:
    Zheng et al., Distance-IoU Loss, AAAI 2020, equations 8 to 12.

    Args:
        pred (Tensor): (N, 4), cx, cy, w, h.
        target (Tensor): (N, 4), the same format.
        eps (float): Avoids division by zero.

    Returns:
        Tensor: (N,), at most 1.
    """
    a, b = cxcywh_to_xyxy(pred), cxcywh_to_xyxy(target)
    inter = (
        torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])
    ).clamp(min=0)
    overlap = inter.prod(dim=1)
    w1, h1 = pred[:, 2], pred[:, 3] + eps
    w2, h2 = target[:, 2], target[:, 3] + eps
    iou = overlap / (w1 * h1 + w2 * h2 - overlap + eps)
    hull = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    diagonal = hull.square().sum(dim=1) + eps
    distance = (pred[:, :2] - target[:, :2]).square().sum(dim=1)
    v = 4 / math.pi**2 * (torch.atan(w2 / h2) - torch.atan(w1 / h1)).square()
    with torch.no_grad():
        alpha = v / (v - iou + (1 + eps))
    return iou - (distance / diagonal + v * alpha)


def pairwise_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the (N, M) IoU of xyxy boxes (N, 4) and (M, 4); 0 for empty boxes."""
    low = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    inter = (high - low).clamp(min=0).prod(dim=2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    other = (others[:, 2:] - others[:, :2]).prod(dim=1)
    union = area[:, None] + other[None] - inter
    return inter / union.clamp(min=torch.finfo(boxes.dtype).tiny)
