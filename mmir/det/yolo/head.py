"""YOLO head: losses and predictions on top of the exportable layers."""

from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.utils import filter_scores_and_topk
from mmdet.utils import InstanceList, OptConfigType, OptInstanceList, OptMultiConfig
from mmengine.config import ConfigDict
from mmengine.dist import get_world_size
from mmengine.structures import InstanceData
from torch import Tensor

from mmir.det.yolo.assigner import Matches, Targets
from mmir.det.yolo.boxes import complete_iou, cxcywh_to_xyxy, decode
from mmir.det.yolo.head_module import ANCHORS
from mmir.registry import MODELS, TASK_UTILS


@MODELS.register_module()
class YOLOHead(BaseDenseHead):
    """Anchor-based head of YOLOv5 and YOLOv7, trained with OTA assignment.

    Source: Wang et al., YOLOv7, CVPR 2023.

    Args:
        head_module (dict): Config of the layers, a `YOLOHeadModule`.
        anchors (tuple): (levels, A, 2), width and height in pixels. Default: those of
            the released YOLOv7.
        assigner (dict, optional): Config of the assigner. Default: `OTAAssigner`.
        box_weight (float): Weight of the box loss, `1 - CIoU`.
        obj_weight (float): Weight of the objectness loss. For images of s pixels the
            official recipe is `0.7 * (s / 640) ** 2` (YOLOv7-L) or `(s / 640) ** 2`
            (YOLOv7-tiny, YOLOv5).
        cls_weight (float): Weight of the class loss at 80 classes, scaled by
            `num_classes / 80`.
        obj_balance (tuple[float]): Weight of the objectness loss per level.
        train_cfg, test_cfg (dict, optional): As in other heads of mmdet.
        init_cfg (dict, optional): Initialization, see `mmengine.model.BaseModule`.

    Raises:
        ValueError: `anchors` do not fit the levels and anchors of `head_module`.
    """

    losses_sum_over_batch = True  # `loss_by_feat` multiplies by the batch size

    def __init__(
        self,
        head_module: dict,
        anchors: tuple = ANCHORS,
        assigner: dict | None = None,
        box_weight: float = 0.05,
        obj_weight: float = 0.7,
        cls_weight: float = 0.3,
        obj_balance: tuple[float, ...] = (4.0, 1.0, 0.4),
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg)
        self.head_module = MODELS.build(head_module)
        self.num_classes = self.head_module.num_classes
        self.strides = list(self.head_module.strides)
        self.assigner = TASK_UTILS.build(assigner or dict(type='mmir.OTAAssigner'))
        self.box_weight = box_weight
        self.obj_weight = obj_weight
        self.cls_weight = cls_weight * self.num_classes / 80
        self.obj_balance = obj_balance
        self.train_cfg = train_cfg
        self.test_cfg = test_cfg
        if len(anchors) != len(self.strides) or {len(a) for a in anchors} != {
            self.head_module.num_anchors
        }:
            raise ValueError(
                f'anchors must be {len(self.strides)} levels (strides {self.strides}) '
                f'of {self.head_module.num_anchors} (width, height), got {anchors}'
            )
        # a buffer, so the anchors of a released model are part of its checkpoint
        self.register_buffer('anchors', torch.tensor(anchors, dtype=torch.float32))

    def _apply(self, *args: Any, **kwargs: Any) -> 'YOLOHead':
        # boxes are decoded in at least float32: `half()` must not round the anchors
        anchors = self.anchors
        super()._apply(*args, **kwargs)
        if self.anchors.dtype in (torch.float16, torch.bfloat16):
            self.anchors = anchors.to(self.anchors.device)
        return self

    def forward(self, feats: tuple[Tensor, ...]) -> tuple[list[Tensor]]:
        """Return the raw maps, (N, A * (5 + C), H_i, W_i) per level."""
        return (list(self.head_module(feats)),)

    def loss_by_feat(
        self,
        raw_maps: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict[str, Tensor]:
        """Compute box, objectness and class loss of a batch.

        Every term is summed over levels and multiplied by the batch size and the number
        of ranks, so a gradient averaged over ranks is the sum over images.

        Args:
            raw_maps (list[Tensor]): (N, A * (5 + C), H_i, W_i) per level.
            batch_gt_instances (list[InstanceData]): `bboxes` (xyxy, pixels) and
                `labels` of each image; images may be empty.
            batch_img_metas (list[dict]): Not used.
            batch_gt_instances_ignore (list[InstanceData], optional): Not used.

        Returns:
            dict[str, Tensor]: `loss_box`, `loss_obj` and `loss_cls`, scalars.
        """
        preds = [self._per_anchor(m) for m in raw_maps]
        targets = _collect(batch_gt_instances, preds[0].device)
        matches = self.assigner.assign(preds, targets, self.anchors, self.strides)
        # zero, but keeps every parameter in the graph when nothing matches
        nothing = sum(p.sum() for p in preds) * 0
        box, obj, cls = nothing, nothing, nothing
        for level, pred in enumerate(preds):
            mine = matches[matches.level == level]
            goal = torch.zeros_like(pred[..., 4])
            if len(mine):
                rows = pred[mine.image, mine.anchor, mine.row, mine.column]
                quality = self._quality(level, rows, mine, targets)
                box = box + (1 - quality).mean()
                place = (mine.image, mine.anchor, mine.row, mine.column)
                goal.index_put_(place, quality.detach().clamp(min=0))
                if self.num_classes > 1:
                    hot = F.one_hot(targets.labels[mine.gt], self.num_classes)
                    cls = cls + _bce(rows[:, 5:], hot.to(rows.dtype))
            obj = obj + _bce(pred[..., 4], goal) * self.obj_balance[level]
        scale = len(raw_maps[0]) * get_world_size()
        return dict(
            loss_box=box * self.box_weight * scale,
            loss_obj=obj * self.obj_weight * scale,
            loss_cls=cls * self.cls_weight * scale,
        )

    def _quality(
        self, level: int, rows: Tensor, mine: Matches, targets: Targets
    ) -> Tensor:
        """Return the CIoU (P,) of matched predictions `rows` (P, 5 + C) and boxes."""
        stride = self.strides[level]
        cells = torch.stack([mine.column, mine.row], dim=-1)
        boxes = decode(rows, cells, self.anchors[level][mine.anchor], stride)
        # in cells, as in the official code: the epsilons of CIoU depend on scale
        return complete_iou(boxes / stride, targets.boxes[mine.gt] / stride)

    def predict_by_feat(
        self,
        raw_maps: list[Tensor],
        batch_img_metas: list[dict],
        cfg: ConfigDict | None = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> InstanceList:
        """Decode and filter the predictions of a batch, apply NMS, clip to the image.

        With one class the score is the objectness, since the class layer is not
        trained.

        Args:
            raw_maps (list[Tensor]): (N, A * (5 + C), H_i, W_i) per level.
            batch_img_metas (list[dict]): Metainfo of the images.
            cfg (ConfigDict, optional): Overrides `test_cfg` (`score_thr`, `nms_pre`,
                `nms`, `max_per_img`).
            rescale (bool): Whether to scale boxes to the original image.
            with_nms (bool): Whether to apply NMS.

        Returns:
            list[InstanceData]: `bboxes` (xyxy, pixels), `scores`, `labels` per image.
        """
        boxes, scores = self.decode_maps(raw_maps)
        return self.predict_by_boxes(
            boxes, scores, batch_img_metas, cfg, rescale, with_nms
        )

    def predict_by_boxes(
        self,
        boxes: Tensor,
        scores: Tensor,
        batch_img_metas: list[dict],
        cfg: ConfigDict | None = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> InstanceList:
        """Filter decoded boxes and apply NMS, e.g. for an exported network.

        Args:
            boxes (Tensor): (N, B, 4), xyxy in pixels, from `decode_maps`.
            scores (Tensor): (N, B, C), from `decode_maps`.
            batch_img_metas (list[dict]): Metainfo of the images.
            cfg (ConfigDict, optional): As in `predict_by_feat`.
            rescale (bool): Whether to scale boxes to the original image.
            with_nms (bool): Whether to apply NMS.

        Returns:
            list[InstanceData]: As in `predict_by_feat`.
        """
        cfg = self.test_cfg if cfg is None else cfg
        results = []
        for image, meta in enumerate(batch_img_metas):
            score, label, keep, _ = filter_scores_and_topk(
                scores[image], cfg.score_thr, cfg.get('nms_pre', 30000)
            )
            found = InstanceData(bboxes=boxes[image, keep], scores=score, labels=label)
            kept = self._bbox_post_process(found, cfg, rescale, with_nms, meta)
            # clipped after NMS, as in the official code
            height, width = meta['ori_shape' if rescale else 'img_shape'][:2]
            limit = kept.bboxes.new_tensor([width, height, width, height])
            kept.bboxes = torch.minimum(kept.bboxes.clamp(min=0), limit)
            results.append(kept)
        return results

    def decode_maps(self, raw_maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Decode raw maps to boxes (N, B, 4) (xyxy, pixels) and scores (N, B, C).

        B is the number of anchors of all levels, ordered by level, row, column, anchor.
        """
        boxes, scores = [], []
        for level, raw in enumerate(raw_maps):
            pred = self._per_anchor(raw).permute(0, 2, 3, 1, 4)
            height, width = pred.shape[1:3]
            rows = torch.arange(height, device=pred.device)
            columns = torch.arange(width, device=pred.device)
            row, column = torch.meshgrid(rows, columns, indexing='ij')
            cells = torch.stack([column, row], dim=-1)[:, :, None]
            box = decode(pred, cells, self.anchors[level], self.strides[level])
            conf = pred[..., 4:].sigmoid()
            score = conf[..., :1]
            if self.num_classes > 1:
                score = score * conf[..., 1:]
            boxes.append(cxcywh_to_xyxy(box).flatten(1, 3))
            scores.append(score.flatten(1, 3))
        return torch.cat(boxes, dim=1), torch.cat(scores, dim=1)

    def _per_anchor(self, raw: Tensor) -> Tensor:
        """View (N, A * (5 + C), H, W) as (N, A, H, W, 5 + C), at least in float32."""
        # sums over all cells overflow or underflow in half precision
        raw = raw.to(torch.promote_types(raw.dtype, torch.float32))
        n, _, height, width = raw.shape
        anchors = self.head_module.num_anchors
        return raw.view(n, anchors, -1, height, width).permute(0, 1, 3, 4, 2)


def _collect(instances: InstanceList, device: torch.device) -> Targets:
    """Collect the ground truth of all images in one table."""
    counts = torch.tensor([len(i) for i in instances], device=device)
    image = torch.arange(len(instances), device=device).repeat_interleave(counts)
    corners = [getattr(i.bboxes, 'tensor', i.bboxes) for i in instances]
    xyxy = torch.cat(corners).float().reshape(-1, 4)
    size = xyxy[:, 2:] - xyxy[:, :2]
    boxes = torch.cat([xyxy[:, :2] + size / 2, size], dim=1)
    labels = torch.cat([i.labels for i in instances])
    return Targets(image=image, labels=labels, boxes=boxes)


def _bce(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean binary cross-entropy, a scalar."""
    return F.binary_cross_entropy_with_logits(logits, target)
