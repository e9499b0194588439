"""Folding YOLOv7 into plain convolutions."""

import copy

import pytest
import torch
import yolov7_reference as ref
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.cnn import ConvModule
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrizations
from yolo_detector import batch, build

from mmir.adapters import FrozenBatchNorm, freeze_
from mmir.det import YOLOHeadModule, YOLOv7, YOLOv7Backbone, YOLOv7Neck
from mmir.det.yolo.deploy import deploy_
from mmir.det.yolo.layers import Implicit, RepConv
from mmir.tensorfact import TensorFactConv, augment_, factorize_


def network(arch: str, classes: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    parts = (
        YOLOv7Backbone(arch),
        YOLOv7Neck(arch),
        YOLOHeadModule(classes, ref.HEAD_IN[arch]),
    )
    return ref.randomize(nn.Sequential(*parts))


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def detector() -> YOLOv7:
    model = build()
    ref.randomize(model)
    return model


def adapted() -> YOLOv7:
    """A factorized detector with a trained delta."""
    model = detector().train()
    factorize_(model, rank=4)
    augment_(model, 'ir', rank=1)
    freeze_(model, 'ir', norm='frozen')
    for m in model.modules():
        if isinstance(m, TensorFactConv):
            nn.init.normal_(m.deltas['ir'].A, std=0.01)
    return model.eval()


@torch.no_grad()
def raw_maps(model: YOLOv7, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(2, 3, 64, 96, generator=generator, dtype=torch.float64).to(dtype)
    return model(x, mode='tensor')[0]


def assert_near(maps: list, others: list, tolerance: float) -> None:
    for a, b in zip(maps, others, strict=True):
        assert (a - b).abs().max() <= tolerance * b.abs().max().clamp(min=1)


@pytest.mark.parametrize(
    ('arch', 'total'),
    [
        # the official fuse() counts 968 (tiny) and 1864 (L) more at three classes: it
        # multiplies the implicit layers into the head and keeps their parameters
        ('tiny', 6_013_008 - 968),
        ('l', 36_492_560 - 1864),
        ('x', 70_793_608),
    ],
)
def test_parameters_are_those_of_the_plain_convolutions(arch, total):
    m = network(arch)
    outs = {'tiny': 896, 'l': 1792, 'x': 2240}[arch]
    implicit = sum(p.numel() for n, p in m.named_parameters() if 'implicit' in n)
    assert implicit == outs + 3 * 24
    # each norm (2 T) becomes a bias (T); a 1x1 branch disappears with its norm
    norms = sum(n.num_features for n in m.modules() if isinstance(n, _BatchNorm))
    branch = 688_128 + 1792 if arch == 'l' else 0
    assert count(m) - implicit - norms - branch == total
    deploy_(m)
    assert count(m) == total
    convs = [c for c in m.modules() if isinstance(c, nn.Conv2d)]
    assert {type(c) for c in convs} == {nn.Conv2d}
    assert sum(map(count, convs)) == total
    assert not any(isinstance(c, (_BatchNorm, RepConv, Implicit)) for c in m.modules())
    assert not any(p.requires_grad for p in m.parameters())


def test_folding_the_output_layers_alone_gives_the_published_count():
    m = network('l')
    deploy_(m[1].out_layers)
    assert count(m) == 36_513_840


@pytest.mark.parametrize('arch', ['tiny', 'l'])
@torch.no_grad()
def test_raw_maps_stay(arch):
    single = network(arch)
    double = copy.deepcopy(single).double()
    x = torch.rand(1, 3, 64, 96, dtype=torch.float64)
    truth, before = double(x), single(x.float())
    deploy_(double)
    deploy_(single)
    assert_near(double(x), truth, 1e-12)
    for after, old, true in zip(single(x.float()), before, truth, strict=True):
        noise = (old - true).abs().max()
        assert (after - true).abs().max() <= 3 * noise
        assert after.dtype == torch.float32


@given(
    channels=st.sampled_from([(3, 5), (4, 4), (1, 1)]),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    seed=st.integers(0, 99),
)
@settings(max_examples=20, deadline=None)
@torch.no_grad()
def test_rep_conv_becomes_one_convolution(channels, size, seed):
    torch.manual_seed(seed)
    rep = RepConv(*channels, act_cfg=dict(type='SiLU')).double()
    block = nn.Sequential(ref.randomize(rep, seed))
    x = torch.randn(2, channels[0], *size, dtype=torch.float64)
    expected = ref.rep(rep, x)
    deploy_(block)
    assert [n for n, _ in block.named_parameters()] == ['0.conv.weight', '0.conv.bias']
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('channels', [(4, 6), (6, 6)])
@torch.no_grad()
def test_factorized_rep_conv_is_merged_first(channels):
    torch.manual_seed(0)
    block = nn.Sequential(RepConv(*channels, act_cfg=dict(type='SiLU')).double())
    ref.randomize(block)
    factorize_(block, rank=2)
    augment_(block, 'ir', rank=1)
    nn.init.normal_(block[0].rbr_dense.conv.deltas['ir'].A)
    x = torch.randn(2, channels[0], 5, 7, dtype=torch.float64)
    expected = block(x)
    deploy_(block)
    assert type(block[0].conv) is nn.Conv2d
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_norms_that_cannot_be_folded_stay():
    torch.manual_seed(0)
    norm = dict(type='GN', num_groups=2)
    m = nn.Sequential(
        ConvModule(3, 4, 3, norm_cfg=norm), RepConv(4, 4, dict(type='SiLU'), norm)
    ).eval()
    x = torch.rand(1, 3, 8, 8)
    expected = m(x)
    deploy_(m)
    assert torch.equal(m(x), expected)
    assert sum(isinstance(n, nn.GroupNorm) for n in m.modules()) == 4


def hook(module: nn.Module) -> None:
    module.register_forward_hook(lambda m, args, output: 2 * output + 1)


SPECIAL = [
    ('0', hook),
    ('0.rbr_dense', hook),
    ('0.rbr_dense.conv', hook),
    ('0.rbr_1x1', hook),
    ('0.rbr_1x1.bn', hook),
    ('0.rbr_identity', hook),
    ('0.rbr_dense.conv', nn.utils.weight_norm),
    ('0.rbr_1x1.conv', nn.utils.spectral_norm),
    ('0.rbr_identity', lambda m: parametrizations.weight_norm(m, dim=None)),
    ('1.convs_pred.0', hook),
    ('1.convs_pred.0.0', hook),
    ('1.convs_pred.1.1', hook),
    ('1.convs_pred.1.1', nn.utils.weight_norm),
    ('1.convs_pred.2.1', parametrizations.spectral_norm),
]


@pytest.mark.parametrize(('name', 'change'), SPECIAL)
@torch.no_grad()
def test_what_is_not_plain_stays_and_the_rest_is_folded(name, change):
    """Hooks run and computed kernels count, also before the first forward pass."""
    torch.manual_seed(0)
    rep = RepConv(4, 4, act_cfg=dict(type='SiLU'))
    m = ref.randomize(nn.Sequential(rep, network('tiny')[2])).double()
    x = torch.randn(1, 4, 6, 8, dtype=torch.float64)
    maps = [torch.randn(1, c, 4, 4, dtype=torch.float64) for c in (128, 256, 512)]
    change(m.get_submodule(name))
    m.eval()
    expected = m[0](x), *m[1](maps)
    deploy_(m)
    assert_near([m[0](x), *m[1](maps)], expected, 1e-12)
    assert isinstance(m[0], RepConv) == name.startswith('0')
    left = [isinstance(layer, nn.Sequential) for layer in m[1].convs_pred]
    assert left == [name.startswith(f'1.convs_pred.{k}') for k in range(3)]


@torch.no_grad()
def test_a_convolution_of_a_branch_that_another_layer_shares_stays():
    torch.manual_seed(0)
    m = ref.randomize(nn.Sequential(RepConv(4, 4, act_cfg=dict(type='SiLU'))))
    m.append(m[0].rbr_dense.conv)
    m, x = m.double().eval(), torch.randn(1, 4, 6, 8, dtype=torch.float64)
    expected = m(x)
    deploy_(m)
    assert_near([m(x)], [expected], 1e-12)


@torch.no_grad()
def test_predictions_stay():
    # Double precision: folding reorders sums, and in single precision boxes move by
    # 0.01 pixels on some CPUs. Weights as after training: scores far apart.
    model = detector().eval().double()
    data = model.data_preprocessor(batch((64, 96), (60, 90)), False)
    inputs, samples = data['inputs'].double(), data['data_samples']
    expected = model.predict(inputs, copy.deepcopy(samples))
    assert model.to_deploy() is model
    for one, other in zip(model.predict(inputs, samples), expected, strict=True):
        a, b = one.pred_instances, other.pred_instances
        assert len(a) == len(b) == 20
        torch.testing.assert_close(a.bboxes, b.bboxes, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(a.scores, b.scores, rtol=1e-9, atol=0)
        assert torch.equal(a.labels, b.labels)


def test_factors_and_deltas_are_merged():
    model = adapted().double()
    expected = raw_maps(model, torch.float64)
    model.to_deploy()
    kinds = {type(m) for m in model.modules()}
    gone = (TensorFactConv, _BatchNorm, FrozenBatchNorm, Implicit)
    assert not any(issubclass(kind, gone) for kind in kinds)
    assert count(model) == count(detector().eval().to_deploy())
    assert_near(raw_maps(model, torch.float64), expected, 1e-11)


def test_second_call_changes_nothing():
    model = detector().to_deploy()
    before = dict(model.state_dict())
    model.to_deploy()
    for key, value in model.state_dict().items():
        assert value.data_ptr() == before.pop(key).data_ptr()
    assert not before


def test_state_dict_loads_into_a_deployed_model(tmp_path):
    model = detector().to_deploy()
    torch.save(model.state_dict(), tmp_path / 'plain.pth')
    other = build().eval().to_deploy()
    state = torch.load(tmp_path / 'plain.pth', weights_only=True)
    assert not any(other.load_state_dict(state))
    for a, b in zip(raw_maps(model), raw_maps(copy.deepcopy(other)), strict=True):
        assert torch.equal(a, b)
    assert {'neck.out_layers.0.conv.bias', 'bbox_head.anchors'} <= state.keys()


def test_training_and_deploying_exclude_each_other():
    model = build()
    with pytest.raises(RuntimeError, match=r'call eval\(\) first'):
        model.train().to_deploy()
    assert not model.deployed
    model.eval().to_deploy()
    with pytest.raises(RuntimeError, match='deployed YOLOv7 cannot train'):
        model.train()
    assert not model.eval().training


@pytest.mark.parametrize('prepare', [detector, adapted])
def test_weights_that_are_not_finite_are_named(prepare):
    model = prepare()
    module = model.backbone.stem[1]
    part = module.conv.A if prepare is adapted else module.bn.weight
    part.data.view(-1)[0] = float('nan')
    with pytest.raises(ValueError, match=r'backbone\.stem\.1'):
        model.to_deploy()
