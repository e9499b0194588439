"""Late fusion of two detectors, one per modality: routing, losses, checkpoints."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData

pytest.importorskip('mmdet')

from mmdet.structures import DetDataSample

from mmir.det.late_fusion import LateFusionDetector
from mmir.structures import drop_modalities

PAIR = dict(
    type='mmir.PairedDetDataPreprocessor',
    modalities=dict(rgb=dict(mean=0.0, std=255.0), ir=dict(mean=0.0, std=255.0)),
    pad_size_divisor=32,
)
YOLO = ConfigDict(
    type='mmir.YOLOv7',
    # a second preprocessor: must not be applied
    data_preprocessor=dict(type='DetDataPreprocessor', mean=[9.0] * 3, std=[3.0] * 3),
    backbone=dict(type='mmir.YOLOv7Backbone', arch='tiny'),
    neck=dict(type='mmir.YOLOv7Neck', arch='tiny'),
    bbox_head=dict(
        type='mmir.YOLOHead',
        head_module=dict(
            type='mmir.YOLOHeadModule', in_channels=(128, 256, 512), num_classes=3
        ),
    ),
    test_cfg=dict(
        score_thr=0.01, nms=dict(type='nms', iou_threshold=0.65), max_per_img=50
    ),
)


@pytest.fixture(autouse=True)
def scope():
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def late(**options) -> LateFusionDetector:
    cfg = dict(data_preprocessor=PAIR, detectors=dict(rgb=YOLO, ir=YOLO))
    model = LateFusionDetector(**{**cfg, **options})
    model.init_weights()
    for module in model.modules():  # boxes everywhere, other ones in each
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight, 1.5, 0.5)
    return model.eval()


def batch(channels: tuple[int, int] = (3, 3)) -> dict:
    generator = torch.Generator().manual_seed(1)
    shape = (sum(channels), 64, 96)
    samples = []
    for k in range(3):
        meta = dict(
            modalities=('rgb', 'ir'), channels=channels, absent=(),
            img_shape=(64, 96), ori_shape=(64, 96), scale_factor=(1.0, 1.0),
        )  # fmt: skip
        sample = DetDataSample(metainfo=meta)
        boxes = torch.tensor([[4.0, 6.0, 40.0, 44.0]]) + k
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([k]))
        samples.append(sample)
    images = [torch.randint(256, shape, generator=generator).byte() for _ in range(3)]
    return dict(inputs=images, data_samples=samples)


def alone(model: LateFusionDetector, name: str, data: dict) -> list[InstanceData]:
    """Return the detections of one modality's detector alone, on its own image."""
    place = slice(0, 3) if name == 'rgb' else slice(3, None)
    data = model.data_preprocessor(data)
    with torch.no_grad():
        found = model.members[name].predict(
            data['inputs'][:, place], [s.clone() for s in data['data_samples']]
        )
    return [sample.pred_instances for sample in found]


def same(one: InstanceData, other: InstanceData) -> bool:
    return all(
        torch.equal(one[key], other[key]) for key in ('bboxes', 'scores', 'labels')
    )


def predicted(model: LateFusionDetector, data: dict) -> list[InstanceData]:
    with torch.no_grad():
        return [sample.pred_instances for sample in model.test_step(data)]


@pytest.mark.parametrize('method', ['nms', 'wbf', 'prob'])
def test_boxes_are_those_of_the_detectors_fused(method):
    model = late(fuse=method)
    found = [alone(model, name, batch()) for name in ('rgb', 'ir')]
    results = predicted(model, batch())
    for result, one, other in zip(results, *found, strict=True):
        assert len(one) > 5
        assert len(other) > 5
        assert same(result, model.fuse([one, other]))


def test_an_absent_modality_is_not_asked():
    """One sample without RGB, one without infrared, one with both, in one batch."""
    model = late(fuse='wbf')
    whole = batch()
    data = dict(inputs=[], data_samples=[])
    for k, gone in enumerate((['rgb'], ['ir'], [])):
        part = drop_modalities({key: [whole[key][k]] for key in whole}, gone)
        for key in data:
            data[key] += part[key]
    rgb, ir = (alone(model, name, whole) for name in ('rgb', 'ir'))
    results = predicted(model, data)
    for result, expected in zip(results, (ir[0], rgb[1]), strict=False):
        torch.testing.assert_close(result.bboxes, expected.bboxes)
        torch.testing.assert_close(result.scores, expected.scores)
        assert torch.equal(result.labels, expected.labels)
    assert len(results[2]) not in (len(rgb[2]), len(ir[2]))


def test_a_detector_of_one_modality_finds_nothing_without_it():
    model = late(detectors=dict(ir=YOLO))
    both = predicted(model, batch())
    assert all(
        same(a, b) for a, b in zip(both, alone(model, 'ir', batch()), strict=True)
    )
    without = predicted(model, drop_modalities(batch(), ['ir']))
    assert [x.bboxes.shape for x in without] == [(0, 4)] * 3
    assert [x.labels.dtype for x in without] == [torch.long] * 3


