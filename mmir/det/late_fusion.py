"""Late fusion of detections: one detector per modality, whose boxes are fused."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from mmcv.ops import batched_nms
from mmdet.models.detectors.base import BaseDetector
from mmdet.models.utils import weighted_boxes_fusion
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox_overlaps
from mmdet.utils import OptMultiConfig
from mmengine.structures import InstanceData
from torch import Tensor

from mmir.fusion.late import LateFusion, chosen, present
from mmir.registry import MODELS

Method = Literal['nms', 'wbf', 'prob']


class BoxFusion:
    """Fuse the boxes of several detectors.

    A cluster has the boxes of one class whose IoU with its best box (for 'wbf': with
    its fused box so far) exceeds `iou_threshold`.

    Sources: Solovyev et al., Weighted boxes fusion: Ensembling boxes from different
    object detection models, Image and Vision Computing 107, 2021. Chen et al.,
    Multimodal Object Detection via Probabilistic Ensembling, ECCV 2022.

    Args:
        method (str): How a cluster is fused.

            - 'nms': keep the best box (non-maximum suppression of the union).
            - 'wbf': mmdet's weighted boxes fusion, a loop over boxes on the CPU. The
              box is the score-weighted mean; the score is the mean score times
              min(T, N) / N for T boxes in the cluster and N detectors.
            - 'prob': the box is the score-weighted mean. The scores, one per detector,
              are treated as independent evidence: their odds relative to the prior
              are multiplied.
        iou_threshold (float): IoU above which boxes belong to the same cluster.
        max_per_img (int): Number of boxes to keep per image, best first.
        prior (float): For 'prob', the score that carries no evidence.

    Raises:
        ValueError: An option is out of its range.
    """

    def __init__(
        self,
        method: Method = 'nms',
        iou_threshold: float = 0.55,
        max_per_img: int = 300,
        prior: float = 0.5,
    ) -> None:
        if method not in get_args(Method):
            raise ValueError(f'method must be one of {get_args(Method)}, not {method}')
        if not 0 < iou_threshold <= 1 or not 0 < prior < 1 or max_per_img < 1:
            raise ValueError(
                f'iou_threshold={iou_threshold}, prior={prior}, '
                f'max_per_img={max_per_img}: out of range'
            )
        self.method, self.iou_threshold = method, iou_threshold
        self.max_per_img, self.prior = max_per_img, prior

    def __call__(self, found: Sequence[InstanceData]) -> InstanceData:
        """Fuse the boxes of one image.

        Args:
            found (Sequence[InstanceData]): `bboxes` (n, 4) xyxy, `scores` (n,) and
                `labels` (n,) of each detector that ran. 'nms' keeps other fields too,
                such as masks.

        Returns:
            InstanceData: The boxes by descending score. The result of a single detector
            is returned unchanged.
        """
        if len(found) == 1:
            return found[0]
        union = InstanceData.cat(list(found))
        if len(union) == 0:
            return union
        if self.method == 'wbf':
            return self._weighted(found)
        union.origin = torch.cat(
            [torch.full_like(f.labels, k) for k, f in enumerate(found)]
        )
        union = union[union.scores.argsort(descending=True, stable=True)]
        best = self._best(union)
        if self.method == 'nms':
            kept = union[best][: self.max_per_img]
            del kept.origin
            return kept
        member = _cluster(union, best)
        scores = self._evidence(union, member, len(best), len(found))
        boxes = _mean_box(union, member, len(best))
        order = scores.argsort(descending=True, stable=True)[: self.max_per_img]
        return InstanceData(
            bboxes=boxes[order],
            scores=scores[order],
            labels=union.labels[best][order],
        )

    def _weighted(self, found: Sequence[InstanceData]) -> InstanceData:
        """Apply mmdet's weighted boxes fusion, on lists for speed."""
        # mmdet warns about boxes without area and divides by the sum of the scores
        kept = [
            each[(each.bboxes[:, 2:] > each.bboxes[:, :2]).all(1) & (each.scores > 0)]
            for each in found
        ]
        boxes, scores, labels = weighted_boxes_fusion(
            [each.bboxes.tolist() for each in kept],
            [each.scores.tolist() for each in kept],
            [each.labels.tolist() for each in kept],
            iou_thr=self.iou_threshold,
        )
        like = found[0]
        return InstanceData(
            bboxes=boxes.reshape(-1, 4).to(like.bboxes)[: self.max_per_img],
            scores=scores.to(like.scores)[: self.max_per_img],
            labels=labels.to(like.labels)[: self.max_per_img],
        )

    def _best(self, union: InstanceData) -> Tensor:
        """Return the rows of the best box of each cluster, ascending."""
        suppress = dict(type='nms', iou_threshold=self.iou_threshold)
        _, keep = batched_nms(union.bboxes, union.scores, union.labels, suppress)
        return keep.sort().values

    def _evidence(
        self, union: InstanceData, member: Tensor, clusters: int, models: int
    ) -> Tensor:
        """Return scores (clusters,) from each detector's best score per cluster."""
        nothing = union.scores.new_tensor(self.prior).logit()
        table = nothing.repeat(clusters * models)
        evidence = union.scores.logit(eps=torch.finfo(union.scores.dtype).eps)
        place = member * models + union.origin
        table.scatter_reduce_(0, place, evidence, 'amax', include_self=False)
        total = (table.view(clusters, models) - nothing).sum(1) + nothing
        return total.sigmoid()


