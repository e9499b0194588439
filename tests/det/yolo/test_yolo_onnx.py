"""The ONNX file of a YOLOv7 against PyTorch."""

import copy
import json
import os
from pathlib import Path

import cv2
import pytest
import torch
import yolov7_reference as ref
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor
from yolo_detector import build

from mmir.det import YOLOv7
from mmir.det.yolo import onnx_export
from mmir.det.yolo.onnx_check import Comparison, compare, instances, run_onnx
from mmir.det.yolo.onnx_export import Settings, export_onnx
from mmir.det.yolo.onnx_nms import append_nms

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')
SIZE = (128, 160)
FORBIDDEN = {'ScatterND', 'ScatterElements', 'NonZero', 'Loop', 'If', 'Scan'}


def detector() -> YOLOv7:
    """A detector whose scores differ from box to box."""
    model = build().eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        feats = model.extract_feat(torch.rand(1, 3, *SIZE, generator=generator))
        for (_, conv, _), x in zip(
            model.bbox_head.head_module.convs_pred, feats, strict=True
        ):
            conv.weight *= 1.5 / conv(x).std()
            conv.bias.view(3, -1)[:, 4:] = -1
    model.bbox_head.test_cfg.update(score_thr=0.02, nms_pre=300)
    return model


def images(size: tuple[int, int], number: int = 1) -> Tensor:
    """Return thermal images (RGB, 0 to 255) of `size`, real ones if available."""
    folder = Path(os.environ.get('MMIR_REAL_DATA', 'none')) / 'street_pairs/train'
    files = sorted((folder / 'thermal_8_bit').glob('*.jp*g'))[:number]
    if len(files) < number:
        generator = torch.Generator().manual_seed(0)
        small = torch.rand(number, 3, *(s // 8 for s in size), generator=generator)
        return torch.nn.functional.interpolate(small * 255, size, mode='bilinear')
    read = [cv2.resize(cv2.imread(str(f))[..., ::-1], size[::-1]) for f in files]
    return torch.stack([torch.from_numpy(i).permute(2, 0, 1) for i in read]).float()


@torch.no_grad()
def predict(model: YOLOv7, rgb: Tensor) -> list[InstanceData]:
    """Return the detections of the host's test loop for images read as BGR."""
    size = tuple(rgb.shape[2:])
    meta = dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))
    data = dict(
        inputs=list(rgb.flip(1)),
        data_samples=[DetDataSample(metainfo=meta) for _ in rgb],
    )
    return [sample.pred_instances for sample in model.test_step(data)]


PIXELS = 1e-4 * max(SIZE)
"""Rounding of a box in single precision, relative to the image: on an older CPU, where
sums are ordered otherwise, boxes of two networks differ by 0.01 pixels."""


def assert_same(found: list[InstanceData], truth: list[InstanceData]) -> None:
    for a, b in zip(found, truth, strict=True):
        assert len(a) == len(b)
        torch.testing.assert_close(a.scores, b.scores, rtol=1e-4, atol=0)
        torch.testing.assert_close(a.bboxes, b.bboxes, rtol=0, atol=PIXELS)
        assert torch.equal(a.labels, b.labels)


@pytest.fixture(scope='module')
def exported(tmp_path_factory) -> dict[bool, Path]:
    """Export `detector` without and with NMS."""
    folder = tmp_path_factory.mktemp('onnx')
    files = {nms: folder / f'{nms}.onnx' for nms in (False, True)}
    for nms, path in files.items():
        export_onnx(detector(), path, Settings(SIZE, nms, classes=('a', 'b', 'c')))
    return files


def test_decoded_boxes_are_those_of_pytorch(exported):
    model, rgb = detector(), images(SIZE)
    boxes, scores = map(torch.from_numpy, run_onnx(onnx.load(exported[False]), rgb))
    maps = model(rgb / 255, mode='tensor')[0]
    corners, values = model.bbox_head.decode_maps(maps)
    torch.testing.assert_close(boxes, corners, rtol=1e-4, atol=PIXELS)
    torch.testing.assert_close(scores, values, rtol=1e-4, atol=1e-6)
    truth = predict(model, rgb)
    assert len(truth[0]) == 20
    metas = [dict(img_shape=SIZE)]
    assert_same(model.bbox_head.predict_by_boxes(boxes, scores, metas), truth)


def test_suppressed_boxes_are_those_of_pytorch(exported):
    model, rgb = detector(), images(SIZE)
    truth = predict(model, rgb)
    assert len({*truth[0].labels.tolist()}) > 1
    assert_same(instances(run_onnx(onnx.load(exported[True]), rgb)), truth)


