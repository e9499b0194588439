"""Comparison of an exported YOLO detector with PyTorch."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmir.det.yolo.onnx_graph import Exportable

if TYPE_CHECKING:
    from onnx import ModelProto

    from mmir.det.yolo.detector import YOLODetector


BOX_LIMIT, SCORE_LIMIT = 0.01, 1e-4
"""Differences of coordinates (in pixels) and scores that are always accepted."""
NOISE_FACTOR = 8
"""Multiple of PyTorch's rounding error that is accepted as well."""
MISSED_LIMIT = 0.02
"""Largest fraction of detections, after NMS, found by only one of the two.

Rounding decides whether a box whose IoU is right at the threshold is suppressed.
"""


@dataclass(frozen=True)
class Comparison:
    """Differences between PyTorch and onnxruntime, both in float32.

    Attributes:
        boxes (float): Largest coordinate difference, in pixels.
        scores (float): Largest score difference.
        noise (tuple[float, float]): The same between PyTorch in float32 and float64.
        missed (float): Fraction of detections, after NMS, without a counterpart (same
            label, within a pixel) in the other. 0 for an export without NMS.
    """

    boxes: float
    scores: float
    noise: tuple[float, float] = (0.0, 0.0)
    missed: float = 0.0

    @property
    def good(self) -> bool:
        """Whether the differences are due to rounding; False for NaN."""
        box_noise, score_noise = self.noise
        return (
            self.boxes <= BOX_LIMIT + NOISE_FACTOR * box_noise
            and self.scores <= SCORE_LIMIT + NOISE_FACTOR * score_noise
            and self.missed <= MISSED_LIMIT
        )

    def __str__(self) -> str:
        return (
            f'largest difference {self.boxes:.2g} px in boxes and {self.scores:.2g} in '
            f'scores (rounding of PyTorch: {self.noise[0]:.2g} and '
            f'{self.noise[1]:.2g}), {self.missed:.1%} of the detections differ'
        )


@torch.no_grad()
def compare(
    model: 'YOLODetector',
    raw: 'ModelProto',
    suppressed: 'ModelProto | None',
    inputs: Sequence[Tensor],
) -> Comparison:
    """Run PyTorch and onnxruntime on the same images.

    Args:
        model (YOLODetector): Trained detector, not deployed, float32 on the CPU.
        raw (ModelProto): Its export without NMS.
        suppressed (ModelProto, optional): Its export with NMS, compared with PyTorch's
            NMS on the boxes of `raw`.
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
    # propagates NaN, unlike max()
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
    """Run an ONNX model in onnxruntime on the CPU.

    Args:
        model (ModelProto): Model with one input.
        images (Tensor): Input.

    Returns:
        list[ndarray]: Outputs in order.
    """
    from onnxruntime import InferenceSession

    session = InferenceSession(
        model.SerializeToString(), providers=['CPUExecutionProvider']
    )
    return session.run(None, {session.get_inputs()[0].name: images.numpy()})


def instances(outputs: Sequence[np.ndarray]) -> list[InstanceData]:
    """Convert the outputs of `append_nms` to detections per image.

    Args:
        outputs (sequence of ndarray): `boxes` (N, K, 4), `scores` (N, K), `labels`
            (N, K) and `count` (N,).

    Returns:
        list[InstanceData]: `bboxes`, `scores` and `labels` per image, without padding.
    """
    boxes, scores, labels, counts = map(torch.from_numpy, outputs)
    return [
        InstanceData(bboxes=b[:n], scores=s[:n], labels=i[:n])
        for b, s, i, n in zip(boxes, scores, labels, counts.tolist(), strict=True)
    ]


def _missed(some: InstanceData, others: InstanceData) -> int:
    """Count `some` without one of `others` with the same label within a pixel."""
    if not len(some) or not len(others):
        return len(some)
    gap = (some.bboxes[:, None] - others.bboxes).abs().amax(-1)
    near = (gap < 1) & (some.labels[:, None] == others.labels)
    return int((~near.any(1)).sum())
