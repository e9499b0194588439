"""`mmir.TransformerTaps` against the hosts' own feature maps."""

import copy
import io
import pickle

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from mmir.adapters import adapt_
from mmir.ivtuning import IVTuning
from mmir.layers import TransformerTaps

pytest.importorskip('mmpretrain')
pytest.importorskip('mmdet')
pytest.importorskip('mmseg')


DIMS = 32
ARCH = dict(embed_dims=DIMS, num_layers=3, num_heads=2, feedforward_channels=64)
SMALL = dict(arch=ARCH, img_size=64, patch_size=16)
MAPS = dict(out_indices=[0, 1, 2], final_norm=False, out_type='featmap')
SWIN = dict(
    embed_dims=16,
    depths=(2, 2),
    num_heads=(2, 4),
    window_size=4,
    strides=(4, 2),
    out_indices=(0, 1),
)
SEG = dict(
    img_size=(64, 64),
    patch_size=16,
    embed_dims=DIMS,
    num_layers=3,
    num_heads=2,
    mlp_ratio=2,
    out_indices=(0, 1, 2),
)
# Name -> backbone that gives the maps of its three blocks (four in Swin) by itself.
OWN = {
    'vit': dict(type='mmpretrain.VisionTransformer', **SMALL, **MAPS),
    'vit_no_class': dict(
        type='mmpretrain.VisionTransformer', with_cls_token=False, **SMALL, **MAPS
    ),
    'eva02': dict(type='mmpretrain.ViTEVA02', sub_ln=True, **SMALL, **MAPS),
    'beit': dict(type='mmpretrain.BEiTViT', **SMALL, **MAPS),
    'vit_sam': dict(
        type='mmpretrain.ViTSAM',
        arch=dict(ARCH, global_attn_indexes=[1]),
        img_size=64,
        patch_size=8,
        window_size=3,
        out_channels=0,
        out_indices=[0, 1, 2],
    ),
    'seg_vit': dict(type='mmseg.VisionTransformer', **SEG),
    'seg_beit': dict(type='mmseg.BEiT', qv_bias=True, **SEG),
    'seg_mae': dict(type='mmseg.MAE', **SEG),
}
FIXED = 'beit', 'seg_beit', 'seg_mae'
"""Backbones of one image size: relative positions of a fixed grid."""


def build(cfg: dict) -> nn.Module:
    """Build a model with random weights, class token and positions included."""
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(cfg))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    model.eval()
    return model


def tapped(name: str, blocks: tuple[int, ...], **options) -> TransformerTaps:
    cfg = dict(type='mmir.TransformerTaps', backbone=OWN[name], blocks=blocks)
    return build(dict(cfg, **options))


def image(*size: int, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(1))


def assert_same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    assert [m.shape for m in found] == [m.shape for m in expected]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ('name', 'size'),
    [
        *((name, (64, 64)) for name in OWN),
        *((name, (64, 96)) for name in OWN if name not in FIXED),
    ],
)
@torch.no_grad()
def test_maps_equal_those_of_the_host(name, size):
    model = tapped(name, (0, 1, 2))
    x = image(*size)
    expected = model.backbone(x)
    assert expected[0].shape[1:] == (DIMS, *model(x)[0].shape[2:])
    assert not torch.allclose(expected[0], expected[2])
    assert_same(model(x), expected)
    assert model.out_channels == (DIMS,) * 3


@pytest.mark.parametrize(
    'backbone',
    [
        dict(
            type='mmpretrain.SwinTransformer',
            arch=dict(embed_dims=16, depths=[2, 2], num_heads=[2, 4]),
            img_size=64,
            window_size=4,
            out_indices=(0, 1),
            pad_small_map=True,
        ),
        dict(type='mmdet.SwinTransformer', **SWIN),
        dict(type='mmseg.SwinTransformer', **SWIN),
    ],
    ids=lambda cfg: cfg['type'],
)
@torch.no_grad()
def test_stage_ends_of_swin(backbone):
    cfg = dict(type='mmir.TransformerTaps', backbone=backbone, blocks=(1, 3))
    model = build(cfg)
    x = image(64, 96)
    normed = [  # the host norms its outputs
        model.backbone.get_submodule(f'norm{k}')(m.permute(0, 2, 3, 1))
        for k, m in enumerate(model(x))
    ]
    assert_same([m.permute(0, 3, 1, 2) for m in normed], model.backbone(x))
    assert model.out_channels == (16, 32)
    assert [m.shape[2:] for m in model(x)] == [(16, 24), (8, 12)]


