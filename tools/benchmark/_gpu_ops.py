"""Operators of `mmcv.ops` at typical detector sizes, and their torchvision versions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torchvision.ops as vision
from torch import Tensor
from torch.nn.functional import one_hot

from mmir.compat import mmcv_ext


@dataclass(frozen=True)
class Operator:
    """Operator call to measure.

    Attributes:
        name: Operator and size.
        ours: The operator that mmcv uses.
        theirs: Equivalent of torchvision, if there is one.
        inputs: Input tensors of both.
        derives: Whether to measure the backward pass as well.
    """

    name: str
    ours: Callable[..., Tensor]
    theirs: Callable[..., Tensor] | None
    inputs: Sequence[Tensor]
    derives: bool = True


def operators(device: str, quick: bool) -> list[Operator]:
    """List all operators; `quick` makes them small."""
    made = [*_boxes(device, quick), *_pooling(device, quick)]
    made += [*_deformable(device, quick), _attention(device, quick)]
    return [*made, _focal(device, quick)]


def _draw(device: str, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator).to(device)


def _random_boxes(count: int, device: str) -> Tensor:
    """Random boxes (n, 4) in a 640-pixel image, some with a large overlap."""
    draw = torch.Generator().manual_seed(1)
    corner = torch.rand(count, 2, generator=draw) * 500
    size = 10 + torch.rand(count, 2, generator=draw) * 120
    return torch.cat([corner, corner + size], dim=1).to(device)


def _boxes(device: str, quick: bool) -> list[Operator]:
    """Non-maximum suppression."""
    import mmcv.ops

    many, few = (200, 20) if quick else (5000, 300)

    def soft(boxes: Tensor, scores: Tensor) -> Tensor:
        dets = boxes.new_zeros(len(boxes), 5)
        return mmcv_ext.softnms(boxes, scores, dets, 0.3, 0.5, 1e-3, 1, 0)

    def inputs(count: int) -> tuple[Tensor, Tensor]:
        return _random_boxes(count, device), _draw(device, count).sigmoid()

    return [
        Operator(
            f'nms, {many} boxes',
            lambda b, s: mmcv.ops.nms(b, s, 0.65)[1],
            lambda b, s: vision.nms(b, s, 0.65),
            inputs(many),
            derives=False,
        ),
        Operator(f'soft nms, {few} boxes', soft, None, inputs(few), derives=False),
    ]


def _pooling(device: str, quick: bool) -> list[Operator]:
    """RoIAlign on a level of a feature pyramid."""
    import mmcv.ops

    count, channels, side = (10, 4, 40) if quick else (1000, 256, 160)
    index = (torch.arange(count, device=device) % 2).float()[:, None]
    rois = torch.cat([index, _random_boxes(count, device)], dim=1)
    scale = side / 640
    made = []
    for mode in ('avg', 'max'):
        layer = mmcv.ops.RoIAlign(7, scale, 2, pool_mode=mode)
        made.append(
            Operator(
                f'RoIAlign ({mode}), {count} regions, {channels}x{side}x{side}',
                lambda x, layer=layer: layer(x, rois),
                None
                if mode == 'max'
                else lambda x: vision.roi_align(x, rois, 7, scale, 2, aligned=True),
                [_draw(device, 2, channels, side, side)],
            )
        )
    return made


def _deformable(device: str, quick: bool) -> list[Operator]:
    """Deformable convolutions of a ResNet stage."""
    import mmcv.ops

    channels, side = (4, 8) if quick else (256, 40)
    x, offset = (_draw(device, 2, c, side, side) for c in (channels, 18))
    mask = _draw(device, 2, 9, side, side).sigmoid()
    weight, bias = _draw(device, channels, channels, 3, 3) / 50, _draw(device, channels)
    size = f'{channels}x{side}x{side}'
    return [
        Operator(
            f'deformable convolution, {size}',
            lambda x, o, w: mmcv.ops.deform_conv2d(x, o, w, 1, 1),
            lambda x, o, w: vision.deform_conv2d(x, o, w, padding=1),
            [x, offset, weight],
        ),
        Operator(
            f'modulated deformable convolution, {size}',
            lambda x, o, m, w, b: mmcv.ops.modulated_deform_conv2d(x, o, m, w, b, 1, 1),
            lambda x, o, m, w, b: vision.deform_conv2d(x, o, w, b, padding=1, mask=m),
            [x, offset, mask, weight, bias],
        ),
    ]


def _attention(device: str, quick: bool) -> Operator:
    """Deformable attention of a DETR decoder with four levels."""
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

    sides, queries = ((8, 4), 5) if quick else ((80, 40, 20, 10), 900)
    shapes = torch.tensor([[s, s] for s in sides], device=device)
    sizes = shapes.prod(1)
    starts = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)[:-1]])
    levels = len(sides)
    value = _draw(device, 2, sum(s * s for s in sides), 8, 32)
    places = _draw(device, 2, queries, 8, levels, 4, 2).sigmoid()
    weights = _draw(device, 2, queries, 8, levels * 4).softmax(-1)

    def attend(v: Tensor, p: Tensor, w: Tensor) -> Tensor:
        return MultiScaleDeformableAttnFunction.apply(v, shapes, starts, p, w, 64)

    return Operator(
        f'deformable attention, {queries} queries, {levels} levels',
        attend,
        None,
        [value, places, weights.view(2, queries, 8, levels, 4)],
    )


def _focal(device: str, quick: bool) -> Operator:
    """Sigmoid focal loss of a dense head with 80 classes."""
    import mmcv.ops

    rows = 50 if quick else 30000
    target = torch.arange(rows, device=device) % 81  # 80 is background
    truth = one_hot(target, 81)[:, :80].float()
    return Operator(
        f'sigmoid focal loss, {rows}x80',
        lambda x: mmcv.ops.sigmoid_focal_loss(x, target, 2.0, 0.25, None, 'none'),
        lambda x: vision.sigmoid_focal_loss(x, truth, 0.25, 2.0),
        [_draw(device, rows, 80)],
    )