@MODELS.register_module()
class LateFusionDetector(LateFusion, BaseDetector):
    """Late fusion: one mmdet detector per modality, boxes fused over present ones.

    ::

        model=dict(
            type='mmir.LateFusionDetector',
            data_preprocessor=dict(type='mmir.PairedDetDataPreprocessor', ...),
            detectors=dict(rgb=dict(type='mmdet.RTMDet', ...), ir=dict(...)),
            checkpoints=dict(rgb='rgb.pth', ir='ir.pth'),
            fuse=dict(method='wbf', iou_threshold=0.55))

    For training see :class:`mmir.fusion.late.LateFusion`.

    Args:
        detectors (Mapping[str, dict]): Detector config per modality. All detectors have
            the same classes. Their `data_preprocessor` is ignored.
        data_preprocessor (dict): Paired data preprocessor, shared by all detectors.
        fuse (str | dict): Arguments of :class:`BoxFusion`, or its `method` alone.
        checkpoints (Mapping[str, str], optional): Checkpoint file per modality, of the
            single detector. It is read without running code in it.
        train_cfg (dict, optional): Not used, since each detector has its own. The tools
            of the host set it.
        test_cfg (dict, optional): The same.
        init_cfg (dict, optional): Initialization, see `mmengine.model.BaseModule`.

    Raises:
        ValueError: A name is not a modality of the data preprocessor, or `fuse` is
            invalid.
        RuntimeError: A checkpoint cannot be read safely or does not fit.
    """

    def __init__(
        self,
        detectors: Mapping[str, dict],
        data_preprocessor: dict,
        fuse: str | dict = 'nms',
        checkpoints: Mapping[str, str | Path | None] | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.fuse = BoxFusion(**({'method': fuse} if isinstance(fuse, str) else fuse))
        self._set_members(detectors, checkpoints)

    def predict(
        self,
        batch_inputs: Tensor,
        batch_data_samples: SampleList,
        rescale: bool = True,
    ) -> SampleList:
        """Detect boxes in each modality that is present, and fuse them.

        Args:
            batch_inputs (Tensor): Shape (N, C, H, W), all modalities.
            batch_data_samples (list[DetDataSample]): Samples with `absent`.
            rescale (bool): Whether to scale boxes to the original image.

        Returns:
            list[DetDataSample]: The samples with `pred_instances`, which is empty if no
            detector's modality is present.
        """
        found: list[list[InstanceData]] = [[] for _ in batch_data_samples]
        for name, part in self._parts(batch_inputs).items():
            rows = present(batch_data_samples, name)
            if not rows:
                continue
            part, samples = chosen(part, batch_data_samples, rows)
            predicted = self.members[name].predict(part, samples, rescale=rescale)
            for row, sample in zip(rows, predicted, strict=True):
                found[row].append(sample.pred_instances)
        nothing = InstanceData(
            bboxes=batch_inputs.new_zeros(0, 4),
            scores=batch_inputs.new_zeros(0),
            labels=batch_inputs.new_zeros(0, dtype=torch.long),
        )
        fused = [self.fuse(each or [nothing]) for each in found]
        return self.add_pred_to_datasample(batch_data_samples, fused)


def _cluster(union: InstanceData, best: Tensor) -> Tensor:
    """Return the cluster (n,) of each box: the index in `best` with the largest IoU.

    Boxes are sorted by descending score, and only better ones count. After suppression
    each box is in `best` or overlaps one of them.
    """
    overlap = bbox_overlaps(union.bboxes, union.bboxes[best])
    rank = torch.arange(len(union), device=best.device)
    foreign = union.labels[:, None] != union.labels[best]
    overlap[foreign | (best > rank[:, None])] = -1
    overlap[best, torch.arange(len(best), device=best.device)] = 2
    return overlap.argmax(1)


def _mean_box(union: InstanceData, member: Tensor, clusters: int) -> Tensor:
    """Return the score-weighted mean box (clusters, 4) of each cluster."""
    weights = union.scores[:, None].clamp(min=torch.finfo(union.scores.dtype).tiny)
    rows = torch.cat([union.bboxes * weights, weights], 1)
    sums = rows.new_zeros(clusters, 5).index_add_(0, member, rows)
    return sums[:, :4] / sums[:, 4:]
