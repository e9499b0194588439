"""timm's vision transformers and their conversions compute the same, in float64."""

import os
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from safetensors.torch import load_file
from torch import Tensor, nn

from mmir.utils.timm_vit import (
    convert_eva02,
    convert_swin,
    convert_vit,
    relative_index,
    rotary_tables,
)

pytest.importorskip('mmpretrain')

DIMS = 32
ARCH = dict(embed_dims=DIMS, num_layers=3, num_heads=2, feedforward_channels=48)
VIT = dict(arch=ARCH, img_size=64, patch_size=16, out_type='raw')
SWIN = dict(depths=(2, 1, 1), num_heads=(1, 2, 4))


def from_timm(name: str, **options) -> nn.Module:
    """A tiny timm model with random weights in float64."""
    timm = pytest.importorskip('timm')
    torch.manual_seed(0)
    size = dict(img_size=64, embed_dim=DIMS, num_classes=7)
    model = timm.create_model(name, **{**size, **options})
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.double().eval()


def host(kind: str, state: dict[str, Tensor], **options) -> nn.Module:
    """A model of a host with converted weights, loaded strictly."""
    model = MODELS.build(dict(type=kind, **options)).double()
    model.load_state_dict(state, strict=True)
    model.eval()
    return model


def image(rows: int = 64, columns: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, rows, columns, generator=generator, dtype=torch.float64)


def assert_close(one: Tensor, other: Tensor, limit: float = 1e-10) -> None:
    """Compare with the largest value of the tensor."""
    assert one.shape == other.shape
    assert (one - other).abs().max() < limit * other.abs().max()
    assert other.abs().max() > 0.1


@pytest.mark.parametrize(
    ('name', 'timm_options', 'options'),
    [
        ('vit_tiny_patch16_224', {}, dict(norm_cfg=dict(type='LN', eps=1e-6))),
        (
            'vit_tiny_patch16_224',
            dict(init_values=0.1),
            dict(norm_cfg=dict(type='LN', eps=1e-6), layer_scale_init_value=1.0),
        ),
        (
            'vit_base_patch16_clip_quickgelu_224',
            {},
            dict(
                pre_norm=True,
                norm_cfg=dict(type='LN', eps=1e-5),
                layer_cfgs=dict(act_cfg=dict(type='mmpretrain.QuickGELU')),
            ),
        ),
    ],
    ids=['vit', 'layer_scale', 'clip'],
)
@torch.no_grad()
def test_vit(name, timm_options, options):
    model = from_timm(name, depth=3, num_heads=2, mlp_ratio=1.5, **timm_options)
    state = convert_vit(model.state_dict())
    ours = host('mmpretrain.VisionTransformer', state, **VIT, **options)
    assert_close(ours(image())[-1], model.forward_features(image()))


def eva02(**options) -> nn.Module:
    more = dict(depth=3, num_heads=2, mlp_ratio=1.5, patch_size=16, **options)
    return from_timm('eva02_tiny_patch14_224', global_pool='token', **more)


EVA = dict(VIT, norm_cfg=dict(type='LN', eps=1e-6))
FUSED = [
    pytest.param({}, False, id='tiny'),
    pytest.param(dict(qkv_fused=False, scale_mlp=True), True, id='large'),
]


@pytest.mark.parametrize(('form', 'sub_ln'), FUSED)
@torch.no_grad()
def test_eva02(form, sub_ln):
    model = eva02(**form)
    state = convert_eva02(model.state_dict(), head_dims=16)
    sine, cosine = model.rope.get_embed(shape=[4, 4]).double().chunk(2, 1)
    for name, table in (('cos', cosine), ('sin', sine)):
        found = state[f'rope.freqs_{name}']
        assert (found - table).abs().max() < 1e-6  # timm computes in float32
        for key in [k for k in state if k.endswith(f'rope.freqs_{name}')]:
            state[key] = table
    ours = host('mmpretrain.ViTEVA02', state, sub_ln=sub_ln, **EVA)
    assert_close(ours(image())[-1], model.forward_features(image()))


@torch.no_grad()
def test_eva02_of_another_grid():
    model = eva02(img_size=(64, 96))
    state = convert_eva02(model.state_dict(), grid=(4, 6), head_dims=16)
    with pytest.raises(ValueError, match='24 positions are not square'):
        convert_eva02(model.state_dict(), head_dims=16)
    options = dict(EVA, img_size=(64, 96))
    ours = host('mmpretrain.ViTEVA02', state, **options)
    expected = model.forward_features(image(64, 96))
    assert_close(ours(image(64, 96))[-1], expected, 1e-6)
    # The trap of the note: tables that the host computes itself are others.
    own = MODELS.build(dict(type='mmpretrain.ViTEVA02', **options)).double()
    own.load_state_dict({k: v for k, v in state.items() if 'rope' not in k}, False)
    own.eval()
    assert (own(image(64, 96))[-1] - expected).abs().max() > 0.01 * expected.abs().max()


def test_rotary_tables_turn_pairs_of_channels():
    cosine, sine = rotary_tables((2, 4), 8)
    assert cosine.shape == sine.shape == (8, 8)
    # row 1 of 2 is position 8, column 3 of 4 is position 12
    angles = torch.tensor([8, 8, 0.08, 0.08, 12, 12, 0.12, 0.12], dtype=torch.float64)
    torch.testing.assert_close(cosine[7], angles.cos())
    torch.testing.assert_close(sine[7], angles.sin())


