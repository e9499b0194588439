"""Optimal transport assignment in the simplified form of YOLOv7."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmir.det.yolo.boxes import cxcywh_to_xyxy, decode, pairwise_iou
from mmir.registry import TASK_UTILS

# center cell, then the neighbors left, above, right and below of it
_OFFSETS = ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (-0.5, 0.0), (0.0, -0.5))


@dataclass
class Targets:
    """Ground truth of a batch, all images in one table.

    Attributes:
        image: (G,) int64, index of the image in the batch.
        labels: (G,) int64.
        boxes: (G, 4), cx, cy, w, h in pixels of the batched images.
    """

    image: Tensor
    labels: Tensor
    boxes: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class Matches:
    """Predictions matched to ground-truth boxes; P rows, level by level.

    Attributes:
        level, image, anchor, row, column: (P,) int64, position of the prediction.
        gt: (P,) int64, row of the ground truth in `Targets`.
    """

    level: Tensor
    image: Tensor
    anchor: Tensor
    row: Tensor
    column: Tensor
    gt: Tensor

    def __len__(self) -> int:
        return len(self.gt)

    def __getitem__(self, index: Tensor) -> 'Matches':
        if index.dtype == torch.bool:  # convert once instead of for every column
            index = index.nonzero().squeeze(1)
        return Matches(**{k: v[index] for k, v in vars(self).items()})


@TASK_UTILS.register_module()
class OTAAssigner:
    """Assign to each box a dynamic number of its cheapest candidate predictions.

    1. Candidates of a box: anchors with `max(r, 1/r) < ratio` for the side ratios r, in
       the cell of the box center and up to two adjacent cells close to the center.
    2. Cost of a candidate for every box of its image: classification cost plus
       `iou_weight` times `-log IoU`. A box takes its k cheapest candidates, where k is
       the sum of its `topk` largest IoUs, at least 1. A candidate claimed by several
       boxes goes to the box of the image for which it is cheapest.

    Source: Ge et al., OTA, CVPR 2021; Ge et al., YOLOX, 2021, section 2.1 (SimOTA).

    Args:
        ratio (float): Largest ratio between box and anchor sides.
        topk (int): Number of IoUs summed for k.
        iou_weight (float): Weight of the IoU cost.
    """

    def __init__(
        self, ratio: float = 4.0, topk: int = 10, iou_weight: float = 3.0
    ) -> None:
        self.ratio = ratio
        self.topk = topk
        self.iou_weight = iou_weight

    @torch.no_grad()
    def assign(
        self,
        preds: list[Tensor],
        targets: Targets,
        anchors: Tensor,
        strides: list[int],
    ) -> Matches:
        """Match predictions and ground truth of a batch.

        Args:
            preds (list[Tensor]): Raw maps per level, (N, A, H, W, 5 + classes).
            targets (Targets): Ground truth.
            anchors (Tensor): (levels, A, 2), width and height in pixels.
            strides (list[int]): Stride per level in pixels.

        Returns:
            Matches: On the device of `preds`; empty without ground truth.
        """
        per_level = [
            self._candidates(level, pred, targets, anchors[level], stride)
            for level, (pred, stride) in enumerate(zip(preds, strides, strict=True))
        ]
        columns = zip(*(vars(c).values() for c in per_level), strict=True)
        found = Matches(*(torch.cat(column) for column in columns))
        if not len(found):
            return found
        rows = torch.cat(
            [
                # float32: in half precision, confident scores have infinite cost
                pred[c.image, c.anchor, c.row, c.column].float()
                for pred, c in zip(preds, per_level, strict=True)
            ]
        )
        anchor = anchors[found.level, found.anchor]
        stride = torch.as_tensor(strides, device=rows.device)[found.level, None]
        cells = torch.stack([found.column, found.row], dim=-1)
        boxes = cxcywh_to_xyxy(decode(rows, cells, anchor, stride))
        return self._cheapest(found, rows, boxes, targets, images=len(preds[0]))

    def _candidates(
        self, level: int, pred: Tensor, targets: Targets, anchors: Tensor, stride: int
    ) -> Matches:
        """Return all candidates of one level, for anchors of shape (A, 2)."""
        height, width = pred.shape[2:4]
        sides = targets.boxes[None, :, 2:] / anchors[:, None]  # (A, G, 2)
        fits = torch.maximum(sides, 1 / sides).amax(dim=2) < self.ratio
        center = targets.boxes[:, :2] / stride  # in cells, (G, 2)
        size = center.new_tensor([width, height])
        near_low = (center % 1 < 0.5) & (center > 1)
        mirrored = size - center
        near_high = (mirrored % 1 < 0.5) & (mirrored > 1)
        always = torch.ones_like(near_low[:, :1])
        use = torch.cat([always, near_low, near_high], dim=1).t()  # (5, G)
        offset, anchor, gt = (use[:, None] & fits[None]).nonzero(as_tuple=True)
        shift = center.new_tensor(_OFFSETS)[offset]
        cells = (center[gt] - shift).long()
        return Matches(
            level=torch.full_like(gt, level),
            image=targets.image[gt],
            anchor=anchor,
            row=cells[:, 1].clamp(0, height - 1),
            column=cells[:, 0].clamp(0, width - 1),
            gt=gt,
        )

    def _cheapest(
        self, found: Matches, rows: Tensor, boxes: Tensor, targets: Targets, images: int
    ) -> Matches:
        """Select matches by cost, image by image, and set `gt` to the chosen box."""
        chosen, winners = [], []
        candidates, truth = _by_image([found.image, targets.image], images)
        for mine, theirs in zip(candidates, truth, strict=True):
            if not len(mine):
                continue
            gt_boxes = cxcywh_to_xyxy(targets.boxes[theirs].float())
            iou = pairwise_iou(boxes[mine], gt_boxes)
            cost = self._class_cost(rows[mine], targets.labels[theirs])
            cost = cost - self.iou_weight * torch.log(iou + 1e-8)
            taken, winner = _dynamic_k(cost, iou, self.topk)
            chosen.append(mine[taken])
            winners.append(theirs[winner])
        kept, winner = torch.cat(chosen), torch.cat(winners)
        # level by level, the order in which losses are summed
        order = torch.argsort(found.level[kept], stable=True)
        matches = found[kept[order]]
        matches.gt = winner[order]
        return matches

    @staticmethod
    def _class_cost(rows: Tensor, labels: Tensor) -> Tensor:
        """Binary cross-entropy of sqrt(p_class p_obj) against each label.

        The sums over classes differ between labels in a single term, so the cost of
        (M, 5 + C) rows and (G,) labels needs no (M, G, C) tensor.
        """
        log_score = (F.logsigmoid(rows[:, 5:]) + F.logsigmoid(rows[:, 4:5])) / 2
        background = -torch.log1p(-log_score.exp().clamp(max=1 - 1e-7))
        swap = -log_score - background
        return background.sum(dim=1, keepdim=True) + swap[:, labels]


def _by_image(columns: list[Tensor], images: int) -> list[tuple[Tensor, ...]]:
    """Return the positions of each image in columns of image indices, ascending.

    All sizes are copied to the host at once, to synchronize with the GPU only once.
    """
    sizes = torch.stack([F.one_hot(c, images).sum(dim=0) for c in columns]).tolist()
    return [
        column.argsort(stable=True).split(size)
        for column, size in zip(columns, sizes, strict=True)
    ]


def _dynamic_k(cost: Tensor, iou: Tensor, topk: int) -> tuple[Tensor, Tensor]:
    """Return the rows of (M, G) `cost` that are taken, and the column of each.

    Column g takes its k_g cheapest rows. A row taken by several columns goes to the
    column for which it is cheapest, even if that column did not take it.
    """
    count = min(topk, len(cost))
    k = iou.topk(count, dim=0).values.sum(dim=0).int().clamp(min=1, max=len(cost))
    cheapest, rows = cost.topk(int(k.max()), dim=0, largest=False)
    within = torch.arange(len(cheapest), device=k.device)[:, None] < k[None]
    wanted = torch.zeros_like(cost, dtype=torch.bool).scatter_(0, rows, within)
    claims = wanted.sum(dim=1)
    # contested rows go to the cheapest of all columns, as in the official code
    best = torch.where(claims > 1, cost.argmin(dim=1), wanted.int().argmax(dim=1))
    taken = claims.nonzero().squeeze(1)
    return taken, best[taken]
