"""The config of the page on YOLOv5 adapts a converted checkpoint."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn
from yolov5_model import trained
from yolov5_reference import PARAMETERS

from mmir.adapters import FrozenBatchNorm
from mmir.cli import cli
from mmir.det import YOLOv5
from mmir.det.yolo.released import Converted, write_converted
from mmir.det.yolov5.arch import ARCHS
from mmir.utils.errors import UserError

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / 'docs/yolov5.md').read_text()


def camera(tmp_path: Path, norm: str) -> Config:
    """Config of the page on top of a shipped one of YOLOv7."""
    block = re.search(r'<!-- config: yolov5 -->\n```python\n(.*?)```', PAGE, re.DOTALL)
    base = ROOT / 'configs/tensorfact/yolo-tiny_coco_flir_1pct.py'
    (tmp_path / 'my.py').write_text(f'_base_ = {str(base)!r}\n{block[1]}')
    cfg = Config.fromfile(tmp_path / 'my.py')
    cfg.model.adapt.norm = norm
    return cfg


def build(cfg: Config) -> nn.Module:
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(cfg.model)


def checkpoint(tmp_path: Path, norms: str) -> str:
    state = trained('s', 80).state_dict()
    path = tmp_path / f'{norms}.pth'
    write_converted(Converted(state, 'official', 's', 80, True, norms), path)
    return str(path)


def test_a_converted_checkpoint_starts_the_training(tmp_path):
    model = build(camera(tmp_path, 'all'))
    assert type(model) is YOLOv5
    for norms in ('own', 'measured'):
        path = checkpoint(tmp_path, norms)
        cli.check_start(SimpleNamespace(model=model), path, False)
    state = torch.load(path, weights_only=True)['state_dict']
    state['bbox_head.anchors'] += 1
    model.load_state_dict(state, strict=False)
    assert torch.equal(model.bbox_head.anchors, state['bbox_head.anchors'])


def test_identity_norms_are_not_trained(tmp_path):
    path = checkpoint(tmp_path, 'identity')
    model = build(camera(tmp_path, 'all'))
    with pytest.raises(UserError, match=r"(?s)identity\.pth.*norm='frozen'.*--images"):
        cli.check_start(SimpleNamespace(model=model), path, False)
    model = build(camera(tmp_path, 'frozen'))
    cli.check_start(SimpleNamespace(model=model), path, False)
    assert any(isinstance(m, FrozenBatchNorm) for m in model.modules())


def test_the_table_of_sizes_is_right():
    rows = re.findall(r'^\| (\w) \| ([\d, ]+) \| ([\d,]+) \|$', PAGE, re.MULTILINE)
    assert [size for size, _, _ in rows] == list(ARCHS)
    for size, channels, parameters in rows:
        assert tuple(map(int, channels.split(','))) == ARCHS[size].out
        assert int(parameters.replace(',', '')) == PARAMETERS[size]
        cfg = Config.fromfile(ROOT / f'configs/_base_/models/yolov5_{size}.py').model
        assert cfg.bbox_head.head_module.in_channels == ARCHS[size].out
        assert cfg.backbone.arch == cfg.neck.arch == size