@torch.no_grad()
def test_final_norm_and_own_outputs_do_not_matter():
    plain = tapped('eva02', (1, 2))
    backbone = dict(type='mmpretrain.ViTEVA02', sub_ln=True, **SMALL)  # class token
    normed = build(dict(type='mmir.TransformerTaps', backbone=backbone, blocks=(1, 2)))
    normed.load_state_dict(plain.state_dict(), strict=False)
    assert_same(normed(image(64, 96)), plain(image(64, 96)))


@torch.no_grad()
def test_scales_resize_bilinearly():
    scales = (4, 2, 1, 0.5)
    model = tapped('vit', (0, 2, 1, 2), scales=scales)
    x = image(64, 128)
    host = model.backbone(x)
    maps = [host[k] for k in (0, 2, 1, 2)]
    found = model(x)
    assert [m.shape[2:] for m in found] == [(16, 32), (8, 16), (4, 8), (2, 4)]
    assert_same(
        found,
        [
            m if s == 1 else interpolate(m, scale_factor=s, mode='bilinear')
            for m, s in zip(maps, scales, strict=True)
        ],
    )
    assert_same(
        found[3:], [avg_pool2d(maps[3], 2)]
    )  # what align_corners=False is at half


@torch.no_grad()
def test_plain_checkpoint_loads_into_the_inner_backbone(tmp_path):
    plain = build(OWN['vit'])
    torch.save(plain.state_dict(), tmp_path / 'vit.pth')
    pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'vit.pth'))
    cfg = dict(OWN['vit'], init_cfg=pretrained)
    model = MODELS.build(
        dict(type='mmir.TransformerTaps', backbone=cfg, blocks=(0, 1, 2))
    )
    model.init_weights()
    model.eval()
    assert set(model.state_dict()) == {f'backbone.{k}' for k in plain.state_dict()}
    assert_same(model(image(64, 64)), plain(image(64, 64)))
    torch.save(model.state_dict(), tmp_path / 'taps.pth')
    again = tapped('vit', (0, 1, 2))
    load_checkpoint(again, str(tmp_path / 'taps.pth'), strict=True)
    assert_same(again(image(64, 64)), plain(image(64, 64)))


@pytest.mark.parametrize('when', ['inside', 'after'])
@pytest.mark.parametrize('name', ['vit', 'eva02', 'vit_sam'])
@torch.no_grad()
def test_with_iv_tuning(name, when):
    rates = dict(rank=4, prompt_rank=4)
    if when == 'inside':
        target = dict(OWN[name], target=OWN[name]['type'], type='mmir.Adapted')
        backbone = dict(target, adapt=dict(type='IVTuning', **rates))
        cfg = dict(type='mmir.TransformerTaps', backbone=backbone, blocks=(0, 1, 2))
        model = build(cfg)
    else:
        model = tapped(name, (0, 1, 2))
        plain = [type(m) for m in model.backbone.layers]
        adapt_(model, IVTuning(**rates), trainable=[])
        assert [type(m) for m in model.backbone.layers] != plain
    for key, parameter in model.named_parameters():
        if 'adapters' in key:
            nn.init.normal_(parameter, std=0.1)
    x = image(64, 96, channels=6)
    found = model(x)
    assert_same(found, model.backbone(x))
    x[:, 3:] = 0
    assert not torch.allclose(model(x)[0], found[0])


def test_swin_with_iv_tuning():
    adapt = dict(type='IVTuning', rank=4, prompt_rank=4)
    backbone = dict(
        type='mmir.Adapted', target='mmdet.SwinTransformer', adapt=adapt, **SWIN
    )
    model = build(dict(type='mmir.TransformerTaps', backbone=backbone, blocks=(1, 3)))
    x = image(64, 96, channels=6)
    maps = model(x)
    normed = [
        model.backbone.get_submodule(f'norm{k}')(m.permute(0, 2, 3, 1))
        for k, m in enumerate(maps)
    ]
    assert_same([m.permute(0, 3, 1, 2) for m in normed], model.backbone(x))
    sum(m.square().sum() for m in maps).backward()
    trained = {k for k, p in model.named_parameters() if p.requires_grad}
    assert trained == {k for k, p in model.named_parameters() if p.grad is not None}
    assert all('adapters' in key for key in trained)


def test_gradients_reach_all_that_trains():
    backbone = dict(type='mmpretrain.ViTEVA02', **SMALL)  # with a final norm
    model = build(dict(type='mmir.TransformerTaps', backbone=backbone, blocks=(0, 1)))
    model.train()
    sum(m.square().sum() for m in model(image(64, 64))).backward()
    frozen = {k for k, p in model.named_parameters() if not p.requires_grad}
    missing = {k for k, p in model.named_parameters() if p.grad is None}
    assert frozen == missing
    last = {k for k, _ in model.named_parameters() if 'layers.2.' in k}
    assert frozen == last | {'backbone.ln1.weight', 'backbone.ln1.bias'}


