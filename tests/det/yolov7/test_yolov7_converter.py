"""Conversion of official and MMYOLO checkpoints of YOLOv7, in both directions."""

import pytest
import torch
import yolov7_oracle as oracle
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from torch import Tensor

from mmir.det.yolov7.convert import convert, convert_checkpoint, export_names
from mmir.det.yolov7.convert_names import name_table

ARCHS = ('tiny', 'l', 'x')
HEADS = {'tiny': 'model.77', 'l': 'model.105', 'x': 'model.121'}
TENSORS = {'tiny': 342, 'l': 564, 'x': 642}  # of a network, without its anchors


def weights(arch: str, classes: int = 3, device: str = 'cpu') -> dict[str, Tensor]:
    """Return weights of this project by the formula, with their own anchors."""
    if device == 'meta':
        with torch.device('meta'):
            return oracle.Project()._build(arch, classes).state_dict()
    found = oracle.Project().network(arch, classes, torch.float32).state_dict()
    found['bbox_head.anchors'] = found['bbox_head.anchors'] + 3
    return found


@pytest.fixture(scope='module')
def tiny() -> dict[str, Tensor]:
    return weights('tiny')


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    assert a.keys() == b.keys()
    return all(v.dtype == b[k].dtype and torch.equal(v, b[k]) for k, v in a.items())


@pytest.mark.parametrize('arch', ARCHS)
def test_tables_name_every_tensor_once(arch):
    own = weights(arch, device='meta').keys() - {'bbox_head.anchors'}
    table = name_table(arch)
    assert table.head == HEADS[arch]
    assert {row.project for row in table.rows} == own
    for kind in ('official', 'mmyolo'):
        names = {getattr(row, kind) for row in table.rows}
        assert len(names) == len(own) == TENSORS[arch]


@pytest.mark.parametrize(
    ('arch', 'project', 'official', 'mmyolo'),
    [
        ('l', 'backbone.stem.2.conv', '2.conv', 'backbone.stem.2.conv'),
        ('l', 'backbone.stage1.0.bn', '3.bn', 'backbone.stage1.0.bn'),
        (
            'l',
            'backbone.stage3.1.short_conv.bn',
            '30.bn',
            'backbone.stage3.1.short_conv.bn',
        ),
        (
            'l',
            'backbone.stage4.1.blocks.2.conv',
            '47.conv',
            'backbone.stage4.1.blocks.1.0.conv',
        ),
        (
            'l',
            'backbone.stage2.0.pool_conv.bn',
            '13.bn',
            'backbone.stage2.0.maxpool_branches.1.bn',
        ),
        (
            'l',
            'neck.spp.short_layer.conv',
            '51.cv2.conv',
            'neck.reduce_layers.2.short_layer.conv',
        ),
        (
            'l',
            'neck.spp.main_layers.2.conv',
            '51.cv4.conv',
            'neck.reduce_layers.2.main_layers.2.conv',
        ),
        ('l', 'neck.reduce_layers.1.bn', '52.bn', 'neck.upsample_layers.0.0.bn'),
        ('l', 'neck.lateral_layers.0.bn', '66.bn', 'neck.reduce_layers.0.bn'),
        (
            'l',
            'neck.top_down_layers.0.blocks.3.bn',
            '73.bn',
            'neck.top_down_layers.1.blocks.3.bn',
        ),
        (
            'l',
            'neck.downsample_layers.1.stride_conv.1.conv',
            '92.conv',
            'neck.downsample_layers.1.stride_conv_branches.1.conv',
        ),
        (
            'l',
            'neck.bottom_up_layers.1.final_conv.bn',
            '101.bn',
            'neck.bottom_up_layers.1.final_conv.bn',
        ),
        (
            'l',
            'neck.out_layers.2.rbr_1x1.bn',
            '104.rbr_1x1.1',
            'neck.out_layers.2.rbr_1x1.bn',
        ),
        (
            'tiny',
            'backbone.stage2.1.blocks.1.conv',
            '12.conv',
            'backbone.stage2.1.main_convs.2.conv',
        ),
        (
            'tiny',
            'neck.spp.fuse_layers.bn',
            '35.bn',
            'neck.reduce_layers.2.fuse_layers.bn',
        ),
        ('tiny', 'neck.lateral_layers.1.bn', '40.bn', 'neck.reduce_layers.1.bn'),
        (
            'tiny',
            'neck.top_down_layers.0.final_conv.bn',
            '57.bn',
            'neck.top_down_layers.1.final_conv.bn',
        ),
        ('tiny', 'neck.downsample_layers.1.bn', '66.bn', 'neck.downsample_layers.1.bn'),
        ('tiny', 'neck.out_layers.0.bn', '74.bn', 'neck.out_layers.0.bn'),
        (
            'x',
            'neck.bottom_up_layers.0.blocks.5.bn',
            '100.bn',
            'neck.bottom_up_layers.0.blocks.2.1.bn',
        ),
    ],
)
def test_names_are_the_published_ones(arch, project, official, mmyolo):
    rows = {row.project: row for row in name_table(arch).rows}
    suffix = 'bias' if project.endswith('bn') else 'weight'
    row = rows[f'{project}.{suffix}']
    assert row.official == f'model.{official}.{suffix}'
    assert row.mmyolo == f'{mmyolo}.{suffix}'


