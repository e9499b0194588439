"""tools/model_converters/timm_vit.py, run as users run it."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from safetensors.torch import save_file
from torch import Tensor

from mmir.cli import cli

TOOL = Path(__file__).parents[2] / 'tools/model_converters/timm_vit.py'
DIMS = 8


@pytest.fixture
def run(monkeypatch):
    spec = spec_from_file_location('tool_timm_vit', TOOL)
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)

    def _run(*arguments: object) -> int:
        monkeypatch.setattr(sys, 'argv', ['timm_vit.py', *map(str, arguments)])
        return cli.run(tool.main)

    return _run


def layer(outputs: int, inputs: int) -> dict[str, Tensor]:
    return dict(weight=torch.randn(outputs, inputs), bias=torch.randn(outputs))


def eva02_weights() -> dict[str, Tensor]:
    """State dict of a tiny EVA-02, with the names of timm, 2 x 2 patches of 8 px."""
    torch.manual_seed(0)
    norm = dict(weight=torch.randn(64), bias=torch.randn(64))
    parts = {
        'patch_embed.proj': dict(weight=torch.randn(64, 3, 8, 8), bias=torch.randn(64)),
        'blocks.0.norm1': norm,
        'blocks.0.attn.q_proj': layer(64, 64),
        'blocks.0.attn.k_proj': dict(weight=torch.randn(64, 64)),
        'blocks.0.attn.v_proj': layer(64, 64),
        'blocks.0.attn.proj': layer(64, 64),
        'blocks.0.norm2': norm,
        'blocks.0.mlp.fc1_g': layer(24, 64),
        'blocks.0.mlp.fc1_x': layer(24, 64),
        'blocks.0.mlp.fc2': layer(64, 24),
        'norm': norm,
        'head': layer(5, 64),
    }
    state = {f'{k}.{n}': v.clone() for k, p in parts.items() for n, v in p.items()}
    state['cls_token'] = torch.randn(1, 1, 64)
    state['pos_embed'] = torch.randn(1, 5, 64)
    return state


@pytest.fixture
def source(tmp_path) -> Path:
    save_file(eva02_weights(), tmp_path / 'eva02.safetensors')
    return tmp_path / 'eva02.safetensors'


def backbone(checkpoint: Path, **options) -> dict:
    arch = dict(embed_dims=64, num_layers=1, num_heads=1, feedforward_channels=24)
    init = dict(type='Pretrained', checkpoint=str(checkpoint), **options)
    return dict(
        type='mmpretrain.ViTEVA02', arch=arch, img_size=16, patch_size=8, init_cfg=init
    )


def test_file_for_a_backbone(run, source, tmp_path, capsys):
    pytest.importorskip('mmpretrain')
    target = tmp_path / 'new/eva02.pth'
    assert run(source, target, '--family', 'eva02') == 0
    out = capsys.readouterr().out
    assert f'{target}: eva02, 22 tensors' in out
    assert 'note: set norm_cfg=dict(type="LN", eps=1e-6)' in out
    found = torch.load(target, weights_only=True)
    assert found['meta'] == dict(source='timm', family='eva02')
    model = MODELS.build(backbone(target))
    model.init_weights()
    state = eva02_weights()
    assert torch.equal(model.cls_token, state['cls_token'])
    bias = model.layers[0].attn.qkv.bias
    assert torch.equal(bias[:64], state['blocks.0.attn.q_proj.bias'])
    assert not bias[64:128].any()
    assert torch.equal(bias[128:], state['blocks.0.attn.v_proj.bias'])
    model.load_state_dict(found['state_dict'], strict=True)


def test_prefix_and_grid(run, source, tmp_path):
    pytest.importorskip('mmpretrain')
    target = tmp_path / 'eva02.pth'
    more = ('--prefix', 'backbone.', '--grid', 2, 3)
    assert run(source, target, '--family', 'eva02', *more) == 0
    state = torch.load(target, weights_only=True)['state_dict']
    assert all(key.startswith('backbone.') for key in state)
    cfg = dict(backbone(target, prefix='backbone.'), img_size=(16, 24))
    model = MODELS.build(cfg)
    model.init_weights()
    table = state['backbone.rope.freqs_cos']
    assert table.shape == (6, 64)
    assert torch.equal(model.layers[0].attn.rope.freqs_cos, table)


def test_patches_of_another_size(run, source, tmp_path):
    target, weights = tmp_path / 'eva02.pth', eva02_weights()
    weights['patch_embed.proj.weight'] = torch.full((64, 3, 8, 8), 0.5)
    weights['patch_embed.proj.weight'][0, 0, :4] = -1.0
    save_file(weights, source)
    assert run(source, target, '--family', 'eva02', '--patch', 16) == 0
    state = torch.load(target, weights_only=True)['state_dict']
    kernel = state['patch_embed.projection.weight']
    assert kernel.shape == (64, 3, 16, 16)
    torch.testing.assert_close(kernel[1:], torch.full((63, 3, 16, 16), 0.5))
    # away from the edge in the middle, both halves keep their value
    torch.testing.assert_close(kernel[0, 0, :4], torch.full((4, 16), -1.0))
    torch.testing.assert_close(kernel[0, 0, -4:], torch.full((4, 16), 0.5))
    assert torch.equal(state['pos_embed'], weights['pos_embed'])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('--family', 'swin'), 'no Swin of timm: it has no block of one'),
        (('--family', 'vit'), 'no counterpart of blocks.0.attn.'),
        (('--family', 'vit', '--grid', 2, 2), '--grid: two positive numbers, for EVA'),
        (('--family', 'eva02', '--grid', 0, 2), '--grid: two positive numbers'),
        (('--family', 'eva02', '--patch', 0), '--patch: a positive number'),
        (('--family', 'swin', '--patch', 16), '--patch: a positive number'),
    ],
)
def test_errors(run, source, tmp_path, capsys, arguments, message):
    assert run(source, tmp_path / 'new.pth', *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'new.pth').exists()


def test_missing_and_unsafe_files(run, tmp_path, capsys):
    assert run(tmp_path / 'no.pth', tmp_path / 'new.pth', '--family', 'vit') == 2
    assert 'source: no file' in capsys.readouterr().err
    torch.save(dict(state_dict={}, path=Path('x')), tmp_path / 'unsafe.pth')
    assert run(tmp_path / 'unsafe.pth', tmp_path / 'new.pth', '--family', 'vit') == 2
    assert 'pathlib' in capsys.readouterr().err
