"""Non-maximum suppression: `nms`, `softnms`, `nms_match`.

For onedl-mmcv 2.3.6 and mmcv 2.1.0 without compiled operators; delete it with
`mmir/compat/ops_finder.py`, which gives the reason.
"""

import torch
import torchvision
from torch import Tensor

from mmir.compat.ops import at_least_fp32
from mmir.compat.ops.boxes import iou

_NAIVE, _LINEAR, _GAUSSIAN = 0, 1, 2


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Non-maximum suppression: drop boxes that overlap a higher-scoring kept box.

    Args:
        boxes (Tensor): `x1, y1, x2, y2`, shape (n, 4).
        scores (Tensor): Shape (n,).
        iou_threshold (float): IoU above which the box of lower score is dropped.
        offset (int): 1 if a box includes both borders, else 0.

    Returns:
        Tensor: int64 indices of the kept boxes by descending score, shape (k,).
    """
    # Shifting the far corners by the offset gives the intended widths and overlaps.
    boxes = at_least_fp32(boxes)
    boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)
    return torchvision.ops.nms(boxes, scores.to(boxes), iou_threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS: every kept box lowers the scores of the boxes it overlaps.

    Bodla et al., Soft-NMS, ICCV 2017, Eq. 2 (linear) and 3 (Gaussian). Boxes whose
    score falls below `min_score` are dropped, except the best box of the input. Empty
    boxes do not lower each other's scores.

    Args:
        boxes (Tensor): `x1, y1, x2, y2`, shape (n, 4).
        scores (Tensor): Shape (n,).
        dets (Tensor): Output, shape (n, 5): kept boxes and their final scores in the
            first k rows. The other rows are not written.
        iou_threshold (float): IoU from which scores are lowered (naive and linear).
        sigma (float): Width of the Gaussian.
        min_score (float): Lowest score to keep.
        method (int): 0 naive (to zero), 1 linear, 2 Gaussian.
        offset (int): 1 if a box includes both borders, else 0.

    Returns:
        Tensor: int64 indices of the kept boxes in the order of selection, shape (k,).
    """
    boxes, scores = at_least_fp32(boxes), at_least_fp32(scores).clone()
    left = torch.arange(len(boxes), device=boxes.device)
    taken = []
    while len(left):
        best = scores[left].argmax()
        index = left[best]
        taken.append(index)
        left = torch.cat([left[:best], left[best + 1 :]])
        overlap = iou(boxes[index], boxes[left], offset).nan_to_num(0)
        scores[left] *= _decay(overlap, iou_threshold, sigma, method)
        left = left[scores[left] >= min_score]
    kept = torch.stack(taken) if taken else left
    dets[: len(kept), :4] = boxes[kept].to(dets)
    dets[: len(kept), 4] = scores[kept].to(dets)
    return kept


def _decay(overlap: Tensor, threshold: float, sigma: float, method: int) -> Tensor:
    """Return score factors (n,) for the overlaps with the box just selected."""
    if method == _GAUSSIAN:
        return torch.exp(-(overlap**2) / sigma)
    lowered = 1 - overlap if method == _LINEAR else torch.zeros_like(overlap)
    return torch.where(overlap >= threshold, lowered, torch.ones_like(overlap))


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Group each kept box with the boxes it suppresses.

    Args:
        dets (Tensor): `x1, y1, x2, y2, score`, shape (n, 5).
        iou_threshold (float): IoU from which the box of lower score is suppressed.

    Returns:
        list[list[int]]: Indices of each group by descending score.
    """
    boxes = at_least_fp32(dets[:, :4])
    left = dets[:, 4].argsort(descending=True)
    groups = []
    while len(left):
        member = iou(boxes[left[0]], boxes[left], 0) >= iou_threshold
        member[0] = True
        groups.append(left[member].tolist())
        left = left[~member]
    return groups