def test_graph_has_plain_operators_and_one_convolution_a_layer(exported):
    for nms, path in exported.items():
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        kinds = [node.op_type for node in model.graph.node]
        assert not FORBIDDEN & {*kinds}
        assert kinds.count('Conv') == 58
        assert 'BatchNormalization' not in kinds
        assert kinds.count('NonMaxSuppression') == nms
        assert [i.name for i in model.graph.input] == ['images']


def test_metadata_tells_how_to_use_the_file(exported):
    for nms, path in exported.items():
        props = onnx.load(path).metadata_props
        facts = {p.key: json.loads(p.value) for p in props}
        assert facts['classes'] == ['a', 'b', 'c']
        assert facts['strides'] == [8, 16, 32]
        assert facts['anchors'] == [[list(a) for a in level] for level in ref.ANCHORS]
        assert facts['channels'] == 'RGB'
        assert facts['pad_value'] == [114, 114, 114]
        assert 'float32, (N, 3, H, W), 0 to 255' in facts['input']
        assert (facts['nms'] or {}).get('max_per_img') == (20 if nms else None)


@pytest.mark.slow
def test_dynamic_file_takes_any_batch_and_size(tmp_path):
    model, path = detector(), tmp_path / 'd.onnx'
    export_onnx(model, path, Settings((64, 64), nms=True, dynamic=True))
    loaded = onnx.load(path)
    assert not FORBIDDEN & {node.op_type for node in loaded.graph.node}
    for size, number in (((64, 96), 3), ((160, 128), 1), ((32, 32), 2)):
        rgb = images(size, number)
        assert_same(instances(run_onnx(loaded, rgb)), predict(model, rgb))


def suppression(cfg: ConfigDict, batch: int, classes: int) -> onnx.ModelProto:
    """Apply `append_nms` to a graph without nodes."""
    text = f"""<ir_version: 10, opset_import: ["": 18]>
    raw (float[{batch}, 3, H, W] images, float[{batch}, B, 4] all_boxes,
         float[{batch}, B, {classes}] all_scores)
    => (float[{batch}, B, 4] all_boxes) {{ }}"""
    model = onnx.parser.parse_model(text)
    append_nms(model, cfg)
    onnx.checker.check_model(model, full_check=True)
    return model


def suppress(
    cfg: ConfigDict, boxes: Tensor, scores: Tensor, size: tuple[int, int]
) -> list[Tensor]:
    from onnxruntime import InferenceSession

    model = suppression(cfg, len(boxes), scores.shape[2])
    feed = dict(images=torch.zeros(len(boxes), 3, *size))
    feed.update(all_boxes=boxes, all_scores=scores)
    session = InferenceSession(model.SerializeToString())
    return session.run(None, {k: v.numpy() for k, v in feed.items()})


def limits(**values: object) -> ConfigDict:
    cfg = dict(score_thr=0.3, nms_pre=50, max_per_img=9)
    nms = dict(type='nms', iou_threshold=values.pop('iou', 0.5))
    return ConfigDict(cfg | dict(nms=nms) | values)


@given(
    batch=st.integers(1, 3),
    number=st.integers(1, 40),
    classes=st.integers(1, 3),
    pre=st.sampled_from([1, 7, 1000]),
    keep=st.sampled_from([1, 9, 200]),
    thr=st.sampled_from([0.0, 0.5, 0.999]),
    iou=st.sampled_from([0.1, 0.65]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_nodes_suppress_as_the_head_does(
    batch, number, classes, pre, keep, thr, iou, seed
):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(batch, number, 2, generator=generator) * 100 - 10
    size = torch.rand(batch, number, 2, generator=generator) * 40
    boxes = torch.cat([low, low + size], -1)
    scores = torch.rand(batch, number, classes, generator=generator)
    cfg = limits(score_thr=thr, nms_pre=pre, max_per_img=keep, iou=iou)
    head = MODELS.build(ref.head_cfg(classes, test_cfg=cfg))
    metas = [dict(img_shape=(64, 96))] * batch
    truth = head.predict_by_boxes(boxes, scores, metas)
    out = suppress(cfg, boxes, scores, (64, 96))
    assert [o.shape[:2] for o in out[:3]] == [(batch, keep)] * 3
    for one, other in zip(instances(out), truth, strict=True):
        torch.testing.assert_close(one.bboxes, other.bboxes)
        assert torch.equal(one.scores, other.scores)
        assert torch.equal(one.labels, other.labels)


def test_places_without_a_detection_are_empty():
    boxes = torch.tensor([[[0.0, 0, 9, 9], [1, 0, 9, 9]]]).repeat(2, 1, 1)
    scores = torch.tensor([[[0.1], [0.2]], [[0.8], [0.9]]])
    got = suppress(limits(), boxes, scores, (32, 32))
    found, values, labels, count = map(torch.from_numpy, got)
    assert count.tolist() == [0, 1]
    assert not found[0].any()
    assert not found[1, 1:].any()
    assert found[1, 0].tolist() == [1, 0, 9, 9]
    assert values[1].tolist() == pytest.approx([0.9] + [0] * 8)
    assert labels.tolist() == [[-1] * 9, [0] + [-1] * 8]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(nms=dict(type='soft_nms', iou_threshold=0.5)), 'supports score_thr'),
        (
            dict(nms=dict(type='nms', iou_threshold=0.5, max_num=3)),
            'supports score_thr',
        ),
        (dict(nms=None), 'supports score_thr'),
        (dict(min_bbox_size=3), 'min_bbox_size'),
        (dict(max_per_img=-1), r'max_per_img >= 1 .* -1 and 0\.3'),
        (dict(score_thr=-0.5), r'score_thr >= 0 in test_cfg, got 9 and -0\.5'),
    ],
)
def test_other_suppressions_are_refused(change, message, tmp_path):
    model = build()
    model.bbox_head.test_cfg = limits(**change)
    with pytest.raises(ValueError, match=message):
        export_onnx(model, tmp_path / 'x.onnx', Settings(SIZE, nms=True))


