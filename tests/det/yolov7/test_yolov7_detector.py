"""The detector as built and used by the host."""

import copy
import pickle

import pytest
import torch
import yolov7_reference as ref
from mmdet.structures import DetDataSample
from mmengine.model import ExponentialMovingAverage
from torch import Tensor
from yolo_detector import batch, build, sample

from mmir.det.yolov7 import YOLOv7


def flat(out: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(out.values()))


def test_images_are_padded_with_grey_and_scaled_to_one():
    data = batch((60, 90), (64, 70))
    out = build().data_preprocessor(data, False)['inputs']
    assert out.shape == (2, 3, 64, 96)
    for image, padded in zip(data['inputs'], out, strict=True):
        height, width = image.shape[1:]
        inside = padded[:, :height, :width]
        torch.testing.assert_close(inside, image.flip(0) / 255)
        outside = torch.ones(64, 96, dtype=torch.bool)
        outside[:height, :width] = False
        gray = padded[:, outside]
        torch.testing.assert_close(gray, torch.full_like(gray, 114 / 255))


@torch.no_grad()
def test_an_image_is_predicted_the_same_alone_and_in_a_batch():
    model = build()
    ref.randomize(model.backbone)
    model.eval().double()  # a batch takes other kernels than one image

    def predict(data: dict) -> list:
        data = model.data_preprocessor(copy.deepcopy(data), False)
        return model.predict(data['inputs'].double(), data['data_samples'])

    data = batch((60, 90), (64, 70), (33, 65))
    together = predict(data)
    assert all(len(r.pred_instances) == 20 for r in together)
    for i, many in enumerate(together):
        (alone,) = predict({k: v[i : i + 1] for k, v in data.items()})
        a, b = alone.pred_instances, many.pred_instances
        torch.testing.assert_close(a.scores, b.scores, rtol=1e-9, atol=0)
        torch.testing.assert_close(a.bboxes, b.bboxes, rtol=1e-9, atol=1e-9)
        assert torch.equal(a.labels, b.labels)


@torch.no_grad()
def test_predicted_boxes_are_those_of_the_original_image():
    model = build().eval()
    data = model.data_preprocessor(batch((64, 96)), False)
    maps = model.bbox_head(model.extract_feat(data['inputs']))[0]
    (boxes,), (scores,) = model.bbox_head.decode_maps(maps)
    (found,) = model.predict(data['inputs'], data['data_samples'])
    found = found.pred_instances
    height, width = data['data_samples'][0].ori_shape
    corners = boxes / torch.tensor([0.5, 2.0, 0.5, 2.0])
    corners = corners.clamp(min=0).minimum(torch.tensor([width, height] * 2))
    # each box is one of the raw ones
    distance = torch.cdist(found.bboxes.double(), corners.double()).amin(1)
    assert distance.max() < 1e-3
    assert found.scores[0] == scores.max()


def test_tensor_mode_returns_the_raw_maps():
    model = build(1).eval()
    with torch.no_grad():
        maps = model(torch.rand(2, 3, 64, 96), mode='tensor')[0]
    assert [tuple(m.shape) for m in maps] == [
        (2, 18, 8, 12), (2, 18, 4, 6), (2, 18, 2, 3)
    ]  # fmt: skip


