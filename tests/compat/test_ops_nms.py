"""nms, softnms, nms_match and bbox_overlaps against loops over boxes."""

import mmcv.ops
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

OFFSETS = pytest.mark.parametrize('offset', [0, 1])


def random_boxes(seed: int, count: int, dtype: torch.dtype = torch.float32):
    """Draw boxes that overlap a lot, and scores without ties."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 30, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(2, 25, (count, 2))], axis=1)
    scores = (rng.permutation(count) + 1) / (count + 1)
    return torch.tensor(boxes, dtype=dtype), torch.tensor(scores, dtype=dtype)


def loop_iou(a, b, offset=0):
    wide = max(0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    high = max(0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    areas = [(c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b)]
    return wide * high / (sum(areas) - wide * high)


def loop_nms(boxes, scores, threshold, offset=0):
    kept = []
    for i in np.argsort(-scores):
        if all(loop_iou(boxes[i], boxes[j], offset) <= threshold for j in kept):
            kept.append(i)
    return kept


def loop_soft_nms(boxes, scores, threshold, sigma, lowest, method, offset):
    """Soft-NMS by Bodla et al., algorithm 1, on a dictionary of remaining boxes."""
    left = dict(enumerate(scores.tolist()))
    order, final = [], []
    while left:
        best = max(left, key=left.get)
        order.append(best)
        final.append(left.pop(best))
        for other in list(left):
            overlap = loop_iou(boxes[best], boxes[other], offset)
            if method == 'gaussian':
                left[other] *= np.exp(-(overlap**2) / sigma)
            elif overlap >= threshold:
                left[other] *= 0 if method == 'naive' else 1 - overlap
            if left[other] < lowest:
                del left[other]
    return order, final


@OFFSETS
@given(seed=st.integers(0, 10**6), count=st.integers(0, 40), threshold=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_nms_is_greedy(offset, seed, count, threshold):
    boxes, scores = random_boxes(seed, count, torch.float64)
    dets, kept = mmcv.ops.nms(boxes, scores, threshold, offset=offset)
    expected = loop_nms(boxes.numpy(), scores.numpy(), threshold, offset)
    assert kept.tolist() == expected
    assert torch.equal(dets, torch.cat([boxes, scores[:, None]], 1)[kept])


def test_offset_decides_touching_boxes():
    # Without the offset the two share 10 of 110; with it both are 11 wide and high
    # plus one and share 2 of 12 columns.
    boxes = torch.tensor([[0.0, 0, 10, 10], [9, 0, 19, 10]])
    scores = torch.tensor([0.9, 0.8])
    assert len(mmcv.ops.nms(boxes, scores, 0.07, offset=0)[1]) == 2
    assert len(mmcv.ops.nms(boxes, scores, 0.07, offset=1)[1]) == 1


def test_nms_keeps_pairs_exactly_at_the_threshold():
    boxes = torch.tensor([[0.0, 0, 2, 1], [1, 0, 3, 1], [0, 0, 2, 1]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    third = loop_iou(*boxes[:2].numpy())
    assert mmcv.ops.nms(boxes, scores, float(third))[1].tolist() == [0, 1]


def test_nms_score_threshold_limit_and_numpy():
    boxes, scores = random_boxes(3, 30)
    _, kept = mmcv.ops.nms(
        boxes.numpy(), scores.numpy(), 0.5, score_threshold=0.4, max_num=3
    )
    greedy = loop_nms(boxes.numpy(), scores.numpy(), 0.5)
    expected = [i for i in greedy if scores[i] > 0.4][:3]
    assert isinstance(kept, np.ndarray)
    assert kept.tolist() == expected


def test_batched_nms_separates_classes():
    boxes, scores = random_boxes(5, 40, torch.float64)
    classes = torch.arange(40) % 3
    _, kept = mmcv.ops.batched_nms(
        boxes, scores, classes, {'type': 'nms', 'iou_threshold': 0.3}
    )
    expected = []
    for label in range(3):
        members = np.flatnonzero(classes.numpy() == label)
        picked = loop_nms(boxes.numpy()[members], scores.numpy()[members], 0.3)
        expected += members[picked].tolist()
    assert sorted(kept.tolist()) == sorted(expected)
    assert (scores[kept].diff() < 0).all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_nms_in_half_computes_in_single(dtype):
    boxes, scores = random_boxes(7, 30)
    boxes, scores = boxes.to(dtype), scores.to(dtype)
    _, kept = mmcv.ops.nms(boxes, scores, 0.4)
    single = mmcv.ops.nms(boxes.float(), scores.float(), 0.4)[1]
    assert kept.tolist() == single.tolist()


@OFFSETS
@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
@given(seed=st.integers(0, 10**6), count=st.integers(1, 25))
@settings(max_examples=15, deadline=None)
def test_soft_nms_follows_the_algorithm(method, offset, seed, count):
    boxes, scores = random_boxes(seed, count, torch.float64)
    before = scores.clone()
    dets, kept = mmcv.ops.soft_nms(
        boxes, scores, 0.3, sigma=0.4, min_score=0.05, method=method, offset=offset
    )
    order, final = loop_soft_nms(
        boxes.numpy(), scores.numpy(), 0.3, 0.4, 0.05, method, offset
    )
    assert kept.tolist() == order
    np.testing.assert_allclose(dets[:, 4].numpy(), final, rtol=1e-12)
    assert torch.equal(dets[:, :4], boxes[kept])
    assert torch.equal(scores, before)


def test_soft_nms_never_drops_the_best_and_survives_empty_boxes():
    boxes = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 1], [4, 4, 5, 5]])
    scores = torch.tensor([1e-4, 5e-5, 1e-5])
    dets, kept = mmcv.ops.soft_nms(boxes, scores, min_score=1e-3, method='gaussian')
    assert kept.tolist() == [0]
    assert dets[0, 4] == scores[0]
    scores = torch.tensor([0.9, 0.8, 0.7])
    dets, kept = mmcv.ops.soft_nms(boxes, scores, method='gaussian')
    assert kept.tolist() == [0, 1, 2]
    assert torch.equal(dets[:, 4], scores)


def test_soft_nms_of_nothing():
    dets, kept = mmcv.ops.soft_nms(torch.zeros(0, 4), torch.zeros(0))
    assert dets.shape == (0, 5)
    assert kept.shape == (0,)
    assert kept.dtype == torch.int64


@given(seed=st.integers(0, 10**6), threshold=st.floats(0.05, 0.95))
@settings(max_examples=25, deadline=None)
def test_nms_match_groups_the_suppressed(seed, threshold):
    boxes, scores = random_boxes(seed, 25, torch.float64)
    dets = torch.cat([boxes, scores[:, None]], 1)
    groups = [g.tolist() for g in mmcv.ops.nms_match(dets, threshold)]
    left = np.argsort(-scores.numpy()).tolist()
    expected = []
    while left:
        head, *rest = left
        joined = [
            i for i in rest if loop_iou(boxes[head].numpy(), boxes[i]) >= threshold
        ]
        expected.append([head, *joined])
        left = [i for i in rest if i not in joined]
    assert groups == expected


@OFFSETS
@pytest.mark.parametrize('mode', ['iou', 'iof'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16])
def test_bbox_overlaps(offset, mode, dtype):
    first = random_boxes(1, 6)[0].to(dtype)
    second = random_boxes(2, 6)[0].to(dtype)
    table = mmcv.ops.bbox_overlaps(first, second, mode=mode, offset=offset)
    rows = mmcv.ops.bbox_overlaps(first, second, mode, aligned=True, offset=offset)
    a, b = first.double().numpy(), second.double().numpy()
    expected = np.array([[loop_iou(p, q, offset) for q in b] for p in a])
    if mode == 'iof':  # shared = iou (A + B) / (1 + iou)
        size = [np.prod(c[:, 2:] - c[:, :2] + offset, axis=1) for c in (a, b)]
        shared = expected * (size[0][:, None] + size[1]) / (1 + expected)
        expected = shared / size[0][:, None]
    tolerance = 1e-3 if dtype == torch.float16 else 1e-5
    assert table.dtype == dtype
    np.testing.assert_allclose(table.double().numpy(), expected, atol=tolerance)
    np.testing.assert_allclose(
        rows.double().numpy(), expected.diagonal(), atol=tolerance
    )
