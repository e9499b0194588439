"""Losses against loops over predictions, and degenerate batches."""

import copy

import pytest
import torch
import yolov7_reference as ref
from mmdet.registry import MODELS
from torch import Tensor

from mmir.det import YOLOHead

KEYS = ('loss_box', 'loss_obj', 'loss_cls')


def build(classes: int = 4, **kwargs) -> YOLOHead:
    torch.manual_seed(0)
    return MODELS.build(ref.head_cfg(classes, **kwargs))


def loss(head: YOLOHead, maps: list[Tensor], images: list) -> dict[str, Tensor]:
    gts = [ref.instances(boxes) for boxes in images]
    return head.loss_by_feat(maps, gts, [{}] * len(images))


def some_images(size: tuple[int, int], classes: int = 4, seed: int = 1) -> list:
    boxes = ref.random_boxes(9, size, seed)
    boxes = [b._replace(label=b.label % classes) for b in boxes]
    return [boxes[:6], boxes[6:]]


@pytest.mark.parametrize('size', [(160, 160), (128, 192), (192, 96)])
@pytest.mark.parametrize('classes', [1, 2, 4])
def test_terms_equal_the_loop_reference(size, classes):
    weights = dict(box=0.07, obj=0.6, cls=0.4)
    head = build(classes, **{f'{k}_weight': v for k, v in weights.items()})
    for seed in (0, 1):
        maps = ref.random_maps(size, classes=classes, seed=seed)
        images = some_images(size, classes, seed)
        out = loss(head, maps, images)
        assert tuple(out) == KEYS
        expected = ref.losses([ref.per_anchor(m) for m in maps], images, **weights)
        found = [v.item() for v in out.values()]
        assert found == pytest.approx(expected, rel=2e-6, abs=1e-8)
        assert found[0] > 0


def test_image_without_objects_counts_in_the_objectness_only():
    head, size = build(), (128, 160)
    maps = ref.random_maps(size, batch=3)
    images = [*some_images(size), []]
    out = loss(head, maps, images)
    weights = dict(box=0.05, obj=0.7, cls=0.3)
    expected = ref.losses([ref.per_anchor(m) for m in maps], images, **weights)
    assert [v.item() for v in out.values()] == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize(
    'boxes', [[], [ref.Box(20, 20, 1, 1)], [ref.Box(20, 20, 0, 0)]]
)
def test_nothing_to_match_leaves_the_objectness_and_all_gradients(boxes):
    head = build()
    feats = tuple(torch.rand(2, c, s, s) for c, s in ((128, 8), (256, 4), (512, 2)))
    images = [boxes, []]
    for key in KEYS:
        head.zero_grad()
        out = loss(head, *head(feats), images)
        out[key].backward()
        grads = [p.grad for p in head.parameters()]
        assert all(g is not None and g.isfinite().all() for g in grads)
        assert any(g.any() for g in grads) == (key == 'loss_obj')
        assert (out[key] == 0) == (key != 'loss_obj')


def test_gradients_flow_to_the_channels_of_the_term_only():
    head = build()
    maps = [m.requires_grad_() for m in ref.random_maps((128, 160))]
    out = loss(head, maps, some_images((128, 160)))
    rows = {'loss_box': slice(0, 4), 'loss_obj': slice(4, 5), 'loss_cls': slice(5, 9)}
    for key, channels in rows.items():
        others = [c for c in range(9) if c not in range(9)[channels]]
        grads = torch.autograd.grad(out[key], maps, retain_graph=True)
        grads = [ref.per_anchor(g) for g in grads]
        assert sum(bool(g[..., channels].any()) for g in grads) >= 2
        for grad in grads:
            assert grad.isfinite().all()
            assert not grad[..., others].any()


def test_objectness_gradient_is_the_sigmoid_minus_the_overlap():
    head = build(obj_balance=(1.0, 1.0, 1.0), obj_weight=1.0)
    maps = [m.requires_grad_() for m in ref.random_maps((64, 64), batch=1)]
    loss(head, maps, [[]])['loss_obj'].backward()
    for m in maps:
        grad, raw = (ref.per_anchor(t)[..., 4] for t in (m.grad, m.detach()))
        torch.testing.assert_close(grad, raw.sigmoid() / raw.numel())


def test_one_class_trains_no_class_layer():
    head = build(1)
    maps = [m.requires_grad_() for m in ref.random_maps((128, 160), classes=1)]
    out = loss(head, maps, some_images((128, 160), 1))
    assert out['loss_cls'].item() == 0
    sum(out.values()).backward()
    assert not any(ref.per_anchor(m.grad)[..., 5].any() for m in maps)
    assert all(m.grad.isfinite().all() for m in maps)


