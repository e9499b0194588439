"""Multi-scale deformable attention and sigmoid focal loss."""

import mmcv.ops
import numpy as np
import pytest
import torch
import torchvision
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
from torch.autograd import gradcheck
from torch.nn.functional import one_hot

SHAPES = [[4, 6], [2, 3]]
HALVES = pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])


def attention_inputs(seed=0):
    """Value, shapes, level starts, locations (some outside), weights."""
    generator = torch.Generator().manual_seed(seed)
    shapes = torch.tensor(SHAPES)
    sizes = shapes.prod(1)
    starts = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)[:-1]])
    value = torch.randn(2, int(sizes.sum()), 3, 4, generator=generator).double()
    places = torch.rand(2, 5, 3, 2, 2, 2, generator=generator).double() * 1.4 - 0.2
    weights = torch.randn(2, 5, 3, 4, generator=generator).double().softmax(-1)
    return value, shapes, starts, places, weights.view(2, 5, 3, 2, 2)


def loop_attention(value, places, weights):
    """Zhu et al. 2021, Eq. 3: pixel i of n has its center at (i + 0.5) / n."""
    batch, queries, heads, levels, points, _ = places.shape
    out = np.zeros((batch, queries, heads, value.shape[3]))
    starts = [0, SHAPES[0][0] * SHAPES[0][1]]
    for n, q, h, level, p in np.ndindex(batch, queries, heads, levels, points):
        high, wide = SHAPES[level]
        x, y = places[n, q, h, level, p] * (wide, high) - 0.5
        for i in (int(np.floor(y)), int(np.floor(y)) + 1):
            for j in (int(np.floor(x)), int(np.floor(x)) + 1):
                if 0 <= i < high and 0 <= j < wide:
                    share = (1 - abs(y - i)) * (1 - abs(x - j))
                    key = starts[level] + i * wide + j
                    factor = weights[n, q, h, level, p] * share
                    out[n, q, h] += factor * value[n, key, h]
    return out.reshape(batch, queries, -1)


def test_attention_equals_loops():
    value, shapes, starts, places, weights = attention_inputs()
    out = MultiScaleDeformableAttnFunction.apply(
        value, shapes, starts, places, weights, 64
    )
    expected = loop_attention(value.numpy(), places.numpy(), weights.numpy())
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-12)


def test_attention_gradients():
    value, shapes, starts, places, weights = attention_inputs(1)
    leaves = [each.requires_grad_() for each in (value, places, weights)]
    assert gradcheck(
        lambda v, p, w: MultiScaleDeformableAttnFunction.apply(
            v, shapes, starts, p, w, 64
        ),
        leaves,
        fast_mode=True,
    )


@HALVES
def test_attention_in_half(dtype):
    value, shapes, starts, places, weights = attention_inputs(2)
    low = [each.to(dtype) for each in (value, places, weights)]
    leaves = [each.clone().requires_grad_() for each in low]
    singles = [each.float().requires_grad_() for each in low]
    results = []
    for v, p, w in (leaves, singles):
        out = MultiScaleDeformableAttnFunction.apply(v, shapes, starts, p, w, 64)
        out.float().sum().backward()
        results.append(out)
    assert results[0].dtype == dtype
    assert torch.equal(results[0], results[1].to(dtype))
    for leaf, single in zip(leaves, singles, strict=True):
        assert torch.equal(leaf.grad, single.grad.to(dtype))


def focal_inputs():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(7, 4, generator=generator, dtype=torch.float64)
    target = torch.tensor([0, 1, 2, 3, 4, 4, 1])  # 4 is background
    return logits, target


@pytest.mark.parametrize(('gamma', 'alpha'), [(2.0, 0.25), (0.0, 0.5), (1.5, 0.9)])
def test_focal_loss_equals_torchvision(gamma, alpha):
    logits, target = focal_inputs()
    loss = mmcv.ops.sigmoid_focal_loss(logits, target, gamma, alpha, None, 'none')
    truth = one_hot(target, 5)[:, :4].double()
    expected = torchvision.ops.sigmoid_focal_loss(logits, truth, alpha, gamma)
    assert torch.allclose(loss, expected, atol=1e-12)


def test_focal_loss_of_no_evidence():
    # p = 1/2 everywhere: alpha_t (1/2)^gamma log 2.
    loss = mmcv.ops.sigmoid_focal_loss(
        torch.zeros(1, 3), torch.tensor([1]), 2.0, 0.25, None, 'none'
    )
    expected = torch.tensor([[0.75, 0.25, 0.75]]) / 4 * np.log(2)
    assert torch.allclose(loss, expected)


def test_focal_loss_class_weights_spare_background():
    logits, target = focal_inputs()
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    weighted = mmcv.ops.sigmoid_focal_loss(logits, target, 2.0, 0.25, weight, 'none')
    plain = mmcv.ops.sigmoid_focal_loss(logits, target, 2.0, 0.25, None, 'none')
    rows = torch.tensor([1.0, 2, 3, 4, 1, 1, 2], dtype=torch.float64)
    assert torch.allclose(weighted, plain * rows[:, None])


@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
@pytest.mark.parametrize('weighted', [False, True])
def test_focal_gradients(reduction, weighted):
    logits, target = focal_inputs()
    weight = torch.tensor([0.5, 2.0, 1.0, 3.0]).double() if weighted else None
    logits.requires_grad_()
    assert gradcheck(
        lambda each: mmcv.ops.sigmoid_focal_loss(
            each, target, 2.0, 0.25, weight, reduction
        ),
        logits,
    )


@HALVES
def test_focal_loss_stays_finite_far_out(dtype):
    logits = torch.tensor([[40.0, -40.0], [-90.0, 90.0]], dtype=dtype)
    logits.requires_grad_()
    loss = mmcv.ops.sigmoid_focal_loss(
        logits, torch.tensor([0, 0]), 2.0, 0.25, None, 'sum'
    )
    loss.backward()
    # Both scores of the second row are wrong by 90, the first row is right.
    assert loss.item() == pytest.approx(0.25 * 90 + 0.75 * 90, rel=1e-2)
    assert logits.grad.tolist() == [[0, 0], [-0.25, 0.75]]
