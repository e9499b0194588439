"""Conversion of official YOLOv5 checkpoints, and what is refused."""

import re
from collections.abc import Callable

import pytest
import torch
import yolov5_reference as ref5
from official_files import Call, save, tree
from torch import Tensor, nn
from yolov5_model import build, trained
from yolov7_reference import HEAD_IN

from mmir.det import YOLOHeadModule, YOLOv7Backbone, YOLOv7Neck
from mmir.det.yolo.fold import fold_bn_
from mmir.det.yolov5.arch import ARCHS
from mmir.det.yolov5.convert import convert, convert_checkpoint, export_names
from mmir.det.yolov5.convert_names import name_table
from mmir.det.yolov7.convert import convert as convert_v7
from mmir.det.yolov7.convert import export_names as export_v7
from mmir.utils.checkpoint import CheckpointError, require_safe

State = dict[str, Tensor]


def weights(arch: str = 'n', classes: int = 3) -> State:
    """Return weights of this project, with anchors of their own."""
    state = trained(arch, classes).state_dict()
    state['bbox_head.anchors'] = state['bbox_head.anchors'] + 4
    return state


def same(a: State, b: State) -> bool:
    assert a.keys() == b.keys()
    return all(v.dtype == b[k].dtype and torch.equal(v, b[k]) for k, v in a.items())


def folded(own: State) -> State:
    """Return official names of the weights with batch norms folded."""
    model = build('n', 3).eval()
    model.load_state_dict(own)
    names = {
        k.removesuffix('.bn.weight'): v.removesuffix('.bn.weight')
        for v, k in name_table('n').items()
    }
    fold_bn_(model)
    out = {}
    for key, value in model.state_dict().items():
        unit, _, tensor = key.rpartition('.conv.')
        if unit:
            out[f'{names[unit]}.conv.{tensor}'] = value
    head = model.bbox_head.head_module.convs_pred
    for level, conv in enumerate(head):
        out[f'model.24.m.{level}.weight'] = conv.weight.data
        out[f'model.24.m.{level}.bias'] = conv.bias.data
    out['model.24.anchors'] = model.bbox_head.anchors / torch.tensor(
        [8.0, 16.0, 32.0]
    ).view(3, 1, 1)
    return out


@pytest.fixture(scope='module')
def own() -> State:
    return weights()


@pytest.fixture
def official(own) -> State:
    return {k: v.clone() for k, v in export_names(own, 'n').items()}


@pytest.mark.parametrize('arch', ARCHS)
def test_tables_name_every_tensor_once(arch):
    with torch.device('meta'):
        own = build(arch).state_dict().keys() - {'bbox_head.anchors'}
    table = name_table(arch)
    assert {*table.values()} == own
    assert len(table) == len(own)


@pytest.mark.parametrize(
    ('official', 'project'),
    [
        ('0.conv', 'backbone.stem.conv'),
        ('4.cv1.conv', 'backbone.stage2.1.main_conv.conv'),
        ('4.cv2.conv', 'backbone.stage2.1.short_conv.conv'),
        ('6.m.2.cv2.conv', 'backbone.stage3.1.blocks.2.conv2.conv'),
        ('9.cv1.conv', 'backbone.stage4.2.reduce_conv.conv'),
        ('10.conv', 'neck.reduce_layers.0.conv'),
        ('17.cv3.conv', 'neck.top_down_blocks.1.final_conv.conv'),
        ('21.conv', 'neck.downsamples.1.conv'),
        ('20.m.0.cv1.conv', 'neck.bottom_up_blocks.0.blocks.0.conv1.conv'),
        ('24.m.1', 'bbox_head.head_module.convs_pred.1'),
    ],
)
def test_names_are_the_published_ones(official, project):
    assert name_table('n')[f'model.{official}.weight'] == f'{project}.weight'


@pytest.mark.parametrize(('arch', 'classes'), [('n', 1), ('n', 80), ('s', 3), ('m', 3)])
def test_round_trips_are_bit_exact(arch, classes):
    own = weights(arch, classes)
    names = export_names(own, arch)
    assert names['model.24.anchors'][0, 0].tolist() == [14 / 8, 17 / 8]
    found = convert(names)
    assert (found.arch, found.num_classes, found.norms) == (arch, classes, 'own')
    assert found.own_anchors
    assert same(found.state_dict, own)
    assert same(export_names(found.state_dict, arch), names)


def test_half_precision_becomes_single(own, official):
    half = {k: v.half() if v.is_floating_point() else v for k, v in official.items()}
    found = convert(half).state_dict
    for key, value in own.items():
        rounded = value.half().float() if value.is_floating_point() else value
        assert found[key].dtype == value.dtype
        assert torch.equal(found[key], rounded), key


