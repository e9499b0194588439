"""Backbone, neck and head layers as a whole."""

import math

import pytest
import torch
import yolov7_reference as ref
from torch import nn

from mmir.det import YOLOHeadModule, YOLOv7Backbone, YOLOv7Neck

ARCHS = ('tiny', 'l', 'x')
C_OUT = {'tiny': (128, 256, 512), 'l': (512, 1024, 1024), 'x': (640, 1280, 1280)}
P_OUT = ref.HEAD_IN
TINY = P_OUT['tiny']


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ('arch', 'parts', 'total_80', 'total_3'),
    [
        ('tiny', (2_464_416, 3_533_440, 22_544), 6_228_762, 6_020_400),
        ('l', (13_371_808, 23_790_592, 44_944), 37_622_682, 37_207_344),
        ('x', (20_275_272, 50_497_152, 56_144), 71_347_394, 70_828_568),
    ],
)
def test_parameter_counts_are_the_published_ones(arch, parts, total_80, total_3):
    with torch.device('meta'):
        body = YOLOv7Backbone(arch), YOLOv7Neck(arch)
        heads = {n: YOLOHeadModule(n, P_OUT[arch]) for n in (3, 80)}
    assert tuple(map(count, (*body, heads[3]))) == parts
    assert sum(map(count, (*body, heads[3]))) == total_3
    assert sum(map(count, (*body, heads[80]))) == total_80


@pytest.mark.parametrize(
    ('arch', 'kernels'),
    [('tiny', {3: 23, 1: 35}), ('l', {3: 46, 1: 49}), ('x', {3: 62, 1: 46})],
)
def test_numbers_of_convolutions_are_the_published_ones(arch, kernels):
    with torch.device('meta'):
        body = nn.ModuleList([YOLOv7Backbone(arch), YOLOv7Neck(arch)])
        body.append(YOLOHeadModule(3, P_OUT[arch]))
    convs = [m for m in body.modules() if isinstance(m, nn.Conv2d)]
    sizes = [m.kernel_size[0] for m in convs]
    assert {k: sizes.count(k) for k in set(sizes)} == kernels
    areas = sum(m.in_channels * m.out_channels for m in convs if m.kernel_size[0] == 3)
    assert areas == {'tiny': 440_416, 'l': 2_771_040, 'x': 5_949_432}[arch]
    norms = [m for m in body.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.03)}


@pytest.mark.parametrize(
    ('arch', 'giga'),
    # the papers' 13.7, 104.7 (RepConv fused: 0.63 less) and 189.9 GFLOPs are twice that
    [('tiny', 6.85), ('l', 52.88), ('x', 94.84)],
)
def test_multiplications_at_640_pixels_are_the_published_ones(arch, giga):
    total = 0

    def count_macs(conv, _, out):
        nonlocal total
        total += conv.weight.numel() * out.shape[2] * out.shape[3]

    with torch.device('meta'):
        parts = YOLOv7Backbone(arch), YOLOv7Neck(arch), YOLOHeadModule(80, P_OUT[arch])
        net = nn.Sequential(*parts)
        for m in net.modules():
            if isinstance(m, nn.Conv2d):
                m.register_forward_hook(count_macs)
        net(torch.empty(1, 3, 640, 640))
    assert total / 1e9 == pytest.approx(giga, abs=0.005)


