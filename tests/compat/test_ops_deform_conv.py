"""Deformable convolutions against convolution, shifts, loops, finite differences."""

import mmcv.ops
import numpy as np
import pytest
import torch
from mmcv.cnn import build_conv_layer
from torch.autograd import gradcheck
from torch.nn.functional import conv2d

GEOMETRIES = pytest.mark.parametrize(
    ('stride', 'padding', 'dilation', 'groups', 'deform_groups'),
    [
        (1, 1, 1, 1, 1),
        ((2, 1), (0, 2), 1, 2, 1),
        (1, (2, 1), (2, 1), 1, 2),
        (2, 2, 2, 2, 4),
    ],
)


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


def make(stride, padding, dilation, groups, deform_groups, kernel=(3, 2), seed=0):
    """Input, offset, mask, weight and bias in float64, away from the grid."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, weight, bias = draw(2, 4, 6, 7), draw(6, 4 // groups, *kernel), draw(6)
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(
            x.shape[2:], pair(padding), pair(dilation), kernel, pair(stride),
            strict=True,
        )
    ]  # fmt: skip
    taps = deform_groups * kernel[0] * kernel[1]
    offset = 1.5 * draw(2, 2 * taps, *size)
    # Bilinear interpolation has kinks on whole coordinates.
    offset += 0.02 * torch.sign(offset - offset.round())
    return x, offset, draw(2, taps, *size).sigmoid(), weight, bias


def sample(plane, y, x):
    """Bilinear value with zeros outside."""
    top, left = int(np.floor(y)), int(np.floor(x))
    total = 0.0
    for i, share_y in ((top, top + 1 - y), (top + 1, y - top)):
        for j, share_x in ((left, left + 1 - x), (left + 1, x - left)):
            if 0 <= i < plane.shape[0] and 0 <= j < plane.shape[1]:
                total += plane[i, j] * share_y * share_x
    return total


def loops(x, offset, mask, weight, bias, stride, padding, dilation, groups, parts):
    """Zhu et al. 2019, Eq. 1, for every output, input channel and tap."""
    stride, padding, dilation = pair(stride), pair(padding), pair(dilation)
    count, inside, *kernel = weight.shape
    taps = kernel[0] * kernel[1]
    out = np.zeros((len(x), count, *offset.shape[2:]))
    for n, o, i, j in np.ndindex(*out.shape):
        for c, a, b in np.ndindex(inside, *kernel):
            channel = o // (count // groups) * inside + c
            tap = channel // (x.shape[1] // parts) * taps + a * kernel[1] + b
            y = i * stride[0] - padding[0] + a * dilation[0] + offset[n, 2 * tap, i, j]
            z = j * stride[1] - padding[1] + b * dilation[1]
            z += offset[n, 2 * tap + 1, i, j]
            factor = mask[n, tap, i, j]
            out[n, o, i, j] += weight[o, c, a, b] * factor * sample(x[n, channel], y, z)
    return out + bias[:, None, None]


@GEOMETRIES
def test_modulated_equals_loops(stride, padding, dilation, groups, deform_groups):
    geometry = (stride, padding, dilation, groups, deform_groups)
    tensors = make(*geometry)
    result = mmcv.ops.modulated_deform_conv2d(*tensors, *geometry)
    expected = loops(*(each.numpy() for each in tensors), *geometry)
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-11)


@GEOMETRIES
def test_plain_equals_loops(stride, padding, dilation, groups, deform_groups):
    geometry = (stride, padding, dilation, groups, deform_groups)
    x, offset, mask, weight, bias = make(*geometry, seed=1)
    result = mmcv.ops.deform_conv2d(x, offset, weight, *geometry)
    ones, zeros = torch.ones_like(mask), torch.zeros_like(bias)
    expected = loops(
        *(each.numpy() for each in (x, offset, ones, weight, zeros)), *geometry
    )
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-11)


@GEOMETRIES
def test_gradients(stride, padding, dilation, groups, deform_groups):
    geometry = (stride, padding, dilation, groups, deform_groups)
    leaves = [each.requires_grad_() for each in make(*geometry, seed=2)]
    x, offset, _, weight, _ = leaves
    assert gradcheck(
        lambda *each: mmcv.ops.modulated_deform_conv2d(*each, *geometry),
        leaves,
        fast_mode=True,
    )
    assert gradcheck(
        lambda *each: mmcv.ops.deform_conv2d(*each, *geometry),
        (x, offset, weight),
        fast_mode=True,
    )


def test_every_single_gradient_entry():
    leaves = [each[..., :3, :3] for each in make(1, 1, 1, 1, 1, (3, 3))[:3]]
    leaves = [each.clone().requires_grad_() for each in leaves]
    weight = make(1, 1, 1, 1, 1, (3, 3))[3][:2].clone().requires_grad_()
    bias = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(
        lambda *each: mmcv.ops.modulated_deform_conv2d(*each, 1, 1),
        (*leaves, weight, bias),
    )


def test_without_bias_the_bias_has_no_gradient():
    x, offset, mask, weight, _ = make(1, 1, 1, 1, 1)
    weight.requires_grad_()
    out = mmcv.ops.modulated_deform_conv2d(x, offset, mask, weight, None, 1, 1)
    out.sum().backward()
    assert weight.grad.abs().sum() > 0


@pytest.mark.parametrize('name', ['DCN', 'DCNv2'])
def test_packs_start_as_a_convolution(name):
    # Offsets start at 0, modulation at 1/2.
    layer = build_conv_layer({'type': name}, 4, 6, 3, padding=1)
    x = torch.randn(2, 4, 8, 9)
    factor = 0.5 if name == 'DCNv2' else 1
    expected = conv2d(x, layer.weight * factor, padding=1)
    assert torch.allclose(layer(x), expected, atol=1e-5)


def test_whole_offsets_shift_the_input():
    x = torch.randn(1, 1, 6, 7)
    offset = torch.zeros(1, 2, 6, 7)
    offset[:, 0], offset[:, 1] = 1, -2  # y before x
    out = mmcv.ops.deform_conv2d(x, offset, torch.ones(1, 1, 1, 1))
    expected = torch.zeros_like(x)
    expected[..., :5, 2:] = x[..., 1:, :5]
    assert torch.allclose(out, expected)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_rounds_once(dtype):
    tensors = [each.to(dtype) for each in make(1, 1, 1, 1, 1)]
    leaves = [each.clone().requires_grad_() for each in tensors]
    singles = [each.float().requires_grad_() for each in tensors]
    out = mmcv.ops.modulated_deform_conv2d(*leaves, 1, 1)
    expected = mmcv.ops.modulated_deform_conv2d(*singles, 1, 1)
    assert torch.equal(out, expected.to(dtype))
    out.sum().backward()
    expected.sum().backward()
    for leaf, single in zip(leaves, singles, strict=True):
        assert torch.equal(leaf.grad, single.grad.to(dtype))