def test_without_anchors_those_of_the_released_models_are_used(official):
    del official['model.24.anchors']
    found = convert(official)
    assert not found.own_anchors
    assert found.anchors == [[list(a) for a in level] for level in ref5.ANCHORS]


@torch.no_grad()
def test_folded_norms_become_the_identity(own):
    found = convert(folded(own))
    assert (found.norms, found.arch, found.num_classes) == ('identity', 'n', 3)
    state = found.state_dict
    assert state.keys() == own.keys()
    assert torch.equal(state['bbox_head.anchors'], own['bbox_head.anchors'])
    x = torch.rand(1, 3, 64, 96)
    model, plain = build('n', 3).eval(), build('n', 3).eval()
    model.load_state_dict(state)
    plain.load_state_dict(own)
    for a, b in zip(model(x)[0], plain(x)[0], strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()
    norm = model.backbone.stem.bn
    assert torch.equal(norm.running_mean, torch.zeros(16))
    torch.testing.assert_close(norm.running_var + norm.eps, torch.ones(16))


@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.parametrize('entry', ['ema', 'model', 'wrapped', 'bare'])
def test_pickled_files_are_read_without_their_code(own, tmp_path, fused, entry):
    state = folded(own) if fused else export_names(own, 'n')
    module = tree(state).half()
    worse = tree({k: v * 0 for k, v in state.items()})
    content = dict(
        ema=dict(model=None, ema=module, epoch=-1, best_fitness=None),
        model=dict(model=module, ema=None, optimizer={}),
        wrapped=dict(model=tree({f'module.{k}': v for k, v in state.items()}).half()),
        bare=module,
    )[entry]
    if entry == 'ema':
        content['model'] = worse  # the moving average wins
    target = tmp_path / 'n.pth'
    found = convert_checkpoint(save(content, tmp_path / 'n.pt'), target)
    assert found.norms == ('identity' if fused else 'own')
    require_safe(target)
    written = torch.load(target, weights_only=True)
    assert same(written['state_dict'], found.state_dict)
    assert written['meta']['arch'] == 'n'
    assert written['meta']['norms'] == found.norms
    assert ("norm='frozen'" in written['meta'].get('note', '')) == fused
    stem = state['model.0.conv.weight'].half().float()
    assert torch.equal(found.state_dict['backbone.stem.conv.weight'], stem)


def test_an_ema_alone_is_read(own, tmp_path):
    content = dict(model=None, ema=tree(export_names(own, 'n')))
    found = convert_checkpoint(save(content, tmp_path / 'n.pt'), tmp_path / 'n.pth')
    assert same(found.state_dict, own)


def test_safetensors_are_read(own, tmp_path):
    files = pytest.importorskip('safetensors.torch')
    state = {k: v.half().contiguous() for k, v in folded(own).items()}
    files.save_file(state, tmp_path / 'n.safetensors')
    found = convert_checkpoint(tmp_path / 'n.safetensors', tmp_path / 'n.pth')
    assert (found.norms, found.own_anchors) == ('identity', True)


def test_calls_are_refused_and_not_run(own, tmp_path):
    proof = tmp_path / 'proof'
    content = dict(model=tree(export_names(own, 'n')), ema=Call(f'touch {proof}'))
    with pytest.raises(CheckpointError, match=r'it asks to call|can run code'):
        convert_checkpoint(save(content, tmp_path / 'n.pt'), tmp_path / 'n.pth')
    assert not proof.exists()
    assert not (tmp_path / 'n.pth').exists()


def test_torchscript_is_refused(tmp_path):
    class Doubled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    script = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3)))
    script.save(str(tmp_path / 'n.torchscript'))
    with pytest.raises(CheckpointError, match='TorchScript'):
        convert_checkpoint(tmp_path / 'n.torchscript', tmp_path / 'n.pth')


def renamed(state: State, old: str, new: str) -> State:
    return {re.sub(old, new, key): value for key, value in state.items()}


def segmentation(state: State) -> State:
    return state | {'model.24.proto.cv1.conv.weight': torch.ones(8, 8, 3, 3)}


def classification(state: State) -> State:
    kept = {k: v for k, v in state.items() if re.match(r'model\.[0-8]\.', k)}
    return kept | {
        'model.9.conv.conv.weight': torch.ones(1280, 256, 1, 1),
        'model.9.linear.weight': torch.ones(1000, 1280),
        'model.9.linear.bias': torch.ones(1000),
    }


