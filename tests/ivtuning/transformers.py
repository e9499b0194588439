"""Small vision transformers of all hosts."""

import copy
from functools import cache
from importlib import import_module

import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

PLAIN = dict(embed_dims=32, num_layers=3, num_heads=2, feedforward_channels=64)
MMPRETRAIN = dict(arch=PLAIN, img_size=64, patch_size=16, out_type='featmap')
MMSEG = dict(
    img_size=64,
    patch_size=16,
    embed_dims=32,
    num_layers=3,
    num_heads=2,
    out_indices=(0, 2),
)
CONFIGS = {
    'vit': dict(type='mmpretrain.VisionTransformer', **MMPRETRAIN),
    'clip': dict(
        type='mmpretrain.VisionTransformer',
        **MMPRETRAIN,
        pre_norm=True,
        layer_cfgs=dict(act_cfg=dict(type='mmpretrain.QuickGELU')),
    ),
    'eva02': dict(type='mmir.ViTEVA02', **MMPRETRAIN, sub_ln=True),
    'beit': dict(type='mmpretrain.BEiTViT', **MMPRETRAIN, layer_scale_init_value=0.1),
    'vitdet': dict(
        type='mmpretrain.ViTSAM',
        arch=dict(PLAIN, global_attn_indexes=[2]),
        img_size=64,
        patch_size=16,
        window_size=2,
        out_channels=0,
    ),
    'swin': dict(
        type='mmpretrain.SwinTransformer',
        arch=dict(embed_dims=32, depths=[2, 3], num_heads=[2, 4]),
        img_size=64,
        window_size=4,
        out_indices=(0, 1),
    ),
    'mmdet_swin': dict(
        type='mmdet.SwinTransformer',
        embed_dims=16,
        depths=(1, 2, 1, 1),
        num_heads=(2, 2, 2, 2),
        window_size=4,
    ),
    'mmseg_vit': dict(type='mmseg.VisionTransformer', **MMSEG),
    'mmseg_beit': dict(type='mmseg.BEiT', **MMSEG),
    'mmseg_mae': dict(type='mmseg.MAE', **MMSEG),
}
SQUARE = 'beit', 'vitdet', 'mmseg_beit', 'mmseg_mae'
"""Networks whose relative positions are those of square images."""


@cache
def _network(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(CONFIGS[name]))
    with torch.no_grad():
        for parameter in model.parameters():  # some are zero at first
            parameter.add_(torch.randn_like(parameter) * 0.02)
    model.eval()
    return model


def network(name: str) -> nn.Module:
    """Copy of a network in evaluation mode, always with the same weights."""
    host = CONFIGS[name]['type'].partition('.')[0]
    host = 'mmpretrain' if host == 'mmir' else host
    pytest.importorskip(host)
    import_module(f'{host}.models')
    return copy.deepcopy(_network(name))


def image(name: str = 'swin', channels: int = 6, seed: int = 3) -> Tensor:
    """Two stacked images, wider than high where the network allows it."""
    generator = torch.Generator().manual_seed(seed)
    width = 64 if name in SQUARE else 96
    return torch.randn(2, channels, 64, width, generator=generator)


def outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Output tensors without gradients."""
    with torch.no_grad():
        return list(model(x))
