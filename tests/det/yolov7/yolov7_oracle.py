"""Fixed weights, images and objects, and the results of YOLOv7 implementations.

Everything is made of integers by a formula, so it is the same on every machine.
`record` says what an implementation makes of it: the answers of MMYOLO are frozen in
`data/`, those of the project are compared with them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
import yolov7_reference as ref
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from torch import Tensor, nn

from mmir.det.yolov7 import YOLOv7

TEST = dict(
    score_thr=0.3,
    nms_pre=30000,
    multi_label=True,
    nms=dict(type='nms', iou_threshold=0.65),
    max_per_img=300,
)
OBJ = {'tiny': 1.0, 'l': 0.7, 'x': 0.7}
CLS = {'tiny': 0.5, 'l': 0.3, 'x': 0.3}


class LossCase(NamedTuple):
    """Raw maps of a batch and its objects."""

    classes: int
    size: tuple[int, int]
    images: list[list[ref.Box]]


def _objects(size: tuple[int, int], classes: int) -> list[list[ref.Box]]:
    """Two images of boxes small and large, overlapping and apart."""
    height, width = size
    # no center on the border or in the middle of a cell, where rounding decides
    rows = [
        [(0.213, 0.337, 18, 25), (0.519, 0.473, 60, 41), (0.563, 0.507, 70, 52)],
        [(0.807, 0.791, 130, 90), (0.131, 0.859, 33, 12), (0.471, 0.121, 150, 40)],
    ]
    return [
        [
            ref.Box(x * width, y * height, w, h, (5 * i + 3 * k) % classes)
            for k, (x, y, w, h) in enumerate(boxes)
        ]
        for i, boxes in enumerate(rows)
    ]


_EDGE = [ref.Box(0, 64, 40, 28, 2), ref.Box(311, 250, 18, 12), ref.Box(160, 1, 90, 2)]
_SAME = [ref.Box(100, 90, 44, 36, 1)] * 2 + [ref.Box(100, 90, 44, 36, 2)]
SQUARE, WIDE = (256, 256), (256, 320)
LOSS_CASES = {
    'square, 80 classes': LossCase(80, SQUARE, _objects(SQUARE, 80)),
    'square, 3 classes': LossCase(3, SQUARE, _objects(SQUARE, 3)),
    'wide, 3 classes': LossCase(3, WIDE, _objects(WIDE, 3)),
    'high, 3 classes': LossCase(3, (320, 192), _objects((320, 192), 3)),
    'wide, 1 class': LossCase(1, WIDE, _objects(WIDE, 1)),
    'one image empty': LossCase(3, WIDE, [_objects(WIDE, 3)[0], []]),
    'all images empty': LossCase(3, WIDE, [[], []]),
    'boxes of a pixel': LossCase(3, WIDE, [[ref.Box(50, 60, 1, 1, 1)], []]),
    'boxes at the border': LossCase(3, WIDE, [_EDGE, _objects(WIDE, 3)[1]]),
    'the same box twice': LossCase(3, WIDE, [_SAME, _objects(WIDE, 3)[1]]),
}
FORWARD_CASES = [
    ('tiny', 80, WIDE),
    ('tiny', 3, SQUARE),
    ('tiny', 1, (96, 160)),
    ('l', 80, (96, 160)),
    ('l', 3, (128, 128)),
    ('x', 3, (64, 96)),
]
TRAIN_CASES = [('tiny', 3, (128, 160)), ('l', 3, (96, 128))]


class Implementation(Protocol):
    """What `record` asks of an implementation."""

    def network(self, arch: str, classes: int, dtype: torch.dtype) -> nn.Module:
        """Return a detector with the weights of the formula, in evaluation mode."""

    def maps(self, network: nn.Module, images: Tensor) -> list[Tensor]:
        """Return its raw maps (N, A * (5 + C), H, W)."""

    def head(self, arch: str, classes: int) -> nn.Module:
        """Return a head."""

    def losses(
        self, head: nn.Module, maps: list[Tensor], case: LossCase
    ) -> dict[str, Tensor]:
        """Return its loss terms."""

    def matches(
        self, head: nn.Module, maps: list[Tensor], case: LossCase
    ) -> list[tuple]:
        """Return (level, image, anchor, gx, gy, box) in its order."""

    def predict(
        self, head: nn.Module, maps: list[Tensor], size: tuple[int, int]
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return boxes, scores and labels of the images."""

    def gradients(self, network: nn.Module, arch: str) -> dict[str, Tensor]:
        """Return its gradients under the names of the project."""