@pytest.mark.parametrize('arch', ARCHS)
def test_output_shapes_of_a_non_square_image(arch):
    with torch.device('meta'):
        body = YOLOv7Backbone(arch), YOLOv7Neck(arch), YOLOHeadModule(3, P_OUT[arch])
        feats = body[0](torch.empty(2, 3, 256, 320))
        pyramid = body[1](feats)
        maps = body[2](pyramid)
    sizes = [(256 // s, 320 // s) for s in (8, 16, 32)]
    for tensors, channels in (
        (feats, C_OUT[arch]),
        (pyramid, P_OUT[arch]),
        (maps, (24, 24, 24)),
    ):
        expected = [(2, c, *size) for c, size in zip(channels, sizes, strict=True)]
        assert [tuple(t.shape) for t in tensors] == expected


@pytest.mark.parametrize('arch', ARCHS)
@torch.no_grad()
def test_network_equals_the_functional_reference(arch):
    torch.manual_seed(0)
    m = nn.ModuleList([YOLOv7Backbone(arch), YOLOv7Neck(arch)])
    ref.randomize(m).double()
    x = torch.rand(1, 3, 64, 96, dtype=torch.float64)
    feats = ref.backbone(m[0], x, arch)
    for out, expected in zip(m[0](x), feats, strict=True):
        torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    for out, expected in zip(m[1](feats), ref.neck(m[1], feats, arch), strict=True):
        torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)


def test_out_indices_choose_the_stages():
    m = YOLOv7Backbone('tiny', out_indices=(1, 4), in_channels=1)
    shapes = [tuple(f.shape) for f in m(torch.rand(2, 1, 64, 96))]
    assert shapes == [(2, 64, 16, 24), (2, 512, 2, 3)]


@pytest.mark.parametrize('stages', [0, 2, 4])
def test_frozen_stages_keep_parameters_and_statistics(stages):
    m = YOLOv7Backbone('tiny', frozen_stages=stages)
    m.init_weights()
    m.train()
    before = {k: v.clone() for k, v in m.state_dict().items()}
    out = m(torch.rand(2, 3, 64, 64))[-1].square().sum()
    if out.requires_grad:
        out.backward()
    torch.optim.SGD(m.parameters(), lr=1.0).step()
    frozen = ('stem.', *(f'stage{i}.' for i in range(1, stages + 1)))
    for name, value in m.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith(frozen), name
    assert out.requires_grad == (stages < 4)


def test_nothing_is_frozen_by_default():
    m = YOLOv7Backbone('tiny').train()
    assert all(p.requires_grad for p in m.parameters())
    assert all(s.training for s in m.modules())


@pytest.mark.parametrize('stages', [-2, 5])
def test_stages_that_do_not_exist_cannot_be_frozen(stages):
    with pytest.raises(ValueError, match=f'frozen_stages={stages}'):
        YOLOv7Backbone('tiny', frozen_stages=stages)


@pytest.mark.parametrize('part', [YOLOv7Backbone, YOLOv7Neck])
def test_unknown_size_is_refused_with_the_known_ones(part):
    with pytest.raises(ValueError, match=r"'w6'.*'l', 'tiny', 'x'"):
        part('w6')


@pytest.mark.parametrize('arch', ARCHS)
@torch.no_grad()
def test_head_is_an_implicit_sum_a_convolution_and_an_implicit_product(arch):
    m = ref.randomize(YOLOHeadModule(2, P_OUT[arch]))
    feats = [torch.randn(1, c, 2, 3) for c in P_OUT[arch]]
    for (add, conv, multiply), x, out in zip(
        m.convs_pred, feats, m(feats), strict=True
    ):
        weight, bias = conv.weight[:, :, 0, 0], conv.bias[:, None, None]
        mixed = torch.einsum('oc,nchw->nohw', weight, x + add.implicit) + bias
        torch.testing.assert_close(out, mixed * multiply.implicit, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('classes', [1, 3, 80])
@pytest.mark.parametrize('again', [False, True])
def test_biases_start_at_the_expected_scores(classes, again, monkeypatch):
    monkeypatch.setattr(nn.init, 'uniform_', lambda t, *_: t.data.zero_())
    m = YOLOHeadModule(classes, TINY)
    if again:
        m.init_weights()
    for (_, conv, _), stride in zip(m.convs_pred, (8, 16, 32), strict=True):
        bias = conv.bias.view(3, 5 + classes)
        obj, cls = math.log(8 / (640 / stride) ** 2), math.log(0.6 / (classes - 0.99))
        expected = torch.tensor([0.0] * 4 + [obj] + [cls] * classes).expand(3, -1)
        torch.testing.assert_close(bias, expected)


def test_biases_keep_the_spread_of_a_convolution():
    torch.manual_seed(0)
    m = YOLOHeadModule(3, (16, 16, 16))
    boxes = torch.cat([c[1].bias.view(3, 8)[:, :4].flatten() for c in m.convs_pred])
    assert boxes.abs().max() <= 1 / 4
    assert boxes.std() > 0.1


@pytest.mark.parametrize('more', [[], [dict(type='Normal', layer='Conv2d')]])
def test_pretrained_weights_of_the_head_win(more, tmp_path):
    torch.manual_seed(0)
    old, path = YOLOHeadModule(3, TINY), str(tmp_path / 'head.pth')
    torch.save(ref.randomize(old).state_dict(), path)
    pretrained = dict(type='Pretrained', checkpoint=path)
    new = YOLOHeadModule(3, TINY, init_cfg=[pretrained, *more])
    new.init_weights()
    for key, value in old.state_dict().items():
        assert torch.equal(new.state_dict()[key], value), key
    alone = YOLOHeadModule(3, TINY, init_cfg=pretrained)
    alone.init_weights()
    assert torch.equal(alone.convs_pred[0][1].bias, old.convs_pred[0][1].bias)


def test_other_initializations_leave_the_biases_to_the_head():
    cfg = dict(type='Constant', layer='Conv2d', val=0.0, bias=7.0)
    m = YOLOHeadModule(3, TINY, init_cfg=cfg)
    m.init_weights()
    for _, conv, _ in m.convs_pred:
        assert not conv.weight.any()
        assert conv.bias.max() < 0.1


def test_weights_are_initialized_once():
    m = YOLOHeadModule(3, TINY)
    m.init_weights()
    m.convs_pred[0][1].bias.data.fill_(1.0)
    m.init_weights()
    assert (m.convs_pred[0][1].bias == 1).all()
