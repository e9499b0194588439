"""YOLOv5 v6 as a list of layers with the official names, and its plain forward pass."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Layer = dict[str, Any]
STRIDES = (8, 16, 32)
ANCHORS = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
PARAMETERS = {
    'n': 1_872_157,
    's': 7_235_389,
    'm': 21_190_557,
    'l': 46_563_709,
    'x': 86_749_405,
}
"""Published numbers of parameters, for 80 classes."""
_MULTIPLES = {
    'n': (0.25, 0.33),
    's': (0.5, 0.33),
    'm': (0.75, 0.67),
    'l': (1.0, 1.0),
    'x': (1.25, 1.33),
}
"""Published multiples of width and depth."""


def layers(arch: str) -> list[Layer]:
    """List the layers of a size: from which they read, their type, and options."""
    width, depth = _MULTIPLES[arch]

    def conv(out: int, kernel: int, stride: int, padding: int | None = None) -> Layer:
        padding = kernel // 2 if padding is None else padding
        return dict(
            type='Conv',
            out_channels=int(out * width),
            kernel=kernel,
            stride=stride,
            padding=padding,
        )

    def block(out: int, number: int, shortcut: bool) -> Layer:
        return dict(
            type='C3',
            out_channels=int(out * width),
            bottlenecks=max(round(number * depth), 1),
            shortcut=shortcut,
        )

    def concat(other: int) -> Layer:
        return {'type': 'Concat', 'from': [-1, other]}

    up = dict(type='Upsample')
    rows = [conv(64, 6, 2, 2)]
    for out, number in ((128, 3), (256, 6), (512, 9), (1024, 3)):
        rows += [conv(out, 3, 2), block(out, number, True)]
    rows += [dict(type='SPPF', out_channels=int(1024 * width))]
    rows += [conv(512, 1, 1), up, concat(6), block(512, 3, False)]
    rows += [conv(256, 1, 1), up, concat(4), block(256, 3, False)]
    rows += [conv(256, 3, 2), concat(14), block(512, 3, False)]
    rows += [conv(512, 3, 2), concat(10), block(1024, 3, False)]
    rows += [{'type': 'Detect', 'from': [17, 20, 23]}]
    return [{'index': i, 'from': -1, **row} for i, row in enumerate(rows)]


def forward(table: list[Layer], weights: Mapping[str, Tensor], x: Tensor) -> list:
    """Map images (N, 3, H, W) to the raw maps, layer by layer."""
    outs: list[Any] = []
    for row in table:
        source, index = row['from'], row['index']
        if isinstance(source, list):
            inputs: Any = [outs[-1] if i == -1 else outs[i] for i in source]
        else:
            inputs = outs[source] if outs else x
        outs.append(_LAYERS[row['type']](f'model.{index}', row, weights, inputs))
    return outs[-1]


def unit(
    weights: Mapping[str, Tensor],
    name: str,
    x: Tensor,
    stride: int = 1,
    padding: int | None = None,
) -> Tensor:
    """Convolution, batch norm if there is one, and SiLU."""
    kernel = weights[f'{name}.conv.weight']
    padding = kernel.shape[-1] // 2 if padding is None else padding
    bias = weights.get(f'{name}.conv.bias')
    out = F.conv2d(x, kernel, bias, stride, padding)
    if f'{name}.bn.weight' in weights:
        gamma, beta, mean, var = (
            weights[f'{name}.bn.{key}'][:, None, None]
            for key in ('weight', 'bias', 'running_mean', 'running_var')
        )
        out = (out - mean) / (var + 1e-3).sqrt() * gamma + beta
    return out * out.sigmoid()


def _conv(name: str, row: Layer, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    kernel = row['out_channels'], row['kernel'], row['kernel']
    shape = weights[f'{name}.conv.weight'].shape
    assert (shape[0], *shape[2:]) == kernel
    return unit(weights, name, x, row['stride'], row['padding'])


def _c3(name: str, row: Layer, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    main = unit(weights, f'{name}.cv1', x)
    for k in range(row['bottlenecks']):
        inner = unit(weights, f'{name}.m.{k}.cv1', main)
        inner = unit(weights, f'{name}.m.{k}.cv2', inner)
        main = main + inner if row['shortcut'] else inner
    both = torch.cat([main, unit(weights, f'{name}.cv2', x)], 1)
    return unit(weights, f'{name}.cv3', both)


def _sppf(name: str, row: Layer, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    x = unit(weights, f'{name}.cv1', x)
    # pools of 5 in a row are pools of 5, 9 and 13
    pools = [F.max_pool2d(x, k, 1, k // 2) for k in (5, 9, 13)]
    return unit(weights, f'{name}.cv2', torch.cat([x, *pools], 1))


def _detect(name: str, row: Layer, weights: Mapping[str, Tensor], xs: list) -> list:
    return [
        F.conv2d(x, weights[f'{name}.m.{i}.weight'], weights[f'{name}.m.{i}.bias'])
        for i, x in enumerate(xs)
    ]


_LAYERS = {
    'Conv': _conv,
    'C3': _c3,
    'SPPF': _sppf,
    'Detect': _detect,
    'Concat': lambda name, row, weights, xs: torch.cat(xs, 1),
    'Upsample': lambda name, row, weights, x: x.repeat_interleave(
        2, 2
    ).repeat_interleave(2, 3),
}


def decode(maps: list[Tensor], classes: int) -> tuple[Tensor, Tensor]:
    """Return boxes (N, B, 4), xyxy in pixels, and scores (N, B, C), cell by cell."""
    boxes, scores = [], []
    for raw, anchors, stride in zip(maps, ANCHORS, STRIDES, strict=True):
        n, _, height, width = raw.shape
        t = raw.view(n, 3, 5 + classes, height, width).sigmoid()
        for row in range(height):
            for column in range(width):
                for a, (w, h) in enumerate(anchors):
                    cell = t[:, a, :, row, column]
                    cx = (2 * cell[:, 0] - 0.5 + column) * stride
                    cy = (2 * cell[:, 1] - 0.5 + row) * stride
                    half_w = (2 * cell[:, 2]) ** 2 * w / 2
                    half_h = (2 * cell[:, 3]) ** 2 * h / 2
                    corners = cx - half_w, cy - half_h, cx + half_w, cy + half_h
                    boxes.append(torch.stack(corners, 1))
                    scores.append(cell[:, 4:5] * cell[:, 5:])
    return torch.stack(boxes, 1), torch.stack(scores, 1)
