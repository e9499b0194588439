"""Reference implementation of YOLOv7 in plain loops, written from the equations."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

ANCHORS = (
    ((12, 16), (19, 36), (40, 28)),
    ((36, 75), (76, 55), (72, 146)),
    ((142, 110), (192, 243), (459, 401)),
)
STRIDES = (8, 16, 32)
HEAD_IN = {'tiny': (128, 256, 512), 'l': (256, 512, 1024), 'x': (320, 640, 1280)}
"""Input channels of the head."""


class Box(NamedTuple):
    """A ground-truth box in pixels."""

    cx: float
    cy: float
    w: float
    h: float
    label: int = 0


class Cell(NamedTuple):
    """A prediction and the ground truth of its image it is matched with."""

    level: int
    image: int
    anchor: int
    gx: int
    gy: int
    gt: int


def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give batch norms and implicit layers values that show mistakes."""
    generator = torch.Generator().manual_seed(seed)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            for t, low in ((m.weight, 0.5), (m.running_var, 0.5), (m.bias, -0.5)):
                t.data.uniform_(low, low + 1, generator=generator)
            m.running_mean.uniform_(-0.5, 0.5, generator=generator)
        if hasattr(m, 'implicit'):
            m.implicit.data.uniform_(0.5, 1.5, generator=generator)
    return module.eval()


