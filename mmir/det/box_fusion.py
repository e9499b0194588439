"""Make one set of boxes of those that several detectors found in an image."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from mmcv.ops import batched_nms
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor

Method = Literal['nms', 'wbf', 'prob']


class BoxFusion:
    """Fuse the boxes of several detectors.

    Boxes of one class belong together if they overlap by more than `iou_threshold` with
    the best of them. A box is compared with the best box of a cluster, not with the
    average so far as published for 'wbf': for clusters of two, the usual ones of two
    detectors, that is the same, and it needs no loop over boxes.

    Sources: Solovyev et al., Weighted boxes fusion: Ensembling boxes from different
    object detection models, Image and Vision Computing 107, 2021. Chen et al.,
    Multimodal Object Detection via Probabilistic Ensembling, ECCV 2022.

    Args:
        method (str): 'nms': of each cluster the best box is kept (non-maximum
            suppression of the union). 'wbf': the box is the mean weighted by the
            scores, the score is the mean score times min(T, N) / N, for T boxes in the
            cluster and N detectors. 'prob': the box as in 'wbf'; the scores, one a
            detector, are taken for independent evidence: their odds over those of the
            prior are multiplied.
        iou_threshold (float): Overlap of boxes that belong together.
        max_per_img (int): The best boxes to keep.
        prior (float): For 'prob', the score that says nothing.

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
                `labels` (n,) of each detector that was asked. 'nms' keeps what else
                they have, such as masks.

        Returns:
            InstanceData: The boxes by falling score; what a single detector found is
            returned as it is.
        """
        if len(found) == 1:
            return found[0]
        union = InstanceData.cat(list(found))
        if len(union) == 0:
            return union
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
        if self.method == 'wbf':
            scores = _mean_score(union.scores, member, len(best), len(found))
        else:
            scores = self._evidence(union, member, len(best), len(found))
        boxes = _mean_box(union, member, len(best))
        order = scores.argsort(descending=True, stable=True)[: self.max_per_img]
        return InstanceData(
            bboxes=boxes[order],
            scores=scores[order],
            labels=union.labels[best][order],
        )

    def _best(self, union: InstanceData) -> Tensor:
        """Rows of the best boxes of all clusters, ascending."""
        suppress = dict(type='nms', iou_threshold=self.iou_threshold)
        _, keep = batched_nms(union.bboxes, union.scores, union.labels, suppress)
        return keep.sort().values

    def _evidence(
        self, union: InstanceData, member: Tensor, clusters: int, models: int
    ) -> Tensor:
        """Scores (clusters,) from the best score of each detector in a cluster."""
        nothing = union.scores.new_tensor(self.prior).logit()
        table = nothing.repeat(clusters * models)
        evidence = union.scores.logit(eps=torch.finfo(union.scores.dtype).eps)
        place = member * models + union.origin
        table.scatter_reduce_(0, place, evidence, 'amax', include_self=False)
        total = (table.view(clusters, models) - nothing).sum(1) + nothing
        return total.sigmoid()


def _cluster(union: InstanceData, best: Tensor) -> Tensor:
    """The cluster (n,) of each box: which of the `best` before it overlaps it most.

    Boxes come by falling score; each has one, or is one, after the suppression.
    """
    overlap = bbox_overlaps(union.bboxes, union.bboxes[best])
    rank = torch.arange(len(union), device=best.device)
    foreign = union.labels[:, None] != union.labels[best]
    overlap[foreign | (best > rank[:, None])] = -1
    overlap[best, torch.arange(len(best), device=best.device)] = 2
    return overlap.argmax(1)


def _mean_box(union: InstanceData, member: Tensor, clusters: int) -> Tensor:
    """Mean (clusters, 4) of the boxes of each cluster, weighted by their scores."""
    weights = union.scores[:, None].clamp(min=torch.finfo(union.scores.dtype).tiny)
    rows = torch.cat([union.bboxes * weights, weights], 1)
    sums = rows.new_zeros(clusters, 5).index_add_(0, member, rows)
    return sums[:, :4] / sums[:, 4:]


def _mean_score(scores: Tensor, member: Tensor, clusters: int, models: int) -> Tensor:
    """Mean score (clusters,), less where not all detectors found the object."""
    rows = torch.stack([scores, torch.ones_like(scores)], 1)
    total, count = rows.new_zeros(clusters, 2).index_add_(0, member, rows).unbind(1)
    return total / count * count.clamp(max=models) / models
