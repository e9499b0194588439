"""`shrink_light_`: small networks of TOPLight, and what follows them."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmir.testing.shrink import shrink

ROOT = Path(__file__).resolve().parents[2]
SMALL = dict(type='mmir.LightMobileNetV3', arch='small_050')


def small(name: str) -> Config:
    cfg = Config.fromfile(ROOT / f'configs/{name}.py')
    before = cfg.pretty_text
    made = shrink(cfg)
    assert cfg.pretty_text == before
    return made.model


@pytest.mark.parametrize(
    ('name', 'channels'),
    [
        ('plain_ghost13_sysu', 1024),
        ('toplight_mbv3l_sysu', 1536),
        ('toplight_mbv3l_sysu_rows', 768),
        ('toplight_mbv3l_sysu_attention', 1024),
    ],
)
def test_light_networks(name: str, channels: int) -> None:
    model = small(f'toplight/{name}')
    assert model.backbone.backbone == SMALL
    assert tuple(model.backbone.stem) == ('layer0',)
    assert model.backbone.init_cfg is None
    assert model.head.in_channels == channels
    if 'fdr' in model.neck:
        assert model.neck.fdr.in_channels == 1024


def test_two_paths() -> None:
    model = small('toplight/top_shuffle10')
    assert model.backbone.backbone == SMALL
    assert model.backbone.network == 'mobilenetv3_small_050'
    assert tuple(model.head.domain.channels) == (16, 1024)
    assert model.head.in_channels == 1024


@pytest.mark.parametrize('key', ['convnext', 'swin'])
def test_large_networks(key: str) -> None:
    model = small(f'toplight/plain_{key}_sysu')
    backbone = model.backbone.backbone
    assert backbone.arch.depths == [1, 1, 1, 1]
    assert backbone.init_cfg is None
    assert model.head.in_channels == 128


def test_faces() -> None:
    model = small('toplight/toplight_lightcnn_faces')
    backbone = model.backbone.backbone
    assert (backbone.type, backbone.size, backbone.width) == ('mmir.LightCNN', 64, 0.25)
    assert (model.neck.fdr.in_channels, model.neck.fdr.groups) == (32, 8)
    assert model.head.in_channels == 48
    model = small('toplight/top_lightcnn')
    assert tuple(model.head.domain.channels) == (48, 32)


def test_other_models_stay() -> None:
    cfg = Config.fromfile(ROOT / 'configs/agw/agw_r50_sysu.py')
    assert shrink(cfg).model == cfg.model