@pytest.mark.parametrize('host', ['mmpretrain', 'mmdet'])
@pytest.mark.parametrize('last', [1, 2, 3])
def test_gradients_of_swin(host, last):
    backbone = dict(type=f'{host}.SwinTransformer', **SWIN)
    if host == 'mmpretrain':
        arch = dict(embed_dims=16, depths=[2, 2], num_heads=[2, 4])
        backbone = dict(type=backbone['type'], arch=arch, img_size=64, window_size=4)
        backbone['out_indices'] = (1,)
    cfg = dict(type='mmir.TransformerTaps', backbone=backbone, blocks=(0, last))
    model = build(cfg)
    sum(m.square().sum() for m in model(image(64, 64))).backward()
    frozen = {k for k, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {k for k, p in model.named_parameters() if p.grad is None}
    assert ('backbone.stages.0.downsample.reduction.weight' in frozen) == (last == 1)


@torch.no_grad()
def test_copies_pickles_and_traces():
    model = tapped('eva02', (0, 2), scales=(2, 1))
    x = image(64, 96)
    expected = model(x)
    assert not any(m._forward_hooks for m in model.modules())
    assert_same(copy.deepcopy(model)(x), expected)
    assert_same(pickle.loads(pickle.dumps(model))(x), expected)
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(model, x), file)
    file.seek(0)
    traced = torch.jit.load(file)
    other = image(64, 96).flip(3)
    assert_same(traced(other), model(other))


@torch.no_grad()
def test_hooks_go_when_the_backbone_fails():
    model = tapped('vit', (0, 1))
    with pytest.raises(RuntimeError):
        model(image(64, 64, channels=4))
    assert not any(m._forward_hooks for m in model.modules())


class Skips(nn.Module):
    """A backbone that does not run its last block."""

    def __init__(self) -> None:
        super().__init__()
        vit = MODELS.build(dict(OWN['vit']))
        self.patch_embed, self.layers = vit.patch_embed, vit.layers

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.patch_embed(x)
        return self.layers[0](x[:, 1:])


@torch.no_grad()
def test_errors(monkeypatch):
    for blocks in [(3,), (-1,), ()]:
        with pytest.raises(ValueError, match='give some of 0 to 2'):
            tapped('vit', blocks)
    with pytest.raises(ValueError, match='1 scales for 2 blocks'):
        tapped('vit', (0, 1), scales=(2,))
    resnet = dict(type='mmpretrain.ResNet', depth=18)
    with pytest.raises(
        ValueError, match='ResNet has no vision transformer of a known form'
    ):
        TransformerTaps(resnet, blocks=(0,))
    both = dict(type='mmir.TwoStreamBackbone', backbone=OWN['vit'])
    with pytest.raises(ValueError, match=r'several .*streams\.rgb.*streams\.ir'):
        TransformerTaps(both, blocks=(0,))
    monkeypatch.setitem(MODELS.module_dict, 'Skips', Skips)
    with pytest.raises(RuntimeError, match='15 tokens for a grid of 4 x 4'):
        TransformerTaps(dict(type='Skips'), blocks=(0,))(image(64, 64))
    model = TransformerTaps(dict(type='Skips'), blocks=(1,))
    with pytest.raises(RuntimeError, match=r'does not run layers\.1'):
        model(image(64, 64))


@pytest.mark.parametrize(
    ('name', 'options', 'size', 'strides'),
    [
        ('vit_tiny_patch16_224', dict(reg_tokens=2), (64, 64), (16,) * 2),
        ('vit_tiny_patch16_224', dict(dynamic_img_size=True), (64, 96), (16,) * 2),
        ('eva02_tiny_patch14_224', dict(patch_size=16), (64, 64), (16,) * 2),
        ('swin_tiny_patch4_window7_224', {}, (64, 64), (4, 8)),
    ],
)
@torch.no_grad()
def test_timm(name, options, size, strides):
    timm = pytest.importorskip('timm')
    small = dict(depth=3, embed_dim=DIMS, num_heads=2)
    if 'swin' in name:
        small = dict(depths=(2, 2), embed_dim=DIMS, num_heads=(2, 4), window_size=4)
    backbone = dict(
        type='mmpretrain.TIMMBackbone', model_name=name, img_size=64, **small, **options
    )
    blocks = (1, 3) if 'swin' in name else (0, 2)
    model = build(dict(type='mmir.TransformerTaps', backbone=backbone, blocks=blocks))
    inner = model.backbone.timm_model
    assert timm.__version__
    _, expected = inner.forward_intermediates(
        image(*size), indices=[0, 1] if 'swin' in name else list(blocks), norm=False
    )
    assert_same(model(image(*size)), expected)
    shapes = [(size[0] // s, size[1] // s) for s in strides]
    assert [tuple(m.shape[2:]) for m in expected] == shapes