def test_losses_are_those_of_the_detectors():
    model = late().train()
    data = model.data_preprocessor(batch(), training=True)
    losses = model.loss(data['inputs'], data['data_samples'])
    assert set(losses) == {
        f'{name}.loss_{kind}'
        for name in ('rgb', 'ir')
        for kind in ('box', 'obj', 'cls')
    }
    ir = model.members['ir'].loss(data['inputs'][:, 3:], data['data_samples'])
    torch.testing.assert_close(losses['ir.loss_obj'], ir['loss_obj'])
    total, _ = model.parse_losses(losses)
    torch.testing.assert_close(total, sum(losses.values()))
    total.backward()
    assert [k for k, p in model.named_parameters() if p.grad is None] == []


def test_images_without_a_modality_do_not_train_its_detector():
    model = late().train()
    whole = batch()
    part = drop_modalities({key: value[:2] for key, value in whole.items()}, ['rgb'])
    mixed = {key: [*part[key], whole[key][2]] for key in whole}
    data = model.data_preprocessor(mixed, training=True)
    last = model.data_preprocessor({k: v[2:] for k, v in whole.items()}, training=True)
    losses = model.loss(data['inputs'], data['data_samples'])
    expected = model.members['rgb'].loss(last['inputs'][:, :3], last['data_samples'])
    torch.testing.assert_close(losses['rgb.loss_obj'], expected['loss_obj'])

    # absent from the batch: no gradient, but a complete graph
    data = model.data_preprocessor(drop_modalities(batch(), ['rgb']), training=True)
    losses = model.loss(data['inputs'], data['data_samples'])
    model.parse_losses(losses)[0].backward()
    rgb, ir = (
        [p.grad for p in model.members[k].parameters()] for k in ('rgb', 'ir')
    )  # fmt: skip
    assert all(g is not None and not g.any() for g in rgb)
    assert sum(g.abs().sum() for g in ir) > 0


def checkpoint(path, seed: int) -> dict:
    torch.manual_seed(seed)
    weights = MODELS.build(YOLO).state_dict()
    torch.save(dict(state_dict=weights, meta=dict(epoch=1)), path)
    return weights


def test_each_detector_has_its_own_checkpoint(tmp_path):
    files = {name: tmp_path / f'{name}.pth' for name in ('rgb', 'ir')}
    weights = {
        name: checkpoint(file, k) for k, (name, file) in enumerate(files.items())
    }
    model = LateFusionDetector(dict(rgb=YOLO, ir=YOLO), PAIR, checkpoints=files)
    for _ in range(2):  # as built, and after the runner has initialized it
        own = model.state_dict()
        for name, dense in weights.items():
            for key, value in dense.items():
                assert torch.equal(own[f'members.{name}.{key}'], value)
        model.init_weights()


def test_one_channel_takes_the_weights_of_colours(tmp_path):
    weights = checkpoint(tmp_path / 'ir.pth', 0)
    pair = dict(PAIR, modalities=dict(rgb={}, ir=dict(channels=1)))
    files = dict(ir=tmp_path / 'ir.pth', rgb=None)
    model = LateFusionDetector(dict(rgb=YOLO, ir=YOLO), pair, checkpoints=files)
    key = 'backbone.stem.0.conv.weight'
    kernel = model.members['ir'].state_dict()[key]
    torch.testing.assert_close(kernel, weights[key].sum(1, keepdim=True))
    assert len(predicted(model.eval(), batch((3, 1)))) == 3


def test_wrong_checkpoints_are_named(tmp_path):
    class Code:
        def __reduce__(self):
            return print, ('ran',)

    torch.save(dict(state_dict={}, code=Code()), tmp_path / 'code.pth')
    torch.save(dict(state_dict=dict(x=torch.ones(1))), tmp_path / 'x.pth')
    for file, message in (
        ('code.pth', 'not a plain'),
        ('x.pth', "not fit the model of 'ir'"),
    ):
        with pytest.raises(RuntimeError, match=message):
            late(checkpoints=dict(ir=tmp_path / file))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            dict(detectors=dict(rgb=YOLO, nir=YOLO)),
            r"models of \['nir'\] for the modal",
        ),
        (dict(detectors={}), 'models of'),
        (dict(checkpoints=dict(nir='x.pth')), r"checkpoints of \['nir'\], but models"),
        (dict(data_preprocessor=None), 'paired samples need one such as'),
        (dict(fuse='mean'), 'method must be one of'),
    ],
)
def test_what_does_not_fit_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        late(**options)


def test_features_and_raw_outputs_by_modality():
    model = late()
    inputs = torch.rand(1, 6, 64, 64)
    feats, raw = model.extract_feat(inputs), model(inputs, mode='tensor')
    assert list(feats) == list(raw) == ['rgb', 'ir']
    expected = model.members['ir'].extract_feat(inputs[:, 3:])
    assert all(torch.equal(a, b) for a, b in zip(feats['ir'], expected, strict=True))