def test_anchors_travel_with_the_state_dict(tmp_path):
    other = tuple(tuple((w + 1, h + 2) for w, h in level) for level in ref.ANCHORS)
    saved, loaded = build(anchors=other), build()
    assert loaded.bbox_head.anchors.tolist() == [
        [list(map(float, a)) for a in level] for level in ref.ANCHORS
    ]
    torch.save(saved.state_dict(), tmp_path / 'm.pth')
    state = torch.load(tmp_path / 'm.pth', weights_only=True)
    assert not any(loaded.load_state_dict(state))
    assert torch.equal(loaded.bbox_head.anchors, saved.bbox_head.anchors)
    raw = ref.random_maps((64, 64), classes=3)
    for a, b in zip(
        saved.bbox_head.decode_maps(raw), loaded.bbox_head.decode_maps(raw), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_does_not_round_the_anchors(dtype):
    odd = tuple(tuple((w + 0.3, h + 1.7) for w, h in level) for level in ref.ANCHORS)
    whole, half = build(anchors=odd).bbox_head, build(anchors=odd).to(dtype)
    assert half.neck.out_layers[0].conv.weight.dtype == dtype
    assert half.bbox_head.anchors.dtype == torch.float32
    assert torch.equal(half.bbox_head.anchors, whole.anchors)
    assert 'bbox_head.anchors' in half.state_dict()
    raw = [m.to(dtype) for m in ref.random_maps((64, 64), classes=3)]
    expected = whole.decode_maps([m.float() for m in raw])
    for a, b in zip(half.bbox_head.decode_maps(raw), expected, strict=True):
        assert torch.equal(a, b)
    assert half.double().bbox_head.anchors.dtype == torch.float64
    assert half.float().bbox_head.anchors.equal(whole.anchors)


def test_anchors_follow_the_model_to_other_devices():
    model = build().bfloat16().to('meta')
    assert model.bbox_head.anchors.is_meta
    assert model.to_empty(device='cpu').bbox_head.anchors.shape == (3, 3, 2)


def test_copies_after_a_step_give_the_same_losses():
    model = build()
    data = model.data_preprocessor(batch((64, 96), (60, 90)), True)
    sum(model(**data, mode='loss').values()).backward()
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    expected = flat(model(**data, mode='loss'))
    for other in copies:
        torch.testing.assert_close(flat(other(**data, mode='loss')), expected)


def test_moving_average_follows_the_model_and_keeps_the_anchors():
    model = build()
    average = ExponentialMovingAverage(model, momentum=0.25, update_buffers=True)
    conv = model.bbox_head.head_module.convs_pred[0][1]
    start = conv.weight.detach().clone()
    average.update_parameters(model)
    with torch.no_grad():
        conv.weight += 1
    average.update_parameters(model)
    mean = average.module.bbox_head.head_module.convs_pred[0][1].weight
    torch.testing.assert_close(mean, start + 0.25)
    assert torch.equal(average.module.bbox_head.anchors, model.bbox_head.anchors)


def test_every_parameter_gets_a_gradient():
    model = build()
    data = model.data_preprocessor(batch((64, 96), (64, 96)), True)
    sum(model(**data, mode='loss').values()).backward()
    bare = [n for n, p in model.named_parameters() if p.grad is None]
    assert bare == []


def test_autocast_gives_finite_single_precision_losses():
    model = build()
    data = model.data_preprocessor(batch((64, 96), (64, 96)), True)
    with torch.autocast('cpu', torch.bfloat16):
        out = model(**data, mode='loss')
    assert {v.dtype for v in out.values()} == {torch.float32}
    sum(out.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def overfit(steps: int) -> tuple[YOLOv7, list[DetDataSample], list[float]]:
    """Train on two gray 64 x 96 images with a bright and a dark box each."""
    model = build(2).train()
    places = [
        [ref.Box(24, 30, 20, 24, 0), ref.Box(70, 40, 30, 20, 1)],
        [ref.Box(60, 20, 24, 28, 0), ref.Box(20, 44, 28, 16, 1)],
    ]
    inputs = torch.full((2, 3, 64, 96), 0.45)
    for image, boxes in zip(inputs, places, strict=True):
        for b in boxes:
            y, x = int(b.cy - b.h / 2), int(b.cx - b.w / 2)
            image[:, y : y + int(b.h), x : x + int(b.w)] = 1.0 - b.label
    samples = [sample((64, 96), boxes) for boxes in places]
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    history = []
    for _ in range(steps):
        total = sum(model(inputs, samples, mode='loss').values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(total.item())
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.momentum = None  # plain mean of what follows
                m.reset_running_stats()
        model(inputs, samples, mode='loss')
    return model.eval(), model.predict(inputs, samples), history


def test_tiny_learns_two_images():
    _, results, history = overfit(20)
    assert history[-1] < 0.5 * history[0]
    assert len(results) == 2


@pytest.mark.slow
def test_tiny_finds_the_objects_of_two_images():
    _, results, history = overfit(150)
    assert history[-1] < 0.15 * history[0]
    for result in results:
        truth, found = result.gt_instances, result.pred_instances
        for box, label in zip(truth.bboxes, truth.labels, strict=True):
            best = found.bboxes[found.labels == label][0]
            assert (best - box).abs().max() < 4