@pytest.mark.parametrize('arch', ['tiny', 'l'])
@pytest.mark.parametrize('classes', [1, 3, 80])
def test_round_trips_are_bit_exact(arch, classes):
    own = weights(arch, classes)
    official = export_names(own, arch, 'official')
    back = convert(official)
    assert (back.source, back.arch, back.num_classes) == ('official', arch, classes)
    assert back.own_anchors
    assert same(back.state_dict, own)
    mmyolo = export_names(own, arch, 'mmyolo')
    assert 'bbox_head.anchors' not in mmyolo
    back = convert(mmyolo)
    assert (back.source, back.arch, back.num_classes) == ('mmyolo', arch, classes)
    assert not back.own_anchors
    shipped = own['bbox_head.anchors'] - 3
    assert same(back.state_dict, {**own, 'bbox_head.anchors': shipped})
    # and the round trip
    again = convert(mmyolo).state_dict
    again['bbox_head.anchors'] = own['bbox_head.anchors']
    assert same(export_names(again, arch, 'official'), official)


def test_x_goes_round_too():
    own = weights('x')
    for target in ('official', 'mmyolo'):
        back = convert(export_names(own, 'x', target))
        assert (back.arch, back.num_classes) == ('x', 3)
        back.state_dict['bbox_head.anchors'] = own['bbox_head.anchors']
        assert same(back.state_dict, own)


def test_a_reparameterised_head_gets_neutral_implicit_layers(tiny):
    official = export_names(tiny, 'tiny', 'official')
    plain = {k: v for k, v in official.items() if 'implicit' not in k}
    found = convert(plain).state_dict
    for key, value in tiny.items():
        if key.endswith('0.implicit'):
            assert torch.equal(found[key], torch.zeros_like(value))
        elif key.endswith('2.implicit'):
            assert torch.equal(found[key], torch.ones_like(value))
        else:
            assert torch.equal(found[key], value)


def test_half_precision_becomes_single(tiny):
    official = export_names(tiny, 'tiny', 'official')
    half = {k: v.half() if v.is_floating_point() else v for k, v in official.items()}
    found = convert(half).state_dict
    for key, value in tiny.items():
        assert found[key].dtype == value.dtype
        if value.is_floating_point():
            assert torch.equal(found[key], value.half().float())


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            lambda s: s.pop('model.29.bn.bias'),
            r"arch 'tiny' .* with official names: 1 missing: model\.29\.bn\.bias$",
        ),
        (
            lambda s: s.update({'model.3.conv.bias': torch.ones(1)}),
            r'1 foreign: model\.3\.conv\.bias$',
        ),
        (
            lambda s: s.pop('model.77.im.2.implicit'),
            r'1 missing: model\.77\.im\.2\.implicit$',
        ),
        (lambda s: s.pop('model.77.anchors'), r'1 missing: model\.77\.anchors$'),
        (
            lambda s: s.update({'model.0.conv.weight': torch.ones(48, 3, 3, 3)}),
            r'1 misshapen: backbone\.stem\.0\.conv\.weight \(48, 3, 3, 3\) for '
            r'\(32, 3, 3, 3\)$',
        ),
        (
            lambda s: s['model.77.anchors'].mul_(8),
            r'model\.77\.anchors, in cells, and model\.77\.anchor_grid.*inconsistent',
        ),
        (
            lambda s: s.update({'model.77.anchors': torch.ones(4, 3, 2)}),
            r'not those of 3 levels of 3 anchors',
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(tiny, change, message):
    official = {k: v.clone() for k, v in export_names(tiny, 'tiny', 'official').items()}
    change(official)
    with pytest.raises(ValueError, match=message):
        convert(official)


def test_other_networks_are_refused(tiny):
    with pytest.raises(ValueError, match=r'names are neither those.*but fc\.weight'):
        convert({'fc.weight': torch.ones(1)})
    with pytest.raises(ValueError, match='already has the names of this project'):
        convert(tiny)
    official = export_names(tiny, 'tiny', 'official')
    with pytest.raises(ValueError, match=r"arch 'l'.* missing: model\.\d+\."):
        convert(official, 'l')
    with pytest.raises(ValueError, match="unknown YOLOv7 arch 's'"):
        convert(official, 's')
    with pytest.raises(ValueError, match=r"unknown target 'onnx'"):
        export_names(tiny, 'tiny', 'onnx')
    del tiny['neck.spp.final_conv.bn.bias']
    with pytest.raises(ValueError, match=r'missing: neck\.spp\.final_conv\.bn\.bias'):
        export_names(tiny, 'tiny', 'mmyolo')


@pytest.mark.parametrize(('arch', 'name'), [('tiny', 'yolo-tiny'), ('l', 'yolo')])
def test_a_factorized_model_starts_from_it(arch, name, tmp_path):
    """At full rank the model equals the dense one, except for class layers."""
    own = weights(arch, 80)
    source, target = tmp_path / 'official.pt', tmp_path / 'dense.pth'
    torch.save(export_names(own, arch, 'official'), source)
    convert_checkpoint(source, target)
    cfg = Config.fromfile(f'configs/tensorfact/{name}_rgb.py').model
    full = dict(type='TensorFact', rank='full', skip_growing=False, delta=None)
    cfg.update(type='mmir.Adapted', target='mmir.YOLOv7', adapt=full)
    cfg.test_cfg.score_thr = 0.3
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg).eval()
    before = model.bbox_head.head_module.convs_pred[0][1].weight.clone()
    load_checkpoint(model, str(target), map_location='cpu')
    assert torch.equal(model.bbox_head.anchors, own['bbox_head.anchors'])
    assert torch.equal(model.bbox_head.head_module.convs_pred[0][1].weight, before)
    dense = oracle.Project()._build(arch, 80).eval()
    dense.load_state_dict(own)
    images = oracle.formula_images((64, 96)).float()
    with torch.no_grad():
        for a, b in zip(
            model.extract_feat(images), dense.extract_feat(images), strict=True
        ):
            assert float((a - b).abs().max() / b.abs().max()) <= 5e-6