def old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of the official code: a stage ends with its downsampling layer."""
    renamed = {}
    for key, value in state.items():
        if '.downsample.' in key:
            _, stage, rest = key.split('.', 2)
            key = f'layers.{int(stage) - 1}.{rest}'
        renamed[key.replace('head.fc.', 'head.')] = value
    renamed['layers.0.blocks.1.attn_mask'] = torch.zeros(4, 16, 16)
    renamed['layers.0.blocks.1.attn.relative_position_index'] = torch.zeros(16, 16)
    return renamed


@pytest.mark.parametrize('names', [dict, old_names])
@torch.no_grad()
def test_swin(names):
    model = from_timm('swin_tiny_patch4_window7_224', window_size=4, **SWIN)
    state = convert_swin(names(model.state_dict()))
    arch = dict(embed_dims=DIMS, depths=[2, 1, 1], num_heads=[1, 2, 4])
    ours = host(
        'mmpretrain.SwinTransformer',
        state,
        arch=arch,
        img_size=64,
        window_size=4,
        out_indices=(2,),
    )
    expected = model.forward_features(image()).permute(0, 3, 1, 2)
    assert expected.shape == (2, 128, 4, 4)
    assert_close(ours(image())[-1], expected)


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
@torch.no_grad()
def test_swin_of_other_hosts(scope):
    pytest.importorskip(scope)
    model = from_timm('swin_tiny_patch4_window7_224', window_size=4, **SWIN)
    options = dict(embed_dims=DIMS, window_size=4, strides=(4, 2, 2), **SWIN)
    state = convert_swin(model.state_dict())
    kind = f'{scope}.SwinTransformer'
    ours = host(kind, state, out_indices=(2,), **options)
    assert_close(ours(image())[-1], model.forward_features(image()).permute(0, 3, 1, 2))


def test_relative_index():
    index = relative_index(2)  # places (0, 0), (0, 1), (1, 0), (1, 1); 3 x 3 offsets
    assert index.tolist() == [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]


def vit_state() -> dict[str, Tensor]:
    names = ('norm1.weight', 'attn.qkv.weight', 'mlp.fc1.weight', 'mlp.fc2.weight')
    state = {f'blocks.0.{name}': torch.ones(2, 2) for name in names}
    return {**state, 'pos_embed': torch.ones(1, 5, 2), 'cls_token': torch.ones(1, 1, 2)}


def test_half_precision_becomes_single_and_heads_go():
    state = {k: v.half() for k, v in vit_state().items()}
    found = convert_vit({**state, 'head.weight': torch.ones(2)})
    assert {v.dtype for v in found.values()} == {torch.float32}
    assert set(found) == {
        'cls_token',
        'pos_embed',
        'layers.0.ln1.weight',
        'layers.0.attn.qkv.weight',
        'layers.0.ffn.layers.0.0.weight',
        'layers.0.ffn.layers.1.weight',
    }


@pytest.mark.parametrize(
    ('convert', 'change', 'message'),
    [
        (convert_swin, {}, 'no Swin of timm: it has no block of one'),
        (convert_eva02, {}, r'shapes \[\(2, 2\), \(2, 2\)\]'),
        (convert_vit, {'reg_token': 1}, 'no counterpart of reg_token'),
        (
            convert_vit,
            {'blocks.0.attn.q_norm.weight': 1},
            r'of .*attn\.q_norm',
        ),
        (convert_vit, {'blocks.0.mlp.fc1.weight': 4}, r'shapes \[\(4, 2\), \(2, 2\)\]'),
        (convert_eva02, {'blocks.0.attn.q_bias': 2}, r'attn\.v_bias is missing'),
    ],
)
def test_other_networks_are_refused(convert, change, message):
    state = {**vit_state(), **{k: torch.ones(n, 2) for k, n in change.items()}}
    with pytest.raises(ValueError, match=message):
        convert(state)


def test_parameters_of_eva02_large():
    options = dict(arch='l', img_size=512, patch_size=16, sub_ln=True)
    options |= dict(final_norm=False, out_type='raw')
    with torch.device('meta'):
        model = MODELS.build(dict(type='mmpretrain.ViTEVA02', **options))
    number = sum(p.numel() for p in model.parameters())
    assert number == 304_262_080
    # timm and the official code give no bias to the keys: 24 blocks of 1024 less
    assert number - 24 * 1024 == 304_237_504
    biases = [p for k, p in model.named_parameters() if k.endswith('attn.qkv.bias')]
    assert [p.numel() for p in biases] == [3 * 1024] * 24
    timm = pytest.importorskip('timm')
    with torch.device('meta'):
        other = timm.create_model(
            'eva02_large_patch14_448', img_size=512, patch_size=16, num_classes=0
        )
    norm = sum(p.numel() for p in other.fc_norm.parameters())  # of the classifier
    assert sum(p.numel() for p in other.parameters()) - norm == 304_237_504


def test_released_clip():
    folder = os.environ.get('MMIR_WEIGHTS')
    if not folder:
        pytest.skip('set MMIR_WEIGHTS to the folder of released weights')
    timm_file, host_file = (
        Path(folder) / f'clip_vitb16_{host}_fp16.safetensors'
        for host in ('timm', 'mmpretrain')
    )
    if not (timm_file.is_file() and host_file.is_file()):
        pytest.skip(f'{folder} has no {timm_file.name} and {host_file.name}')
    found, expected = convert_vit(load_file(timm_file)), load_file(host_file)
    assert set(found) == set(expected)
    assert all(torch.equal(found[k], v.float()) for k, v in expected.items())
