"""RoIAlign against loops over samples, and its gradients by finite differences."""

import mmcv.ops
import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

MODES = pytest.mark.parametrize('mode', ['avg', 'max'])
SAMPLING = pytest.mark.parametrize('ratio', [0, 1, 2])
ALIGNED = pytest.mark.parametrize('aligned', [True, False])

# Inside, across each border, outside, and thinner than a pixel.
REGIONS = [
    [0, 4.3, 2.2, 20.9, 17.4],
    [1, -7.0, -3.5, 9.1, 30.0],
    [0, 10.0, 12.0, 40.0, 29.5],
    [1, 60.0, 60.0, 80.0, 90.0],
    [1, 5.25, 6.5, 5.75, 23.0],
]


def bilinear(plane, y, x):
    """Value of a plane between pixels; 0 further than one pixel outside."""
    high, wide = plane.shape
    if y < -1 or y > high or x < -1 or x > wide:
        return 0.0
    y, x = min(max(y, 0), high - 1), min(max(x, 0), wide - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, high - 1), min(left + 1, wide - 1)
    upper = plane[top, left] * (1 - x + left) + plane[top, right] * (x - left)
    lower = plane[bottom, left] * (1 - x + left) + plane[bottom, right] * (x - left)
    return upper * (1 - y + top) + lower * (y - top)


def loop_roi_align(features, rois, size, scale, ratio, mode, aligned):
    out = np.zeros((len(rois), features.shape[1], *size))
    for n, (image, *corners) in enumerate(rois):
        x1, y1, x2, y2 = (c * scale - 0.5 * aligned for c in corners)
        high, wide = y2 - y1, x2 - x1
        if not aligned:
            high, wide = max(high, 1), max(wide, 1)
        step_y, step_x = high / size[0], wide / size[1]
        rows = ratio or int(np.ceil(step_y))
        columns = ratio or int(np.ceil(step_x))
        for channel, i, j in np.ndindex(*out.shape[1:]):
            values = [
                bilinear(
                    features[int(image), channel],
                    y1 + step_y * (i + (a + 0.5) / rows),
                    x1 + step_x * (j + (b + 0.5) / columns),
                )
                for a in range(rows)
                for b in range(columns)
            ]
            out[n, channel, i, j] = np.max(values) if mode == 'max' else np.mean(values)
    return out


def features_and_rois(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 11, 13, generator=generator, dtype=torch.float64)
    return features.to(dtype), torch.tensor(REGIONS, dtype=dtype)


@MODES
@SAMPLING
@ALIGNED
def test_forward_equals_loops(mode, ratio, aligned):
    features, rois = features_and_rois()
    layer = mmcv.ops.RoIAlign((3, 2), 0.5, ratio, pool_mode=mode, aligned=aligned)
    expected = loop_roi_align(
        features.numpy(), rois.numpy(), (3, 2), 0.5, ratio, mode, aligned
    )
    np.testing.assert_allclose(layer(features, rois).numpy(), expected, atol=1e-12)


@MODES
@SAMPLING
@ALIGNED
def test_gradients(mode, ratio, aligned):
    features, rois = features_and_rois()
    features = features[:, :2, :6, :7].clone().requires_grad_()
    layer = mmcv.ops.RoIAlign((2, 2), 0.25, ratio, pool_mode=mode, aligned=aligned)
    assert gradcheck(lambda each: layer(each, rois), features, atol=1e-6)


@MODES
def test_a_constant_stays_constant_inside(mode):
    features = torch.full((1, 1, 8, 8), 3.5)
    rois = torch.tensor([[0, 1.0, 1.0, 6.0, 7.0]])
    pooled = mmcv.ops.RoIAlign(4, pool_mode=mode)(features, rois)
    assert torch.allclose(pooled, torch.full((1, 1, 4, 4), 3.5))


@MODES
def test_no_region_and_a_region_without_extent(mode):
    features, rois = features_and_rois()
    features.requires_grad_()
    layer = mmcv.ops.RoIAlign(2, 0.5, pool_mode=mode)
    assert layer(features, rois[:0]).shape == (0, 3, 2, 2)
    point = torch.tensor([[0, 8.0, 8.0, 8.0, 8.0]], dtype=torch.float64)
    pooled = layer(features, point)
    pooled.sum().backward()
    assert not pooled.any()
    assert not features.grad.any()


@MODES
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_rounds_once(mode, dtype):
    features, rois = features_and_rois(dtype)
    layer = mmcv.ops.RoIAlign(3, 0.5, pool_mode=mode)
    leaf = features.clone().requires_grad_()
    single = features.float().requires_grad_()
    pooled, expected = layer(leaf, rois), layer(single, rois.float())
    assert pooled.dtype == dtype
    assert torch.equal(pooled, expected.to(dtype))
    pooled.sum().backward()
    expected.sum().backward()
    assert torch.equal(leaf.grad, single.grad.to(dtype))