def four_levels(state: State) -> State:
    state = renamed(state, r'model\.24', 'model.33')
    state['model.33.m.3.weight'] = state['model.33.m.2.weight']
    state['model.33.anchors'] = torch.ones(4, 3, 2)
    return state


def release_5(state: State) -> State:
    state = renamed(state, r'model\.0\.conv', 'model.0.conv.conv')
    return state | {'model.0.conv.conv.weight': torch.ones(16, 12, 3, 3)}


def yolov8(state: State) -> State:
    kept = {k: v for k, v in state.items() if not k.startswith('model.24.')}
    return kept | {
        'model.22.cv2.0.0.conv.weight': torch.ones(64, 64, 3, 3),
        'model.22.dfl.conv.weight': torch.ones(1, 16, 1, 1),
    }


def yolov5u(state: State) -> State:
    kept = {k: v for k, v in state.items() if not k.startswith('model.24.')}
    return kept | {'model.24.dfl.conv.weight': torch.ones(1, 16, 1, 1)}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (segmentation, 'a segmentation network, not a YOLOv5: convert the detection'),
        (classification, 'a classification network, not a YOLOv5: convert the'),
        (four_levels, r'four levels \(P6\).*a checkpoint for 640 px.*fits'),
        (release_5, r'release 5\.0 or earlier.*releases 6\.0 to 7\.0 fits'),
        (yolov8, r'YOLOv8 or later.*anchor-free.*releases 6\.0 to 7\.0'),
        (yolov5u, 'YOLOv8 or later'),
    ],
)
def test_other_networks_are_refused_by_name(official, change, message):
    with pytest.raises(ValueError, match=message):
        convert(change(official))
    with pytest.raises(ValueError, match='it is a'):
        convert_v7(change(official))


@pytest.mark.parametrize('arch', ['tiny', 'l'])
def test_a_yolov7_and_a_yolov5_send_each_other_to_the_right_tool(arch, official):
    torch.manual_seed(0)
    parts = dict(
        backbone=YOLOv7Backbone(arch),
        neck=YOLOv7Neck(arch),
        bbox_head=nn.ModuleDict(dict(head_module=YOLOHeadModule(3, HEAD_IN[arch]))),
    )
    state = nn.ModuleDict(parts).state_dict()
    state['bbox_head.anchors'] = torch.ones(3, 3, 2)
    v7 = export_v7(state, arch, 'official')
    with pytest.raises(ValueError, match=r'a YOLOv7, not a YOLOv5.*yolov7\.py'):
        convert(v7)
    with pytest.raises(ValueError, match=r'a YOLOv5, not a YOLOv7.*yolov5\.py'):
        convert_v7(official)
    assert convert_v7(v7).arch == arch


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            lambda s: s.pop('model.13.cv1.bn.bias'),
            r"v6 of arch 'n' .*: 1 missing: model\.13\.cv1\.bn\.bias$",
        ),
        (
            lambda s: s.update({'model.3.conv.bias': torch.ones(32)}),
            r'1 foreign: model\.3\.conv\.bias$',
        ),
        (
            lambda s: s.update({'model.1.conv.weight': torch.ones(32, 8, 3, 3)}),
            r'1 misshapen: backbone\.stage1\.0\.conv\.weight \(32, 8, 3, 3\) for '
            r'\(32, 16, 3, 3\)$',
        ),
        (
            lambda s: s.update({'model.24.anchors': torch.ones(3, 2, 2)}),
            r'model\.24\.anchors \(3, 2, 2\) are not those',
        ),
        (
            lambda s: s.update({'model.0.conv.weight': torch.ones(24, 3, 6, 6)}),
            r'no YOLOv5 has 24 channels in model\.0 and 1 bottlenecks',
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    official, change: Callable[[State], object], message
):
    change(official)
    with pytest.raises(ValueError, match=message):
        convert(official)


def test_other_names_are_refused(own, official):
    with pytest.raises(ValueError, match=r'not those of the official.*but fc\.weight'):
        convert({'fc.weight': torch.ones(1)})
    with pytest.raises(ValueError, match='already has the names of this project'):
        convert(own)
    with pytest.raises(ValueError, match="unknown YOLOv5 arch 'tiny'"):
        convert(official, 'tiny')
    with pytest.raises(ValueError, match=r"arch 's'.*misshapen"):
        convert(official, 's')
    own = {k: v for k, v in own.items() if k != 'neck.downsamples.0.bn.bias'}
    with pytest.raises(ValueError, match=r'missing: neck\.downsamples\.0\.bn\.bias'):
        export_names(own, 'n')
