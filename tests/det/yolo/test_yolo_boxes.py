"""Decoding and overlaps in closed form."""

import math

import pytest
import torch
import torchvision
import yolov7_reference as ref
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS

from mmir.det.yolo.boxes import complete_iou, cxcywh_to_xyxy, decode, pairwise_iou


def boxes(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


@given(seed=st.integers(0, 999), stride=st.sampled_from([8, 16, 32]))
@settings(max_examples=30, deadline=None)
def test_decode_is_the_closed_form_exactly(seed, stride):
    generator = torch.Generator().manual_seed(seed)
    raw = 4 * torch.randn(6, 4, generator=generator, dtype=torch.float64)
    cells = torch.randint(0, 99, (6, 2), generator=generator)
    anchors = 500 * torch.rand(6, 2, generator=generator, dtype=torch.float64)
    out = decode(raw, cells, anchors, stride)
    # the same logistic function: its last digit is not what is tested
    for s, cell, anchor, box in zip(
        raw.sigmoid().tolist(), cells.tolist(), anchors.tolist(), out, strict=True
    ):
        x, y = ((2 * s[i] - 0.5 + cell[i]) * stride for i in (0, 1))
        w, h = ((2 * s[i + 2]) * (2 * s[i + 2]) * anchor[i] for i in (0, 1))
        assert box.tolist() == [x, y, w, h]


def test_decode_of_zero_is_the_anchor_in_the_middle_of_the_cell():
    out = decode(boxes((0, 0, 0, 0)), torch.tensor([[3, 5]]), boxes((12, 16)), 8)
    assert out.tolist() == [[28.0, 44.0, 12.0, 16.0]]


@pytest.mark.parametrize('classes', [1, 3])
def test_decode_maps_equals_a_loop_over_all_predictions(classes):
    head = MODELS.build(ref.head_cfg(classes))
    maps = ref.random_maps((64, 96), classes=classes, dtype=torch.float64)
    found, scores = head.decode_maps(maps)
    assert found.dtype == scores.dtype == torch.float64
    rows = []
    for level, raw in enumerate(maps):
        pred = ref.per_anchor(raw)[1]
        for gy in range(pred.shape[1]):
            for gx in range(pred.shape[2]):
                for a in range(3):
                    t = pred[a, gy, gx].tolist()
                    anchor, stride = ref.ANCHORS[level][a], ref.STRIDES[level]
                    x, y, w, h, _ = ref.decode(t, gx, gy, anchor, stride)
                    obj, *cls = map(ref.sigmoid, t[4:])
                    score = [obj] if classes == 1 else [obj * c for c in cls]
                    rows.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2, *score])
    expected = torch.tensor(rows, dtype=torch.float64)
    torch.testing.assert_close(found[1], expected[:, :4], rtol=1e-13, atol=1e-12)
    torch.testing.assert_close(scores[1], expected[:, 4:], rtol=1e-13, atol=0)


def test_corners_lie_half_a_side_from_the_centre():
    assert cxcywh_to_xyxy(boxes((10, 20, 4, 6))).tolist() == [[8.0, 17.0, 12.0, 23.0]]


sides = st.floats(0.5, 300)
places = st.floats(-50, 700)
any_box = st.builds(ref.Box, places, places, sides, sides)


@given(a=any_box, b=any_box)
@settings(max_examples=80, deadline=None)
def test_complete_iou_is_the_closed_form(a, b):
    out = complete_iou(boxes(a[:4]), boxes(b[:4])).item()
    assert out == pytest.approx(ref.ciou(a, b), abs=1e-5)
    assert -2.0 < out <= 1.0


def test_complete_iou_of_equal_and_of_known_boxes():
    same = boxes((5, 5, 4, 2))
    assert complete_iou(same, same).item() == pytest.approx(1, abs=1e-6)
    # side by side, same shape: IoU 0, d = 4, diagonal^2 = 8^2 + 2^2
    out = complete_iou(same, boxes((9, 5, 4, 2))).item()
    assert out == pytest.approx(-16 / 68, abs=1e-7)


def test_gradient_holds_the_aspect_weight_constant():
    a, b = ref.Box(30, 40, 20, 50), ref.Box(35, 42, 40, 30)
    pred = boxes(a[:4]).requires_grad_()
    complete_iou(pred, boxes(b[:4])).backward()
    v = 4 / math.pi**2 * (math.atan(40 / 30) - math.atan(20 / 50)) ** 2
    alpha = v / (v - ref.iou(a, b) + 1)
    step = 1e-5
    for i, name in enumerate(('cx', 'cy', 'w', 'h')):
        high = ref.ciou(a._replace(**{name: a[i] + step}), b, alpha)
        low = ref.ciou(a._replace(**{name: a[i] - step}), b, alpha)
        slope = (high - low) / (2 * step)
        assert pred.grad[0, i].item() == pytest.approx(slope, rel=1e-5)


def test_gradcheck_where_the_aspect_term_vanishes():
    pred = boxes((30, 40, 20, 10), (9, 8, 6, 3), (200, 10, 8, 4)).requires_grad_()
    target = boxes((33, 41, 40, 20), (9.5, 8.2, 4, 2), (20, 10, 8, 4))

    def same_aspect(center_and_width: torch.Tensor) -> torch.Tensor:
        width = center_and_width[:, 2:]
        box = torch.cat([center_and_width, width / 2], 1)
        return complete_iou(box, target)

    start = pred[:, :3].detach().requires_grad_()
    assert torch.autograd.gradcheck(same_aspect, (start,), eps=1e-6, atol=1e-5)


@pytest.mark.parametrize('scale', [1e-6, 1e-3, 1e4])
def test_complete_iou_and_its_gradient_are_finite_for_extreme_boxes(scale):
    pred = (boxes((1, 1, 1, 1), (0, 0, 3, 1e-9)) * scale).float().requires_grad_()
    target = (boxes((1, 1, 1, 1), (5, 5, 1, 1)) * scale).float()
    out = complete_iou(pred, target)
    out.sum().backward()
    assert out.isfinite().all()
    assert pred.grad.isfinite().all()


def test_pairwise_iou_equals_torchvision_and_is_zero_for_empty_boxes():
    generator = torch.Generator().manual_seed(0)
    a, b = (
        cxcywh_to_xyxy(torch.rand(n, 4, generator=generator) * 40) for n in (30, 20)
    )
    torch.testing.assert_close(pairwise_iou(a, b), torchvision.ops.box_iou(a, b))
    point = torch.tensor([[3.0, 3.0, 3.0, 3.0]])
    assert pairwise_iou(point, point).item() == 0