def test_loss_leaves_its_inputs_as_they_are():
    head, size = build(), (128, 160)
    maps = ref.random_maps(size)
    gts = [ref.instances(boxes) for boxes in some_images(size)]
    before = copy.deepcopy((maps, [(g.bboxes, g.labels) for g in gts]))
    first = head.loss_by_feat(maps, gts, [{}] * 2)
    second = head.loss_by_feat(maps, gts, [{}] * 2)
    assert first == second
    for old, new in zip(before[0], maps, strict=True):
        assert torch.equal(old, new)
    for (boxes, labels), g in zip(before[1], gts, strict=True):
        assert torch.equal(boxes, g.bboxes)
        assert torch.equal(labels, g.labels)


def test_scale_is_the_images_of_all_ranks(monkeypatch):
    head, size = build(), (128, 160)
    maps, images = ref.random_maps(size), some_images(size)
    alone = loss(head, maps, images)
    monkeypatch.setattr('mmir.det.yolo.head.get_world_size', lambda: 3)
    ranks = loss(head, maps, images)
    twice = loss(head, [torch.cat([m, m]) for m in maps], images * 2)
    for key in KEYS:
        torch.testing.assert_close(ranks[key], 3 * alone[key])
        torch.testing.assert_close(twice[key], 6 * alone[key])


def test_class_weight_is_per_eighty_classes():
    for classes in (2, 80):
        assert build(classes, cls_weight=0.3).cls_weight == pytest.approx(
            0.3 * classes / 80
        )


def test_axes_are_scaled_apart():
    # transposing image, boxes, anchors and raw x, y, w, h changes nothing
    size, order = (96, 192), [1, 0, 3, 2, 4, 5, 6, 7, 8]
    maps, images = ref.random_maps(size), some_images(size)
    swapped = [
        m.unflatten(1, (3, -1))[:, :, order].flatten(1, 2).transpose(2, 3) for m in maps
    ]
    turned = [
        [ref.Box(b.cy, b.cx, b.h, b.w, b.label) for b in boxes] for boxes in images
    ]
    anchors = tuple(tuple((h, w) for w, h in level) for level in ref.ANCHORS)
    straight = loss(build(), maps, images)
    across = loss(build(anchors=anchors), swapped, turned)
    for key in KEYS:
        torch.testing.assert_close(across[key], straight[key])


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_maps_are_computed_in_single(dtype):
    head, size = build(), (128, 160)
    images = some_images(size)
    maps = [(8 * m).to(dtype).requires_grad_() for m in ref.random_maps(size)]
    out = loss(head, maps, images)
    single = loss(head, [m.detach().float() for m in maps], images)
    for key in KEYS:
        assert out[key].dtype == torch.float32
        assert out[key].item() == single[key].item()
    sum(out.values()).backward()
    assert all(m.grad.isfinite().all() for m in maps)


def test_double_precision_maps_stay_in_double():
    size, weights = (128, 160), dict(box=0.05, obj=0.7, cls=0.3)
    maps, images = ref.random_maps(size, dtype=torch.float64), some_images(size)
    out = loss(build(), maps, images)
    expected = ref.losses([ref.per_anchor(m) for m in maps], images, **weights)
    assert out['loss_obj'].dtype == torch.float64
    # boxes are float32, and the epsilons differ
    assert [v.item() for v in out.values()] == pytest.approx(expected, rel=5e-7)


def test_objects_on_the_border_duplicates_and_half_outside_are_finite():
    size = (128, 160)
    box = ref.Box(0, 64, 40, 28, 2)
    images = [
        [box, box, box._replace(label=1)],
        [ref.Box(160, 128, 30, 60), ref.Box(-5, 140, 20, 20, 3)],
    ]
    maps = [m.requires_grad_() for m in ref.random_maps(size)]
    out = loss(build(), maps, images)
    sum(out.values()).backward()
    assert all(v.isfinite() and v > 0 for v in out.values())
    assert all(m.grad.isfinite().all() for m in maps)


def test_channels_last_maps_give_the_same_loss():
    head, images = build(), some_images((128, 160))
    maps = ref.random_maps((128, 160))
    last = [m.contiguous(memory_format=torch.channels_last) for m in maps]
    for a, b in zip(
        loss(head, maps, images).values(),
        loss(head, last, images).values(),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_no_tensor_is_made_on_the_default_device():
    head, images = build(), some_images((128, 160))
    maps = ref.random_maps((128, 160))
    gts = [ref.instances(boxes) for boxes in images]
    with torch.device('meta'):
        out = head.loss_by_feat(maps, gts, [{}] * 2)
        boxes, scores = head.decode_maps(maps)
    assert {t.device.type for t in (*out.values(), boxes, scores)} == {'cpu'}
    assert out == head.loss_by_feat(maps, gts, [{}] * 2)