@pytest.mark.parametrize(
    ('settings_', 'message'),
    [
        (Settings((100, 160)), r'multiples of 32, not \(100, 160\)'),
        (Settings((0, 32)), 'multiples of 32'),
        (
            Settings(SIZE, classes=('a',)),
            r"1 class names \('a',\), but the model has 3",
        ),
    ],
)
def test_wrong_settings_are_refused(settings_, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_onnx(build(), tmp_path / 'x.onnx', settings_)


def test_missing_packages_are_named(monkeypatch, tmp_path):
    find = onnx_export.find_spec
    monkeypatch.setattr(
        onnx_export, 'find_spec', lambda n: None if n == 'onnxscript' else find(n)
    )
    with pytest.raises(ImportError, match=r'needs onnxscript: .*openmmir\[deploy\]'):
        export_onnx(build(), tmp_path / 'x.onnx', Settings(SIZE))


@pytest.mark.parametrize(
    'found',
    [
        Comparison(0.1, 0.0),
        Comparison(0.0, 0.01, (1.0, 0.0)),
        Comparison(0.0, 0.0, missed=0.1),
        Comparison(float('nan'), 0.0),
    ],
)
def test_file_that_differs_is_not_written(found, exported, monkeypatch, tmp_path):
    proto, path = onnx.load(exported[False]), tmp_path / 'x.onnx'
    path.write_text('former')
    monkeypatch.setattr(onnx_export, 'trace', lambda *_: copy.deepcopy(proto))
    monkeypatch.setattr(onnx_export, 'compare', lambda *_: found)
    with pytest.raises(ValueError, match=r'x\.onnx is not written, .* differs'):
        export_onnx(build(), path, Settings(SIZE))
    assert [p.name for p in tmp_path.iterdir()] == ['x.onnx']
    assert path.read_text() == 'former'


def test_comparison_sees_what_is_wrong(exported):
    rgb = images(SIZE)
    raw, final = (onnx.load(exported[nms]) for nms in (False, True))
    right = compare(detector(), raw, final, [rgb])
    assert right.good
    assert 0 < right.boxes < 8 * right.noise[0] < 0.05
    assert right.scores < 1e-4
    assert right.missed == 0
    other = detector()
    other.bbox_head.anchors += 1
    assert not compare(other, raw, None, [rgb]).good
    strict = detector()
    strict.bbox_head.test_cfg.update(max_per_img=10)
    assert compare(strict, raw, final, [rgb]).missed == pytest.approx(10 / 30)


def test_exported_detector_is_left_as_it_was(exported, monkeypatch, tmp_path):
    proto, model = onnx.load(exported[False]), build().train()
    monkeypatch.setattr(onnx_export, 'trace', lambda *_: copy.deepcopy(proto))
    monkeypatch.setattr(onnx_export, 'compare', lambda *_: Comparison(0.0, 0.0))
    before = copy.deepcopy(model.state_dict())
    export_onnx(model, tmp_path / 'x.onnx', Settings(SIZE))
    assert model.training
    assert not model.deployed
    assert before.keys() == model.state_dict().keys()
    assert (tmp_path / 'x.onnx').exists()
