"""Filtering, NMS and rescaling of predictions."""

import pytest
import torch
import torchvision
import yolov7_reference as ref
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from mmir.det import YOLOHead

SIZE = (96, 160)
TEST = dict(
    score_thr=0.25,
    nms_pre=30000,
    nms=dict(type='nms', iou_threshold=0.5),
    max_per_img=300,
)


def build(classes: int = 3, **test: object) -> YOLOHead:
    return MODELS.build(ref.head_cfg(classes, test_cfg=ConfigDict(TEST | test)))


def predict(head: YOLOHead, maps: list, **kwargs: object) -> list[InstanceData]:
    metas = kwargs.pop('metas', [dict(img_shape=SIZE)] * len(maps[0]))
    return head.predict_by_feat(maps, metas, **kwargs)


def clipped(boxes: torch.Tensor) -> torch.Tensor:
    """Boxes cut at the edges of an image of `SIZE`."""
    height, width = SIZE
    return torch.stack(
        [boxes[:, i].clamp(0, (width, height)[i % 2]) for i in range(4)], dim=1
    )


@pytest.mark.parametrize('classes', [1, 3])
def test_boxes_equal_those_of_torchvision(classes):
    head, maps = build(classes), ref.random_maps(SIZE, classes=classes)
    boxes, scores = head.decode_maps(maps)
    for image, found in enumerate(predict(head, maps)):
        row, label = (scores[image] > 0.25).nonzero(as_tuple=True)
        score, box = scores[image, row, label], boxes[image, row]
        keep = torchvision.ops.batched_nms(box, score, label, 0.5)[:300]
        assert 50 < len(keep) < len(row)
        torch.testing.assert_close(found.bboxes, clipped(box[keep]))
        assert torch.equal(found.scores, score[keep])
        assert torch.equal(found.labels, label[keep])


def test_a_place_may_have_several_labels():
    head = build(2)
    maps = [torch.full_like(m, -9) for m in ref.random_maps(SIZE, 1, 2)]
    cell = maps[1].unflatten(1, (3, -1))[0, 2, :, 1, 4]  # a view
    cell.copy_(torch.tensor([0.0, 0, 0, 0, 3, 2, 1]))
    (found,) = predict(head, maps)
    obj, *classes = (ref.sigmoid(t) for t in (3, 2, 1))
    assert found.labels.tolist() == [0, 1]
    assert found.scores.tolist() == pytest.approx([obj * p for p in classes])
    # cell (4, 1), anchor 72 x 146, cut at the upper and the lower edge
    box = [72 - 36, 0, 72 + 36, 96]
    for row in found.bboxes.tolist():
        assert row == pytest.approx(box)


def test_the_only_class_is_scored_by_objectness():
    head, maps = build(1), ref.random_maps(SIZE, classes=1)
    before = predict(head, maps)
    for m in maps:
        m.unflatten(1, (3, -1))[:, :, 5] = float('nan')  # never trained
    for old, new in zip(before, predict(head, maps), strict=True):
        assert torch.equal(old.bboxes, new.bboxes)
        assert torch.equal(old.scores, new.scores)
        assert not new.labels.any()


def test_boxes_are_rescaled_per_axis():
    head, maps = build(), ref.random_maps(SIZE)[:3]
    maps = ref.random_maps(SIZE, classes=3)
    height, width = SIZE
    metas = [
        dict(img_shape=SIZE, scale_factor=(x, y), ori_shape=(height / y, width / x))
        for x, y in ((0.5, 2.0), (1.0, 0.25))
    ]
    kept = predict(head, maps, metas=metas)
    scaled = predict(head, maps, metas=metas, rescale=True, with_nms=False)
    raw = predict(head, maps, metas=metas, with_nms=False)
    for meta, small, large in zip(metas, raw, scaled, strict=True):
        factor = torch.tensor(meta['scale_factor']).repeat(2)
        torch.testing.assert_close(large.bboxes, small.bboxes / factor)
    assert all(len(k) < len(r) for k, r in zip(kept, raw, strict=True))


def test_limits_keep_the_best():
    maps = ref.random_maps(SIZE, classes=3)
    best = predict(build(), maps)[0]
    few = predict(build(max_per_img=5), maps)[0]
    assert torch.equal(few.scores, best.scores[:5])
    pre = predict(build(nms_pre=7), maps, with_nms=False)[0]
    everything = predict(build(), maps, with_nms=False)[0]
    assert torch.equal(pre.scores, everything.scores[:7])
    strict = predict(build(score_thr=0.6), maps, with_nms=False)[0]
    assert torch.equal(strict.scores, everything.scores[everything.scores > 0.6])


def test_a_given_config_takes_the_place_of_the_own_one():
    head, maps = build(), ref.random_maps(SIZE, classes=3)
    cfg = ConfigDict(TEST | dict(max_per_img=2))
    assert [len(r) for r in predict(head, maps, cfg=cfg)] == [2, 2]


def test_no_prediction_above_the_threshold_gives_empty_results():
    maps = [torch.full_like(m, -20) for m in ref.random_maps(SIZE, classes=3)]
    for found in predict(build(), maps):
        assert found.bboxes.shape == (0, 4)
        assert found.scores.shape == found.labels.shape == (0,)


def test_half_precision_maps_are_decoded_in_single():
    head, maps = build(), [m.half() for m in ref.random_maps(SIZE, classes=3)]
    half, single = predict(head, maps), predict(head, [m.float() for m in maps])
    for a, b in zip(half, single, strict=True):
        assert a.bboxes.dtype == torch.float32
        assert torch.equal(a.bboxes, b.bboxes)
        assert torch.equal(a.scores, b.scores)