def norm(bn: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Batch norm with its statistics and the epsilon of YOLOv7."""
    scale, shift = bn.weight, bn.bias
    x = (x - bn.running_mean[:, None, None]) * (
        bn.running_var[:, None, None] + 1e-3
    ).rsqrt()
    return x * scale[:, None, None] + shift[:, None, None]


def activate(x: Tensor, arch: str) -> Tensor:
    """SiLU for L and X, leaky ReLU of slope 0.1 for tiny."""
    return torch.where(x > 0, x, 0.1 * x) if arch == 'tiny' else x * x.sigmoid()


def unit(m: nn.Module, x: Tensor, arch: str, stride: int = 1) -> Tensor:
    """Convolution, batch norm, activation of a mmcv `ConvModule`."""
    weight = m.conv.weight
    assert m.conv.bias is None
    out = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
    return activate(norm(m.bn, out), arch)


def elan(m: nn.Module, x: Tensor, arch: str, picks: tuple[int, ...]) -> Tensor:
    """Layer aggregation; the 3x3 outputs `picks` (from 1) come first, then branches."""
    short, main = unit(m.short_conv, x, arch), unit(m.main_conv, x, arch)
    chain = [main]
    for block in m.blocks:
        chain.append(unit(block, chain[-1], arch))
    parts = [*(chain[i] for i in picks), main, short]
    return unit(m.final_conv, torch.cat(parts, 1), arch)


def downsample(m: nn.Module, x: Tensor, arch: str) -> Tensor:
    """Strided branch beside the pooled one (MP)."""
    first, second = m.stride_conv
    strided = unit(second, unit(first, x, arch), arch, stride=2)
    return torch.cat([strided, unit(m.pool_conv, F.max_pool2d(x, 2), arch)], 1)


def pool(x: Tensor, size: int) -> Tensor:
    """Max pool that keeps the size."""
    return F.max_pool2d(x, size, 1, size // 2)


def spp(m: nn.Module, x: Tensor, arch: str) -> Tensor:
    """Pyramid pooling of either size."""
    short = unit(m.short_layer, x, arch)
    if arch == 'tiny':
        y = unit(m.main_layers, x, arch)
        cat = torch.cat([pool(y, 13), pool(y, 9), pool(y, 5), y], 1)
        main = unit(m.fuse_layers, cat, arch)
    else:
        y = x
        for layer in m.main_layers:
            y = unit(layer, y, arch)
        cat = torch.cat([y, pool(y, 5), pool(y, 9), pool(y, 13)], 1)
        main = unit(m.fuse_layers[1], unit(m.fuse_layers[0], cat, arch), arch)
    return unit(m.final_conv, torch.cat([main, short], 1), arch)


def backbone(m: nn.Module, x: Tensor, arch: str) -> list[Tensor]:
    """Features C3, C4, C5."""
    strides = (2, 2) if arch == 'tiny' else (1, 2, 1)
    picks = {'tiny': (2, 1), 'l': (4, 2), 'x': (6, 4, 2)}[arch]
    for layer, stride in zip(m.stem, strides, strict=True):
        x = unit(layer, x, arch, stride)
    if arch == 'tiny':
        x = elan(m.stage1[0], x, arch, picks)
    else:
        x = elan(m.stage1[1], unit(m.stage1[0], x, arch, 2), arch, picks)
    outs = []
    for stage in (m.stage2, m.stage3, m.stage4):
        x = F.max_pool2d(x, 2) if arch == 'tiny' else downsample(stage[0], x, arch)
        x = elan(stage[1], x, arch, picks)
        outs.append(x)
    return outs


def neck(m: nn.Module, feats: list[Tensor], arch: str) -> list[Tensor]:
    """Path aggregation of C3, C4, C5, with the output layers."""
    c3, c4, c5 = feats
    picks = {'tiny': (2, 1), 'l': (4, 3, 2, 1), 'x': (6, 4, 2)}[arch]

    def up(layer: nn.Module, x: Tensor) -> Tensor:
        return unit(layer, x, arch).repeat_interleave(2, 2).repeat_interleave(2, 3)

    def down(layer: nn.Module, x: Tensor) -> Tensor:
        if arch == 'tiny':
            return unit(layer, x, arch, 2)
        return downsample(layer, x, arch)

    def out(layer: nn.Module, x: Tensor) -> Tensor:
        return rep(layer, x, arch) if arch == 'l' else unit(layer, x, arch)

    top = spp(m.spp, c5, arch)
    lateral = [
        unit(layer, c, arch)
        for layer, c in zip(m.lateral_layers, (c3, c4), strict=True)
    ]
    mid = torch.cat([lateral[1], up(m.reduce_layers[1], top)], 1)
    mid = elan(m.top_down_layers[1], mid, arch, picks)
    p3 = torch.cat([lateral[0], up(m.reduce_layers[0], mid)], 1)
    p3 = elan(m.top_down_layers[0], p3, arch, picks)
    p4 = torch.cat([down(m.downsample_layers[0], p3), mid], 1)
    p4 = elan(m.bottom_up_layers[0], p4, arch, picks)
    p5 = torch.cat([down(m.downsample_layers[1], p4), top], 1)
    p5 = elan(m.bottom_up_layers[1], p5, arch, picks)
    return [out(layer, p) for layer, p in zip(m.out_layers, (p3, p4, p5), strict=True)]


def rep(m: nn.Module, x: Tensor, arch: str = 'l') -> Tensor:
    """Sum of the 3x3, the 1x1 and (if there is one) the identity branch."""
    out = norm(m.rbr_dense.bn, F.conv2d(x, m.rbr_dense.conv.weight, padding=1))
    out = out + norm(m.rbr_1x1.bn, F.conv2d(x, m.rbr_1x1.conv.weight))
    if x.shape[1] == out.shape[1]:
        out = out + norm(m.rbr_identity, x)
    return activate(out, arch)


def sigmoid(t: float) -> float:
    """Logistic function."""
    return 1 / (1 + math.exp(-t))


def decode(
    raw: list[float], gx: int, gy: int, anchor: tuple[float, float], stride: int
) -> Box:
    """Box of one raw prediction."""
    x, y, w, h = (2 * sigmoid(t) for t in raw[:4])
    return Box(
        (x - 0.5 + gx) * stride,
        (y - 0.5 + gy) * stride,
        w**2 * anchor[0],
        h**2 * anchor[1],
    )


def overlap(a: Box, b: Box) -> float:
    """Area of the intersection."""
    w = min(a.cx + a.w / 2, b.cx + b.w / 2) - max(a.cx - a.w / 2, b.cx - b.w / 2)
    h = min(a.cy + a.h / 2, b.cy + b.h / 2) - max(a.cy - a.h / 2, b.cy - b.h / 2)
    return max(w, 0) * max(h, 0)


def iou(a: Box, b: Box) -> float:
    """Intersection over union."""
    inter = overlap(a, b)
    return inter / (a.w * a.h + b.w * b.h - inter)


def ciou(a: Box, b: Box, alpha: float | None = None) -> float:
    """Complete IoU; `alpha` may be given to hold it constant."""
    wide = max(a.cx + a.w / 2, b.cx + b.w / 2) - min(a.cx - a.w / 2, b.cx - b.w / 2)
    high = max(a.cy + a.h / 2, b.cy + b.h / 2) - min(a.cy - a.h / 2, b.cy - b.h / 2)
    distance = (a.cx - b.cx) ** 2 + (a.cy - b.cy) ** 2
    v = 4 / math.pi**2 * (math.atan(b.w / b.h) - math.atan(a.w / a.h)) ** 2
    if alpha is None:
        alpha = v / (v - iou(a, b) + 1 + 1e-7)
    return iou(a, b) - distance / (wide**2 + high**2) - alpha * v


def bce(logit: float, target: float) -> float:
    """Binary cross-entropy of one logit."""
    return max(logit, 0) - logit * target + math.log1p(math.exp(-abs(logit)))


def candidates(
    shapes: list[tuple[int, int]], boxes: list[Box], image: int
) -> Iterator[Cell]:
    """Candidates of an image, in the order level, offset, anchor, box."""
    for level, (rows, columns) in enumerate(shapes):
        stride = STRIDES[level]
        for dx, dy in ((0, 0), (-1, 0), (0, -1), (1, 0), (0, 1)):
            for anchor, (aw, ah) in enumerate(ANCHORS[level]):
                for gt, box in enumerate(boxes):
                    ratios = (box.w / aw, aw / box.w, box.h / ah, ah / box.h)
                    gx, gy = box.cx / stride, box.cy / stride
                    near = {
                        (0, 0): True,
                        (-1, 0): gx % 1 < 0.5 and gx > 1,
                        (0, -1): gy % 1 < 0.5 and gy > 1,
                        (1, 0): (columns - gx) % 1 < 0.5 and columns - gx > 1,
                        (0, 1): (rows - gy) % 1 < 0.5 and rows - gy > 1,
                    }
                    if max(ratios) < 4 and near[dx, dy]:
                        x, y = int(gx + dx / 2), int(gy + dy / 2)
                        x = min(max(x, 0), columns - 1)
                        y = min(max(y, 0), rows - 1)
                        yield Cell(level, image, anchor, x, y, gt)


def assign(preds: list[Tensor], images: list[list[Box]], topk: int = 10) -> list[Cell]:
    """OTA assignment; within a level the matches are ordered as published."""
    found = []
    for image, boxes in enumerate(images):
        cells = list(candidates([p.shape[2:4] for p in preds], boxes, image))
        raws = [preds[c.level][image, c.anchor, c.gy, c.gx].tolist() for c in cells]
        costs, ious = [], []
        for c, raw in zip(cells, raws, strict=True):
            box = decode(raw, c.gx, c.gy, ANCHORS[c.level][c.anchor], STRIDES[c.level])
            ious.append([iou(box, b) for b in boxes])
            y = [math.sqrt(sigmoid(t) * sigmoid(raw[4])) for t in raw[5:]]
            costs.append(
                [
                    sum(
                        bce(math.log(p / (1 - p)), i == b.label)
                        for i, p in enumerate(y)
                    )
                    - 3 * math.log(u + 1e-8)
                    for b, u in zip(boxes, ious[-1], strict=True)
                ]
            )
        owners = {i: [] for i in range(len(cells))}
        for g in range(len(boxes) if cells else 0):
            best = sorted((u[g] for u in ious), reverse=True)[:topk]
            k = max(1, int(sum(best)))
            for i in sorted(owners, key=lambda i: costs[i][g])[:k]:
                owners[i].append(g)
        for i, gts in owners.items():
            if len(gts) > 1:
                gts = [min(range(len(boxes)), key=costs[i].__getitem__)]
            found += [cells[i]._replace(gt=g) for g in gts]
    return sorted(found, key=lambda c: c.level)


def losses(
    preds: list[Tensor], images: list[list[Box]], **weights: float
) -> tuple[float, float, float]:
    """Box, objectness and class loss of a batch."""
    num_classes = preds[0].shape[-1] - 5
    terms = [0.0, 0.0, 0.0]
    matches = assign(preds, images)
    for level, pred in enumerate(preds):
        goals, box_terms, cls_terms = {}, [], []
        for c in (c for c in matches if c.level == level):
            raw = pred[c.image, c.anchor, c.gy, c.gx].tolist()
            gt, stride = images[c.image][c.gt], STRIDES[level]
            box = decode(raw, c.gx, c.gy, ANCHORS[level][c.anchor], stride)
            quality = ciou(box, gt)
            box_terms.append(1 - quality)
            goals[c.image, c.anchor, c.gy, c.gx] = max(quality, 0)
            cls_terms += [bce(t, i == gt.label) for i, t in enumerate(raw[5:])]
        obj = torch.zeros(pred.shape[:4], dtype=torch.float64)
        for place, goal in goals.items():
            obj[place] = goal
        pairs = zip(
            pred[..., 4].flatten().tolist(), obj.flatten().tolist(), strict=True
        )
        obj_terms = [bce(logit, goal) for logit, goal in pairs]
        terms[1] += (4.0, 1.0, 0.4)[level] * sum(obj_terms) / len(obj_terms)
        if box_terms:
            terms[0] += sum(box_terms) / len(box_terms)
            terms[2] += (num_classes > 1) * sum(cls_terms) / len(cls_terms)
    cls_weight = weights['cls'] * num_classes / 80
    scale = (weights['box'], weights['obj'], cls_weight)
    return tuple(len(images) * t * w for t, w in zip(terms, scale, strict=True))


def random_boxes(count: int, size: tuple[int, int], seed: int) -> list[Box]:
    """Boxes of 4 to 200 pixels anywhere in an image of `size` (height, width)."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(count, 5, generator=generator).tolist()
    return [
        Box(x * size[1], y * size[0], 4 * 50**w, 4 * 50**h, int(label * 4))
        for x, y, w, h, label in u
    ]


def random_maps(
    size: tuple[int, int],
    batch: int = 2,
    classes: int = 4,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> list[Tensor]:
    """Raw maps (N, 3 * (5 + C), H_i, W_i) of images of `size`."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(
            (batch, 3 * (5 + classes), size[0] // s, size[1] // s), generator=generator
        ).to(dtype)
        for s in STRIDES
    ]


def per_anchor(raw: Tensor) -> Tensor:
    """(N, A * K, H, W) as (N, A, H, W, K)."""
    return raw.unflatten(1, (3, -1)).permute(0, 1, 3, 4, 2)


def instances(boxes: list[Box]) -> InstanceData:
    """Return ground truth in the format of the host."""
    rows = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 5)
    half = rows[:, 2:4] / 2
    corners = torch.cat([rows[:, :2] - half, rows[:, :2] + half], 1)
    return InstanceData(bboxes=corners.float(), labels=rows[:, 4].long())


def head_cfg(classes: int, arch: str = 'tiny', **kwargs) -> ConfigDict:
    """Config of a head."""
    module = dict(
        type='mmir.YOLOHeadModule', in_channels=HEAD_IN[arch], num_classes=classes
    )
    return ConfigDict(type='mmir.YOLOHead', head_module=module, **kwargs)