def uniform(*shape: int, stream: int) -> Tensor:
    """Float64 numbers in [0, 1) that look random, by a hash of integers below 2**31."""
    mask = 2**31 - 1
    x = torch.arange(math.prod(shape), dtype=torch.int64) + 1 + stream * 1_000_003
    for factor in (1_664_525, 1_103_515_245, 1_597_334_677):
        x = (x & mask) * factor & mask
        x = x ^ (x >> 15)
    return (x.double() / 2**31).view(shape)


def formula_weights(like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Values for all tensors of a state dict of the project, in its dtypes."""
    weights = {}
    for stream, (name, old) in enumerate(like.items()):
        u = uniform(*old.shape, stream=stream)
        if name == 'bbox_head.anchors':
            value = old.double()
        elif name.endswith('num_batches_tracked'):
            value = torch.tensor(7 + stream)
        elif name.endswith(('running_var', 'bn.weight', '2.implicit')):
            value = 0.75 + u / 2
        elif old.ndim == 4 and not name.endswith('implicit'):
            value = (2 * u - 1) * math.sqrt(6 / old[0].numel())
        else:
            value = (2 * u - 1) * 0.3
        weights[name] = value.to(old.dtype)
    return weights


def formula_images(size: tuple[int, int], batch: int = 1) -> Tensor:
    """Images (N, 3, H, W) in [0, 1), float64."""
    return uniform(batch, 3, *size, stream=9001)


def formula_maps(classes: int, size: tuple[int, int], batch: int = 2) -> list[Tensor]:
    """Raw maps (N, A * (5 + C), H, W), float32."""
    return [
        4 * uniform(batch, 3 * (5 + classes), *(s // d for s in size), stream=d).float()
        - 2
        for d in ref.STRIDES
    ]


class Project:
    """The implementation under test."""

    def network(self, arch: str, classes: int, dtype: torch.dtype) -> YOLOv7:
        network = self._build(arch, classes).to(dtype)
        network.load_state_dict(formula_weights(network.state_dict()))
        return network.eval()

    def maps(self, network: nn.Module, images: Tensor) -> list[Tensor]:
        return network.bbox_head(network.extract_feat(images))[0]

    def head(self, arch: str, classes: int) -> nn.Module:
        return MODELS.build(self._head_cfg(arch, classes, test_cfg=TEST))

    def losses(
        self, head: nn.Module, maps: list[Tensor], case: LossCase
    ) -> dict[str, Tensor]:
        gts = [ref.instances(boxes) for boxes in case.images]
        return head.loss_by_feat(maps, gts, [{}] * len(gts))

    def matches(
        self, head: nn.Module, maps: list[Tensor], case: LossCase
    ) -> list[tuple]:
        seen = []
        assign = head.assigner.assign

        def spy(*args: Any) -> Any:
            seen.append((args[1], assign(*args)))
            return seen[-1][1]

        head.assigner.assign = spy
        self.losses(head, maps, case)
        del head.assigner.assign
        ((targets, found),) = seen
        places = (found.level, found.image, found.anchor, found.column, found.row)
        boxes = [tuple(b) for b in targets.boxes[found.gt].tolist()]
        return list(zip(*(p.tolist() for p in places), boxes, strict=True))

    def predict(
        self, head: nn.Module, maps: list[Tensor], size: tuple[int, int]
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        metas = [dict(img_shape=size, ori_shape=size)] * len(maps[0])
        found = head.predict_by_feat(maps, metas)
        return [(r.bboxes, r.scores, r.labels) for r in found]

    def gradients(self, network: nn.Module, arch: str) -> dict[str, Tensor]:
        return {k: p.grad for k, p in network.named_parameters()}

    def parameter_names(self, arch: str) -> set[str]:
        with torch.device('meta'):
            network = self._build(arch, 1)
        return {name for name, _ in network.named_parameters()}

    def _build(self, arch: str, classes: int) -> YOLOv7:
        cfg = dict(
            type='mmir.YOLOv7',
            backbone=dict(type='mmir.YOLOv7Backbone', arch=arch),
            neck=dict(type='mmir.YOLOv7Neck', arch=arch),
            bbox_head=self._head_cfg(arch, classes),
        )
        return MODELS.build(ConfigDict(cfg))

    def _head_cfg(self, arch: str, classes: int, **kwargs: Any) -> ConfigDict:
        weights = dict(obj_weight=OBJ[arch], cls_weight=CLS[arch])
        return ref.head_cfg(classes, arch, **weights, **kwargs)


def train_losses(
    one: Implementation, arch: str, classes: int, size: tuple[int, int]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses and gradients of a network in training mode, weights in float64."""
    network = one.network(arch, classes, torch.float64).train()
    maps = one.maps(network, formula_images(size, 2))
    case = LossCase(classes, size, _objects(size, classes))
    losses = one.losses(network.bbox_head, maps, case)
    sum(v.sum() for v in losses.values()).backward()
    return losses, one.gradients(network, arch)


def record(one: Implementation) -> dict[str, dict]:
    """Say what an implementation makes of all cases, in plain numbers."""
    return dict(
        forward={_name(c): record_forward(one, *c) for c in FORWARD_CASES},
        loss={name: record_loss(one, name) for name in LOSS_CASES},
        predict={str(n): record_predictions(one, n) for n in (3, 80)},
        train={_name(c): record_training(one, *c) for c in TRAIN_CASES},
    )


def record_forward(
    one: Implementation, arch: str, classes: int, size: tuple[int, int]
) -> list[dict]:
    """Shape, norm and some values of the raw maps, in float64."""
    with torch.no_grad():
        network = one.network(arch, classes, torch.float64)
        maps = one.maps(network, formula_images(size))
    return [_summary(m) for m in maps]


def record_loss(one: Implementation, name: str) -> dict:
    """Loss terms, norms of their gradients with respect to the maps, and matches."""
    case = LOSS_CASES[name]
    head = one.head('l', case.classes)
    maps = [m.requires_grad_() for m in formula_maps(case.classes, case.size)]
    losses = one.losses(head, maps, case)
    sum(v.sum() for v in losses.values()).backward()
    return dict(
        losses={k: v.sum().item() for k, v in losses.items()},
        gradients=[_summary(m.grad) for m in maps],
        matches=rounded(one.matches(head, [m.detach() for m in maps], case)),
    )


def record_predictions(one: Implementation, classes: int) -> list[dict]:
    """Numbers of detections and the best of them."""
    maps = formula_maps(classes, WIDE)
    return [
        dict(
            count=len(scores),
            sum=boxes.double().sum().item(),
            boxes=boxes[:8].tolist(),
            scores=scores[:8].tolist(),
            labels=labels[:8].tolist(),
        )
        for boxes, scores, labels in one.predict(one.head('l', classes), maps, WIDE)
    ]


def record_training(
    one: Implementation, arch: str, classes: int, size: tuple[int, int]
) -> dict:
    """Losses and the norm of every gradient of a network in training mode."""
    losses, gradients = train_losses(one, arch, classes, size)
    return dict(
        losses={k: v.sum().item() for k, v in losses.items()},
        gradients={k: g.double().norm().item() for k, g in gradients.items()},
    )


def rounded(matches: Sequence[tuple]) -> list[list]:
    """Matches with their boxes in tenths of a pixel, sorted."""
    return sorted([*m[:5], [round(v, 1) for v in m[5]]] for m in matches)


def _summary(value: Tensor) -> dict:
    flat = value.detach().double().flatten()
    picks = torch.linspace(0, len(flat) - 1, 7).long()
    return dict(
        shape=list(value.shape),
        norm=flat.norm().item(),
        sum=flat.sum().item(),
        samples=flat[picks].tolist(),
    )


def _name(case: tuple) -> str:
    arch, classes, size = case
    return f'{arch}, {classes} classes, {size[0]}x{size[1]}'
