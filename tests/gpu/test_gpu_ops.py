"""Operators in plain torch give the same results on CUDA and CPU."""

import mmcv.ops
import pytest
import torch
from gpu_compare import BOUNDS, assert_close, farthest
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
from torch import Tensor

from mmir.compat import mmcv_ext, ops_kind

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        ops_kind() == 'compiled', reason='mmcv has operators of its own here'
    ),
]
DTYPES = pytest.mark.parametrize(
    'dtype', [torch.float64, torch.float32, torch.float16], ids=str
)


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def boxes_and_scores(count: int) -> tuple[Tensor, Tensor]:
    """Draw boxes that overlap a lot, and scores without ties."""
    generator = torch.Generator().manual_seed(1)
    corner = 30 * torch.rand(count, 2, generator=generator)
    size = 2 + 23 * torch.rand(count, 2, generator=generator)
    scores = (torch.randperm(count, generator=generator) + 1) / (count + 1)
    return torch.cat([corner, corner + size], dim=1), scores


@DTYPES
@pytest.mark.parametrize('mode', ['avg', 'max'])
@pytest.mark.parametrize('aligned', [True, False])
def test_roi_align(device, dtype, mode, aligned):
    rois = torch.tensor(
        [[0, 4.3, 2.2, 20.9, 17.4], [1, -7.0, -3.5, 9.1, 30.0], [0, 10, 12, 40, 29.5]]
    ).to(dtype)
    layer = mmcv.ops.RoIAlign((3, 2), 0.5, 2, pool_mode=mode, aligned=aligned)
    features = draw(2, 3, 11, 13).to(dtype)
    distance = farthest(lambda x: layer(x, rois.to(x.device)), [features], device)
    assert distance <= BOUNDS[dtype]


@DTYPES
@pytest.mark.parametrize('groups', [1, 2])
def test_deform_conv(device, dtype, groups):
    inputs = [draw(2, 4, 6, 7), draw(2, 36, 6, 7, seed=1), draw(6, 4 // groups, 3, 3)]
    distance = farthest(
        lambda *each: mmcv.ops.deform_conv2d(*each, 1, 1, 1, groups, 2),
        [each.to(dtype) for each in inputs],
        device,
    )
    assert distance <= BOUNDS[dtype]


@DTYPES
def test_modulated_deform_conv(device, dtype):
    inputs = [
        draw(2, 4, 6, 7),
        draw(2, 18, 6, 7, seed=1),
        draw(2, 9, 6, 7, seed=2).sigmoid(),
        draw(6, 4, 3, 3, seed=3),
        draw(6, seed=4),
    ]
    distance = farthest(
        lambda *each: mmcv.ops.modulated_deform_conv2d(*each, 1, 1),
        [each.to(dtype) for each in inputs],
        device,
    )
    assert distance <= BOUNDS[dtype]


@DTYPES
def test_deformable_attention(device, dtype):
    shapes = torch.tensor([[4, 6], [2, 3]])
    starts = torch.tensor([0, 24])
    value = draw(2, 30, 3, 4)
    places = torch.rand(2, 5, 3, 2, 2, 2, generator=torch.Generator().manual_seed(2))
    weights = draw(2, 5, 3, 4, seed=3).softmax(-1).view(2, 5, 3, 2, 2)

    def attend(v: Tensor, p: Tensor, w: Tensor) -> Tensor:
        sizes = shapes.to(v.device), starts.to(v.device)
        return MultiScaleDeformableAttnFunction.apply(v, *sizes, p, w, 64)

    inputs = [each.to(dtype) for each in (value, places * 1.4 - 0.2, weights)]
    assert farthest(attend, inputs, device) <= BOUNDS[dtype]


@DTYPES
@pytest.mark.parametrize('weighted', [False, True])
def test_focal_loss(device, dtype, weighted):
    target = torch.tensor([0, 1, 2, 3, 4, 4, 1])  # 4 is background

    def loss(logits: Tensor) -> Tensor:
        weight = logits.new_tensor([0.5, 2, 1, 3]) if weighted else None
        return mmcv.ops.sigmoid_focal_loss(
            logits, target.to(logits.device), 2.0, 0.25, weight, 'none'
        )

    logits = (3 * draw(7, 4)).to(dtype)
    assert farthest(loss, [logits], device) <= BOUNDS[dtype]


@DTYPES
@pytest.mark.parametrize('offset', [0, 1])
def test_nms(device, dtype, offset):
    boxes, scores = (each.to(dtype) for each in boxes_and_scores(300))
    expected = mmcv_ext.nms(boxes, scores, 0.4, offset)
    found = mmcv_ext.nms(boxes.to(device), scores.to(device), 0.4, offset)
    assert found.device.type == device
    assert 1 < len(expected) < 300
    assert found.tolist() == expected.tolist()


def test_batched_nms(device):
    boxes, scores = boxes_and_scores(200)
    classes = torch.arange(200) % 3
    options = {'type': 'nms', 'iou_threshold': 0.3}
    dets, kept = mmcv.ops.batched_nms(boxes, scores, classes, options)
    own = (each.to(device) for each in (boxes, scores, classes))
    found, mine = mmcv.ops.batched_nms(*own, options)
    assert mine.tolist() == kept.tolist()
    assert torch.equal(found.cpu(), dets)


@pytest.mark.parametrize('method', [0, 1, 2])
def test_soft_nms(device, method):
    results = []
    for place in ('cpu', device):
        boxes, scores = (each.to(place) for each in boxes_and_scores(60))
        dets = boxes.new_zeros(60, 5)
        kept = mmcv_ext.softnms(boxes, scores, dets, 0.3, 0.4, 0.05, method, 0)
        assert kept.device.type == place
        results.append((kept.tolist(), dets))
    assert results[0][0] == results[1][0]
    assert_close(results[1][1], results[0][1], 1e-5)


def test_nms_match_and_overlaps(device):
    boxes, scores = boxes_and_scores(60)
    dets = torch.cat([boxes, scores[:, None]], dim=1)
    expected = mmcv_ext.nms_match(dets, 0.4)
    assert mmcv_ext.nms_match(dets.to(device), 0.4) == expected
    table = mmcv.ops.bbox_overlaps(boxes, boxes.flip(0))
    found = mmcv.ops.bbox_overlaps(boxes.to(device), boxes.flip(0).to(device))
    assert found.device.type == device
    assert_close(found, table, 1e-5)
