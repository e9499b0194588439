"""Comparison of an exported YOLOv7 with PyTorch."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmir.det.yolov7.onnx_graph import Exportable

if TYPE_CHECKING:
    from onnx import ModelProto

    from mmir.det.yolov7.detector import YOLOv7


BOX_LIMIT, SCORE_LIMIT = 0.01, 1e-4
"""Differences, in pixels and of a score, that are always fine."""
NOISE_FACTOR = 8
"""Differences of this many times the rounding errors of PyTorch are fine too."""
MISSED_LIMIT = 0.02
"""Largest share of detections, after the suppression, that only one of the two has.

Rounding decides whether a box that overlaps by just the threshold is suppressed.
"""


@dataclass(frozen=True)
class Comparison:
    """Differences between PyTorch and onnxruntime, both in float32.

    Attributes:
        boxes (float): Largest difference of a coordinate, in pixels.
        scores (float): Largest difference of a score.
        noise (tuple[float, float]): Those between PyTorch in float32 and float64.
        missed (float): Share of the detections of either, after the suppression, that
            the other does not have: same label, within a pixel. 0 without one.
    """

    boxes: float
    scores: float
    noise: tuple[float, float] = (0.0, 0.0)
    missed: float = 0.0

    @property
    def good(self) -> bool:
        """Whether the differences are those of rounding; never for NaN."""
        box_noise, score_noise = self.noise
        return (
            self.boxes <= BOX_LIMIT + NOISE_FACTOR * box_noise
            and self.scores <= SCORE_LIMIT + NOISE_FACTOR * score_noise
            and self.missed <= MISSED_LIMIT
        )

    def __str__(self) -> str:
        return (
            f'largest difference {self.boxes:.2g} px and {self.scores:.2g} of a score '
            f'(rounding of PyTorch: {self.noise[0]:.2g} and {self.noise[1]:.2g}), '
            f'{self.missed:.1%} of the detections differ'
        )


@torch.no_grad()
def compare(
    model: 'YOLOv7',
    raw: 'ModelProto',
    suppressed: 'ModelProto | None',
    inputs: Sequence[Tensor],
) -> Comparison:
    """Run PyTorch and onnxruntime on the same images.

    Args:
        model (YOLOv7): The detector as it was trained, float32 on the CPU.
        raw (ModelProto): Its export without the suppression.
        suppressed (ModelProto, optional): Its export with the suppression, compared
            with the suppression of PyTorch on the boxes of `raw`.
        inputs (sequence of Tensor): Batches (N, 3, H, W), 0 to 255.

    Returns:
        Comparison: The largest differences over all batches.
    """
    exact = Exportable(copy.deepcopy(model).double())
    gaps, noises, decoded = [], [], []
    for images in inputs:
        expected = Exportable(model)(images)
        decoded.append([torch.from_numpy(a) for a in run_onnx(raw, images)])
        gaps.append(_gaps(decoded[-1], expected))
        noises.append(_gaps(expected, exact(images.double())))
    # NaN stays, unlike with max()
    boxes, scores = np.max(gaps, axis=0).tolist()
    noise = tuple(np.max(noises, axis=0).tolist())
    missed = total = 0
    finite = np.isfinite([boxes, scores]).all()
    for images, found in zip(inputs, decoded, strict=True):
        if suppressed is None or not finite:
            break
        metas = [dict(img_shape=tuple(images.shape[2:]))] * len(images)
        truth = model.bbox_head.predict_by_boxes(*found, metas)
        kept = instances(run_onnx(suppressed, images))
        for one, other in zip(truth, kept, strict=True):
            missed += _missed(one, other) + _missed(other, one)
            total += len(one) + len(other)
    return Comparison(boxes, scores, noise, missed / max(total, 1))


def _gaps(some: Sequence[Tensor], others: Sequence[Tensor]) -> list[float]:
    pairs = zip(some, others, strict=True)
    return [(a - b).abs().max().item() for a, b in pairs]


def run_onnx(model: 'ModelProto', images: Tensor) -> list[np.ndarray]:
    """Outputs of an ONNX model in onnxruntime on the CPU.

    Args:
        model (ModelProto): A model with one input.
        images (Tensor): That input.

    Returns:
        list[ndarray]: The outputs, in their order.
    """
    from onnxruntime import InferenceSession

    session = InferenceSession(
        model.SerializeToString(), providers=['CPUExecutionProvider']
    )
    return session.run(None, {session.get_inputs()[0].name: images.numpy()})


def instances(outputs: Sequence[np.ndarray]) -> list[InstanceData]:
    """Detections of each image, from the outputs of `append_nms`.

    Args:
        outputs (sequence of ndarray): `boxes` (N, K, 4), `scores` (N, K), `labels`
            (N, K) and `count` (N,).

    Returns:
        list[InstanceData]: `bboxes`, `scores` and `labels` an image, without the
        filling.
    """
    boxes, scores, labels, counts = map(torch.from_numpy, outputs)
    return [
        InstanceData(bboxes=b[:n], scores=s[:n], labels=i[:n])
        for b, s, i, n in zip(boxes, scores, labels, counts.tolist(), strict=True)
    ]


def _missed(some: InstanceData, others: InstanceData) -> int:
    """How many of `some` have no other of their label within a pixel."""
    if not len(some) or not len(others):
        return len(some)
    gap = (some.bboxes[:, None] - others.bboxes).abs().amax(-1)
    near = (gap < 1) & (some.labels[:, None] == others.labels)
    return int((~near.any(1)).sum())
